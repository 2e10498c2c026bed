"""What every ``net.py`` composes: scores, skips, upsampling, loss, data; the trunks are in ``trunks.py``.

An architecture is a table, not a listing; widths and class counts are arguments. Names of layers are
those of the released models, so that their weights load by name. A model directory's ``net.py``
says which pieces its net is made of, and a :class:`Model` turns that into the directory's prototxts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from caffe import NetSpec
from caffe import layers as L
from caffe import params as P
from caffe.coord_map import crop
from google.protobuf import text_format

from files import DataError, replacing
from trunks import FIXED, LEARNED, vgg16


@dataclass(frozen=True)
class Recipe:
    """What may differ between two nets of one architecture: how wide it is, how it starts and learns.

    ``normalize``: divide the loss by the number of labelled pixels (False: sum over all pixels).
    ``learn_upsampling``: intermediate upsampling starts bilinear and is learned (paper, section
    4.3), or stays fixed as in the released models (False). The last upsampling is always fixed.
    ``learn_trunk``: False trains the scores alone ("FCN-32s-fixed" in Table 2).
    ``divide``: every channel count of the trunk is divided by this.
    ``dropout``: ratio of every dropout (None: the classifier's own).
    ``from_scratch``: random initial weights (False: zeros, to be filled from a weight file).
    ``window``: cells of the last pooling that fc6 sees, along each axis (None: as in the classifier); for classifiers
    of smaller images.

    What the paper explores (sections 3.4 and 4.3), for training nets: ``sampling``, the probability with which
    each cell of the final layer counts in the loss (raise the solver's iter_size by its inverse);
    ``class_weights``, by head (``Head.loss``) a weight for each class; ``mirror`` and ``jitter``, random flips
    and shifts by up to so many pixels.
    """

    normalize: bool = True
    learn_upsampling: bool = True
    learn_trunk: bool = True
    divide: int = 1
    dropout: float | None = None
    from_scratch: bool = False
    window: int | None = None
    sampling: float = 1.0
    class_weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    mirror: bool = False
    jitter: int = 0

    @property
    def trunk_param(self):
        """The learning rate and decay multipliers of the trunk's weights and biases."""
        return LEARNED if self.learn_trunk else FIXED * 2


PAPER = Recipe()
RELEASE = Recipe(normalize=False, learn_upsampling=False)
# An eighth as wide, from random weights: what a laptop trains. Dropout keeps too little of a net this narrow.
MINI = Recipe(divide=8, from_scratch=True, dropout=0, learn_upsampling=False)


def score(bottom, classes):
    """Scores of ``classes`` classes at each position: a 1x1 convolution that starts at zero (section 4.3)."""
    return L.Convolution(bottom, num_output=classes, kernel_size=1, pad=0, param=LEARNED)


def upsample(bottom, classes, factor, learned=False, kernel=None):
    """Bilinear upsampling by ``factor``, as a deconvolution whose kernels ``surgery.interp`` fills.

    ``kernel`` is its size, twice the factor unless given: trunks that pool over 3x3 have their
    pixels' centres where one less fits.
    """
    shape = {"num_output": classes, "kernel_size": kernel or 2 * factor, "stride": factor, "bias_term": False}
    return L.Deconvolution(bottom, convolution_param=shape, param=[{"lr_mult": 1}] if learned else FIXED)


@dataclass(frozen=True)
class Head:
    """What is predicted: ``classes`` scores at each pixel, against the top ``label``.

    ``suffix`` ends the names of its layers; ``loss`` is the loss's name.
    """

    classes: int
    suffix: str = ""
    label: str = "label"
    loss: str = "loss"


def fcn(n, recipe, classes, skips=(), trunk=vgg16, **more):
    """A whole FCN on ``n.data``: trunk, scores, skips, upsampling to pixels, and a loss if there is a label.

    ``skips`` names the pooling layers whose scores are fused in, coarsest first: none is FCN-32s,
    pool4 FCN-16s, pool4 and pool3 FCN-8s (paper, Figure 3). Before each, the scores so far
    are upsampled twofold; the new ones start at zero, so that the net starts with its
    parent's scores (up to the last upsampling: twofold and then 16 times bilinear is a little smoother than
    32 times). ``more`` goes to :func:`predict`.
    """
    predict(n, recipe, Head(classes), {"": trunk(n, recipe)}, skips, n.data, **more)


def predict(
    n, recipe, head, features, skips, like, stride=32, start="fr", kernel=None, offset=None, scales=None
):
    """The scores of ``head`` from ``features``, upsampled and cropped to the size of the top ``like``.

    ``features``: suffix of a trunk → its features; the scores of several are averaged (late fusion,
    section 5). ``start`` names those that the first scores are taken from, at ``stride``. ``kernel`` is the last
    upsampling's; ``offset`` the last crop's, where ``coord_map`` cannot follow the trunk. ``scales``:
    pooling layer → factor of its activations, with which all skips can be trained at once.
    """
    classes, suffix = head.classes, head.suffix
    top, up = _scores(n, head, features, start), f"upscore2{suffix}"
    for pool in skips:
        n[up] = top = upsample(top, classes, 2, recipe.learn_upsampling)
        if scales:
            n[f"scale_{pool}"] = scaled = L.Scale(
                features[""][pool], filler={"type": "constant", "value": scales[pool]}, param=FIXED
            )
            features = {"": features[""] | {pool: scaled}}
        own = _scores(n, head, features, pool)
        n[f"score_{pool}{suffix}c"] = crop(own, top)
        n[f"fuse_{pool}{suffix}"] = top = L.Eltwise(top, n[f"score_{pool}{suffix}c"], operation=P.Eltwise.SUM)
        stride, up = stride // 2, f"upscore_{pool}{suffix}"
    name = f"upscore{'' if stride == 32 else stride}{suffix}"
    n[name] = upsample(top, classes, stride, kernel=kernel)
    cropped = crop(n[name], like) if offset is None else L.Crop(n[name], like, axis=2, offset=offset)
    n[f"score{suffix}"] = cropped
    if head.label in n.tops:
        n[head.loss] = _loss(n, recipe, head, cropped)


def _loss(n, recipe, head, scores):
    """The loss of ``scores`` against the label of ``head``, as the recipe wants it."""
    label, options = n[head.label], {"normalize": recipe.normalize, "ignore_label": 255}
    if recipe.sampling < 1:
        chance = {"p": recipe.sampling, "seed": 1337}
        n[f"sampled_{head.label}"] = label = L.Python(
            label, module="sampling", layer="LossSamplingLayer", param_str=str(chance)
        )
    if head.loss not in recipe.class_weights:
        return L.SoftmaxWithLoss(scores, label, loss_param=options)
    weights = {"weights": list(recipe.class_weights[head.loss]), **options}
    return L.Python(
        scores,
        label,
        module="sampling",
        layer="ClassWeightedLossLayer",
        param_str=str(weights),
        loss_weight=1,
    )


def _scores(n, head, features, where):
    """The scores of ``head`` from the features called ``where``: of the only trunk, or the mean over trunks."""
    for trunk, tops in features.items():
        n[f"score_{where}{trunk}{head.suffix}"] = score(tops[where], head.classes)
    if len(features) == 1:
        return n[f"score_{where}{trunk}{head.suffix}"]
    fused = "score_fused" if where == "fr" else f"score_{where}"
    share = [1 / len(features)] * len(features)
    n[fused] = L.Eltwise(
        *(n[f"score_{where}{trunk}"] for trunk in features), operation=P.Eltwise.SUM, coeff=share
    )
    return n[fused]


MEAN = (104.00699, 116.66877, 122.67892)  # of ImageNet's photographs: blue, green, red


@dataclass(frozen=True)
class Data:
    """A data set as its nets see it: for each split the Python layer that feeds it, and its parameters.

    Splits are named as their prototxts are ("train", and "val" or "test"); directories are relative to a
    model directory. ``inputs``: the tops that are images, with an example of a shape; nets take any
    size. ``labels``: the other tops. ``common``: parameters of all splits.
    """

    splits: Mapping[str, tuple[str, dict[str, Any]]]
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"data": (1, 3, 500, 500)})
    labels: Sequence[str] = ("label",)
    common: Mapping[str, Any] = field(default_factory=lambda: {"mean": MEAN, "seed": 1337})

    def feed(self, n, split, recipe):
        """Name the tops of ``split`` in ``n``, augmented as ``recipe`` wants it."""
        layer, params = self.splits[split]
        names = [*self.inputs, *self.labels]
        params = params | {
            what: getattr(recipe, what) for what in ("mirror", "jitter") if getattr(recipe, what)
        }
        tops = L.Python(
            module="layers", layer=layer, ntop=len(names), param_str=str({**params, **self.common})
        )
        for name, top in zip(names, tops, strict=True):
            n[name] = top

    def input(self, n):
        """Inputs in the place of the images, for the deploy net."""
        for number, (name, shape) in enumerate(self.inputs.items()):
            n[name] = image(shape, "input" if number == 0 else f"input_{name}")


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


NYUD_CHANNELS = {"color": 3, "depth": 1, "hha": 3}


def nyud(*kinds):
    """NYUDv2's images of these kinds: ``color``, ``depth``, ``hha``. The layer knows their means.

    The top is called ``data`` where there is one kind, else each is called as its kind.
    """
    names = ["data"] if len(kinds) == 1 else kinds
    return Data(
        {
            stem: ("NYUDSegDataLayer", {"nyud_dir": "../data/nyud", "split": split})
            for stem, split in _TRAINVAL
        },
        {name: (1, NYUD_CHANNELS[kind], 425, 560) for name, kind in zip(names, kinds, strict=True)},
        common={"tops": [*kinds, "label"], "seed": 1337},
    )


SEMANTIC = Head(33, "_sem", "sem")
GEOMETRIC = Head(3, "_geo", "geo", "loss_geo")


def sift_flow(*heads):
    """SIFT Flow with the labels of these heads: ``SEMANTIC``, ``GEOMETRIC``."""
    labels = [head.label for head in heads]
    where = {"siftflow_dir": "../data/sift-flow"}
    return Data(
        {stem: ("SIFTFlowSegDataLayer", {**where, "split": split}) for stem, split in _TRAINVAL},
        {"data": (1, 3, 256, 256)},
        labels,
        {"tops": ["data", *labels], "seed": 1337},
    )


def own(directory, classes, channels=3, mean=MEAN, scale=1):
    """Your own data (data/own/README.md) in ``directory``, relative to the model directory, or absolute.

    ``mean``, a number for each of the ``channels``, is subtracted; the rest is multiplied by ``scale``, a number or
    one for each.
    """
    common = {"classes": classes, "channels": channels, "mean": mean, "scale": scale, "seed": 1337}
    return Data(
        {split: ("OwnSegDataLayer", {"own_dir": directory, "split": split}) for split in ("train", "val")},
        {"data": (1, channels, 500, 500)},
        common=common,
    )


_TRAINVAL = (("train", "trainval"), ("test", "test"))
CONTEXT = Data(
    {
        stem: (
            "PASCALContextSegDataLayer",
            {"voc_dir": "../data/pascal/VOC2010", "context_dir": "../data/pascal-context", "split": stem},
        )
        for stem in ("train", "val")
    },
    common={"seed": 1337},
)


@dataclass(frozen=True)
class Model:
    """A model directory: what builds its net, its data, and one training prototxt for each recipe.

    ``build(n, recipe)`` adds the net to the NetSpec ``n``, which has the data's inputs and, but for the
    deploy net, its labels. ``recipes`` names training prototxts.
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
        # no training happens here: nothing to fill, to learn, to vary
        first = next(iter(recipes.values()))
        kept = ("normalize", "divide", "dropout", "window", "learn_trunk")
        still = Recipe(learn_upsampling=False, **{name: getattr(first, name) for name in kept})
        for split in self.data.splits:
            if split != "train":
                made[split] = self._net(still, split)
        made["deploy"] = self._net(still, None)
        return made

    def _net(self, recipe, split):
        n = NetSpec()
        if split:
            self.data.feed(n, split, recipe)
        else:
            self.data.input(n)
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


def image(shape, name="input"):
    """An input blob of ``shape``, by a layer called ``name``."""
    return L.Input(name=name, shape={"dim": list(shape)})


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


if __name__ == "__main__":  # python nets.py new my-net --data DIR --base mini-fcn8s
    import sys

    import newnet

    sys.exit(newnet.main())
