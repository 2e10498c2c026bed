"""Net-spec pieces that every ``net.py`` composes: trunks, scoring, skips, upsampling, loss, data.

An architecture is a table, not a listing; widths and class counts are arguments. Names of layers are
those of the released models, so that their weights load by name. A model directory's ``net.py``
says which pieces its net is made of, and a :class:`Model` turns that into the directory's prototxts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from caffe import NetSpec
from caffe import layers as L
from caffe import params as P
from caffe.coord_map import crop
from google.protobuf import text_format

from files import DataError, replacing

# stage, number of 3x3 convolutions, channels (Simonyan and Zisserman's configuration D)
VGG16 = ((1, 2, 64), (2, 2, 128), (3, 3, 256), (4, 3, 512), (5, 3, 512))

MEAN = (104.00699, 116.66877, 122.67892)  # of ImageNet's photographs: blue, green, red

# section 4.3: doubled learning rate for biases, and no weight decay on them
LEARNED = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
FIXED = [{"lr_mult": 0}]

# He et al.'s sqrt(2 / fan-in) keeps the scale of activations when the input's is 1. Pixels minus their
# mean spread over about 64, so a net that starts from scratch divides it out in the first weights.
FIRST_FILLER = {"type": "gaussian", "std": round((2 / 27) ** 0.5 / 64, 5)}
FILLER = {"type": "msra"}


@dataclass(frozen=True)
class Recipe:
    """What may differ between two nets of one architecture: how wide it is, how it starts and learns.

    ``normalize``: divide the loss by the number of labelled pixels (False: sum over all pixels).
    ``learn_upsampling``: intermediate upsampling starts bilinear and is learned (paper, section
    4.3), or stays fixed as in the released models (False). The last upsampling is always fixed.
    ``divide``: every channel count of the trunk is divided by this.
    ``dropout``: ratio after fc6 and fc7.
    ``from_scratch``: random initial weights (False: zeros, to be filled from a weight file).
    """

    normalize: bool = True
    learn_upsampling: bool = True
    divide: int = 1
    dropout: float = 0.5
    from_scratch: bool = False


PAPER = Recipe()
RELEASE = Recipe(normalize=False, learn_upsampling=False)


def conv(bottom, channels, recipe, first=False, **shape):
    """A convolution to ``channels`` channels, learned; ``shape`` is kernel_size, pad and stride."""
    if recipe.from_scratch:
        shape["weight_filler"] = FIRST_FILLER if first else FILLER
    return L.Convolution(bottom, num_output=channels, param=LEARNED, **shape)


def vgg16(n, recipe, pad=100, classifier=False):
    """VGG16 from ``n.data`` to fc7; returns its top, at stride 32.

    ``pad`` is the border around the image: 100 pixels let images of any size through fc6's 7x7
    window. ``classifier``: fc6 and fc7 as inner products, for one 224x224 image and pad 1, instead
    of the convolutions that have the same weights (paper, section 3.1).
    """
    top = n.data
    for stage, convs, channels in VGG16:
        for number in range(1, convs + 1):
            first = (stage, number) == (1, 1)
            n[f"conv{stage}_{number}"] = top = conv(
                top,
                channels // recipe.divide,
                recipe,
                first,
                kernel_size=3,
                stride=1,
                pad=pad if first else 1,
            )
            n[f"relu{stage}_{number}"] = top = L.ReLU(top, in_place=True)
        n[f"pool{stage}"] = top = L.Pooling(top, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    for number, kernel in ((6, 7), (7, 1)):
        channels = 4096 // recipe.divide
        if classifier:
            top = L.InnerProduct(top, num_output=channels, param=LEARNED)
        else:
            top = conv(top, channels, recipe, kernel_size=kernel, stride=1, pad=0)
        n[f"fc{number}"] = top
        n[f"relu{number}"] = top = L.ReLU(top, in_place=True)
        n[f"drop{number}"] = top = L.Dropout(top, dropout_ratio=recipe.dropout, in_place=True)
    return top


def score(bottom, classes):
    """Scores of ``classes`` classes at each position: a 1x1 convolution that starts at zero (section 4.3)."""
    return L.Convolution(bottom, num_output=classes, kernel_size=1, pad=0, param=LEARNED)


def upsample(bottom, classes, factor, learned=False):
    """Bilinear upsampling by ``factor``, as a deconvolution whose kernels ``surgery.interp`` fills."""
    return L.Deconvolution(
        bottom,
        convolution_param={
            "num_output": classes,
            "kernel_size": 2 * factor,
            "stride": factor,
            "bias_term": False,
        },
        param=[{"lr_mult": 1}] if learned else FIXED,
    )


def fcn(n, recipe, classes, skips=(), trunk=vgg16):
    """A whole FCN on ``n.data``: trunk, scores, skips, upsampling to pixels, and a loss if there is a label.

    ``skips`` names the pooling layers whose scores are fused in, coarsest first: none is FCN-32s,
    pool4 FCN-16s, pool4 and pool3 FCN-8s (paper, Figure 3). Before each, the scores so far
    are upsampled twofold; the new ones start at zero, so that the net starts as its parent.
    """
    n.score_fr = top = score(trunk(n, recipe), classes)
    stride, up = 32, "upscore2"
    for pool in skips:
        n[up] = top = upsample(top, classes, 2, recipe.learn_upsampling)
        n[f"score_{pool}"] = score(n[pool], classes)
        n[f"score_{pool}c"] = crop(n[f"score_{pool}"], top)
        n[f"fuse_{pool}"] = top = L.Eltwise(top, n[f"score_{pool}c"], operation=P.Eltwise.SUM)
        stride, up = stride // 2, f"upscore_{pool}"
    name = f"upscore{stride}" if skips else "upscore"
    n[name] = upsample(top, classes, stride)
    n.score = crop(n[name], n.data)
    if "label" in n.tops:
        loss = {"normalize": recipe.normalize, "ignore_label": 255}
        n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=loss)


@dataclass(frozen=True)
class Data:
    """A data set as its nets see it: for each split the Python layer that feeds it, and its parameters.

    Splits are named as their prototxts are ("train", "val"); directories are relative to a model
    directory. ``shape`` is an image's, in the deploy net: only an example, nets take any size.
    """

    splits: dict[str, tuple[str, dict[str, Any]]]
    shape: tuple[int, ...] = (1, 3, 500, 500)

    def feed(self, n, split):
        """Name the tops ``data`` and ``label`` of ``split`` in ``n``."""
        layer, params = self.splits[split]
        params = {**params, "mean": MEAN, "seed": 1337}
        n.data, n.label = L.Python(module="layers", layer=layer, ntop=2, param_str=str(params))


VOC = Data(
    {
        "train": ("SBDDSegDataLayer", {"sbdd_dir": "../data/sbdd/dataset", "split": "train"}),
        "val": ("VOCSegDataLayer", {"voc_dir": "../data/pascal/VOC2011", "split": "seg11valid"}),
    }
)
# Three photographs of VOC 2011, to train on and to score: they show that a net can learn, not how well.
# Taken in turn: drawn at random, one of so few is often long missing, and learning takes half as long again.
SAMPLE = {"voc_dir": "../data/pascal/sample/VOC2011"}
VOC_SAMPLE = Data(
    {
        "train": ("VOCSegDataLayer", {**SAMPLE, "split": "train", "randomize": False}),
        "val": ("VOCSegDataLayer", {**SAMPLE, "split": "val"}),
    }
)


@dataclass(frozen=True)
class Model:
    """A model directory: what builds its net, its data, and one training prototxt for each recipe.

    ``build(n, recipe)`` adds the net to the NetSpec ``n``, which has ``data`` and, but for the
    deploy net, ``label``. ``recipes`` names training prototxts.
    """

    build: Callable[[NetSpec, Recipe], None]
    data: Data
    recipes: dict[str, Recipe] = field(default_factory=lambda: {"train": PAPER, "train-heavy": RELEASE})

    def prototxts(self, **changes):
        """File stem → NetParameter of every prototxt of the directory.

        ``changes`` override fields of every recipe: ``divide=8`` gives the nets an eighth as wide.
        """
        made = {}
        recipes = {name: replace(recipe, **changes) for name, recipe in self.recipes.items()}
        for name, recipe in recipes.items():
            made[name] = self._net(recipe, "train")
        # no training happens here: nothing to fill, nothing to learn
        still = replace(next(iter(recipes.values())), from_scratch=False, learn_upsampling=False)
        for split in self.data.splits:
            if split != "train":
                made[split] = self._net(still, split)
        made["deploy"] = self._net(still, None)
        return made

    def _net(self, recipe, split):
        n = NetSpec()
        if split:
            self.data.feed(n, split)
        else:
            n.data = image(self.data.shape)
        self.build(n, recipe)
        return n.to_proto()

    def write(self, net_py):
        """Write the prototxts into the directory of the file ``net_py``."""
        write_prototxts(net_py, self.prototxts())


def read_prototxt(path, message):
    """Parse the prototxt ``path`` into ``message`` (NetParameter, SolverParameter) and return it.

    Raises DataError that names the file and, where it was to be made, the command.
    """
    path = Path(path).absolute()
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except FileNotFoundError:
        made = message.DESCRIPTOR.name == "NetParameter"
        fix = f"; if it is a model's, make it: python {path.parent / 'net.py'}" if made else ""
        raise DataError(f"{path} does not exist{fix}") from None
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise DataError(f"{path} is not a valid prototxt: {error}") from None


def image(shape):
    """An input blob of ``shape``."""
    return L.Input(name="input", shape={"dim": list(shape)})


def write_prototxts(net_py, prototxts):
    """Write each NetParameter of ``prototxts`` to ``<stem>.prototxt`` beside the file ``net_py``.

    A file appears whole or not at all. Prints the names.
    """
    directory = Path(net_py).resolve().parent
    for stem, net in prototxts.items():
        path = directory / f"{stem}.prototxt"
        text = "# made by net.py; edit that instead\n" + text_format.MessageToString(net)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(path.relative_to(directory.parent))
