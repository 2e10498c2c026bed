"""InnerProduct: the fully connected layer."""

from __future__ import annotations

import math

import torch.nn.functional as F

from ..layer import TensorLayer
from ..registry import register
from .rules import add_blob, canonical_axis, dims


@register("InnerProduct")
class InnerProduct(TensorLayer):
    """Every output is a weighted sum of all values from ``axis`` (1) on.

    Bottom (N, ...), top (N, num_output): the axes before ``axis`` stay, the rest are flattened to
    K values. Blobs: weight (num_output, K), or (K, num_output) with ``transpose``; bias
    (num_output) unless ``bias_term: false``.
    """

    exact_bottoms = 1
    exact_tops = 1
    gradient_reads_tops = False

    def configure(self, shapes):
        param = self.layer_param.inner_product_param
        self.num_output, self.transpose = param.num_output, param.transpose
        if self.num_output == 0:
            raise self.error("num_output must be greater than 0; set inner_product_param { num_output: ... }")
        self.axis = canonical_axis(self, param.axis, shapes[0])
        self.inputs = math.prod(shapes[0][self.axis :])
        shape = (self.inputs, self.num_output) if self.transpose else (self.num_output, self.inputs)
        add_blob(self, shape, param.weight_filler)
        if param.bias_term:
            add_blob(self, (self.num_output,), param.bias_filler)

    def top_shapes(self, shapes):
        found = math.prod(shapes[0][self.axis :])
        if found != self.inputs:
            raise self.error(
                f"Input size incompatible with inner product parameters. The weights take {self.inputs} values "
                f"from axis {self.axis} on, bottom[0] is {dims(shapes[0])} ({found}). Only a convolution "
                "takes images of any size"
            )
        return [(*shapes[0][: self.axis], self.num_output)]

    def compute(self, bottoms, params):
        x = bottoms[0].reshape(*bottoms[0].shape[: self.axis], self.inputs)
        weight = params[0].t() if self.transpose else params[0]
        return [F.linear(x, weight, params[1] if len(params) > 1 else None)]
