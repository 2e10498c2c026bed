"""A classifier on every patch of an image, against one pass of its convolutional form (section 3.1).

An image of 500x500 gives a 10x10 map with no more padding than the classifiers' own: none around CaffeNet's
image (the paper's AlexNet), whose last pooling hangs over the end; one pixel around VGG16's. Cell (i, j)
stands for the patch of the classifier's own size (227, 224) that begins at pixel (32 i, 32 j). The paper counts
100 patches, and so is it here, though those of the last row and column would reach over the image's end by
15 (12) pixels.

The map holds the classifier's scores where nothing is padded. As they were published both nets pad inside, and
a classifier sees zeros around its patch where the map sees the image. So two differences are measured:

- "patches": the published classifier on patches of its own size; that is what the padding makes;
- "fields": the classifier without padding, on all that a cell of the map can see (355, 404 pixels), at the cells
  for which this is all image. Both must be equal, and so must be the gradients of all weights, summed over
  the cells (section 3: training on whole images is training on all their fields at once).
"""

from __future__ import annotations

import runpy

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from tqdm import tqdm

import nets
import surgery
from files import DataError
from reproduction import timing
from reproduction.architecture import ROOT, Units, units

CHAINS = ("caffenet", "vgg16", "vgg19")  # GoogLeNet's modules do not work without padding
# of the largest value: sums in another order, in float32. A gradient at the bottom has come through every layer twice,
# and is a sum over all pixels: the bound is the one that the engine's gradients are held to elsewhere
EQUAL, EQUAL_GRADIENTS = 1e-5, 1e-4
IGNORED = -1  # the label of cells that do not count


def compare(
    name: str,
    image=(500, 500),
    sample: int = 20,
    rounds: int = 3,
    recipe: nets.Recipe = nets.PAPER,
    classes: int = 1000,
    timer=caffe.Timer,
) -> dict:
    """Times and scores of the classifier ``name`` on all patches of an image, and of one pass over the image.

    ``name``: "caffenet", "vgg16" or "vgg19". ``image``: height and width. ``recipe`` says how wide the nets are.
    Of the n patches ``sample``, or all that lie inside the image if they are fewer, are timed ("timed") and the time
    is multiplied. Three take turns, ``rounds`` times: "whole" is the one pass, "one by one" a
    pass for each patch, "batched" one pass over the timed patches together (the paper's footnote 1). Returned are

    - "net", "patch" (pixels), "image", "map", "stride", "patches", "timed", the device and threads;
    - "forward" and "backward", each with a :func:`timing.summary` for each of the three, for all n patches, and the
      :func:`timing.ratio` of "one by one" and "batched" over "whole" ("ratio"). Backward is that of training: from
      a loss with a truth in every cell to the gradients of all weights;
    - "differences": for "patches", "fields" and "gradients" (see above), the largest over the largest value
      ("difference") and over how many cells ("cells"); the latter two say whether it is "equal", to 1e-5, for
      gradients to 1e-4.

    Weights and image are random, the same every time. Raises DataError for another name, and for an image so small
    that no cell sees image only.
    """
    if name not in CHAINS:
        raise DataError(f"{name!r} is not compared with its patches: names are {', '.join(CHAINS)}")
    if sample < 1:
        raise DataError(f"{sample} patches were asked for: at least 1 is needed to measure a time")
    pair = Pair(name, image, recipe, classes)
    cells = pair.inside(pair.side)
    evenly = np.linspace(0, len(cells) - 1, min(sample, len(cells)))
    timed = [cells[round(at)] for at in evenly]
    times, found = pair.race(timed, rounds, timer)
    rows, columns = found["whole"].shape[2:]
    result = {
        "net": name,
        "patch": pair.side,
        "image": list(image),
        "map": [rows, columns],
        "stride": pair.units.stride,
        "patches": rows * columns,
        "timed": len(timed),
        **timing.circumstances(),
    }
    for direction in ("forward", "backward"):
        all_ms = {"whole": times["whole", direction]}
        for kind in ("one by one", "batched"):
            all_ms[kind] = [ms * rows * columns / len(timed) for ms in times[kind, direction]]
        ratios = {kind: timing.ratio(all_ms[kind], all_ms["whole"]) for kind in all_ms if kind != "whole"}
        result[direction] = {kind: timing.summary(each) for kind, each in all_ms.items()} | {"ratio": ratios}
    at_cells = np.stack([found["whole"][0, :, i, j] for i, j in timed])
    result["differences"] = {
        "patches": {"cells": len(timed), "difference": difference(found["one by one"], at_cells)},
        **pair.on_fields(),
    }
    return result


def section_31(rounds: int = 3) -> list[dict]:
    """:func:`compare` of both nets of the paper at full width on 500x500: two minutes on two cores, 6 GB of memory."""
    return [compare("caffenet", sample=20, rounds=rounds), compare("vgg16", sample=3, rounds=rounds)]


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two arrays, over the largest value of the ``other``."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def without_padding(param: caffe_pb2.NetParameter, side: int) -> caffe_pb2.NetParameter:
    """The classifier ``param`` for images of ``side``, whose convolutions do not pad."""
    bare = timing.sized(param, (1, 3, side, side))
    for layer in bare.layer:
        if layer.type == "Convolution":
            layer.convolution_param.ClearField("pad")
    return bare


class Pair:
    """The classifier ``name`` and its convolutional form, of the same random weights, and an ``image`` of noise.

    ``image`` is (height, width); ``recipe`` and ``classes`` say how wide the nets are.
    """

    def __init__(self, name, image, recipe, classes):
        made = runpy.run_path(str(ROOT / "ilsvrc-nets" / "net.py"))
        _, self.side, _, self.scores = made["NETS"][name]
        self.classifier, self.convolutional = (
            _until_scores(made[kind](name, recipe, classes)) for kind in ("classifier", "convolutional")
        )
        self.classes = classes
        self.units = units(self.convolutional, self.scores)
        self.image = timing.noise((1, 3, *image))
        if not self.inside(self.units.field, self.units.first):
            raise DataError(
                f"an image of {image[0]}x{image[1]} is too small for {name}: a cell of its map sees {self.units.field} "
                f"pixels each way, the first from {self.units.first} on, and none sees image only; take 500x500"
            )
        self.trained = timing.fill(timing.build(self.classifier))
        self.cast = timing.build(self.convolutional)
        surgery.transplant(self.cast, self.trained)  # inner products become convolutions

    def inside(self, side, first=0):
        """The cells (i, j) for which a patch of ``side`` lies in the image; that of cell 0 begins at ``first``."""
        patch = Units(side, self.units.stride, first)
        rows, columns = (patch.inside(length) for length in self.image.shape[2:])
        return [(i, j) for i in rows for j in columns]

    def patches(self, cells, side, first=0):
        """The patches of ``side`` x ``side`` pixels for ``cells``, N x 3 x side x side."""
        corners = [[cell * self.units.stride + first for cell in each] for each in cells]
        return np.concatenate([self.image[:, :, y : y + side, x : x + side] for y, x in corners])

    def race(self, cells, rounds, timer):
        """Milliseconds of (kind, direction) in each round, and the scores of each kind; kinds as in :func:`compare`.

        Patches are those for ``cells``.
        """
        patches = self.patches(cells, self.side)
        one_by_one = np.split(patches, len(patches))
        jobs, found = {}, {}
        for kind, param, batches in (
            ("whole", self.convolutional, [self.image]),
            ("one by one", self.classifier, one_by_one),
            ("batched", self.classifier, [patches]),
        ):
            jobs[kind, "forward"] = self._forward(param, batches, kind, found)
            jobs[kind, "backward"] = self._backward(param, batches)
        return timing.take_turns(jobs, rounds, "patch by patch", timer), found

    def _forward(self, param, batches, kind, found):
        net = self.net(timing.sized(param, batches[0].shape))

        def job(watch):
            scores = []
            for batch in batches:
                with watch:
                    timing.put(net, batch)
                    net.forward(blobs=[self.scores])
                scores.append(net.blobs[self.scores].data.copy())
            found[kind] = np.concatenate(scores)

        return job

    def _backward(self, param, batches):
        net = self.net(_with_loss(timing.sized(param, batches[0].shape)))

        def job(watch):
            net.clear_param_diffs()
            for batch in batches:
                timing.put(net, batch)
                net.forward()
                with watch:
                    net.backward()

        return job

    def net(self, param):
        """The net of ``param``, which shares the weights."""
        made = timing.build(param)
        classifier = any(layer.type == "InnerProduct" for layer in param.layer)
        made.share_with(self.trained if classifier else self.cast)
        return made

    def on_fields(self):
        """How the map and its gradients differ from those of the classifier without padding, field by field."""
        side, first = self.units.field, self.units.first
        cells = self.inside(side, first)
        whole = self.net(_with_loss(timing.sized(self.convolutional, self.image.shape)))
        alone = self.net(_with_loss(without_padding(self.classifier, side)))
        truth = np.random.default_rng(0).integers(self.classes, size=len(cells))
        timing.put(whole, self.image)
        whole.blobs["label"].data[...] = IGNORED
        for (i, j), label in zip(cells, truth, strict=True):
            whole.blobs["label"].data[0, 0, i, j] = label
        whole.forward(blobs=[self.scores])
        whole.backward()
        own = whole.blobs[self.scores].data
        scores = []
        for cell, label in zip(tqdm(cells, "field by field", disable=None, leave=False), truth, strict=True):
            timing.put(alone, self.patches([cell], side, first))
            alone.blobs["label"].data[...] = label
            alone.forward(blobs=[self.scores])
            alone.backward()  # gradients add up
            scores.append(alone.blobs[self.scores].data[0].copy())
        apart = {
            "fields": difference(np.array(scores), np.array([own[0, :, i, j] for i, j in cells])),
            "gradients": np.max(  # which is nan where one is
                [
                    difference(one.diff, other.diff.reshape(one.diff.shape))
                    for layer in alone.params
                    for one, other in zip(alone.params[layer], whole.params[layer], strict=True)
                ]
            ).item(),
        }
        bounds = {"fields": EQUAL, "gradients": EQUAL_GRADIENTS}
        return {
            what: {"cells": len(cells), "difference": worst, "equal": worst <= bounds[what]}
            for what, worst in apart.items()
        }


def _until_scores(param):
    made = caffe_pb2.NetParameter()
    made.CopyFrom(param)
    del made.layer[-1]
    return made


def _with_loss(param):
    """``param`` with a loss at its scores, summed over the cells of an image, against a label for each cell."""
    shape = timing.build(param).blobs[param.layer[-1].top[0]].shape
    made = caffe_pb2.NetParameter()
    made.CopyFrom(param)
    label = made.layer.add(name="label", type="Input", top=["label"])
    label.input_param.shape.add().dim.extend((shape[0], 1, *shape[2:]))
    loss = made.layer.add(
        name="loss", type="SoftmaxWithLoss", bottom=[param.layer[-1].top[0], "label"], top=["loss"]
    )
    loss.loss_param.ignore_label, loss.loss_param.normalize = IGNORED, False
    return made
