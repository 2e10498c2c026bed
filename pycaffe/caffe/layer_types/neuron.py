"""Layers that work on each value by itself: ReLU, Dropout."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .. import common
from ..fillers import bernoulli
from ..layer import TensorLayer
from ..proto import caffe_pb2
from ..registry import register


class _NeuronLayer(TensorLayer):
    """One bottom, one top of its shape; the two may be one blob."""

    exact_bottoms = 1
    exact_tops = 1

    def top_shapes(self, shapes):
        return [shapes[0]]


@register("ReLU")
class ReLU(_NeuronLayer):
    """max(x, 0) + negative_slope min(x, 0); gradient 1 where x > 0, else the slope."""

    def configure(self, shapes):
        self.slope = self.layer_param.relu_param.negative_slope
        self.can_overwrite = self.slope >= 0  # then the top has the bottom's sign

    def compute(self, bottoms, params):
        return [F.leaky_relu(bottoms[0], self.slope) if self.slope else F.relu(bottoms[0])]

    def overwrite(self, x):
        F.leaky_relu_(x, self.slope) if self.slope else x.relu_()

    def overwrite_diff(self, y, diff):
        if self.slope:
            torch.ops.aten.leaky_relu_backward(diff, y, self.slope, True, grad_input=diff)
        else:
            torch.ops.aten.threshold_backward(diff, y, 0, grad_input=diff)


@register("Dropout")
class Dropout(_NeuronLayer):
    """In training each value is 0 with probability ``dropout_ratio``, else divided by 1 - ratio.

    In testing the identity. On the CPU the mask is Caffe's own, bit for bit, under one seed.
    """

    can_overwrite = True

    def configure(self, shapes):
        self.ratio = self.layer_param.dropout_param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise self.error(f"dropout_ratio must be at least 0 and less than 1, got {self.ratio:g}")
        self._drawn = None

    def overwrite(self, x):
        if self.phase == caffe_pb2.TRAIN:
            self._drawn = self._mask(x)
            x.mul_(self._drawn)

    def overwrite_diff(self, y, diff):
        if self.phase == caffe_pb2.TRAIN:
            if self._drawn is None:
                raise self.error("backward needs a forward of this layer before it; call net.forward() first")
            diff.mul_(self._drawn)

    def _forget(self):
        super()._forget()
        self._drawn = None

    def compute(self, bottoms, params):
        x = bottoms[0]
        if self.phase == caffe_pb2.TEST:
            return [x]
        return [x * self._mask(x)]

    def _mask(self, x: torch.Tensor) -> torch.Tensor:
        """0 or 1 / (1 - ratio) for each value of ``x``."""
        keep = 1 - self.ratio
        scale = float(np.float32(1 / keep))
        if x.device.type == "cpu":
            drawn = torch.from_numpy(bernoulli(keep, x.numel())).view(x.shape)
            return drawn.to(x.dtype).mul_(scale)
        return torch.empty_like(x).bernoulli_(keep, generator=common.cuda_generator(x.device)).mul_(scale)
