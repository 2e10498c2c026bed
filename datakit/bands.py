"""Images of any number of channels: what they are, and as nets see them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import images
from datakit import archives
from files import LITERALS, DataError

ARRAY = ".npy"


@dataclass(frozen=True)
class Photo:
    """What an image is: ``size`` (width, height) as a viewer shows it, Pillow's ``mode`` or an array's type,
    ``channels`` that a net would see, ``turned``: by its EXIF orientation, ``digest`` of its bytes."""

    path: Path
    size: tuple[int, int]
    mode: str
    channels: int
    turned: bool
    digest: str


def look(path: Path) -> Photo:
    """Read the image ``path``. DataError when it cannot be read, or is an array that no net can see."""
    digest = archives.digest(path, "sha256")
    if path.suffix.lower() == ARRAY:
        array = load_array(path)
        height, width, channels = array.shape
        return Photo(path, (width, height), str(array.dtype), channels, False, digest)
    image = images.open_image(path, "image")
    with Image.open(path) as opened:
        turned = opened.size != image.size
    bands = len(image.getbands())
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        bands = 3  # opaque throughout
    elif image.mode in ("P", "CMYK"):
        bands = 3
    if image.mode == "F" or image.mode == "I":
        images.load_image(path)  # which may refuse them
    return Photo(path, image.size, image.mode, bands, turned, digest)


def load_array(path: str | os.PathLike) -> np.ndarray:
    """The image in a NumPy file, H x W or H x W x C of whole or real numbers, as H x W x C. DataError for others."""
    try:
        with LITERALS:
            array = np.load(path, allow_pickle=False)
        shape, kind = array.shape, array.dtype.kind
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise DataError(f"image {os.fspath(path)} is no array that NumPy can read: {error}") from None
    if kind not in "buif" or array.ndim not in (2, 3) or not array.size:
        raise DataError(
            f"image {os.fspath(path)} is of shape {shape} and type {array.dtype}; an image is H x W or H x W x C, "
            "of whole or real numbers"
        )
    if kind == "f" and not np.isfinite(array).all():
        raise DataError(
            f"image {os.fspath(path)} holds values that are not finite (NaN or infinity): fill them in"
        )
    return array.reshape(*shape[:2], -1)


def load_bands(path: str | os.PathLike, channels: int) -> np.ndarray:
    """An image as a net of so many channels sees it, H x W x ``channels``.

    An array as it is. Of other files: 1, grey; 3, blue, green, red; else the file's bands as they are, of RGBA
    blue, green, red, alpha. DataError for another number of channels.
    """
    path = Path(path)
    if path.suffix.lower() == ARRAY:
        values = load_array(path)
    elif channels == 1:
        values = np.array(Image.fromarray(images.load_image(path)).convert("L"))[:, :, np.newaxis]
    elif channels == 3:
        return images.load_image(path)[:, :, ::-1]
    else:
        image = images.open_image(path, "image")
        values = np.atleast_3d(np.array(image))
        if image.mode == "RGBA":
            values = values[:, :, [2, 1, 0, 3]]
    if values.shape[2] != channels:
        first = values.shape[0] == channels
        hint = " (its first axis looks like the channels: store it as H x W x C)" if first else ""
        raise DataError(f"image {path} has {values.shape[2]} channels; the net sees {channels}{hint}")
    return values


def channels_of(photos: Iterable[Photo]) -> int | None:
    """How many channels images have; None where pictures differ, which can all be seen as 3 all the same.

    DataError where arrays differ.
    """
    first: dict[tuple[bool, int], Photo] = {}
    for photo in photos:
        first.setdefault((photo.path.suffix.lower() == ARRAY, photo.channels), photo)
    if len(first) > 1 and any(is_array for is_array, _ in first):
        one, other = list(first.values())[:2]
        raise DataError(
            f"{one.path} has {one.channels} channels ({one.mode}), {other.path} {other.channels} ({other.mode}): a net "
            "takes arrays of one number of channels, and no pictures beside them"
        )
    return next(iter(first))[1] if len(first) == 1 else None


def picture(path: str | os.PathLike) -> np.ndarray:
    """Any image as people see it, uint8 RGB: of an array the first three channels, or the first, as 0 to 255."""
    if Path(path).suffix.lower() != ARRAY:
        return images.load_image(path)
    values = load_array(path).astype(np.float64)
    values = values[:, :, : 3 if values.shape[2] >= 3 else 1]
    low, high = values.min((0, 1)), values.max((0, 1))
    scaled = np.rint((values - low) * (255 / np.where(high > low, high - low, 1))).astype(np.uint8)
    return np.broadcast_to(scaled, (*scaled.shape[:2], 3)).copy()
