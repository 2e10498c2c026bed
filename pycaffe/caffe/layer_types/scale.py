"""Scale: multiplication by learned factors, or by a second blob."""

from __future__ import annotations

import torch

from ..layer import TensorLayer
from ..proto import caffe_pb2
from ..registry import register
from .rules import add_blob, canonical_axis, dims


@register("Scale")
class Scale(TensorLayer):
    """bottom[0] times factors that are broadcast along its axes from ``axis`` (1) on.

    One bottom: the factors are blob 0, shaped as ``num_axes`` (1; -1: all the rest; 0: a scalar) of
    bottom[0]'s axes, filled with 1 unless ``filler`` says otherwise. Two: the factors are
    bottom[1]. With ``bias_term`` the last blob, of the factors' shape, is added.
    """

    min_bottoms = 1
    max_bottoms = 2
    exact_tops = 1

    def configure(self, shapes):
        param = self.layer_param.scale_param
        if len(shapes) == 2:
            factors = shapes[1]
        else:
            if param.num_axes < -1:
                raise self.error(
                    f"num_axes must be non-negative, or -1 to extend to the end; got {param.num_axes}"
                )
            axis = canonical_axis(self, param.axis, shapes[0])
            end = len(shapes[0]) if param.num_axes == -1 else axis + param.num_axes
            if end > len(shapes[0]):
                raise self.error(
                    "scale blob's shape extends past bottom[0]'s shape when applied starting with bottom[0] axis "
                    f"{axis}: num_axes is {param.num_axes}, bottom[0] is {dims(shapes[0])}"
                )
            factors = shapes[0][axis:end]
            one = caffe_pb2.FillerParameter(type="constant", value=1)
            add_blob(self, factors, param.filler if param.HasField("filler") else one)
        if param.bias_term:
            add_blob(self, factors, param.bias_filler)

    def top_shapes(self, shapes):
        whole = shapes[0]
        factors = shapes[1] if len(shapes) == 2 else self.blobs[0].shape
        axis = 0 if not factors else canonical_axis(self, self.layer_param.scale_param.axis, whole)
        if axis + len(factors) > len(whole):
            raise self.error(
                f"scale blob's shape extends past bottom[0]'s shape when applied starting with bottom[0] axis {axis}: "
                f"the factors are {dims(factors)}, bottom[0] is {dims(whole)}"
            )
        for i, size in enumerate(factors):
            if whole[axis + i] != size:
                raise self.error(
                    f"dimension mismatch between bottom[0]->shape({axis + i}) and scale->shape({i}): "
                    f"{whole[axis + i]} vs. {size}; bottom[0] is {dims(whole)}, the factors are {dims(factors)}"
                )
        self.broadcast = (*factors, *[1] * (len(whole) - axis - len(factors)))
        return [whole]

    def compute(self, bottoms, params):
        x = bottoms[0]
        factors, *bias = [*bottoms[1:], *params]
        if not bias:
            return [x * factors.view(self.broadcast)]
        return [torch.addcmul(bias[0].view(self.broadcast), x, factors.view(self.broadcast))]
