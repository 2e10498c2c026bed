"""What masks hold: values, colours or alpha, and their conversion to classes.

A pixel's *code* is its value (a palette's index, a grey value, alpha), or its colour as one number, red in the
highest byte: which of these the classes are in is the set's *space*, one of ``SPACES``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

import images
from files import DataError
from images import IGNORE

SPACES = ("values", "colors", "alpha")
Counts = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # codes in order; of each its pixels, and those inside of areas


@dataclass
class Sight:
    """What is in one mask: its file, ``size`` (width, height), Pillow's ``mode`` and ``format``.

    ``counts``: by space, what it holds. ``palette``: index → colour, of those that occur in a palette mask.
    ``painted``: the colours of the pixels that are not transparent, where there is transparency.
    """

    path: Path
    size: tuple[int, int]
    mode: str
    format: str
    counts: dict[str, Counts]
    palette: dict[int, int] = field(default_factory=dict)
    painted: np.ndarray | None = None


def look(path: Path) -> Sight:
    """Read the mask ``path``. Raises DataError when it cannot be read, or holds no whole numbers."""
    mask = images.open_image(path, "mask")
    with Image.open(path) as opened:
        sight = Sight(path, mask.size, mask.mode, opened.format or "", {})
    for space in _spaces(mask):
        sight.counts[space] = _count(codes_of(mask, space, path))
    if mask.mode == "P":
        used = sight.counts["values"][0]
        colors = np.array(mask.getpalette() + [0] * 768).reshape(-1, 3)[used]
        sight.palette = dict(zip(used.tolist(), packed(colors).tolist(), strict=True))
    if "A" in mask.getbands():
        opaque = np.asarray(mask.getchannel("A")) > 0
        sight.painted = np.unique(packed(np.asarray(mask.convert("RGB")))[opaque])
    return sight


def _spaces(mask: Image.Image) -> list[str]:
    own = ["colors"] if len(mask.getbands()) >= 3 else ["values"]
    return [*own, "alpha"] if "A" in mask.getbands() else own


def codes_of(mask: Image.Image, space: str, path: Path) -> np.ndarray:
    """The codes of a mask in ``space``, H x W int32. DataError where it has none there."""
    bands, where = mask.getbands(), f"mask {path} (mode {mask.mode})"
    if space == "alpha":
        if "A" not in bands:
            raise DataError(f"{where} has no alpha, which the other masks hold their classes in")
        return np.asarray(mask.getchannel("A")).astype(np.int32)
    if mask.mode == "F" or mask.mode.startswith("I"):
        values = np.asarray(mask)
        if space == "colors" or values.min() < 0 or values.max() > 65535 or (values != values.round()).any():
            raise DataError(
                f"{where} holds values from {values.min()} to {values.max()}: a mask holds whole numbers from 0 to "
                "65535, or colours"
            )
        return values.astype(np.int32)
    if space == "colors":
        colors = packed(np.array(mask.convert("RGB")))
        return np.where(np.asarray(mask.getchannel("A")) == 0, 0, colors) if "A" in bands else colors
    if len(bands) >= 3:
        raise DataError(f"{where} holds colours, not values: say which class each colour is with --colors")
    values = mask.convert("L") if mask.mode == "1" else mask  # white is 255, as in a grey mask
    return np.asarray(values.getchannel(0)).astype(np.int32)


def packed(colors: np.ndarray) -> np.ndarray:
    """Colours, ... x 3, as one number each, int32."""
    red, green, blue = np.moveaxis(colors.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def channels(codes: np.ndarray, space: str) -> np.ndarray:
    """What codes are made of, ... x 3 for colours, ... x 1 else: distances are the largest over the last axis."""
    shifts = (16, 8, 0) if space == "colors" else ()
    return np.stack([codes >> shift & 255 for shift in shifts] or [codes], -1)


def written(code: int, space: str) -> str:
    """A code as people write it: ``255``, or ``255,0,0``."""
    return ",".join(map(str, channels(np.array(code), space)))


def _count(codes: np.ndarray) -> Counts:
    across, down = codes[:, 1:] == codes[:, :-1], codes[1:] == codes[:-1]
    inside = codes[1:-1, 1:-1][across[1:-1, 1:] & across[1:-1, :-1] & down[1:, 1:-1] & down[:-1, 1:-1]]
    if codes.max() < 65536:
        pixels = np.bincount(codes.ravel())
        used = np.flatnonzero(pixels)
        return used, pixels[used], np.bincount(inside.ravel(), minlength=pixels.size)[used]
    used, pixels = np.unique(codes, return_counts=True)
    within = np.zeros_like(pixels)
    found, number = np.unique(inside, return_counts=True)
    within[np.searchsorted(used, found)] = number
    return used, pixels, within


def space_of(sights: Sequence[Sight]) -> str:
    """The space that a set of masks holds its classes in.

    Alpha, where that is all that differs: what is painted has one colour throughout. Colours, where any mask has
    them, or one palette index stands for several.
    """
    if all(sight.painted is not None for sight in sights):
        painted = np.unique(np.concatenate([sight.painted for sight in sights]))
        if painted.size <= 1 and any(sight.counts["alpha"][0].size > 1 for sight in sights):
            return "alpha"
    if any("colors" in sight.counts for sight in sights):
        return "colors"
    pairs = {pair for sight in sights for pair in sight.palette.items()}
    return "values" if len(pairs) == len({index for index, _ in pairs}) else "colors"


def counts_in(sight: Sight, space: str) -> Counts:
    """What a mask holds in ``space``; grey values and palette indices as colours, too."""
    if space in sight.counts:
        return sight.counts[space]
    codes, pixels, inside = sight.counts["values"]
    if sight.palette:
        codes = np.array([sight.palette[code] for code in codes.tolist()])
    else:
        codes = codes * 0x010101
    return summed([(codes, pixels, inside)])


def summed(parts: Sequence[Counts]) -> Counts:
    """Several counts, of several masks or of codes that are now the same, as one."""
    codes, where = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    sums = [np.bincount(where, np.concatenate([part[i] for part in parts]), codes.size) for i in (1, 2)]
    return codes, *(each.astype(np.int64) for each in sums)


def classes_of(codes: np.ndarray, space: str, classes: Mapping[int, int], snap: int = 0):
    """The class of each of ``codes`` (any shape): (classes uint8, how many were snapped, how many became void).

    A code that is none of ``classes`` counts as the nearest one, if that is not farther than ``snap``, else as void;
    without ``snap`` the codes that are unknown are raised in a ValueError.
    """
    used, where = np.unique(codes, return_inverse=True)
    known = np.isin(used, list(classes))
    if not known.all() and not snap:
        raise ValueError(used[~known].tolist())
    best = np.full(used.size, snap + 1)
    result = np.full(used.size, IGNORE, np.uint8)
    for code, number in classes.items():
        far = distance(used, code, space)
        result[far < best] = number
        best = np.minimum(best, far)
    times = np.bincount(where.ravel(), minlength=used.size)
    untold = best > snap
    return result[where].reshape(codes.shape), int(times[~known & ~untold].sum()), int(times[untold].sum())


def distance(codes: np.ndarray, code: int, space: str) -> np.ndarray:
    """How far ``codes`` are from one of them: the largest difference of a channel."""
    return np.abs(channels(codes, space) - channels(np.array(code), space)).max(-1)
