"""Dense output from a coarse net, two ways that agree (paper, section 3.2).

Shift-and-stitch runs a net on shifted images and interlaces its maps. Filter rarefaction runs once,
a net whose strides are gone and whose windows above them have holes. Neither gives the net finer
information: each cell is what the net itself gives, seen from another place.

    net = caffe.Net("deploy.prototxt", caffe.TEST, weights="net.caffemodel")
    scores = dense.shift_and_stitch(net, image, 4, "score_fr", step=8)   # stride 32 becomes 8

    made, factors = dense.rarefied(net_parameter, ["pool4", "pool5"], "score_fr")
    new_net = caffe.Net(path_of(made), caffe.TEST)
    print(dense.fill(new_net, net, factors))                            # the same scores, in one run

Where they agree: cells (f i + y, f j + x), for all x and y below the factor f, are the same in both whenever
cell (i, j) of the net's own map sees no padding and no pooling window that hangs over the end (Caffe rounds
sizes up there). So a net without padding whose windows fit gives the same everywhere. Elsewhere they
differ: each shifted net pads where its own image begins and ends, the rarefied one where the whole does.
The last f - 1 steps see the zeros that follow a moved image; the rarefied net has them if its image
is followed by as many.
"""

from __future__ import annotations

import numpy as np
from caffe.proto import caffe_pb2

import surgery
from surgery import SurgeryError

# layers that treat each position by itself, or positions of several maps alike
POINTWISE = frozenset(
    "AbsVal BatchNorm Bias BNLL Concat Dropout Eltwise ELU Exp Log Power PReLU ReLU Scale Sigmoid Softmax Split "
    "TanH".split()
)


def shift_and_stitch(net, image, factor, top, step=1, data="data"):
    """The map ``top`` of ``net``, ``factor`` times as dense: its maps of ``factor``² shifted images, interlaced.

    ``image``: N x C x H x W, of any size that ``net`` takes at its input ``data``. The net's stride from there to
    ``top`` is ``factor * step``; the result's is ``step`` pixels. For every (y, x) in 0..factor-1 the
    image is moved ``step * y`` up and ``step * x`` to the left, zeros following it, and cell (i, j) of
    the net's map becomes cell (factor i + y, factor j + x). Thus the net's own map is ``[::factor, ::factor]`` of
    the result, N x K x (factor h) x (factor w), float32; its last cells see those zeros.

    Raises ValueError for a factor or step below 1 or an image of other than four dimensions.
    """
    image = np.asarray(image, np.float32)
    if factor < 1 or step < 1 or image.ndim != 4:
        raise ValueError(
            f"shift_and_stitch takes an image of 4 dimensions, a factor and a step from 1 on; it was given "
            f"{image.ndim} dimensions, factor {factor}, step {step}"
        )
    if tuple(net.blobs[data].shape) != image.shape:
        net.blobs[data].reshape(*image.shape)
        net.reshape()
    height, width = image.shape[2:]
    beyond = (factor - 1) * step
    extended = np.pad(image, ((0, 0), (0, 0), (0, beyond), (0, beyond)))
    stitched = None
    for y, x in np.ndindex(factor, factor):
        top_left = y * step, x * step
        net.blobs[data].data[...] = extended[
            :, :, top_left[0] : top_left[0] + height, top_left[1] : top_left[1] + width
        ]
        net.forward(blobs=[top])
        if stitched is None:
            count, channels, rows, columns = net.blobs[top].shape
            stitched = np.empty((count, channels, factor * rows, factor * columns), np.float32)
        stitched[:, :, y::factor, x::factor] = net.blobs[top].data  # no array is kept beyond the next forward
    return stitched


def rarefied(param, layers, top):
    """The net of ``param`` up to the blob ``top``, with stride 1 in ``layers`` and holes in the windows above.

    ``param``: a NetParameter. ``layers``: names of convolutions and poolings. Each map above one of stride s is s
    times as dense; a window over a map that is f times as dense takes every f-th value. A convolution's kernel k
    becomes f (k - 1) + 1, its pad f times as large. Caffe's pooling has no holes, so it becomes crops, one for
    each value of the window, and their maximum or mean; its stride, if it keeps one, is a pooling
    over 1x1. Layers that ``top`` does not need are left out.

    Returns the NetParameter and the factor of each convolution whose weights :func:`fill` has to rarefy.
    Raises SurgeryError, which names the layer, where this cannot be done: an inner product above (make it
    convolutional first), upsampling, a padded or global pooling, a layer over neighbours, maps of
    unequal density joined.
    """
    by_name = {layer.name: layer for layer in param.layer}
    for name in layers:
        if name not in by_name or by_name[name].type not in ("Convolution", "Pooling"):
            raise SurgeryError(
                f"cannot take the stride of layer {name}: the net has no convolution or pooling of that name"
            )
    made, factors = caffe_pb2.NetParameter(), {}
    made.CopyFrom(param)
    del made.layer[:]
    density = {}  # of each blob, over the original
    for layer in _needed(param, top):
        found = {density[bottom] for bottom in layer.bottom if bottom in density}
        if len(found) > 1:
            raise SurgeryError(
                f"cannot rarefy: layer {layer.name} joins maps of unequal density, {sorted(found)}"
            )
        factor = found.pop() if found else 1
        new = made.layer.add()
        new.CopyFrom(layer)
        grown = factor
        if layer.type in ("Convolution", "Pooling"):
            stride = _stride(layer)
            if layer.name in layers:
                grown = factor * stride
                stride = 1
            if layer.type == "Convolution":
                if _spread(new.convolution_param, factor, stride):
                    factors[layer.name] = factor
            elif factor == 1 or _pair(new.pooling_param, "kernel", 0) == (1, 1):
                _set(new.pooling_param, stride=[stride])
            else:
                del made.layer[-1]
                made.layer.extend(_pooling_with_holes(layer, factor, stride))
        elif factor > 1 and not _pointwise(layer):
            fix = "; make it a convolution first (ilsvrc-nets/net.py)" if layer.type == "InnerProduct" else ""
            raise SurgeryError(
                f"cannot rarefy: {layer.type} layer {layer.name} comes after a stride that is gone{fix}"
            )
        density.update(dict.fromkeys(layer.top, grown))
    return made, factors


def fill(new_net, net, factors):
    """Give ``new_net``, of :func:`rarefied`, the weights of ``net``; ``factors`` came with it.

    Returns a surgery.Report. What ``net`` has above the top is dropped.
    """
    report = surgery.transplant(new_net, net)
    for name, factor in factors.items():
        report.dropped.pop(f"{name}[0]", None)
        report.missing.pop(f"{name}[0]", None)
        report.coerced |= surgery.rarefy(new_net, name, net, name, factor).coerced
    report.zero = surgery.zero_layers(new_net)
    return report


def _needed(param, top):
    """The layers of ``param`` that the blob ``top`` is computed by, in order."""
    wanted, kept = {top}, []
    for layer in reversed(param.layer):
        if wanted.intersection(layer.top):
            wanted.update(layer.bottom)
            kept.append(layer)
    if not kept:
        raise SurgeryError(f"cannot rarefy up to {top}: the net has no blob of that name")
    return kept[::-1]


def _pointwise(layer):
    if layer.type == "LRN":
        return layer.lrn_param.norm_region == layer.lrn_param.ACROSS_CHANNELS
    return layer.type in POINTWISE


def _pair(shape, field, default):
    """(vertical, horizontal) of ``field`` ("kernel", "stride", "pad") in a convolution's or pooling's parameters."""
    if shape.HasField(f"{field}_h") or shape.HasField(f"{field}_w"):
        return getattr(shape, f"{field}_h"), getattr(shape, f"{field}_w")
    given = getattr(shape, "kernel_size" if field == "kernel" else field)
    if isinstance(shape, caffe_pb2.PoolingParameter):
        return given, given
    return (given[0], given[-1]) if len(given) else (default, default)


def _stride(layer):
    shape = layer.convolution_param if layer.type == "Convolution" else layer.pooling_param
    vertical, horizontal = _pair(shape, "stride", 1)
    if vertical != horizontal:
        raise SurgeryError(
            f"cannot rarefy: layer {layer.name} has strides {vertical} and {horizontal}; they must be equal"
        )
    return vertical


def _set(shape, **values):
    """Give ``shape`` these ``kernel``, ``stride`` and ``pad``, each one number or two, in the place of what it had."""
    for field, value in values.items():
        name = "kernel_size" if field == "kernel" else field
        for old in (name, f"{field}_h", f"{field}_w"):
            shape.ClearField(old)
        if len(set(value)) == 1 and not isinstance(shape, caffe_pb2.PoolingParameter):
            getattr(shape, name).append(value[0])
        elif len(set(value)) == 1:
            setattr(shape, name, value[0])
        else:
            setattr(shape, f"{field}_h", value[0])
            setattr(shape, f"{field}_w", value[1])


def _spread(shape, factor, stride):
    """Make room for holes in a convolution's kernels; whether they have any."""
    kernel, pad = _pair(shape, "kernel", 0), _pair(shape, "pad", 0)
    _set(
        shape,
        kernel=[factor * (size - 1) + 1 for size in kernel],
        stride=[stride],
        pad=[factor * size for size in pad],
    )
    return factor > 1 and kernel != (1, 1)


def _pooling_with_holes(layer, factor, stride):
    """Layers that pool over every ``factor``-th value, as ``layer`` over adjacent ones, with ``stride``."""
    shape = layer.pooling_param
    if any(_pair(shape, "pad", 0)) or shape.global_pooling or shape.pool not in (shape.MAX, shape.AVE):
        raise SurgeryError(
            f"cannot rarefy: pooling layer {layer.name} comes after a stride that is gone, and only maximum and "
            "mean over unpadded windows can be rarefied"
        )
    name, (bottom,), (rows, columns) = layer.name, layer.bottom, _pair(shape, "kernel", 0)
    whole = _pooling(f"{name}_size", bottom, [factor * (rows - 1) + 1, factor * (columns - 1) + 1], 1)
    crops = []
    for i, j in np.ndindex(rows, columns):
        crop = caffe_pb2.LayerParameter(name=f"{name}_{i}_{j}", type="Crop", bottom=[bottom, whole.name])
        crop.top.append(crop.name)
        crop.crop_param.axis = 2
        crop.crop_param.offset.extend([i * factor, j * factor])
        crops.append(crop)
    joined = caffe_pb2.LayerParameter(
        name=name, type="Eltwise", bottom=[crop.name for crop in crops], top=layer.top
    )
    if shape.pool == shape.MAX:
        joined.eltwise_param.operation = joined.eltwise_param.MAX
    else:
        joined.eltwise_param.operation = joined.eltwise_param.SUM
        joined.eltwise_param.coeff.extend([1 / len(crops)] * len(crops))
    if stride == 1:
        return [whole, *crops, joined]
    joined.name = joined.top[0] = f"{name}_dense"
    return [whole, *crops, joined, _pooling(name, joined.name, [1, 1], stride, layer.top[0])]


def _pooling(name, bottom, kernel, stride, top=None):
    """A maximum pooling layer."""
    layer = caffe_pb2.LayerParameter(name=name, type="Pooling", bottom=[bottom], top=[top or name])
    _set(layer.pooling_param, kernel=kernel, stride=[stride])
    return layer
