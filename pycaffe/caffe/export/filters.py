"""Convolution, Deconvolution, InnerProduct and Embed in ONNX."""

from __future__ import annotations

from .graph import Graph
from .table import translates


@translates("Convolution", "Deconvolution")
def _convolution(g: Graph, layer, bottoms, shapes):
    """Conv or ConvTranspose; a channel axis other than 1 is brought there by a Reshape and back."""
    spatial = layer.spatial or 1
    ordinary = layer.axis == 1 and layer.spatial > 0
    transposed = layer.type == "Deconvolution"
    shape = tuple(layer.blobs[0].shape) + (() if layer.spatial else (1,))
    weights = [g.weight(layer.blobs[0], shape)]
    weights += [g.weight(blob, name="bias") for blob in layer.blobs[1:]]
    tops = []
    for bottom, dims in zip(bottoms, shapes, strict=True):
        x = bottom
        if not ordinary:
            rest = [g.dims(x, layer.axis + 1)] if layer.spatial else [[1]]
            x = g.reshape(x, [-1, layer.channels], *rest)
        if not transposed:
            x = _complete(g, layer, x, dims)
        y = g.op(
            "ConvTranspose" if transposed else "Conv",
            x,
            *weights,
            kernel_shape=list(shape[2:]),
            strides=list(layer.stride) or [1],
            pads=list(layer.pad * 2) or [0] * 2 * spatial,
            dilations=list(layer.dilation) or [1],
            group=layer.group,
        )
        if not ordinary:
            batch = [g.dims(bottom, 0, layer.axis)] if layer.axis else []
            rest = [g.dims(y, 2)] if layer.spatial else []
            y = g.reshape(y, *batch, [layer.num_output], *rest)
        tops.append(y)
    return tops


def _complete(g: Graph, layer, x: str, dims) -> str:
    """``x`` with zeros behind it where the filter spans more than the padded image.

    Caffe gives one output when less than a stride is missing, ONNX none. Only for a net whose own
    image is that small: with a larger one nothing is missing at any size worth running.
    """
    image = dims[layer.axis + 1 :]
    reach = [extent - 2 * pad for extent, pad in zip(layer.extent, layer.pad, strict=True)]
    if not any(need > length for need, length in zip(reach, image, strict=True)):
        return x
    ends = [(need - g.size(x, 2 + i)).at_least(0) for i, need in enumerate(reach)]
    return g.op("Pad", x, g.join([0] * (2 + len(image)), [0, 0], *ends), mode="constant")


@translates("InnerProduct")
def _inner_product(g: Graph, layer, bottoms, shapes):
    """Reshape to (..., K), then MatMul and Add (Gemm when the weights act on a matrix)."""
    x = g.reshape(bottoms[0], [0] * layer.axis + [layer.inputs])
    weight = g.weight(layer.blobs[0])
    bias = [g.weight(blob, name="bias") for blob in layer.blobs[1:]]
    if layer.axis == 1:
        return [g.op("Gemm", x, weight, *bias, transB=0 if layer.transpose else 1)]
    if not layer.transpose:
        weight = g.op("Transpose", weight, perm=[1, 0])
    y = g.op("MatMul", x, weight)
    return [g.op("Add", y, bias[0]) if bias else y]


@translates("Embed")
def _embed(g: Graph, layer, bottoms, shapes):
    """Gather of rows of the weight, by indices cut to integers."""
    g.index_limits[bottoms[0]] = layer.blobs[0].shape[0]
    rows = g.op("Cast", bottoms[0], to="INT64")
    y = g.op("Gather", g.weight(layer.blobs[0]), rows, axis=0)
    return [g.op("Add", y, g.weight(layer.blobs[1], name="bias")) if len(layer.blobs) > 1 else y]
