"""Layers that make one number of many: Reduction and ArgMax."""

from __future__ import annotations

import math

import torch

from ..layer import TensorLayer
from ..proto import caffe_pb2
from ..registry import register
from .rules import canonical_axis, dims

_REDUCTION = caffe_pb2.ReductionParameter


@register("Reduction")
class Reduction(TensorLayer):
    """``coeff`` (1) times the SUM (default), ASUM, SUMSQ or MEAN of all values from ``axis`` (0) on.

    ASUM sums absolute values, SUMSQ squares. The top has the axes before ``axis``.
    """

    exact_bottoms = 1
    exact_tops = 1
    gradient_reads_tops = False

    def top_shapes(self, shapes):
        self.axis = canonical_axis(self, self.layer_param.reduction_param.axis, shapes[0])
        return [shapes[0][: self.axis]]

    def compute(self, bottoms, params):
        param, x = self.layer_param.reduction_param, bottoms[0]
        axes = tuple(range(self.axis, x.dim()))
        if param.operation == _REDUCTION.MEAN:
            return [x.mean(axes) * param.coeff]
        if param.operation == _REDUCTION.ASUM:
            x = x.abs()
        elif param.operation == _REDUCTION.SUMSQ:
            x = x.square()
        return [x.sum(axes) * param.coeff]


@register("ArgMax")
class ArgMax(TensorLayer):
    """Where the ``top_k`` (1) largest values are, the largest first. Of equal ones the last counts as larger.

    With ``axis``: that axis shrinks to top_k and holds indices, or with ``out_max_val`` the values.
    Without: over all values of each item of the bottom (N, ...), the top is (N, 1, top_k) with
    indices, or (N, 2, top_k) with indices and values; 1 on every further axis that the bottom has.
    Indices are floats. There is no gradient.
    """

    exact_bottoms = 1
    exact_tops = 1
    no_gradient = True
    gradient_reads_tops = False

    def configure(self, shapes):
        if self.layer_param.argmax_param.top_k < 1:
            raise self.error("top k must not be less than 1. It is 0")

    def top_shapes(self, shapes):
        shape, param = shapes[0], self.layer_param.argmax_param
        self.axis = None
        if param.HasField("axis"):
            self.axis = canonical_axis(self, param.axis, shape)
            values, what = shape[self.axis], "axis"
            top = (*shape[: self.axis], param.top_k, *shape[self.axis + 1 :])
        else:
            items = shape[canonical_axis(self, 0, shape)]
            values, what = math.prod(shape[1:]), "flattened bottom blob per instance"
            top = (items, 1 + param.out_max_val, param.top_k, *[1] * (len(shape) - 3))
        if param.top_k > values:
            raise self.error(
                f"top_k must be less than or equal to the dimension of the {what}. top_k: {param.top_k}, "
                f"dimension: {values}; bottom[0] is {dims(shape)}"
            )
        return [top]

    def compute(self, bottoms, params):
        param, x = self.layer_param.argmax_param, bottoms[0].detach()
        if self.axis is not None:
            values, indices = _largest(x, self.axis, param.top_k)
            return [values if param.out_max_val else indices.to(x.dtype)]
        values, indices = _largest(x.flatten(1) if x.dim() > 1 else x.unsqueeze(1), 1, param.top_k)
        top = torch.stack([indices.to(x.dtype), values][: 1 + param.out_max_val], 1)
        return [top.reshape(*top.shape, *[1] * (x.dim() - 3))]


def _largest(x: torch.Tensor, axis: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and int64 indices of the ``count`` largest along ``axis``, of equal ones the last first."""
    turned = x.flip(axis)  # PyTorch takes the first of equal values
    if count == 1:
        values, indices = turned.max(axis, keepdim=True)
    else:
        values, indices = turned.sort(dim=axis, descending=True, stable=True)
        values, indices = values.narrow(axis, 0, count), indices.narrow(axis, 0, count)
    return values, x.shape[axis] - 1 - indices
