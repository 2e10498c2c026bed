"""Normalisation, and the learned scales and biases that go with it, in ONNX."""

from __future__ import annotations

import numpy as np

from ..layer_types.rules import canonical_axis
from ..proto import caffe_pb2
from .graph import Graph
from .table import translates


@translates("LRN")
def _lrn(g: Graph, layer, bottoms, shapes):
    """LRN across channels; within a channel, from the average of the squares around."""
    param = layer.layer_param.lrn_param
    x, size = bottoms[0], param.local_size
    if param.norm_region == caffe_pb2.LRNParameter.ACROSS_CHANNELS:
        return [g.op("LRN", x, size=size, alpha=param.alpha, beta=param.beta, bias=param.k)]
    window = {"kernel_shape": [size] * 2, "strides": [1, 1], "pads": [size // 2] * 4, "count_include_pad": 1}
    squares = g.op("AveragePool", g.op("Mul", x, x), **window)
    base = g.op("Add", g.op("Mul", squares, g.number(param.alpha)), g.number(1))
    return [g.op("Mul", x, g.op("Pow", base, g.number(-param.beta)))]


@translates("Softmax")
def _softmax(g: Graph, layer, bottoms, shapes):
    """Softmax over one axis."""
    axis = canonical_axis(layer, layer.layer_param.softmax_param.axis, shapes[0])
    return [g.op("Softmax", bottoms[0], axis=axis)]


@translates("BatchNorm")
def _batch_norm(g: Graph, layer, bottoms, shapes):
    """BatchNormalization with the stored statistics, or (x - mean) / deviation of the batch itself."""
    param = layer.layer_param.batch_norm_param
    if layer.use_global_stats:
        mean, variance, factor = (blob.data for blob in layer.blobs)
        factor = factor.flat[0]
        inverse = 1 / factor if factor else 0.0
        one = g.constant(np.ones(mean.size, np.float32))
        zero = g.constant(np.zeros(mean.size, np.float32))
        statistics = [
            g.constant(np.asarray(values * inverse, np.float32), name)
            for name, values in (("mean", mean), ("variance", variance))
        ]
        return [g.op("BatchNormalization", bottoms[0], one, zero, *statistics, epsilon=param.eps)]
    axes = [axis for axis in range(len(shapes[0])) if axis != 1]
    centred, variance = _centred(g, bottoms[0], axes)
    deviation = g.op("Sqrt", g.op("Add", variance, g.number(param.eps)))
    return [g.op("Div", centred, deviation)]


def _centred(g: Graph, x: str, axes: list[int]) -> tuple[str, str]:
    """``x`` minus its mean over ``axes``, and its biased variance over them (axes kept)."""
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=axes, keepdims=1))
    return centred, g.op("ReduceMean", g.op("Mul", centred, centred), axes=axes, keepdims=1)


@translates("MVN")
def _mvn(g: Graph, layer, bottoms, shapes):
    """Each plane (or image, with across_channels) minus its mean, over its deviation + eps."""
    param = layer.layer_param.mvn_param
    x, missing = bottoms[0], 4 - len(shapes[0])
    if missing:  # Caffe's top always has four axes
        x = g.reshape(x, g.dims(x), [1] * missing)
    y, variance = _centred(g, x, [1, 2, 3] if param.across_channels else [2, 3])
    if param.normalize_variance:
        y = g.op("Div", y, g.op("Add", g.op("Sqrt", variance), g.number(param.eps)))
    return [y]


@translates("Scale", "Bias")
def _scale(g: Graph, layer, bottoms, shapes):
    """Mul with factors, or Add of terms, that are broadcast from an axis on; Scale may have both."""
    param = layer.layer_param.scale_param if layer.type == "Scale" else layer.layer_param.bias_param
    factors = shapes[1] if len(shapes) == 2 else tuple(layer.blobs[0].shape)
    axis = canonical_axis(layer, param.axis, shapes[0]) if factors else 0
    trailing = [1] * (len(shapes[0]) - axis - len(factors))
    blobs = [g.weight(blob, (*blob.shape, *trailing)) for blob in layer.blobs]
    if len(bottoms) == 2:
        second = bottoms[1]
        if factors and trailing:
            second = g.reshape(second, g.dims(second), trailing)
        blobs.insert(0, second)
    y = g.op("Mul" if layer.type == "Scale" else "Add", bottoms[0], blobs[0])
    return [g.op("Add", y, blobs[1]) if len(blobs) > 1 else y]
