"""The ImageNet classifier that the VOC nets start from, and the same net made convolutional (section 3.1)."""

from caffe import NetSpec
from caffe import layers as L

import nets


def vgg16():
    """The classifier, on one 224x224 image."""
    n = NetSpec()
    n.data = nets.image((1, 3, 224, 224))
    n.fc8 = L.InnerProduct(nets.vgg16(n, nets.PAPER, pad=1, classifier=True), num_output=1000)
    n.prob = L.Softmax(n.fc8)
    return n.to_proto()


def vgg16_fcn():
    """The same up to fc7, for images of any size; convert.py gives it the classifier's weights."""
    n = NetSpec()
    n.data = nets.image((1, 3, 224, 224))
    nets.vgg16(n, nets.PAPER, pad=1)
    return n.to_proto()


def prototxts():
    """File stem -> NetParameter, as ``python net.py`` writes them."""
    return {"vgg16": vgg16(), "vgg16-fcn": vgg16_fcn()}


if __name__ == "__main__":
    nets.write_prototxts(__file__, prototxts())
