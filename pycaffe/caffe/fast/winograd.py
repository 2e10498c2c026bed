"""Winograd's minimal filtering: convolutions of stride 1 with a third to a quarter of the multiplications.

A tile of n x n inputs gives m x m outputs of an r x r filter, n = m + r - 1, by one product for
each of its cells: Y = A' [(G g G') * (B' d B)] A. Summed over the channels that is n^2 matrix
products. Lavin and Gray, "Fast algorithms for convolutional neural networks" (2016), section 4.

All is float32, and rounds some four times as much as a direct sum does.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import torch
import torch.nn.functional as F

OUTPUTS = {3: 4}  # m by r. For FCN's 7 x 7, m = 2 saves a third of the time, and takes a second to prepare
POINTS = [Fraction(number) for number in (0, 1, -1, 2, -2)]


@cache
def transforms(taps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For ``taps`` = r, those of input, filter and output along both axes: (n^2, n^2), (n^2, r^2), (m^2, n^2), float64.

    They evaluate polynomials at the first n - 1 of ``POINTS`` and at infinity, and interpolate:
    Toom and Cook's product of polynomials, transposed.
    """
    outputs = OUTPUTS[taps]
    points = POINTS[: outputs + taps - 2]

    def evaluate(terms: int) -> torch.Tensor:
        rows = [[float(point**i) for i in range(terms)] for point in points]
        return torch.tensor([*rows, [0.0] * (terms - 1) + [1.0]], dtype=torch.float64)

    scale = [float(_product(point - other for other in points if other != point)) for point in points]
    scale = torch.tensor([*scale, 1.0], dtype=torch.float64)[:, None]  # makes whole numbers of the input's
    of_input = torch.linalg.inv(evaluate(len(points) + 1)).T * scale
    of_filter, of_output = evaluate(taps) / scale, evaluate(outputs).T
    return tuple(torch.kron(each, each) for each in (of_input, of_filter, of_output))


def _product(factors) -> Fraction:
    result = Fraction(1)
    for factor in factors:
        result *= factor
    return result


def pays(layer, weight: torch.Tensor, dtype: torch.dtype) -> bool:
    """Is this way the faster one for the filters ``weight`` of ``layer``, computing in ``dtype``?

    With many channels, C in and K out: the transforms' work grows with C + K, the rest with C K.
    """
    steps = {*layer.stride, *layer.dilation, layer.group}
    square = layer.kernel[0] == layer.kernel[1] and layer.kernel[0] in OUTPUTS
    return (
        square
        and steps == {1}
        and weight.device.type == "cpu"
        and dtype == torch.float32
        and min(weight.shape[:2]) >= 256
    )


class Filters:
    """The filters ``weight`` (K, C, r, r), transformed."""

    def __init__(self, weight: torch.Tensor):
        count, channels, self.taps = weight.shape[:3]
        of_input, of_filter, of_output = transforms(self.taps)
        self.of_input, self.of_output = of_input.float(), of_output.float()
        self.transformed = torch.empty(len(of_filter), channels, count)
        for begin in range(0, count, 64):  # a part at a time: in float64 it is twice as large
            part = weight[begin : begin + 64].double().flatten(2)
            self.transformed[:, :, begin : begin + 64] = (part @ of_filter.T).permute(2, 1, 0)

    def __call__(self, x: torch.Tensor, sides, bias: torch.Tensor | None, relu: bool) -> torch.Tensor:
        """The convolution of ``x`` (N, C, H, W) with ``sides`` rows and columns of zeros."""
        step, (top, bottom, left, right) = OUTPUTS[self.taps], sides
        tile = step + self.taps - 1
        batch, channels, height, width = x.shape
        height, width = height + top + bottom - self.taps + 1, width + left + right - self.taps + 1
        tall, wide = -(-height // step), -(-width // step)
        below, beside = bottom + tall * step - height, right + wide * step - width
        if any((top, below, left, beside)):
            x = F.pad(x, (left, beside, top, below))
        if x.stride(1) != 1:
            x = x.contiguous(memory_format=torch.channels_last)
        image, row, column = x.stride(0), x.stride(2), x.stride(3)
        tiles = x.as_strided(
            (tile, tile, batch, tall, wide, channels), (row, column, image, step * row, step * column, 1)
        )
        tiles = (self.of_input @ tiles.reshape(tile * tile, -1)).view(tile * tile, -1, channels)
        products = torch.bmm(tiles, self.transformed)
        parts = (self.of_output @ products.flatten(1)).view(step, step, batch, tall, wide, -1)
        parts = parts.permute(2, 3, 0, 4, 1, 5)  # image, tile's row, row, tile's column, column, channel
        y = torch.add(parts, 0 if bias is None else bias, out=x.new_empty(parts.shape))
        y = y.relu_() if relu else y
        return y.view(batch, tall * step, wide * step, -1).permute(0, 3, 1, 2)[:, :, :height, :width]
