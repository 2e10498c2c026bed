"""Local response normalisation."""

from __future__ import annotations

import torch.nn.functional as F

from ..layer import TensorLayer
from ..proto import caffe_pb2
from ..registry import register
from .rules import dims


@register("LRN")
class LRN(TensorLayer):
    """Each value divided by a power of its neighbours' mean square.

    (N, C, H, W) to the same shape. ACROSS_CHANNELS (default): x (k + alpha / n sum x^2)^-beta over
    the n = ``local_size`` channels around. WITHIN_CHANNEL: x (1 + alpha / n^2 sum x^2)^-beta over
    the n by n pixels around; ``k`` is not used. Beyond the border values are 0.
    """

    exact_bottoms = 1
    exact_tops = 1

    def configure(self, shapes):
        param = self.layer_param.lrn_param
        self.size, self.alpha, self.beta, self.k = param.local_size, param.alpha, param.beta, param.k
        self.across = param.norm_region == caffe_pb2.LRNParameter.ACROSS_CHANNELS
        if self.size % 2 == 0:
            raise self.error(f"LRN only supports odd values for local_size, got {self.size}")

    def top_shapes(self, shapes):
        if len(shapes[0]) != 4:
            raise self.error(
                "Input must have 4 axes, corresponding to (num, channels, height, width); "
                f"bottom[0] is {dims(shapes[0])}"
            )
        return [shapes[0]]

    def compute(self, bottoms, params):
        x = bottoms[0]
        if self.across:
            return [F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)]
        mean_square = F.avg_pool2d(x.square(), self.size, 1, self.size // 2)
        return [x * (1 + self.alpha * mean_square).pow(-self.beta)]
