"""Layers that move, select or count values, in ONNX: every length is read when the graph runs."""

from __future__ import annotations

import itertools

from ..layer_types.rules import axis_or_legacy, canonical_axis
from ..proto import caffe_pb2
from .graph import END, Graph
from .table import translates


@translates("Concat")
def _concat(g: Graph, layer, bottoms, shapes):
    """Concat."""
    if len(bottoms) == 1:
        return bottoms
    axis = axis_or_legacy(layer, layer.layer_param.concat_param, "concat_dim", shapes[0])
    return [g.op("Concat", *bottoms, axis=axis)]


@translates("Slice")
def _cut(g: Graph, layer, bottoms, shapes):
    """A Slice for each top, or an even Split."""
    param, tops = layer.layer_param.slice_param, len(layer.layer_param.top)
    axis = axis_or_legacy(layer, param, "slice_dim", shapes[0])
    if tops == 1:
        return bottoms
    if not param.slice_point:
        return g.op("Split", bottoms[0], tops=tops, axis=axis)
    ends = [0, *param.slice_point, END]
    return [g.cut(bottoms[0], axis, start, end) for start, end in itertools.pairwise(ends)]


@translates("Crop")
def _crop(g: Graph, layer, bottoms, shapes):
    """A Slice of bottom[0] as long as bottom[1], on every axis that is cut."""
    param = layer.layer_param.crop_param
    axis = canonical_axis(layer, param.axis, shapes[0])
    axes = list(range(axis, len(shapes[0])))
    offsets = list(param.offset)
    if len(offsets) <= 1:
        offsets = (offsets or [0]) * len(axes)
    starts = g.ints(*offsets)
    ends = g.op("Add", g.dims(bottoms[1], axis, len(shapes[0])), starts)
    return [g.op("Slice", bottoms[0], starts, ends, g.ints(*axes))]


@translates("Flatten")
def _flatten(g: Graph, layer, bottoms, shapes):
    """Reshape of the axes ``axis`` to ``end_axis`` into one."""
    param = layer.layer_param.flatten_param
    start = canonical_axis(layer, param.axis, shapes[0])
    end = canonical_axis(layer, param.end_axis, shapes[0]) + 1
    behind = [g.dims(bottoms[0], end)] if end < len(shapes[0]) else []
    return [g.reshape(bottoms[0], [0] * start, [-1], *behind)]


@translates("Reshape")
def _reshape(g: Graph, layer, bottoms, shapes):
    """Reshape; a dim of 0 is copied from the bottom."""
    param, rank = layer.layer_param.reshape_param, len(shapes[0])
    start = param.axis if param.axis >= 0 else rank + param.axis + 1
    end = rank if param.num_axes == -1 else start + param.num_axes
    x, parts = bottoms[0], []
    if start:
        parts.append(g.dims(x, 0, start))
    for i, dim in enumerate(param.shape.dim):
        parts.append([dim] if dim else g.size(x, start + i))
    if end < rank:
        parts.append(g.dims(x, end))
    return [g.reshape(x, *parts)]


@translates("Tile")
def _tile(g: Graph, layer, bottoms, shapes):
    """Tile along one axis."""
    param = layer.layer_param.tile_param
    repeats = [1] * len(shapes[0])
    repeats[canonical_axis(layer, param.axis, shapes[0])] = param.tiles
    return [g.op("Tile", bottoms[0], g.ints(*repeats))]


@translates("Reduction")
def _reduction(g: Graph, layer, bottoms, shapes):
    """A reduction over all axes from ``axis`` on, times ``coeff``."""
    param = layer.layer_param.reduction_param
    rank = len(shapes[0])
    axes = list(range(canonical_axis(layer, param.axis, shapes[0]), rank))
    name = caffe_pb2.ReductionParameter.ReductionOp.Name(param.operation)
    if name == "SUM":  # the one whose axes are an input in this opset
        y = g.op("ReduceSum", bottoms[0], g.ints(*axes), keepdims=0)
    else:
        kind = {"ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}[name]
        y = g.op(kind, bottoms[0], axes=axes, keepdims=0)
    return [y if param.coeff == 1 else g.op("Mul", y, g.number(param.coeff))]


@translates("ArgMax")
def _arg_max(g: Graph, layer, bottoms, shapes):
    """TopK. Of equal values Caffe takes the last first, ONNX the first: so it sees them reversed."""
    param, rank = layer.layer_param.argmax_param, len(shapes[0])
    x, axis = bottoms[0], 1
    if param.HasField("axis"):
        axis = canonical_axis(layer, param.axis, shapes[0])
    else:
        x = g.op("Flatten", x, axis=1)
    reverse = [g.ints(-1), g.ints(-END), g.ints(axis), g.ints(-1)]
    values, places = g.op("TopK", g.op("Slice", x, *reverse), g.ints(param.top_k), axis=axis, tops=2)
    last = g.size(x, axis) - 1
    indices = g.op("Cast", g.op("Sub", last.tensor, places), to="FLOAT")
    g.labels.add(indices)
    if param.HasField("axis"):
        return [values if param.out_max_val else indices]
    parts, count = [indices], 1
    if param.out_max_val:
        parts, count = [indices, values], 2
    joined = g.op("Concat", *parts, axis=1) if count == 2 else indices
    ones = [1] * (max(3, rank) - 3)
    top = g.reshape(joined, g.dims(x, 0, 1), [count, param.top_k, *ones])
    g.labels.add(top)
    return [top]


@translates("BatchReindex")
def _batch_reindex(g: Graph, layer, bottoms, shapes):
    """Gather of items of the batch."""
    g.index_limits[bottoms[1]] = shapes[0][0]
    return [g.op("Gather", bottoms[0], g.op("Cast", bottoms[1], to="INT64"), axis=0)]


@translates("Parameter")
def _parameter(g: Graph, layer, bottoms, shapes):
    """The learned blob as a constant."""
    return [g.weight(layer.blobs[0])]
