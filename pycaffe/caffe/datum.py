"""Datum: one labelled image or array, the value that Caffe's databases hold under each key."""

from __future__ import annotations

import math

import numpy as np
from google.protobuf.message import DecodeError

from .errors import CaffeError
from .image_file import decode_image
from .proto import caffe_pb2


def make_datum(values: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of ``values``, C x H x W: uint8 as bytes, any other type as floats.

    ``label`` None leaves it out. Raises CaffeError unless there are 3 axes.
    """
    values = np.asarray(values)
    if values.ndim != 3:
        raise CaffeError(f"Incorrect array shape: a Datum holds C x H x W, got {values.shape}")
    datum = caffe_pb2.Datum(label=label, encoded=False)
    datum.channels, datum.height, datum.width = values.shape
    if values.dtype == np.uint8:
        datum.data = values.tobytes()
    else:
        datum.float_data.extend(values.astype(np.float32).ravel().tolist())
    return datum


def parse_datum(value: bytes) -> caffe_pb2.Datum:
    """The Datum that ``value`` holds; CaffeError when it is none."""
    try:
        return caffe_pb2.Datum.FromString(bytes(value))
    except DecodeError as error:
        raise CaffeError(f"the value of {len(value)} bytes is no Datum: {error}") from error


def datum_planes(datum: caffe_pb2.Datum, force_color: bool = False, force_gray: bool = False) -> np.ndarray:
    """The values of ``datum``: C x H x W, uint8, or float32 where it holds floats.

    An encoded image is decoded, with the channels it has, or as ``force_color`` or ``force_gray``
    say (B, G, R; for Datums that are not encoded neither counts). Raises CaffeError when both are
    set, the image cannot be decoded, or the stated sizes do not fit the data.
    """
    if datum.encoded:
        if force_color and force_gray:
            raise CaffeError("cannot set both force_color and force_gray")
        color = force_color if force_color or force_gray else None
        return decode_image(datum.data, color).transpose(2, 0, 1)
    shape = datum.channels, datum.height, datum.width
    if min(shape) < 1:
        raise CaffeError(f"the Datum states channels, height, width {shape}; each must be at least 1")
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
    if values.size != math.prod(shape):
        raise CaffeError(
            f"Incorrect data field size {values.size}: the Datum states {shape[0]}x{shape[1]}x{shape[2]}, "
            f"which is {math.prod(shape)}. The database is damaged, or its writer is wrong."
        )
    return values.reshape(shape)
