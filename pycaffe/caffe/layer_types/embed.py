"""Embed: a learned row of values for each number."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..layer import TensorLayer
from ..registry import register
from .rules import add_blob


@register("Embed")
class Embed(TensorLayer):
    """Row number x of a table, for every value x of the bottom: an InnerProduct of one-hot vectors.

    Bottom of any shape, its values 0..``input_dim``-1, truncated to integers; top (bottom...,
    ``num_output``). Blobs: weight (input_dim, num_output), bias (num_output) unless
    ``bias_term: false``. The bottom has no gradient.

    Raises CaffeError for a value out of range.
    """

    exact_bottoms = 1
    exact_tops = 1
    gradient_reads_tops = False
    force_backward_refused = (0,)

    def configure(self, shapes):
        param = self.layer_param.embed_param
        for name in ("num_output", "input_dim"):
            if getattr(param, name) == 0:
                raise self.error(f"EmbedLayer {name} must be positive. Set embed_param {{ {name}: ... }}")
        self.rows = param.input_dim
        add_blob(self, (self.rows, param.num_output), param.weight_filler)
        if param.bias_term:
            add_blob(self, (param.num_output,), param.bias_filler)

    def top_shapes(self, shapes):
        return [(*shapes[0], self.layer_param.embed_param.num_output)]

    def compute(self, bottoms, params):
        numbers = bottoms[0].detach().long()
        if numbers.numel():
            lowest, highest = torch.aminmax(numbers)
            if (lowest < 0) | (highest >= self.rows):
                wrong = bottoms[0][(numbers < 0) | (numbers >= self.rows)]
                raise self.error(
                    f"{wrong.numel()} values of bottom[0] are out of range, such as {wrong[0]:g}; with input_dim: "
                    f"{self.rows} they are 0..{self.rows - 1}"
                )
        top = F.embedding(numbers, params[0])
        return [top + params[1] if len(params) > 1 else top]

    def backward_refusal(self, propagate_down):
        if propagate_down[0]:
            return "Can't backpropagate to EmbedLayer input. Give the layer propagate_down: false"
        return super().backward_refusal(propagate_down)
