"""FCN-32s with pool5 at stride 1, on PASCAL VOC: finer output by a smaller stride (section 4.2)."""

import nets
import trunks


def finer(n, recipe):
    """fc6 is widened to 14x14, so that it sees as much of the image as before; the stride is 16.

    Its even window needs 24 pixels more around the image for the crop to be inside.
    """
    features = trunks.vgg16(n, recipe, pool5_stride=1, fc6_kernel=14, border=124)
    nets.predict(n, recipe, nets.Head(classes=21), {"": features}, [], n.data, stride=16)


MODEL = nets.Model(finer, data=nets.VOC, recipes={"train": nets.PAPER})

if __name__ == "__main__":
    MODEL.write(__file__)
