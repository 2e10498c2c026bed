"""Which input pixel a unit looks at, and the crop that aligns two maps.

Between two tops joined by spatial layers, position x along each spatial axis of one corresponds to
``scale * x + shift`` of the other. A coordinate map is the triple ``(axis, scale, shift)``: ``axis`` is
the channel axis (spatial ones follow it; None where a layer keeps all axes), ``scale`` and ``shift``
are numbers or arrays with one entry for each spatial axis. :func:`crop` turns the map between
two tops of a net spec into the offset of a Crop layer.
"""

from __future__ import annotations

import numpy as np

from .net_spec import layers as L

# layers whose output corresponds to their input position by position
PASS_THROUGH_LAYERS = (
    "AbsVal BatchNorm Bias BNLL Dropout Eltwise ELU Log LRN Exp MVN Power ReLU PReLU Scale Sigmoid Split "
    "TanH Threshold"
).split()


class UndefinedMapException(Exception):
    """A layer has no coordinate map: it is not spatial (InnerProduct, Python, data layers ...)."""


class AxisMismatchException(Exception):
    """Two maps act on different axes and cannot be composed."""


def conv_params(fn):
    """``(axis, stride, extent, pad)`` of ``fn``, a convolution, deconvolution or pooling Function.

    Stride, extent (the kernel with its dilation) and pad are arrays of one entry, or one for each
    spatial axis. Raises AssertionError for the ``_h``/``_w`` forms and KeyError without
    ``kernel_size``.
    """
    values = fn.params
    for own in ("convolution_param", "pooling_param"):
        values = fn.params.get(own, values)
    split = [key for key in values if key.endswith(("_h", "_w"))]
    if split:
        raise AssertionError(
            f"{fn.type_name}: cannot crop through {', '.join(split)}; give kernel_size, stride and pad "
            "as one value or as a list with one value for each axis"
        )
    kernel, stride, pad, dilation = (
        np.array(values[key] if default is None else values.get(key, default), ndmin=1)
        for key, default in (("kernel_size", None), ("stride", 1), ("pad", 0), ("dilation", 1))
    )
    return values.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn):
    """``(axis, offset)`` of the Crop Function ``fn``: first cropped axis, and an array of offsets."""
    values = fn.params.get("crop_param", fn.params)
    return values.get("axis", 2), np.array(values.get("offset", 0), ndmin=1)


def coord_map(fn):
    """The map ``(axis, scale, shift)`` from the bottom's coordinates of ``fn`` to its top's.

    Raises UndefinedMapException for a layer without one.
    """
    kind = fn.type_name
    if kind in ("Convolution", "Pooling", "Im2col"):
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if kind == "Deconvolution":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if kind == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset
    if kind in PASS_THROUGH_LAYERS:
        return None, 1, 0
    raise UndefinedMapException(kind)


def compose(base_map, next_map):
    """The map that applies ``next_map`` first and ``base_map`` to its result.

    Raises AxisMismatchException when both act on an axis and these differ.
    """
    (axis, scale, shift), (next_axis, next_scale, next_shift) = base_map, next_map
    if axis is None:
        axis = next_axis
    elif next_axis is not None and next_axis != axis:
        raise AxisMismatchException(f"maps over axis {axis} and axis {next_axis}")
    return axis, scale * next_scale, scale * next_shift + shift


def inverse(coord_map):
    """The map that undoes ``coord_map``."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def _walk_back(start):
    """Every top that ``start`` comes from by spatial layers, with the map from it to ``start``."""
    maps, pending = {start: (None, 1, 0)}, [start]
    while pending:
        top = pending.pop()
        try:
            step = coord_map(top.fn)
        except UndefinedMapException:
            continue
        # the second bottom of a Crop only gives a size
        bottoms = top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs
        for bottom in bottoms:
            if bottom not in maps:
                maps[bottom] = compose(maps[top], step)
                pending.append(bottom)
    return maps


def coord_map_from_to(top_from, top_to):
    """The map from coordinates of ``top_from`` to coordinates of ``top_to``, through a common ancestor.

    Raises RuntimeError when spatial layers do not join them.
    """
    from_maps = _walk_back(top_from)
    for top, to_map in _walk_back(top_to).items():
        if top in from_maps:
            return compose(to_map, inverse(from_maps[top]))
    raise RuntimeError("Could not compute map between tops; are they connected by spatial layers?")


def crop(top_from, top_to):
    """A Crop of ``top_from`` to the extent of ``top_to``, placed where both see the same pixels.

    Raises AssertionError when the two have different strides, or when the offset is negative
    or not whole: no crop can align them.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    scale, shift = np.atleast_1d(scale).astype(float), np.atleast_1d(shift).astype(float)
    if not np.allclose(scale, 1, rtol=0, atol=1e-9):
        raise AssertionError(
            f"scale mismatch on crop (a = {scale}): the two tops have different strides; upsample the coarser"
        )
    offset = np.round(-shift).astype(int)
    if not np.allclose(offset, -shift, rtol=0, atol=1e-9):
        raise AssertionError(
            f"cannot crop noninteger offset (b = {shift}): shift one of them by its kernel size or pad"
        )
    if (offset < 0).any():
        raise AssertionError(
            f"cannot crop negative offset (b = {shift}): the cropped top does not reach far enough; pad more"
        )
    first = 2 if axis is None else axis + 1
    return L.Crop(top_from, top_to, crop_param={"axis": first, "offset": offset.tolist()})
