"""FCN-8s on SIFT Flow, with two heads; the paper stops at 16s, the release does not."""

import nets
import trunks


def finest(n, recipe):
    """Scores of pool4 and pool3 for each head."""
    shared = {"": trunks.vgg16(n, recipe)}
    for what in (nets.SEMANTIC, nets.GEOMETRIC):
        nets.predict(n, recipe, what, shared, ["pool4", "pool3"], like=n.data)


MODEL = nets.Model(build=finest, data=nets.sift_flow(nets.SEMANTIC, nets.GEOMETRIC))

if __name__ == "__main__":
    MODEL.write(__file__)
