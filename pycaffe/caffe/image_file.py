"""Image files as OpenCV gives them to Caffe: H x W x C arrays of uint8, channels in the order B, G, R."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

import numpy as np
from PIL import Image

from .errors import CaffeError

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def read_image(path, color: bool = True, height: int = 0, width: int = 0) -> np.ndarray:
    """The image in the file ``path``: uint8, H x W x 3 in B, G, R order, or H x W x 1.

    ``color`` false asks for gray: of a JPEG its luma, as stored; of other color images a weighted sum,
    which OpenCV rounds by file type, so that it may differ by 1. Transparency is dropped.
    ``height`` and ``width``, when both are positive, are the size to resize to. Raises CaffeError,
    naming the file, when it is missing or no readable image.
    """
    try:
        with open(path, "rb") as file:
            image = _decode(file, color, os.fspath(path))
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise CaffeError(f"Could not open or find file {path}: {error}") from error
    return resize(image, height, width) if height > 0 and width > 0 else image


def decode_image(data: bytes, color: bool | None = None) -> np.ndarray:
    """An image from ``data``, the bytes of a JPEG, PNG or other image file; shapes as :func:`read_image`.

    ``color`` None keeps the channels that the file has: 1, 3, or 4 (B, G, R, alpha). Raises
    CaffeError when the bytes are no readable image.
    """
    return _decode(io.BytesIO(data), color, "an encoded image")


def encode_image(image: np.ndarray, kind: str) -> bytes:
    """The bytes of a file of type ``kind`` ("jpg", "png", "bmp", ...) that holds ``image``.

    ``image`` is uint8, H x W x 3 in B, G, R order, or H x W x 1; a JPEG gets quality 95, as OpenCV
    gives it. Raises CaffeError for a type that cannot be written.
    """
    name = Image.registered_extensions().get("." + kind.lower().lstrip("."))
    if name is None or name not in Image.SAVE:
        raise CaffeError(f"cannot encode an image as '{kind}': use 'jpg', 'png' or 'bmp'")
    pixels = image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image[:, :, ::-1])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, **({"quality": 95} if name == "JPEG" else {}))
    return file.getvalue()


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """``image`` (uint8, H x W x C) scaled to ``height`` x ``width`` as OpenCV's bilinear resize does, bit for bit.

    Pixel centers are mapped onto pixel centers, the two nearest on each axis are weighted by their
    distance in steps of 1/2048, and nothing is smoothed before shrinking.
    """
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    left, weight = _neighbors(columns, width)
    weight[(left < 0) | (left >= columns - 1)] = 0
    left = left.clip(0, columns - 1)
    near, far = _fixed_point(weight[:, np.newaxis])
    values = image.astype(np.int32)
    values = values[:, left] * near + values[:, np.minimum(left + 1, columns - 1)] * far
    values >>= 4  # the shifts keep the products in 32 bits
    above, weight = _neighbors(rows, height)
    near, far = _fixed_point(weight[:, np.newaxis, np.newaxis])
    upper, lower = values[above.clip(0, rows - 1)], values[(above + 1).clip(0, rows - 1)]
    return (((upper * near >> 16) + (lower * far >> 16) + 2) >> 2).astype(np.uint8)


def _neighbors(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each new pixel the old one before it, -1 at the edge, and how far it lies beyond that one."""
    scale = 1 / (new_size / size)
    place = ((np.arange(new_size) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(place)
    return before.astype(np.intp), place - before


def _fixed_point(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 - ``weight`` and ``weight`` in units of 1/2048."""
    return np.rint((1 - weight) * 2048).astype(np.int32), np.rint(weight * 2048).astype(np.int32)


def _decode(file: BinaryIO, color: bool | None, what: str) -> np.ndarray:
    try:
        with Image.open(file) as image:
            if color is False:
                image.draft("L", None)  # a JPEG's luma needs no way through R, G, B
            pixels = _pixels(image, color)
    except Exception as error:  # decoders of damaged files raise anything
        raise CaffeError(f"Could not decode {what}: {error}") from error
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels


def _pixels(image: Image.Image, color: bool | None) -> np.ndarray:
    if image.mode in _SIXTEEN_BIT:
        if color is None:
            raise ValueError("Image data type must be unsigned byte; it has 16 bits")
        pixels = (np.asarray(image) >> 8).astype(np.uint8)
        return np.stack([pixels] * 3, axis=2) if color else pixels
    if color is None:
        color = image.mode not in ("1", "L")
        if image.mode in ("RGBA", "LA", "PA") or ("transparency" in image.info and image.mode == "P"):
            return np.asarray(image.convert("RGBA"))[:, :, [2, 1, 0, 3]]
    if not color:
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))[:, :, ::-1]
