"""FCN-16s on SIFT Flow's geometric classes alone: horizontal, vertical, sky (section 5)."""

import nets
import trunks


def geometric(n, recipe):
    """What siftflow-fcn16s is without its semantic head."""
    alone = {"": trunks.vgg16(n, recipe)}
    nets.predict(n, recipe, nets.GEOMETRIC, alone, skips=["pool4"], like=n.data)


MODEL = nets.Model(geometric, data=nets.sift_flow(nets.GEOMETRIC))

if __name__ == "__main__":
    MODEL.write(__file__)
