"""Reading photographs and label images from files, with errors that name the file and the fix.

Shared by the data layers, ``infer.py`` and ``data/*/prepare.py``; imports no engine.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageOps

from files import DataError

IGNORE = 255  # the label of void pixels: neither trained on nor scored
SUFFIXES = frozenset(".bmp .gif .jpeg .jpg .jp2 .pgm .png .ppm .tif .tiff .webp".split())


def open_image(path: str | os.PathLike, what: str) -> Image.Image:
    """The picture in a file, decoded, turned as its EXIF orientation says, in whatever mode it has.

    ``what`` messages call it. Raises :class:`DataError` for a file that is missing, empty, damaged or no image.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        found = "is a folder without images" if os.path.isdir(path) else "does not exist"
        raise DataError(f"{what} {path} {found}")
    if os.path.getsize(path) == 0:
        raise DataError(f"{what} {path} is empty (0 bytes): copy or download it again")
    try:
        image = Image.open(path)
        image.load()
        return ImageOps.exif_transpose(image)
    except Image.UnidentifiedImageError:
        raise DataError(f"{what} {path} is not an image that can be read: give a JPEG or PNG file") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{what} {path} is too large to be read: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises on damaged files
        raise DataError(f"{what} {path} is damaged ({error}): copy or download it again") from None


def load_image(path: str | os.PathLike) -> np.ndarray:
    """A photograph as uint8 RGB, H x W x 3, as a viewer shows it.

    Rotated as its EXIF orientation says. Grey and palette images become RGB; transparency is
    laid over white; CMYK is converted; 16-bit grey is scaled to 8 bits (65535 becomes 255). Of
    an animation the first frame counts.

    Raises :class:`DataError` for a file that is missing, empty, damaged, not an image, or of
    floating-point or 32-bit values (they have no agreed range).
    """
    image = open_image(path, "image")
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise DataError(
                f"image {os.fspath(path)} has 32-bit values (mode {image.mode}, {values.min()} to "
                f"{values.max()}), which have no agreed range: save it with 8 or 16 bits"
            )
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def load_label(path: str | os.PathLike) -> np.ndarray:
    """A label image as uint8 class indices, H x W: an 8-bit PNG, palette or grey.

    The palette's colours are not looked at. Raises :class:`DataError` for any other mode, with
    the way to convert it.
    """
    image = open_image(path, "label")
    if image.mode not in ("P", "L"):
        raise DataError(
            f"label {os.fspath(path)} has mode {image.mode}; a label holds one class index a pixel, as an "
            "8-bit PNG of mode P (palette) or L (grey). Turn its colours into indices and write them with "
            "vis.save_indexed(path, indices, vis.make_palette(classes))"
        )
    return np.array(image)


def load_depth(path: str | os.PathLike, holes: bool = False) -> np.ndarray:
    """A depth image in millimetres, H x W uint16: a 16-bit PNG, without holes (zeros) unless they are allowed.

    Raises :class:`DataError` for any other mode, and for pixels of depth 0, which have no logarithm.
    """
    image = open_image(path, "depth image")
    if not image.mode.startswith("I"):
        raise DataError(
            f"depth image {os.fspath(path)} has mode {image.mode}; depth is in millimetres, as a 16-bit PNG of "
            "one channel"
        )
    depth = np.asarray(image).astype(np.uint16)
    empty = np.count_nonzero(depth == 0)
    if empty and not holes:
        raise DataError(
            f"depth image {os.fspath(path)} has {empty} pixels of depth 0, where nothing was measured; take the "
            "depth whose holes were filled in (data/depth, not data/rawdepth)"
        )
    return depth


def load_mat(path: str | os.PathLike, field: str, valid: range) -> np.ndarray:
    """The indices, H x W int32, of the variable ``field`` of a MATLAB file; ``a.b`` is field b of the struct a.

    Raises :class:`DataError` if the file is damaged or has no such field, and for values that are
    not integers in ``valid``.
    """
    from scipy.io import loadmat  # takes half a second, and only MATLAB's files need it

    variable, *inner = field.split(".")
    try:
        values = loadmat(path, variable_names=[variable])[variable]
        for name in inner:
            values = values[name][0, 0]
        values = np.asarray(values)
        label = values.astype(np.int32)
        if label.ndim != 2 or not label.size:
            raise ValueError(f"it is of shape {label.shape}")
    except Exception as error:  # scipy raises anything at all on a damaged file
        raise DataError(
            f"label {path} is no MATLAB file with {field} ({type(error).__name__}: {error}): "
            "copy or download it again"
        ) from None
    low, high = values.min(), values.max()
    if (label != values).any() or not valid[0] <= low <= high <= valid[-1]:
        raise DataError(
            f"label {path}: {field} holds values from {low} to {high}; valid are the integers {valid[0]} to "
            f"{valid[-1]}: it is another file than it should be, or damaged"
        )
    return label


def shifted(values: np.ndarray, down: int, right: int, fill: float) -> np.ndarray:
    """``values`` (C x H x W) moved ``down`` and ``right`` by so many pixels; what they leave holds ``fill``."""
    result = np.full_like(values, fill)
    to, source = [], []
    for by, size in ((down, values.shape[1]), (right, values.shape[2])):
        by = max(-size, min(by, size))
        to.append(slice(max(by, 0), size + min(by, 0)))
        source.append(slice(max(-by, 0), size - max(by, 0)))
    result[:, to[0], to[1]] = values[:, source[0], source[1]]
    return result


def check_label(label: np.ndarray, classes: int, path: str | os.PathLike) -> None:
    """Raise :class:`DataError` if ``label`` (integers from 0) holds anything but 0..classes-1 and 255.

    The message names the file, each wrong value with its number of pixels, the valid range and
    the likely cause.
    """
    counts = np.bincount(label.ravel(), minlength=256)
    counts[IGNORE] = 0
    wrong = np.flatnonzero(counts[classes:]) + classes
    if not wrong.size:
        return
    listed = ", ".join(f"{value} ({counts[value]} pixels)" for value in wrong[:5])
    more = f" and {wrong.size - 5} more values" if wrong.size > 5 else ""
    if wrong.size > 20:
        fix = "so many values look like a mask saved as JPEG or resized with smoothing: redo it without"
    elif wrong[0] == classes and wrong.size == 1:
        fix = f"if the data set numbers its classes from 1, subtract 1; else train with classes={classes + 1}"
    else:
        fix = (
            f"remap them, set them to {IGNORE} to ignore them, or set the layer's parameter classes "
            f"(and num_output of the score layers) to at least {wrong[-1] + 1}"
        )
    raise DataError(
        f"label {os.fspath(path)} holds {listed}{more}; valid are 0 to {classes - 1}, and {IGNORE} for void. "
        f"Fix: {fix}"
    )


def find(paths: Iterable[str | os.PathLike]) -> list[str]:
    """The image files among ``paths``: a file stands for itself, a folder for the images in it.

    A folder's images come in the order of their names; subfolders and other files are passed
    over. A path that does not exist, and a folder without images, are kept for the reader to report.
    """
    files = []
    for path in map(os.fspath, paths):
        if not os.path.isdir(path):
            files.append(path)
            continue
        names = sorted(n for n in os.listdir(path) if os.path.splitext(n)[1].lower() in SUFFIXES)
        files += [os.path.join(path, name) for name in names if not name.startswith(".")] or [path]
    return files
