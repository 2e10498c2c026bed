"""Where the units of a net look: each layer's coordinate map, and receptive fields composed of them.

Along one spatial axis, position x of a layer's bottom is position ``scale * x + shift`` of its top, as in
:mod:`caffe.coord_map`, and one position of the top reads ``reach + 1`` positions of the bottom that lie side
by side. Paper, section 3: a layer of kernel k and stride s on units of field size k' and stride s' makes
units of field size k' + (k - 1) s' and stride s s'.

Numbers are exact (integers and fractions). What a layer takes from the whole map by its statistics (MVN,
BatchNorm in training) is not counted; a field may reach beyond the image, into the padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from ..coord_map import PASS_THROUGH_LAYERS
from ..net import Net

Node = tuple[int, int]  # (index of a layer, index of its top)

# they keep positions too, unless they work along the spatial axes, which the top's size or the axis tells
_CHANNEL_LAYERS = ("ArgMax", "Clip", "Concat", "Slice", "Softmax", "Swish")


@dataclass(frozen=True)
class AxisStep:
    """A layer along one spatial axis: ``scale`` and ``shift`` of its coordinate map, and its ``reach``.

    ``kernel``, ``stride``, ``pad`` and ``dilation`` are the prototxt's; ``reach`` is the distance between the
    first and the last position of the bottom that a position of the top reads.
    """

    scale: Fraction = Fraction(1)
    shift: Fraction = Fraction(0)
    reach: int = 0
    kernel: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1


@dataclass(frozen=True)
class Field:
    """The receptive fields of a blob's units, one entry per spatial axis, in pixels of the net's input.

    ``size`` is the extent of one unit's field, ``jump`` the distance between the fields of two neighbours
    (the stride at the input), ``centre`` the coordinate at which the first unit's field is centred.
    ``upsampled``: a Deconvolution lies below. Its outputs read unlike numbers of its inputs, in turn; ``size``
    is then the largest, ``jump`` and ``centre`` are means.
    """

    size: tuple[int, ...]
    jump: tuple[Fraction, ...]
    centre: tuple[Fraction, ...]
    upsampled: bool = False


class Graph:
    """Which top each bottom of a built ``net`` is, and the step that each layer makes.

    ``sources[i]`` lists, for each bottom of layer i, the (layer, top) that wrote it last; ``steps[i]`` has one
    :class:`AxisStep` per spatial axis of its first bottom, or is the reason why there is no such map.
    """

    def __init__(self, net: Net):
        self.net = net
        self.sources: list[list[Node]] = []
        writer: dict[str, Node] = {}
        for i, param in enumerate(net._layer_params):
            self.sources.append([writer[name] for name in param.bottom])
            writer.update((name, (i, j)) for j, name in enumerate(net._top_lists[i]))
        self.steps = [_step(net, i) for i in range(len(net.layers))]

    def positional(self, index: int) -> list[Node]:
        """What the tops of layer ``index`` are computed from: of a Crop, only the blob that is cut."""
        sources = self.sources[index]
        return sources[:1] if self.net.layers[index].type == "Crop" else sources

    def fields(self) -> list[Field | str]:
        """For each layer the field of its tops' units, or the reason why there is none."""
        found: list[Field | str] = []
        for i, step in enumerate(self.steps):
            below = [found[layer] for layer, _ in self.positional(i)]
            unknown = [field for field in below if isinstance(field, str)]
            if isinstance(step, str):
                found.append(step)
            elif not below:
                found.append(_own_field(self.net, i))
            elif unknown:
                found.append(unknown[0])
            else:
                joined = _union(below, _named(self.net, i))
                upsamples = self.net.layers[i].type == "Deconvolution"
                found.append(joined if isinstance(joined, str) else _through(joined, step, upsamples))
        return found


def _named(net: Net, index: int) -> str:
    return f"'{net._layer_names[index]}' ({net.layers[index].type})"


def _step(net: Net, index: int) -> list[AxisStep] | str:
    layer, bottoms, tops = net.layers[index], net._bottoms[index], net._tops[index]
    kind = layer.type
    if not bottoms:
        return "values that are learned have no positions" if kind == "Parameter" else []
    if layer.is_loss or kind == "Accuracy" or (kind == "Python" and any(net._loss_weights[index])):
        return "a loss or a measure has no positions"
    shape = bottoms[0].shape
    spatial = list(shape[2:])
    if kind in ("Convolution", "Deconvolution") and layer.axis == 1:
        make = _convolution if kind == "Convolution" else _deconvolution
        return list(map(make, layer.kernel, layer.stride, layer.pad, layer.dilation))
    if kind == "Pooling":
        return list(map(_convolution, layer.kernel or spatial, layer.stride, layer.pad, (1, 1)))
    if kind == "InnerProduct" and layer.axis == 1:
        return [_convolution(length, 1, 0, 1) for length in spatial]  # one window, as large as the map
    if kind == "LRN" and layer.layer_param.lrn_param.norm_region:  # WITHIN_CHANNEL
        size = layer.layer_param.lrn_param.local_size
        return [_convolution(size, 1, (size - 1) // 2, 1) for _ in spatial]
    if kind == "Crop":
        return [AxisStep(shift=Fraction(-offset)) for offset in crop_offsets(layer)[2:]]
    along = kind == "Softmax" and layer.layer_param.softmax_param.axis % len(shape) > 1
    if kind in PASS_THROUGH_LAYERS or (kind in _CHANNEL_LAYERS and not along):
        if all(list(top.shape[2:]) == spatial and len(top.shape) == len(shape) for top in tops):
            return [AxisStep() for _ in spatial]
    return f"{_named(net, index)} has no map from positions to positions"


def _convolution(kernel: int, stride: int, pad: int, dilation: int) -> AxisStep:
    reach = dilation * (kernel - 1)
    shift = (pad - Fraction(reach, 2)) / stride
    return AxisStep(Fraction(1, stride), shift, reach, kernel, stride, pad, dilation)


def _deconvolution(kernel: int, stride: int, pad: int, dilation: int) -> AxisStep:
    shift = Fraction(dilation * (kernel - 1), 2) - pad
    # an output at y meets inputs x with y + pad = stride x + dilation k: every so many k's, one x further
    common = math.gcd(dilation, stride)
    inputs = -(-kernel // (stride // common))
    reach = (inputs - 1) * (dilation // common)
    return AxisStep(Fraction(stride), shift, reach, kernel, stride, pad, dilation)


def crop_offsets(layer) -> list[int]:
    """Where the Crop ``layer`` begins, for every axis of its bottom (0 for those before its ``axis``)."""
    return [-before for before in layer.border[0::2]][::-1]


def _own_field(net: Net, index: int) -> Field | str:
    shape = net._tops[index][0].shape if net._tops[index] else ()
    if len(shape) < 3:
        return f"{_named(net, index)} has no spatial axes"
    ones = (1,) * (len(shape) - 2)
    return Field(ones, tuple(map(Fraction, ones)), tuple(Fraction(0) for _ in ones))


def _through(field: Field, step: list[AxisStep], upsamples: bool) -> Field:
    if not step:  # a layer on vectors: as many positions as before, one
        return field
    return Field(
        tuple(
            math.ceil(size + axis.reach * jump)
            for size, jump, axis in zip(field.size, field.jump, step, strict=True)
        ),
        tuple(jump / axis.scale for jump, axis in zip(field.jump, step, strict=True)),
        tuple(
            centre - jump * axis.shift / axis.scale
            for centre, jump, axis in zip(field.centre, field.jump, step, strict=True)
        ),
        field.upsampled or upsamples,
    )


def _union(fields: list[Field], where: str) -> Field | str:
    """The field of a unit that reads a unit of each: when all are centred alike, the largest."""
    if any(field.jump != fields[0].jump for field in fields):
        jumps = " and ".join(sorted({pixels(field.jump) for field in fields}))
        return f"{where} joins bottoms of unlike strides at the input, {jumps}"
    size, centre = [], []
    for axis in range(len(fields[0].size)):
        low = min(field.centre[axis] - Fraction(field.size[axis], 2) for field in fields)
        high = max(field.centre[axis] + Fraction(field.size[axis], 2) for field in fields)
        size.append(math.ceil(high - low))
        centre.append((low + high) / 2)
    return Field(tuple(size), fields[0].jump, tuple(centre), any(field.upsampled for field in fields))


def pixels(values: tuple) -> str:
    """``values``, one per axis, as text: ``3`` when they are equal, else ``3x5``; ``-`` for none."""
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values)) or "-"
