"""What the paper tries on the loss: sampling where it is taken (section 3.4), and weighting the classes (4.3).

Both are Caffe ``Python`` layers, for training nets:

    layer { name: "sample" type: "Python" bottom: "label" top: "sampled"
      python_param { module: "sampling" layer: "LossSamplingLayer" param_str: "{'p': 0.5, 'seed': 1337}" } }
    layer { name: "loss" type: "Python" bottom: "score" bottom: "label" top: "loss" loss_weight: 1
      python_param { module: "sampling" layer: "ClassWeightedLossLayer" param_str: "{'weights': [0.5, 1, 2]}" } }
"""

from __future__ import annotations

import numpy as np

from feed import SeededLayer
from files import DataError
from images import IGNORE
from param_str import SEED, Key, ParamLayer, are_numbers, flag, integer, is_number


class LossSamplingLayer(SeededLayer):
    """Labels, of which each cell is kept with probability ``p``, and else becomes void (255).

    Bottom: labels, N x 1 x H x W. Top: the same, with 255 where a cell is left out. A cell is a square of
    ``cell`` pixels (default 32, the stride of the final layer), the first at the upper left corner; each
    is drawn on its own, for each item of the batch and each forward, from ``seed`` (default 1337; None
    draws one). To see as many cells a step, raise the images per batch (iter_size) by 1/p.
    """

    keys = {
        "p": Key("a probability above 0, up to 1", lambda value: is_number(value) and 0 < value <= 1),
        "seed": SEED,
        "cell": integer(1, None, 32),
    }

    def setup(self, bottom, top):
        self.params = self.read_params()
        if len(bottom) != 1 or len(top) != 1:
            raise DataError(
                f"{self.who()} has {len(bottom)} bottoms and {len(top)} tops; it takes labels, and gives labels"
            )
        self.start(0, self.given_seed())

    def reshape(self, bottom, top):
        if len(bottom[0].data.shape) != 4:
            raise DataError(
                f"{self.who()}: its bottom is of shape {bottom[0].data.shape}; it takes labels, N x 1 x H x W"
            )
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        labels, cell, draws = bottom[0].data, self.params["cell"], self.draws(self.position)
        count, _, height, width = labels.shape
        cells = count, 1, -(-height // cell), -(-width // cell)
        kept = np.reshape([draws.random() < self.params["p"] for _ in range(np.prod(cells))], cells)
        kept = kept.repeat(cell, 2).repeat(cell, 3)[:, :, :height, :width]
        top[0].data[...] = np.where(kept, labels, IGNORE)
        self.position += 1

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:  # labels have no gradient
            bottom[0].diff[...] = 0


class ClassWeightedLossLayer(ParamLayer):
    """The softmax loss, in which a pixel of class c counts ``weights[c]`` times.

    Bottoms: scores x, N x C x H x W, and labels y, N x 1 x H x W (0..C-1, or ``ignore_label``, default 255, for
    pixels that do not count). Top: the number sum_i w(y_i) (log sum_c exp x_ic - x_iy_i) / M over pixels i. With
    ``normalize`` (default True) M = sum_i w(y_i), and without, M = N: as SoftmaxWithLoss does, to
    which it is equal when all weights are 1. The prototxt must give the layer its loss_weight.
    """

    keys = {
        "weights": Key(
            "a list of numbers of 0 or more, one a class",
            lambda value: are_numbers(value) and len(value) > 0 and min(value) >= 0,
        ),
        "ignore_label": integer(0, 255, IGNORE),
        "normalize": flag(True),
    }

    def setup(self, bottom, top):
        self.params = self.read_params()
        if len(bottom) != 2 or len(top) != 1:
            raise DataError(
                f"{self.who()} has {len(bottom)} bottoms and {len(top)} tops; it takes scores and labels, and "
                "gives the loss"
            )

    def reshape(self, bottom, top):
        scores, labels, classes = bottom[0].data.shape, bottom[1].data.shape, len(self.params["weights"])
        if len(scores) != 4 or tuple(labels) != (scores[0], 1, *scores[2:]):
            raise DataError(
                f"{self.who()}: scores are of shape {scores}, labels of shape {labels}; they must be N x C x H x W "
                "and N x 1 x H x W"
            )
        if scores[1] != classes:
            raise DataError(f"{self.who()}: there are {classes} weights for scores of {scores[1]} classes")
        top[0].reshape(1)

    def forward(self, bottom, top):
        scores, labels = bottom[0].data, bottom[1].data
        weights = np.array(self.params["weights"])
        counted = labels != self.params["ignore_label"]
        wrong = labels[counted & ~np.isin(labels, np.arange(len(weights)))]
        if wrong.size:
            raise DataError(
                f"{self.who()}: {wrong.size} labels are none of the classes 0 to {len(weights) - 1} nor the "
                f"ignored {self.params['ignore_label']}, such as {wrong.flat[0]:g}"
            )
        self._own = np.where(counted, labels, 0).astype(np.int64)  # N x 1 x H x W
        pixel_weights = np.where(counted, weights[self._own], 0)
        total = pixel_weights.sum() if self.params["normalize"] else len(scores)
        self._share = pixel_weights / (total or 1)  # what each pixel counts in the mean
        exponentials = np.exp(scores - scores.max(1, keepdims=True))
        self._probabilities = exponentials / exponentials.sum(1, keepdims=True)
        own = np.take_along_axis(self._probabilities, self._own, 1)
        # as Caffe: a probability that rounds to 0 counts as the smallest number
        top[0].data[...] = -(self._share * np.log(np.maximum(own, np.finfo(np.float32).tiny))).sum()

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            own = np.take_along_axis(self._probabilities, self._own, 1)
            gradient = self._probabilities.copy()
            np.put_along_axis(gradient, self._own, own - 1, 1)
            bottom[0].diff[...] = gradient * (self._share * top[0].diff.flat[0])
        if propagate_down[1]:  # labels have no gradient
            bottom[1].diff[...] = 0
