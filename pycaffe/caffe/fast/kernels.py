"""What a convolution does, on weights prepared once for many forwards.

The kernel is called with a tensor (N, C, H, W) and how many rows and columns of zeros to add at the
top, bottom, left and right of it; padding differs from side to side where a part of a map is
computed. Gradients are not for these.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from . import winograd
from .winograd import Sides


class Convolution:
    """The filters of a Convolution ``layer`` of two spatial axes, and a ReLU after them if ``relu``.

    ``weight`` and ``bias`` (or None) are the layer's, float32, on the device that computes; the
    input is converted to ``dtype``, which the output has.
    """

    def __init__(
        self, layer, weight: torch.Tensor, bias: torch.Tensor | None, relu: bool, dtype: torch.dtype
    ):
        self.stride, self.group, self.extent, self.relu = layer.stride, layer.group, layer.extent, relu
        # a filter of one cell has no gaps; oneDNN ends the process when told of some
        self.dilation = tuple(1 if k == 1 else d for k, d in zip(layer.kernel, layer.dilation, strict=True))
        self.dtype = dtype
        # a map of one channel is of either format, and oneDNN takes the wrong one
        single = weight.shape[1] * layer.group == 1
        # cuDNN, too, wants channels last, but for float32
        last = (weight.device.type == "cpu" or dtype != torch.float32) and not single
        self.format = torch.channels_last if last else torch.contiguous_format
        self.bias = None if bias is None else bias.to(dtype)
        self.winograd = self.packed = self.linear = None
        if winograd.pays(layer, weight, dtype):
            self.winograd = winograd.transformed(weight).transpose(1, 2).contiguous()
        elif single or not (weight.device.type == "cpu" and _onednn(dtype)):
            self.weight = weight.to(dtype, memory_format=self.format)
        elif {*layer.kernel, *layer.stride, layer.group} == {1} and not any(layer.pad):
            self.linear = torch.ops.mkldnn._reorder_linear_weight(weight.flatten(1).to(dtype), None)
        else:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(
                weight.to(dtype), (0, 0), self.stride, self.dilation, self.group, None
            )

    def __call__(self, x: torch.Tensor, sides: Sides) -> torch.Tensor:
        if self.winograd is not None:
            return winograd.filtered(x, sides, self.winograd, self.extent[0], self.bias, self.relu)
        x = x.to(self.dtype, memory_format=self.format)
        x, pad = evened(x, sides, self.extent)
        after = "relu" if self.relu else "none"
        if self.linear is not None:
            y = torch.ops.mkldnn._linear_pointwise(
                x.permute(0, 2, 3, 1), self.linear, self.bias, after, [], ""
            )
            return y.permute(0, 3, 1, 2)
        if self.packed is not None:
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.packed, self.bias, pad, self.stride, self.dilation, self.group, after, [], ""
            )
        y = F.conv2d(x, self.weight, self.bias, self.stride, pad, self.dilation, self.group)
        return y.relu_() if self.relu else y


def evened(x: torch.Tensor, sides: Sides, extent) -> tuple[torch.Tensor, tuple[int, int]]:
    """``x`` with ``sides`` added as far as they are not alike, and what is left to add at both ends, down and across.

    Nothing is left where a window of ``extent`` could lie wholly in the padding: if a stride goes over a map of one
    cell's width, oneDNN's convolution, channels last, ends the process. And a map of one channel gets the
    strides of a contiguous one, which mean more to oneDNN than they should.
    """
    top, bottom, left, right = sides
    pad = (top, left)
    if not (top == bottom < extent[0] and left == right < extent[1]):
        x, pad = F.pad(x, (left, right, top, bottom)), (0, 0)
    return (x.flatten().view(x.shape) if x.shape[1] == 1 else x), pad


def _onednn(dtype: torch.dtype) -> bool:
    """Has this PyTorch the convolution on weights in oneDNN's own layout, and the processor ``dtype``?"""
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return False
    ops = torch.ops.mkldnn
    if not hasattr(ops, "_reorder_convolution_weight") or not hasattr(ops, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or ops._is_mkldnn_bf16_supported()
