"""A convolution with more weights than inputs (fc6, fc7 of FCN), as one matrix product in each direction.

Its windows laid out as columns are fewer numbers than its filters, so that laying them out costs
little, and nothing has to turn the filters, or their gradient, into a layout of its own: of fc6's
411 MB each pass reads and writes as little as it can. The gradient is added straight to the diff.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def pays(layer, x: torch.Tensor, shape: tuple[int, ...]) -> bool:
    """Has the Convolution ``layer`` over ``x``, with a top of ``shape``, more weights than its windows have cells?"""
    if layer.group != 1 or x.dtype != torch.float32 or x.device.type != "cpu":
        return False
    cells = layer.channels * math.prod(layer.kernel)
    return shape[0] * math.prod(shape[2:]) <= layer.num_output and cells * layer.num_output >= 2**20


class _Product(torch.autograd.Function):
    """The gradient of ``weight`` is None to autograd: it is added to the diff of ``blob``."""

    @staticmethod
    def forward(ctx, x, weight, bias, windows, blob):
        columns = _columns(x, windows)
        ctx.save_for_backward(weight, columns)
        ctx.shape, ctx.windows, ctx.blob = x.shape, windows, blob
        y = (
            weight.flatten(1) @ columns
            if bias is None
            else torch.addmm(bias[:, None], weight.flatten(1), columns)
        )
        size = [
            (n + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for n, kernel, dilation, pad, stride in zip(x.shape[2:], *windows, strict=True)
        ]
        return y.view(-1, len(x), *size).transpose(0, 1)

    @staticmethod
    def backward(ctx, gradient):
        weight, columns = ctx.saved_tensors
        gradient = gradient.transpose(0, 1).flatten(1)
        if ctx.blob is not None:
            ctx.blob.diff_tensor(weight.device).flatten(1).addmm_(gradient, columns.T)
            ctx.blob.diff_modified()
        below = of_bias = None
        if ctx.needs_input_grad[0]:
            below = (weight.flatten(1).T @ gradient).view(len(columns), ctx.shape[0], -1).transpose(0, 1)
            if _cell_by_cell(ctx.windows):
                below = below.reshape(ctx.shape)
            else:
                below = F.fold(below, ctx.shape[2:], *ctx.windows)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(1)
        return below, None, of_bias, None, None


def _cell_by_cell(windows) -> bool:
    kernel, _, pad, stride = windows
    return math.prod(kernel) == math.prod(stride) == 1 and not any(pad)


def _columns(x: torch.Tensor, windows) -> torch.Tensor:
    """The windows of ``x`` (N, C, H, W) as columns, image by image."""
    if _cell_by_cell(windows):
        return x.transpose(0, 1).flatten(1)
    return F.unfold(x, *windows).transpose(0, 1).flatten(1)


def product(layer, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The top of the Convolution ``layer`` over ``x``; ``weight`` and ``bias`` (or None) may record gradients.

    Backward adds the gradient of ``weight`` to the diff of the layer's blob by itself.
    """
    windows = layer.kernel, layer.dilation, layer.pad, layer.stride
    return _Product.apply(
        layer.completed(x), weight, bias, windows, layer.blobs[0] if weight.requires_grad else None
    )
