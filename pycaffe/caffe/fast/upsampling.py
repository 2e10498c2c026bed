"""Upsampling channel by channel: a Deconvolution whose filters from a channel to another are all 0.

So are the fixed bilinear ones of FCN (section 3.3 of the paper). These, besides, are a product of
a filter down and one across, the same for every channel: an axis at a time, each block of rows or
columns is one small matrix product with the few cells that reach it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
import torch.nn.functional as F

from .spans import Interval

BLOCK = 16  # cells of the small map to a matrix: fewer are many products, more are many zeros
EXACT = 1e-6  # of the largest weight: so far, in float32, may the product of two filters be from the filter


def upsampling(layer, params: list[torch.Tensor]) -> Upsampling | None:
    """The kernel of a Deconvolution ``layer`` that upsamples every channel by itself; None for any other."""
    weight = params[0]
    if layer.spatial != 2 or layer.axis != 1 or layer.group != 1 or weight.shape[0] != weight.shape[1]:
        return None
    diagonal = weight.diagonal().permute(2, 0, 1)
    if torch.count_nonzero(weight) != torch.count_nonzero(diagonal):
        return None
    return Upsampling(layer, diagonal.unsqueeze(1).contiguous(), params[1] if len(params) > 1 else None)


class Upsampling:
    """A Deconvolution with a filter for every channel, ``weight`` (C, 1, kernel...), and ``bias`` (C) or None."""

    def __init__(self, layer, weight: torch.Tensor, bias: torch.Tensor | None):
        self.layer, self.weight, self.bias = layer, weight, bias

    @cached_property
    def filters(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Down and across, if its filters are their product."""
        return separated(self.weight[:, 0])

    def __call__(self, x: torch.Tensor, wanted: tuple[Interval, Interval] | None = None) -> torch.Tensor:
        """The upsampled (N, C, H', W'), or of that the rows and columns ``wanted``."""
        wanted = wanted or tuple((0, size) for size in self.sizes(x))
        if x.requires_grad or self.filters is None:
            return self._transposed(x, wanted)
        (first, end), (start, stop) = wanted
        batch, channels, height, width = x.shape
        across = x.new_empty(batch * channels, height, stop - start)
        rows = x.reshape(-1, width)
        for outputs, inputs, matrix in self._blocks(1, x, wanted[1]):
            torch.matmul(rows[:, inputs], matrix.T, out=across.view(-1, stop - start)[:, outputs])
        y = x.new_empty(batch * channels, end - first, stop - start)
        for outputs, inputs, matrix in self._blocks(0, x, wanted[0]):
            torch.matmul(matrix, across[:, inputs], out=y[:, outputs])
        y = y.view(batch, channels, end - first, stop - start)
        return y if self.bias is None else y.add_(self.bias[:, None, None])

    def sizes(self, x: torch.Tensor) -> list[int]:
        """Rows and columns of the whole of what becomes of ``x``."""
        layer, sizes = self.layer, x.shape[2:]
        return [
            (sizes[i] - 1) * layer.stride[i] - 2 * layer.pad[i] + self._extent(i) for i in range(len(sizes))
        ]

    def _extent(self, axis: int) -> int:
        return self.layer.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1

    def _transposed(self, x, wanted) -> torch.Tensor:
        """The plain way, channels last: a tenth of the time of the other order."""
        layer = self.layer
        x = x.contiguous(memory_format=torch.channels_last)
        y = F.conv_transpose2d(
            x, self.weight, self.bias, layer.stride, layer.pad, 0, len(self.weight), layer.dilation
        )
        (first, end), (start, stop) = wanted
        return y[:, :, first:end, start:stop]

    def _blocks(self, axis: int, x: torch.Tensor, wanted: Interval) -> Iterator[tuple]:
        """Along ``axis``: rows (columns) of the output, counted from the first wanted, the cells that they
        come from, and the matrix between.
        """
        taps, length = self.filters[axis].to(x.dtype), x.shape[2 + axis]
        stride, pad, gap = (each[axis] for each in (self.layer.stride, self.layer.pad, self.layer.dilation))
        for first in range(*wanted, BLOCK * stride):
            end = min(first + BLOCK * stride, wanted[1])
            begin = min(max(-(-(first + pad - self._extent(axis) + 1) // stride), 0), length)
            stop = max(min((end - 1 + pad) // stride + 1, length), begin)
            cells = torch.arange(begin, stop, device=x.device)
            reach = torch.arange(first + pad, end + pad, device=x.device)[:, None] - stride * cells
            tap = reach.div(gap, rounding_mode="floor")
            hit = (reach % gap == 0) & (tap >= 0) & (tap < len(taps))
            matrix = torch.where(hit, taps[tap.clamp(0, len(taps) - 1)], taps.new_zeros(()))
            yield slice(first - wanted[0], end - wanted[0]), slice(begin, stop), matrix


def separated(filters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Of ``filters`` (C, kernel...): one down and one across whose product all of them are; None if there are none."""
    one = filters[0].double()
    peak = one.abs().max()
    row, column = divmod(int(one.abs().argmax()), one.shape[1])
    down, across = one[:, column], one[row] / one[row, column]
    if peak > 0 and bool((torch.outer(down, across) - filters).abs().max() <= EXACT * peak):
        return down.float(), across.float()
    return None
