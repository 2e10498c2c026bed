"""Layers that work on each value by itself, and Eltwise, in ONNX."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np

from ..proto import caffe_pb2
from .graph import Graph
from .table import translates


def _affine(g: Graph, x: str, scale: float, shift: float) -> str:
    """scale * x + shift, without the operators that would change nothing."""
    if scale != 1:
        x = g.op("Mul", x, g.number(scale))
    return g.op("Add", x, g.number(shift)) if shift else x


@translates("ReLU")
def _relu(g: Graph, layer, bottoms, shapes):
    """Relu, or LeakyRelu with a negative slope."""
    slope = layer.layer_param.relu_param.negative_slope
    return [g.op("LeakyRelu", bottoms[0], alpha=slope) if slope else g.op("Relu", bottoms[0])]


@translates("PReLU")
def _prelu(g: Graph, layer, bottoms, shapes):
    """PRelu; one slope for each channel, or one for all."""
    slope = layer.blobs[0]
    return [g.op("PRelu", bottoms[0], g.weight(slope, (slope.count, *[1] * (len(shapes[0]) - 2)), "slope"))]


@translates("ELU")
def _elu(g: Graph, layer, bottoms, shapes):
    """Elu."""
    return [g.op("Elu", bottoms[0], alpha=layer.layer_param.elu_param.alpha)]


@translates("Sigmoid", "TanH", "AbsVal", "BNLL")
def _plain(g: Graph, layer, bottoms, shapes):
    """Layers that are one ONNX operator without parameters."""
    kinds = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}
    return [g.op(kinds[layer.type], bottoms[0])]


@translates("Dropout")
def _dropout(g: Graph, layer, bottoms, shapes):
    """Nothing: in testing it is the identity."""
    return bottoms


@translates("Split")
def _split(g: Graph, layer, bottoms, shapes):
    """Nothing: one tensor may have any number of readers."""
    return bottoms * len(layer.layer_param.top)


@translates("Exp")
def _exp(g: Graph, layer, bottoms, shapes):
    """base ^ (shift + scale x), as e ^ (ln base (shift + scale x))."""
    param = layer.layer_param.exp_param
    factor = 1.0 if param.base == -1 else math.log(param.base)
    return [g.op("Exp", _affine(g, bottoms[0], factor * param.scale, factor * param.shift))]


@translates("Log")
def _log(g: Graph, layer, bottoms, shapes):
    """log to any base of (shift + scale x)."""
    param = layer.layer_param.log_param
    y = g.op("Log", _affine(g, bottoms[0], param.scale, param.shift))
    return [y if param.base == -1 else g.op("Mul", y, g.number(1 / math.log(param.base)))]


@translates("Power")
def _power(g: Graph, layer, bottoms, shapes):
    """(shift + scale x) ^ power; a constant where nothing of x is left."""
    param = layer.layer_param.power_param
    if param.scale * param.power == 0:
        with np.errstate(all="ignore"):
            value = np.array(np.float32(param.shift) ** np.float32(param.power))
        return [g.op("Expand", g.constant(value), g.dims(bottoms[0]))]
    y = _affine(g, bottoms[0], param.scale, param.shift)
    return [y if param.power == 1 else g.op("Pow", y, g.number(param.power))]


@translates("Threshold")
def _threshold(g: Graph, layer, bottoms, shapes):
    """1 where x is above the threshold, else 0."""
    limit = g.number(layer.layer_param.threshold_param.threshold)
    return [g.op("Cast", g.op("Greater", bottoms[0], limit), to="FLOAT")]


@translates("Clip")
def _clip(g: Graph, layer, bottoms, shapes):
    """Clip."""
    param = layer.layer_param.clip_param
    return [g.op("Clip", bottoms[0], g.number(param.min), g.number(param.max))]


@translates("Swish")
def _swish(g: Graph, layer, bottoms, shapes):
    """x sigmoid(beta x)."""
    inner = _affine(g, bottoms[0], layer.layer_param.swish_param.beta, 0)
    return [g.op("Mul", bottoms[0], g.op("Sigmoid", inner))]


@translates("Eltwise")
def _eltwise(g: Graph, layer, bottoms, shapes):
    """A weighted sum, a product or the maximum of all bottoms."""
    param = layer.layer_param.eltwise_param
    if param.operation == caffe_pb2.EltwiseParameter.MAX:
        return [g.op("Max", *bottoms)]
    if param.operation == caffe_pb2.EltwiseParameter.PROD:
        return [reduce(lambda left, right: g.op("Mul", left, right), bottoms)]
    factors = list(param.coeff) or [1] * len(bottoms)
    terms = [_affine(g, x, factor, 0) for x, factor in zip(bottoms, factors, strict=True)]
    return [reduce(lambda left, right: g.op("Add", left, right), terms)]
