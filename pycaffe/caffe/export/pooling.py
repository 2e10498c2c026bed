"""Pooling in ONNX, with Caffe's count of windows at every image size.

ONNX's own ``ceil_mode`` is not used where the two could differ: runtimes disagree on a last window
that starts in the padding, and on what an average divides by. There the image gets a border whose
width is computed from its size, such that the windows fit exactly.
"""

from __future__ import annotations

import numpy as np

from ..errors import CaffeError
from ..layer_types.pool import FLT_MAX
from ..proto import caffe_pb2
from .graph import Graph, Size
from .table import translates


@translates("Pooling")
def _pooling(g: Graph, layer, bottoms, shapes):
    """MaxPool or AveragePool; a MAX layer's second top are the places of the maxima."""
    x = bottoms[0]
    maximum = layer.method == caffe_pb2.PoolingParameter.MAX
    if layer.method == caffe_pb2.PoolingParameter.STOCHASTIC:
        raise CaffeError(
            f"layer '{layer.name}' (Pooling): STOCHASTIC pooling cannot be exported; ONNX has no such operator. "
            "Use MAX or AVE"
        )
    indexed = len(layer.layer_param.top) == 2
    if layer.kernel is None and not indexed:
        return [g.op("GlobalMaxPool" if maximum else "GlobalAveragePool", x)]
    if layer.kernel is None:
        return _global_maximum(g, x)
    kind, options = "AveragePool", {"count_include_pad": 1}
    if maximum:
        kind, options = "MaxPool", {}
    window = {"kernel_shape": list(layer.kernel), "strides": list(layer.stride)}
    if not indexed and (layer.floor or layer.stride == (1, 1)):  # every window ends in the padded image
        return [g.op(kind, x, **window, pads=list(layer.pad * 2), **options)]
    steps_inside = all(k >= s for k, s in zip(layer.kernel, layer.stride, strict=True))
    if maximum and not indexed and layer.pad == (0, 0) and steps_inside:  # every window starts in the image
        return [g.op(kind, x, **window, ceil_mode=1)]
    counts = [_windows(g, layer, x, axis) for axis in (0, 1)]
    bordered = _bordered(g, layer, x, counts, -FLT_MAX if maximum else 0.0)
    if not maximum:
        return [_average(g, layer, x, g.op(kind, bordered, **window), counts)]
    if not indexed:
        return [g.op(kind, bordered, **window)]
    values, places = g.op(kind, bordered, **window, tops=2)
    return [values, _in_image(g, layer, x, bordered, values, places)]


def _windows(g: Graph, layer, x: str, axis: int) -> Size:
    """How many windows there are along a spatial axis (Caffe's rule)."""
    length, stride, pad = g.size(x, 2 + axis), layer.stride[axis], layer.pad[axis]
    room = length + (2 * pad - layer.kernel[axis] + (0 if layer.floor else stride - 1))
    steps = room // stride
    if any(layer.pad):  # none starts beyond the image and its first padding
        steps = steps.at_most((length + (pad - 1)) // stride)
    return steps + 1


def _bordered(g: Graph, layer, x: str, counts: list[Size], value: float) -> str:
    """``x`` with a border of ``value``: its padding, and what the last windows need beyond."""
    ends = []
    for axis, count in enumerate(counts):
        needed = (count - 1) * layer.stride[axis] + (layer.kernel[axis] - layer.pad[axis])
        ends.append((needed - g.size(x, 2 + axis)).at_least(0))
    return g.op("Pad", x, g.join([0, 0, *layer.pad, 0, 0], *ends), g.number(value), mode="constant")


def _average(g: Graph, layer, x: str, mean: str, counts: list[Size]) -> str:
    """``mean`` over whole windows, made one over their area inside the padded image."""
    lengths = []
    for axis, count in enumerate(counts):
        stride, pad, kernel = layer.stride[axis], layer.pad[axis], layer.kernel[axis]
        number = g.op(
            "Range", g.constant(np.array(0, np.int64)), count.scalar(), g.constant(np.array(1, np.int64))
        )
        start = Size(g, number) * stride - pad
        end = (start + kernel).at_most(g.size(x, 2 + axis) + pad)
        lengths.append(
            (end - start).at_least(1)
        )  # a window wholly outside holds 0, whatever it is divided by
    rows = Size(g, g.reshape(lengths[0].tensor, [-1, 1]))
    area = g.op("Cast", (rows * lengths[1]).tensor, to="FLOAT")
    whole = g.number(float(np.prod(layer.kernel)))
    return g.op("Mul", mean, g.op("Div", whole, area))


def _in_image(g: Graph, layer, x: str, bordered: str, values: str, places: str) -> str:
    """``places`` in all of the bordered images as h * W + w in one image; -1 for a window wholly outside."""
    width = g.size(bordered, 3)
    in_plane = Size(g, places) % (g.size(bordered, 2) * width)
    row, column = in_plane // width - layer.pad[0], in_plane % width - layer.pad[1]
    outside = g.op("LessOrEqual", values, g.number(-FLT_MAX))
    place = (row * g.size(x, 3) + column).tensor
    return g.op("Cast", g.op("Where", outside, g.ints(-1), place), to="FLOAT")


def _global_maximum(g: Graph, x: str) -> list[str]:
    flat = g.reshape(x, g.dims(x, 0, 2), [-1])
    where = g.op("ArgMax", flat, axis=2, keepdims=1)
    tops = [g.op("GlobalMaxPool", x), g.op("Cast", where, to="FLOAT")]
    return [tops[0], g.reshape(tops[1], g.dims(x, 0, 2), [1, 1])]
