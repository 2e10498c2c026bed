"""Winograd's minimal filtering: convolutions of stride 1 with a third to a quarter of the multiplications.

A tile of n x n inputs gives m x m outputs of an r x r filter, n = m + r - 1, by one product for
each of its cells: Y = A' [(G g G') * (B' d B)] A. Summed over the channels that is n^2 matrix
products. Lavin and Gray, "Fast algorithms for convolutional neural networks" (2016), section 4.

The gradient of the input is another convolution, and that of the filters the same products the other
way round: G' [sum of (A dY A') * (B' d B)] G. All is float32, and rounds some four times as much as a
direct sum does.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import torch
import torch.nn.functional as F

OUTPUTS = {3: 4}  # m by r. For FCN's 7 x 7, m = 2 saves a third of the time, and takes a second to prepare
LEARNING = 128  # channels from which on it pays to learn so: direct gradients are slower than direct outputs
Sides = tuple[int, int, int, int]  # top, bottom, left, right
POINTS = [Fraction(number) for number in (0, 1, -1, 2, -2)]


@cache
def transforms(taps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For ``taps`` = r, those of input, filter and output along both axes: (n^2, n^2), (n^2, r^2), (m^2, n^2).

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
    return tuple(torch.kron(each, each).float() for each in (of_input, of_filter, of_output))


def _product(factors) -> Fraction:
    result = Fraction(1)
    for factor in factors:
        result *= factor
    return result


def pays(layer, weight: torch.Tensor, dtype: torch.dtype, least: int = 256) -> bool:
    """Is this way the faster one for the filters ``weight`` of ``layer``, computing in ``dtype``?

    With ``least`` channels or more, C in and K out: the transforms' work grows with C + K, the rest with C K.
    """
    steps = {*layer.stride, *layer.dilation, layer.group}
    square = layer.kernel[0] == layer.kernel[1] and layer.kernel[0] in OUTPUTS
    return (
        square
        and steps == {1}
        and weight.device.type == "cpu"
        and dtype == torch.float32
        and min(weight.shape[:2]) >= least
    )


def transformed(weight: torch.Tensor, turned: bool = False) -> torch.Tensor:
    """The filters ``weight`` (K, C, r, r) for :func:`filtered`: (n^2, K, C). ``turned``: by half a turn, each."""
    of_filter = transforms(weight.shape[2])[1]
    of_filter = of_filter.flip(1) if turned else of_filter
    return (of_filter @ weight.reshape(-1, of_filter.shape[1]).T).view(-1, *weight.shape[:2])


def filtered(
    x: torch.Tensor, sides: Sides, filters: torch.Tensor, taps: int, bias: torch.Tensor | None, relu: bool
) -> torch.Tensor:
    """The convolution of ``x`` (N, C, H, W) with ``sides`` rows and columns of zeros: (N, K, H', W'), channels last.

    ``filters`` (n^2, C, K) are transformed, of ``taps`` = r rows and columns; ``bias`` (K) or None is added, and of
    what is below 0 nothing left if ``relu``.
    """
    return _assembled(torch.bmm(_tiles(x, sides, taps), filters), _sizes(x, sides, taps), taps, bias, relu)


def _sizes(x: torch.Tensor, sides: Sides, taps: int) -> tuple[int, int, int]:
    """How many images, rows and columns the convolution of ``x`` gives."""
    top, bottom, left, right = sides
    return len(x), x.shape[2] + top + bottom - taps + 1, x.shape[3] + left + right - taps + 1


def _tiles(x: torch.Tensor, sides: Sides, taps: int) -> torch.Tensor:
    """The overlapping tiles of ``x``, transformed: (n^2, tiles, C)."""
    step, (top, bottom, left, right), channels = OUTPUTS[taps], sides, x.shape[1]
    tile = step + taps - 1
    batch, height, width = _sizes(x, sides, taps)
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
    of_input = transforms(taps)[0]
    return (of_input @ tiles.reshape(tile * tile, -1)).view(tile * tile, -1, channels)


def _assembled(
    products: torch.Tensor, sizes, taps: int, bias: torch.Tensor | None, relu: bool
) -> torch.Tensor:
    """The images (N, K, H', W') of ``sizes`` from the ``products`` (n^2, tiles, K)."""
    step, (batch, height, width) = OUTPUTS[taps], sizes
    tall, wide = -(-height // step), -(-width // step)
    of_output = transforms(taps)[2]
    parts = (of_output @ products.flatten(1)).view(step, step, batch, tall, wide, -1)
    parts = parts.permute(2, 3, 0, 4, 1, 5)  # image, tile's row, row, tile's column, column, channel
    y = torch.add(parts, 0 if bias is None else bias, out=products.new_empty(parts.shape))
    y = y.relu_() if relu else y
    return y.view(batch, tall * step, wide * step, -1).permute(0, 3, 1, 2)[:, :, :height, :width]


def _taken_apart(gradient: torch.Tensor, taps: int) -> torch.Tensor:
    """:func:`_assembled` backwards: from the images (N, K, H', W') to (n^2, tiles, K)."""
    step, (channels, height, width) = OUTPUTS[taps], gradient.shape[1:]
    gradient = F.pad(gradient, (0, -width % step, 0, -height % step)).permute(0, 2, 3, 1)
    parts = gradient.unflatten(2, (-1, step)).unflatten(1, (-1, step)).permute(2, 4, 0, 1, 3, 5)
    of_output = transforms(taps)[2]
    return (of_output.T @ parts.reshape(step * step, -1)).view(len(of_output.T), -1, channels)


class _Learning(torch.autograd.Function):
    """A convolution with padding ``pad``, less than r, and a ReLU if ``relu``; the gradient of ``x`` is another one."""

    @staticmethod
    def forward(ctx, x, weight, bias, pad, relu):
        taps, sides = weight.shape[2], (pad[0], pad[0], pad[1], pad[1])
        tiles = _tiles(x, sides, taps)
        products = torch.bmm(tiles, transformed(weight).transpose(1, 2))
        y = _assembled(products, _sizes(x, sides, taps), taps, bias, relu)
        ctx.save_for_backward(tiles if ctx.needs_input_grad[1] else None, weight, y if relu else None)
        ctx.pad = pad
        return y

    @staticmethod
    def backward(ctx, gradient):
        (tiles, weight, y), taps = ctx.saved_tensors, ctx.saved_tensors[1].shape[2]
        of_x = of_weight = of_bias = None
        if y is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        if ctx.needs_input_grad[0]:
            down, across = (taps - 1 - pad for pad in ctx.pad)
            sides = (down, down, across, across)
            of_x = filtered(gradient, sides, transformed(weight, turned=True), taps, None, False)
        if ctx.needs_input_grad[1]:
            of_filter = transforms(taps)[1]
            of_weight = torch.bmm(_taken_apart(gradient, taps).transpose(1, 2), tiles)
            of_weight = (of_filter.T @ of_weight.flatten(1)).T.reshape(weight.shape)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None, None


def learning(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, pad: tuple[int, int], relu: bool
) -> torch.Tensor:
    """The convolution of ``x`` (N, C, H, W) for autograd, of the filters ``weight`` transformed anew.

    ``bias`` may be None, ``pad`` is less than r on both axes; a ReLU follows if ``relu``.
    """
    return _Learning.apply(x, weight, bias, pad, relu)
