"""FCN-32s on the 59 classes of PASCAL-Context and background, whole scenes labelled."""

import nets


def context32(n, recipe):
    """voc-fcn32s for 60 classes."""
    nets.fcn(n, recipe, classes=60)


MODEL = nets.Model(context32, nets.CONTEXT)

if __name__ == "__main__":
    MODEL.write(__file__)
