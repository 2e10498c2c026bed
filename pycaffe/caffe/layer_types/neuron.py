"""Layers that work on each value by itself: ReLU, PReLU, Dropout (others: pointwise)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .. import common
from ..fillers import bernoulli
from ..layer import TensorLayer
from ..proto import caffe_pb2
from ..registry import register
from .rules import add_blob, dims


class NeuronLayer(TensorLayer):
    """One bottom, one top of its shape; the two may be one blob."""

    exact_bottoms = 1
    exact_tops = 1

    def top_shapes(self, shapes):
        return [shapes[0]]


@register("ReLU")
class ReLU(NeuronLayer):
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


@register("PReLU")
class PReLU(NeuronLayer):
    """max(x, 0) + slope min(x, 0) with learned slopes; gradient 1 where x > 0, else the slope.

    Bottom (N, C, ...). Blob: the slopes (C), or with ``channel_shared`` one scalar for all channels,
    0.25 unless ``filler`` says otherwise.
    """

    gradient_reads_tops = False

    def configure(self, shapes):
        param = self.layer_param.prelu_param
        self._check_axes(shapes[0])
        quarter = caffe_pb2.FillerParameter(type="constant", value=0.25)
        shape = () if param.channel_shared else (shapes[0][1],)
        add_blob(self, shape, param.filler if param.HasField("filler") else quarter)

    def _check_axes(self, shape):
        if len(shape) < 2:
            raise self.error(f"Number of axes of bottom blob must be >=2. bottom[0] is {dims(shape)}")

    def top_shapes(self, shapes):
        self._check_axes(shapes[0])
        slopes = self.blobs[0].shape
        if slopes and slopes[0] != shapes[0][1]:
            raise self.error(
                f"Negative slope size is inconsistent with prototxt config: {slopes[0]} slopes, one for each "
                f"channel, but bottom[0] is {dims(shapes[0])}"
            )
        return [shapes[0]]

    def compute(self, bottoms, params):
        return [F.prelu(bottoms[0], params[0].reshape(-1))]


@register("Dropout")
class Dropout(NeuronLayer):
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
