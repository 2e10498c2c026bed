"""torchvision's VGG16, AlexNet and GoogLeNet as Caffe nets: which layer has which of their tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .net_spec import NetSpec
from .net_spec import layers as L
from .net_spec import params as P

ONE = "1"  # in place of a tensor's name: a blob filled with 1

_VGG16 = ((1, 2, 64), (2, 2, 128), (3, 3, 256), (4, 3, 512), (5, 3, 512))

# name, torchvision's number of the layer, channels, kernel, pad, stride
_ALEXNET = (
    ("1", 0, 64, 11, 2, 4),
    ("2", 3, 192, 5, 2, 1),
    ("3", 6, 384, 3, 1, 1),
    ("4", 8, 256, 3, 1, 1),
    ("5", 10, 256, 3, 1, 1),
)

_HIDDEN = 4096  # outputs of fc6 and fc7 in both

# channels of the branches: 1x1; reduced, 3x3; reduced, second 3x3; projection after pooling
_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_EPS = 0.001  # of the batch normalisation in torchvision's GoogLeNet


class TorchNet:
    """A net under construction, from an image ``data`` of 1 x 3 x 224 x 224 on.

    ``spec`` is the Caffe net so far, ``top`` its last top; ``tensors`` maps each layer with blobs to
    the names of the PyTorch tensors that fill them, in order.
    """

    def __init__(self):
        self.spec = NetSpec()
        self.spec.data = self.top = L.Input(shape={"dim": [1, 3, 224, 224]})
        self.tensors: dict[str, list[str]] = {}

    def add(self, name: str, top) -> None:
        """Make ``top`` the layer ``name``, on which the next one stands."""
        self.spec[name] = self.top = top

    def conv(self, name: str, module: str, channels: int, kernel: int, pad=0, stride=1) -> None:
        """A convolution ``name`` with the weights of ``module``.

        ``channels``: how many it makes; ``kernel``, ``pad``, ``stride``: its window, in pixels.
        """
        self.tensors[name] = [f"{module}.weight", f"{module}.bias"]
        self.add(
            name, L.Convolution(self.top, num_output=channels, kernel_size=kernel, pad=pad, stride=stride)
        )

    def normalised(self, name: str, module: str, channels: int, kernel: int, pad=0, stride=1) -> None:
        """A convolution without bias, then BatchNorm, Scale and ReLU in place.

        ``name``, ``channels``, ``kernel``, ``pad``, ``stride`` are the convolution's; ``module`` holds both the
        convolution and the batch normalisation.
        """
        self.conv(name, f"{module}.conv", channels, kernel, pad, stride)
        self.top.fn.params["bias_term"] = False
        del self.tensors[name][1]
        self.tensors[f"{name}/bn"] = [f"{module}.bn.running_mean", f"{module}.bn.running_var", ONE]
        self.tensors[f"{name}/scale"] = [f"{module}.bn.weight", f"{module}.bn.bias"]
        self.add(f"{name}/bn", L.BatchNorm(self.top, eps=_EPS, in_place=True))
        self.add(f"{name}/scale", L.Scale(self.top, bias_term=True, in_place=True))
        self.relu(f"{name}/relu")

    def inner(self, name: str, module: str, outputs: int) -> None:
        """A fully connected layer ``name`` of so many ``outputs``, with the weights of ``module``."""
        self.tensors[name] = [f"{module}.weight", f"{module}.bias"]
        self.add(name, L.InnerProduct(self.top, num_output=outputs))

    def relu(self, name: str) -> None:
        """A ReLU ``name``, in place."""
        self.add(name, L.ReLU(self.top, in_place=True))

    def drop(self, name: str, ratio: float) -> None:
        """A Dropout ``name`` of this ``ratio``, in place."""
        self.add(name, L.Dropout(self.top, dropout_ratio=ratio, in_place=True))

    def pool(self, name: str, kernel: int, stride: int, pad=0) -> None:
        """A layer ``name``, the maximum over windows: ``kernel``, ``stride``, ``pad`` in pixels."""
        self.add(name, L.Pooling(self.top, pool=P.Pooling.MAX, kernel_size=kernel, stride=stride, pad=pad))


def _vgg16(net: TorchNet, classes: int) -> None:
    number = 0  # of the layer in torchvision's features, where ReLUs and pools count
    for stage, convs, channels in _VGG16:
        for i in range(1, convs + 1):
            net.conv(f"conv{stage}_{i}", f"features.{number}", channels, 3, pad=1)
            net.relu(f"relu{stage}_{i}")
            number += 2
        net.pool(f"pool{stage}", 2, 2)
        number += 1
    for name, module in (("6", "classifier.0"), ("7", "classifier.3")):
        net.inner(f"fc{name}", module, _HIDDEN)
        net.relu(f"relu{name}")
        net.drop(f"drop{name}", 0.5)
    net.inner("fc8", "classifier.6", classes)


def _alexnet(net: TorchNet, classes: int) -> None:
    for name, number, *shape in _ALEXNET:
        net.conv(f"conv{name}", f"features.{number}", *shape)
        net.relu(f"relu{name}")
        if name in "125":
            net.pool(f"pool{name}", 3, 2)
    for name, module in (("6", "classifier.1"), ("7", "classifier.4")):
        net.drop(f"drop{name}", 0.5)
        net.inner(f"fc{name}", module, _HIDDEN)
        net.relu(f"relu{name}")
    net.inner("fc8", "classifier.6", classes)


def _googlenet(net: TorchNet, classes: int) -> None:
    net.normalised("conv1/7x7_s2", "conv1", 64, 7, pad=3, stride=2)
    net.pool("pool1/3x3_s2", 3, 2)
    net.normalised("conv2/3x3_reduce", "conv2", 64, 1)
    net.normalised("conv2/3x3", "conv3", 192, 3, pad=1)
    net.pool("pool2/3x3_s2", 3, 2)
    for block, channels in _INCEPTIONS.items():
        _inception(net, block, *channels)
        if block == "3b":
            net.pool("pool3/3x3_s2", 3, 2)
        elif block == "4e":
            net.pool("pool4/2x2_s2", 2, 2)
    net.add("pool5/7x7_s1", L.Pooling(net.top, pool=P.Pooling.AVE, global_pooling=True))
    net.drop("pool5/drop_7x7_s1", 0.2)
    net.inner("loss3/classifier", "fc", classes)


def _inception(net: TorchNet, block: str, one, reduce, three, reduce_b, three_b, project) -> None:
    name, module, below = f"inception_{block}", f"inception{block}", net.top
    tops = []
    for branch in (
        [("1x1", "branch1", one, 1)],
        [("3x3_reduce", "branch2.0", reduce, 1), ("3x3", "branch2.1", three, 3, 1)],
        [("3x3b_reduce", "branch3.0", reduce_b, 1), ("3x3b", "branch3.1", three_b, 3, 1)],
        [("pool", None), ("pool_proj", "branch4.1", project, 1)],
    ):
        net.top = below
        for layer, part, *shape in branch:
            if part is None:
                net.pool(f"{name}/{layer}", 3, 1, pad=1)
            else:
                net.normalised(f"{name}/{layer}", f"{module}.{part}", *shape)
        tops.append(net.top)
    net.add(f"{name}/output", L.Concat(*tops))


@dataclass(frozen=True)
class Known:
    """A net that can be imported.

    ``build`` adds its layers, up to a given number of classes. ``last`` is torchvision's name of the
    last module, ``mean`` and ``deviation`` are what its first layer's input was brought to, of red, green
    and blue from 0 to 1. ``difference`` says how it differs from the Caffe net of that name ("": not at all).
    """

    build: Callable[[TorchNet, int], None]
    last: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    difference: str = ""

    def net(self, classes: int) -> TorchNet:
        """The whole net for so many ``classes``, with their probabilities as its output ``prob``."""
        net = TorchNet()
        self.build(net, classes)
        net.add("prob", L.Softmax(net.top))
        return net


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # torchvision's transform_input, from IMAGENET to this

KNOWN = {
    "VGG16": Known(_vgg16, "classifier.6", *IMAGENET),
    "AlexNet": Known(
        _alexnet,
        "classifier.6",
        *IMAGENET,
        "torchvision's AlexNet is not CaffeNet: it has one column instead of groups, other widths and no LRN, so its "
        "convolutions fit no layer of CaffeNet's",
    ),
    "GoogLeNet": Known(
        _googlenet,
        "fc",
        *CENTRED,
        "torchvision's GoogLeNet is not Caffe's: it has batch normalisation, no LRN, windows of 3x3 where Caffe has "
        "5x5 (here the layers 3x3b), and a pool4 of 2x2; its two auxiliary classifiers are left out",
    ),
}
