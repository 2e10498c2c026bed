"""FCN-16s on SIFT Flow's semantic classes alone, to compare the two-headed net with (section 5)."""

import nets
import trunks

HEAD = nets.SEMANTIC


def semantic(n, recipe):
    """What siftflow-fcn16s is without its geometric head."""
    nets.predict(n, recipe, HEAD, {"": trunks.vgg16(n, recipe)}, ["pool4"], n.data)


MODEL = nets.Model(semantic, nets.sift_flow(HEAD))

if __name__ == "__main__":
    MODEL.write(__file__)
