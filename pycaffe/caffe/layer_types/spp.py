"""SPP: spatial pyramid pooling, a fixed number of values from an image of any size."""

from __future__ import annotations

import torch

from ..layer import TensorLayer
from ..proto import caffe_pb2
from ..registry import register
from .pool import Pooling
from .rules import dims

_POOLING = caffe_pb2.PoolingParameter


@register("SPP")
class SPP(TensorLayer):
    """The image pooled by ``pool`` (MAX, AVE or STOCHASTIC) on ``pyramid_height`` levels, all in one row.

    Bottom (N, C, H, W). Level l pools with kernel and stride ceil(H / 2^l) by ceil(W / 2^l), and
    half of what these lack, rounded up, as padding on each side: 2^l x 2^l values for each channel
    (fewer where Pooling drops a window that begins beyond the image). Top (N, C sum of 4^l), level
    after level; of a pyramid of height 1 (N, C, 1, 1).

    Raises CaffeError where a level's padding would reach its kernel: the image is too small.
    """

    exact_bottoms = 1
    exact_tops = 1
    gradient_reads_tops = False

    def configure(self, shapes):
        if self.layer_param.spp_param.pyramid_height == 0:
            raise self.error("pyramid_height must be at least 1; set spp_param { pyramid_height: ... }")

    def top_shapes(self, shapes):
        if len(shapes[0]) != 4:
            raise self.error(
                "Input must have 4 axes, corresponding to (num, channels, height, width); "
                f"bottom[0] is {dims(shapes[0])}"
            )
        if 0 in shapes[0][2:]:
            raise self.error(f"Input dimensions cannot be zero. bottom[0] is {dims(shapes[0])}")
        height = self.layer_param.spp_param.pyramid_height
        self.levels, found = [], []
        for level in range(height):
            self.levels.append(self._level(2**level, shapes[0]))
            found += self.levels[-1].top_shapes(shapes)
        if height == 1:
            return found
        return [(shapes[0][0], sum(c * h * w for _, c, h, w in found))]

    def _level(self, bins: int, shape) -> Pooling:
        """The Pooling layer of the level with ``bins`` by ``bins`` windows."""
        param = caffe_pb2.LayerParameter(name=self.name, type=self.type, top=["level"])
        pooling = param.pooling_param
        pooling.pool = _POOLING.PoolMethod.Value(
            caffe_pb2.SPPParameter.PoolMethod.Name(self.layer_param.spp_param.pool)
        )
        for side, length in zip("hw", shape[2:], strict=True):
            kernel = -(-length // bins)
            setattr(pooling, f"kernel_{side}", kernel)
            setattr(pooling, f"stride_{side}", kernel)
            setattr(pooling, f"pad_{side}", (kernel * bins - length + 1) // 2)
        layer = Pooling(param)
        layer.phase = self.phase
        layer.configure([shape])
        return layer

    def compute(self, bottoms, params):
        pooled = [layer.compute(bottoms, [])[0] for layer in self.levels]
        return pooled if len(pooled) == 1 else [torch.cat([each.flatten(1) for each in pooled], 1)]
