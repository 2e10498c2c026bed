"""The loss as it falls, and the signs in a training net that it cannot fall or means nothing."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from caffe.proto import caffe_pb2

from files import DataError


def is_loss(layer) -> bool:
    """Is this LayerParameter a loss of scores against labels: Caffe's, or a Python layer with a loss_weight?"""
    weighted = layer.type == "Python" and any(layer.loss_weight) and len(layer.bottom) == 2
    return layer.type == "SoftmaxWithLoss" or weighted


class LossMeter:
    """Caffe's loss beside the loss per labelled pixel, which tells how training goes.

    An unnormalised loss is a sum over the image's pixels, 100 000 and more; divided by the pixels
    that carry a label it is ln C for a net that knows nothing of C classes, and falls from there.
    """

    WINDOW = 20

    def __init__(self, net, param: caffe_pb2.NetParameter, padded: bool = False):
        self.net = net
        self.losses = [layer for layer in param.layer if is_loss(layer)]
        self.recent: deque[tuple[float, float]] = deque(maxlen=self.WINDOW)
        self.chance = sum(math.log(net.blobs[layer.bottom[0]].shape[1]) for layer in self.losses)
        self.labels = [LabelCount(net, layer, padded) for layer in self.losses]
        self._flat = 0
        self._told = False
        self._sums, self._count = np.zeros(2), 0

    @property
    def blobs(self) -> list[str]:
        """The names of the blobs whose values :meth:`update` reads."""
        return [name for layer in self.losses for name in (layer.top[0], layer.bottom[1])]

    def update(self) -> None:
        """Take note of the iteration just done. Raises DataError when the loss is not finite."""
        total = per_pixel = 0.0
        for layer, count in zip(self.losses, self.labels, strict=True):
            value = float(self.net.blobs[layer.top[0]].data.flat[0])  # a Python layer may give it an axis
            share = self._share(layer)
            total += value
            per_pixel += value * share
            count.update(value * share)
        if not math.isfinite(total):
            raise DataError(
                f"the loss became {total}: the learning rate is too high for this loss, or the weights hold NaN. "
                "An unnormalised loss (normalize: false) wants base_lr 1e-10 and the like; a normalised one 1e-4."
            )
        self.recent.append((total, per_pixel))
        self._sums, self._count = self._sums + (total, per_pixel), self._count + 1

    def take(self) -> tuple[float, float]:
        """Means of loss and loss per pixel over the iterations since the last call; nan if there are none."""
        means = self._sums / self._count if self._count else np.full(2, math.nan)
        self._sums, self._count = np.zeros(2), 0
        return float(means[0]), float(means[1])

    def _share(self, layer) -> float:
        """Factor from this layer's loss to loss per labelled pixel, for the last image.

        A loss written in Python is taken for a mean already.
        """
        if layer.type == "Python":
            return 1.0
        labels = self.net.blobs[layer.bottom[1]].data
        param = layer.loss_param
        valid = labels.size
        if param.HasField("ignore_label"):
            valid = int(np.count_nonzero(labels != param.ignore_label))
        mode = param.normalization
        if not param.HasField("normalization") and param.HasField("normalize") and not param.normalize:
            mode = caffe_pb2.LossParameter.BATCH_SIZE
        denominator = {
            caffe_pb2.LossParameter.FULL: labels.size,
            caffe_pb2.LossParameter.VALID: valid,
            caffe_pb2.LossParameter.BATCH_SIZE: labels.shape[0],
            caffe_pb2.LossParameter.NONE: 1,
        }[mode]
        return max(denominator, 1) / max(valid, 1)

    @property
    def loss(self) -> float:
        """Mean of Caffe's loss over the last 20 iterations."""
        return sum(total for total, _ in self.recent) / max(len(self.recent), 1)

    @property
    def per_pixel(self) -> float:
        """Mean loss per labelled pixel over the last 20 iterations."""
        return sum(value for _, value in self.recent) / max(len(self.recent), 1)

    def line(self, iteration: int, done: int, seconds: float, waiting: float) -> str:
        """A log line in Caffe's words, with the loss per pixel, and the share of time spent ``waiting`` for data."""
        rate = done / seconds if seconds else 0
        return (
            f"Iteration {iteration} ({rate:.4g} iter/s, {seconds:.4g}s/{done} iters), loss = {self.loss:.6g} "
            f"({self.per_pixel:.4f} per pixel), {100 * waiting:.1f}% of the time waiting for data"
        )

    def warnings(self):
        """Sentences, each said once: the loss stays where an untrained net's is, or the labels teach nothing."""
        self._flat = self._flat + 1 if abs(self.recent[-1][1] - self.chance) < 1e-4 * self.chance else 0
        if self._flat >= 100 and not self._told:
            self._told = True
            yield (
                f"the loss per pixel has been {self.chance:.4f} = ln C for 100 iterations: all scores are equal, so "
                "nothing is learned. Some layer is zero or its learning rate is; look at the report of copied weights."
            )
        for count in self.labels:
            yield from count.warnings()


class LabelCount:
    """Which classes occur in the labels of one loss, in the first images that a net sees.

    A loss falls to 0 at once where there is only one class to learn. ``padded``: there are void labels around moved
    images, which say nothing.
    """

    FEW, MANY = 50, 500  # iterations after which one class alone is strange, beside void pixels and without
    NOTHING = 0.1  # a loss per pixel below this share of ln C is next to nothing

    def __init__(self, net, layer, padded: bool = False):
        self.net, self.top, self.padded = net, layer.bottom[1], padded
        self.classes = net.blobs[layer.bottom[0]].shape[1]
        self.counts, self.seen, self._told = np.zeros(256, np.int64), 0, False
        self.recent: deque[float] = deque(maxlen=LossMeter.WINDOW)

    def update(self, per_pixel: float) -> None:
        """Count the labels of the iteration just done, whose loss per pixel was this."""
        self.recent.append(per_pixel)
        if self.seen < self.MANY and not self._told:
            labels = np.clip(self.net.blobs[self.top].data, 0, 255).astype(np.uint8)
            self.counts += np.bincount(labels.ravel(), minlength=256)
            self.seen += 1

    def warnings(self):
        """A sentence, said once, when all labels are of one class or void, and the loss is next to nothing."""
        loss = sum(self.recent) / max(len(self.recent), 1)
        if self._told or self.seen < self.FEW or loss > self.NOTHING * math.log(self.classes):
            return
        found, void = np.flatnonzero(self.counts[: self.classes]), self.counts[self.classes :].sum()
        share = void / max(self.counts.sum(), 1)
        if not found.size:
            self._told = True
            yield (
                f"all pixels of {self.top} in the first {self.seen} iterations are void: there is nothing to learn. "
                "Masks must hold class indices, from 0 on"
            )
        elif found.size == 1 and (self.seen == self.MANY or (share > 0.01 and not self.padded)):
            self._told = True
            yield (
                f"every labelled pixel of {self.top} in the first {self.seen} iterations is of class {found[0]}, and "
                f"{share:.1%} of the pixels are void: a loss of {loss:.2g} means nothing, for there is only one class "
                "to learn. In masks of 0 and 255 the other class reads as void: `python data/own/prepare.py check` "
                "looks at masks and prints the command that mends them"
            )


def blind(net, param: caffe_pb2.NetParameter) -> str:
    """A sentence when nothing of the image gets to some scores, else an empty text.

    Looks at the blobs of the last forward: a convolution that gives exactly 0 everywhere, though its weights are not
    zero, passes nothing on. Weights of zero are no sign: scores start so, others :func:`surgery.check_ready` refuses.
    """
    lost: dict[str, str] = {}  # blobs that the image does not reach → the layer that stops it
    for layer in param.layer:
        inputs = list(layer.bottom[:1] if layer.type == "Crop" or is_loss(layer) else layer.bottom)
        stopped = [lost[name] for name in inputs if name in lost]
        arrives = layer.type == "Eltwise" or is_loss(layer)  # where scores are added up, or end
        if stopped and arrives:
            return (
                f"{stopped[0]} gives exactly 0 everywhere, so that nothing of the image gets to {layer.name}: the "
                "weights of this layer or of one before were not loaded or are not this net's, or the image is not "
                "what they expect (mean, scale); look at the report of copied weights"
            )
        if layer.type in ("Convolution", "InnerProduct") and not stopped:
            weights = net.params[layer.name][0].data
            stopped = [] if net.blobs[layer.top[0]].data.any() or not weights.any() else [layer.name]
        elif layer.type == "Concat" and len(stopped) < len(inputs):
            stopped = []
        for top in layer.top:
            lost.pop(top, None)
            if stopped:
                lost[top] = stopped[0]
    return ""
