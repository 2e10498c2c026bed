"""FCN-32s on NYUDv2's colour and depth as one image of four channels: early fusion (Table 4, RGBD)."""

import nets
import trunks

CLASSES = 40


def early_fusion(n, recipe):
    """The first convolution sees blue, green, red and the logarithm of depth."""
    n.data = nets.L.Concat(n.color, n.depth)
    features = trunks.vgg16(n, recipe, first="conv1_1_bgrd")
    nets.predict(n, recipe, nets.Head(CLASSES), {"": features}, [], n.data)


MODEL = nets.Model(early_fusion, nets.nyud("color", "depth"))

if __name__ == "__main__":
    MODEL.write(__file__)
