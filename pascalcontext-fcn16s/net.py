"""FCN-16s on PASCAL-Context: pool4 joins in."""

import nets


def context16(n, recipe):
    """With scores of pool4, as voc-fcn16s."""
    nets.fcn(n, recipe, 60, ["pool4"])


MODEL = nets.Model(context16, nets.CONTEXT)

if __name__ == "__main__":
    MODEL.write(__file__)
