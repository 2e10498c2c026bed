"""Fillers: the first values of parameter blobs (``weight_filler`` and the like in a prototxt).

Uniform draws and masks come from the thread's mt19937 exactly as in Caffe, so a net filled by
``constant``, ``uniform``, ``xavier`` or ``bilinear`` under one seed is equal to Caffe's bit for
bit. Gaussian draws are not (Caffe's own depend on the Boost release it was built with); they
are the same on every machine.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from . import common
from .blob import Blob
from .errors import CaffeError
from .proto import caffe_pb2

_CHUNK = 2**20  # even, so that no half-used pair of normals is left inside the generator


def fill(blob: Blob, param: caffe_pb2.FillerParameter) -> None:
    """Set ``blob.data`` as the FillerParameter ``param`` says.

    ``constant`` (value), ``uniform`` (min, max), ``gaussian`` (mean, std, sparse),
    ``positive_unitball``, ``xavier`` and ``msra`` (variance_norm), ``bilinear``. A constant 0
    leaves fresh memory untouched, so that a large zero blob costs nothing.

    Raises CaffeError for an unknown type, or parameters or a shape that the filler refuses.
    """
    filler = check(param)
    if filler is _constant and param.value == 0 and blob._data.is_zero:
        return
    blob.write(torch.from_numpy(filler(param, blob.shape)))


def check(param: caffe_pb2.FillerParameter):
    """The function behind a filler's type; CaffeError for an unknown one or a misplaced ``sparse``."""
    if param.type not in _FILLERS:
        raise CaffeError(f"Unknown filler name: {param.type} (known fillers: {', '.join(sorted(_FILLERS))})")
    if param.type != "gaussian" and param.sparse != -1:
        raise CaffeError(
            f"Sparsity not supported by this Filler. '{param.type}' was given sparse: {param.sparse}; "
            "only 'gaussian' takes it"
        )
    return _FILLERS[param.type]


# -- random numbers -----------------------------------------------------------------------------


def raw_draws(count: int) -> np.ndarray:
    """``count`` raw 32-bit draws of this thread's mt19937, as uint32."""
    return common.random().randint(0, 2**32, size=count, dtype=np.uint32)


def uniform(low: float, high: float, count: int) -> np.ndarray:
    """``count`` draws of [low, high], float32, equal to Caffe's bit for bit under one seed."""
    low = np.float32(low)
    above = np.nextafter(np.float32(high), np.float32(np.inf))
    values = np.empty(count, np.float32)
    done = 0
    while done < count:
        draws = raw_draws(count - done).astype(np.float32)
        draws /= np.float32(2**32)
        draws *= above - low
        draws += low
        kept = draws[draws < above]  # rounding can reach the upper end; Boost then draws again
        values[done : done + len(kept)] = kept
        done += len(kept)
    return values


def bernoulli(probability: float, count: int) -> np.ndarray:
    """``count`` booleans, each true with ``probability``, equal to Caffe's under one seed."""
    return raw_draws(count).astype(np.float32) <= np.float32(probability) * np.float32(2**32 - 1)


def _normal(mean: float, std: float, count: int) -> np.ndarray:
    values = np.empty(count, np.float32)
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        draws = common.random().standard_normal(size + size % 2)[:size]
        values[start : start + size] = mean + std * draws
    return values


# -- the seven -----------------------------------------------------------------------------------


def _constant(param, shape):
    return np.full(shape, param.value, np.float32)


def _uniform(param, shape):
    if param.min > param.max:
        raise CaffeError(f"uniform filler: min must not exceed max, got min {param.min:g}, max {param.max:g}")
    return uniform(param.min, param.max, math.prod(shape))


def _gaussian(param, shape):
    if not param.std > 0:
        raise CaffeError(
            f"gaussian filler: Check failed: sigma > 0 (std is {param.std:g}; give a positive std)"
        )
    values = _normal(param.mean, param.std, math.prod(shape))
    if param.sparse >= 0:
        rows = _axis_0(param, shape)
        if param.sparse > rows:
            raise CaffeError(f"gaussian filler: sparse: {param.sparse} exceeds the blob's first axis, {rows}")
        values *= bernoulli(param.sparse / rows, values.size)
    return values


def _positive_unitball(param, shape):
    values = uniform(0, 1, math.prod(shape)).reshape(_axis_0(param, shape), -1)
    return values / values.sum(axis=1, keepdims=True)


def _xavier(param, shape):
    scale = np.sqrt(np.float32(3) / _fan(param, shape))
    return uniform(-scale, scale, math.prod(shape))


def _msra(param, shape):
    return _normal(0, np.sqrt(np.float32(2) / _fan(param, shape)), math.prod(shape))


def _bilinear(param, shape):
    if len(shape) != 4:
        raise CaffeError(f"bilinear filler: Blob must be 4 dim., got shape {tuple(shape)}")
    if shape[2] != shape[3]:
        raise CaffeError(f"bilinear filler: Filter must be square, got {shape[2]}x{shape[3]}")
    factor = np.float32(math.ceil(shape[3] / 2))
    center = np.float32((shape[3] - 1) / (2 * factor))
    ramp = 1 - np.abs(np.arange(shape[3], dtype=np.float32) / factor - center)
    return np.broadcast_to(ramp[:, None] * ramp, shape).copy()


def _axis_0(param, shape) -> int:
    if not shape:
        raise CaffeError(
            f"{param.type} filler: a blob without axes has no first axis; use 'constant' or 'uniform'"
        )
    return shape[0]


def _fan(param, shape) -> np.float32:
    """How many inputs (or outputs, or the mean of both) a value of the blob is summed with."""
    count = math.prod(shape)
    fan_in = count // _axis_0(param, shape)
    fan_out = count // shape[1] if len(shape) > 1 else count
    norms = caffe_pb2.FillerParameter
    chosen = {norms.FAN_IN: fan_in, norms.FAN_OUT: fan_out, norms.AVERAGE: (fan_in + fan_out) / 2}
    return np.float32(chosen[param.variance_norm])


_FILLERS = {
    "bilinear": _bilinear,
    "constant": _constant,
    "gaussian": _gaussian,
    "msra": _msra,
    "positive_unitball": _positive_unitball,
    "uniform": _uniform,
    "xavier": _xavier,
}
