"""The ImageNet classifier that the VOC nets start from, and the same net made convolutional.

Both hold the same weights up to fc7: convert.py reshapes fc6 and fc7 from inner products into
convolutions of 7x7 and 1x1 (paper, section 3.1 and Figure 2).
"""

from caffe import NetSpec
from caffe import layers as L

import nets


def vgg16():
    n = NetSpec()
    n.data = nets.image((1, 3, 224, 224))
    n.fc8 = L.InnerProduct(nets.vgg16(n, nets.PAPER, pad=1, classifier=True), num_output=1000)
    n.prob = L.Softmax(n.fc8)
    return n.to_proto()


def vgg16_fcn():
    n = NetSpec()
    n.data = nets.image((1, 3, 224, 224))
    nets.vgg16(n, nets.PAPER, pad=1)
    return n.to_proto()


def prototxts():
    return {"vgg16": vgg16(), "vgg16-fcn": vgg16_fcn()}


if __name__ == "__main__":
    nets.write_prototxts(__file__, prototxts())
