"""FCN-16s on SIFT Flow, with two heads: the net of Table 5."""

import nets
from trunks import vgg16

HEADS = (nets.SEMANTIC, nets.GEOMETRIC)


def skips_for_each(n, recipe):
    """Each head has scores of pool4 of its own."""
    trunk = {"": vgg16(n, recipe)}
    for head in HEADS:
        nets.predict(n, recipe, head, trunk, ["pool4"], n.data)


MODEL = nets.Model(skips_for_each, nets.sift_flow(*HEADS))

if __name__ == "__main__":
    MODEL.write(__file__)
