"""FCN-8s on PASCAL-Context, the finest."""

import nets


def context8(n, recipe):
    """With scores of pool4 and pool3, as voc-fcn8s."""
    nets.fcn(n, recipe, 60, skips=("pool4", "pool3"))


MODEL = nets.Model(context8, nets.CONTEXT)

if __name__ == "__main__":
    MODEL.write(__file__)
