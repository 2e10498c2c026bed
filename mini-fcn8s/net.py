"""FCN-8s an eighth as wide, on three photographs: what a laptop trains in minutes."""

import nets


def mini_fcn8s(n, recipe):
    """voc-fcn8s; from random weights, all three scores learn at once: there is nothing that they could disturb."""
    nets.fcn(n, recipe, 21, ["pool4", "pool3"])


MODEL = nets.Model(mini_fcn8s, data=nets.VOC_SAMPLE, recipes={"train": nets.MINI})

if __name__ == "__main__":
    MODEL.write(__file__)
