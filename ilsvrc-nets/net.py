"""The ImageNet classifiers that FCNs start from, and the same nets made convolutional (section 3.1)."""

from caffe import NetSpec
from caffe import layers as L
from caffe import params as P

import nets
import trunks

# trunk, side of the images it was trained on, its own padding of the image, name of the scores
NETS = {
    "vgg16": (trunks.vgg16, 224, 1, "fc8"),
    "vgg19": (trunks.vgg19, 224, 1, "fc8"),
    "caffenet": (trunks.caffenet, 227, 0, "fc8"),
    "googlenet": (trunks.googlenet, 224, 3, "loss3/classifier"),
}


def classifier(name, recipe=nets.PAPER, classes=1000):
    """The classifier ``name`` as it was published, on one image of its size; other ``classes``, if you like.

    ``recipe`` says how wide it is.
    """
    trunk, size, _, scores = NETS[name]
    n = NetSpec()
    n.data = nets.image((1, 3, size, size))
    top = trunk(n, recipe, classifier=True)["fr"]
    n[scores] = L.InnerProduct(top, num_output=classes, param=trunks.LEARNED)
    n.prob = L.Softmax(n[scores])
    return n.to_proto()


def convolutional(name, recipe=nets.PAPER, classes=1000):
    """``classifier(name, recipe, classes)`` for images of its size or larger: inner products are convolutions.

    The scores are a map, at stride 32.
    """
    trunk, size, border, scores = NETS[name]
    n = NetSpec()
    n.data = nets.image((1, 3, size, size))
    top = trunk(n, recipe, border=border)["fr"]
    if name == "googlenet":  # the FCN has dropped it
        window = recipe.window or 7
        n["pool5/7x7_s1"] = top = L.Pooling(top, kernel_size=window, stride=1, pool=P.Pooling.AVE)
    n[scores] = nets.score(top, classes)
    n.prob = L.Softmax(n[scores])
    return n.to_proto()


def prototxts(**change):
    """File stem → NetParameter; ``change``: ``recipe`` and ``classes``."""
    made = {name: classifier(name, **change) for name in NETS}
    return made | {f"{name}-fcn": convolutional(name, **change) for name in NETS}


if __name__ == "__main__":
    nets.write_prototxts(__file__, prototxts())
