"""FCN-32s on SIFT Flow, with two heads: semantic and geometric classes (section 5)."""

import nets
import trunks


def two_heads(n, recipe):
    """One trunk learns from both losses."""
    features = {"": trunks.vgg16(n, recipe)}
    nets.predict(n, recipe, nets.SEMANTIC, features, [], n.data)
    nets.predict(n, recipe, nets.GEOMETRIC, features, [], n.data)


MODEL = nets.Model(two_heads, nets.sift_flow(nets.SEMANTIC, nets.GEOMETRIC))

if __name__ == "__main__":
    MODEL.write(__file__)
