"""FCN-AlexNet on PASCAL VOC (Table 1), made of CaffeNet, as its released model."""

import nets
import trunks


def alexnet(n, recipe):
    """CaffeNet made convolutional; pooling over 3x3 puts the last upsampling's kernel at 63 pixels."""
    nets.fcn(n, recipe, classes=21, trunk=trunks.caffenet, kernel=63)


# the released model, too, was trained on the mean loss: one prototxt serves both recipes
MODEL = nets.Model(alexnet, nets.VOC, {"train": nets.PAPER})

if __name__ == "__main__":
    MODEL.write(__file__)
