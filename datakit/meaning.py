"""Which classes a set of masks means: recognises 0 and 255, colours, labels from 1, steps, smoothing, JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

import vis
from datakit.masks import (
    Sight,
    channels,
    classes_of,
    counts_in,
    distance,
    packed,
    space_of,
    summed,
    written,
)
from images import IGNORE


@dataclass
class Meaning:
    """Which class each code of a set is: ``classes``, code → class; 255 is void.

    ``snap``: how far other codes may be from one of these, in the largest difference of a channel, to count as it.
    ``fault``: what is wrong with the masks as they are, "" if the layers can read their values. Without ``classes``
    nobody can tell.
    """

    space: str
    classes: dict[int, int]
    snap: int = 0
    fault: str = ""

    @property
    def count(self) -> int:
        """How many classes there are, void not counted."""
        return max((number for number in self.classes.values() if number != IGNORE), default=-1) + 1


NOISE = 4  # so many values that have no areas of their own are damage, not classes
NEAR = 12  # JPEG moves even the inside of areas by so much
SMALL = 64  # values up to here are class indices as they are, which no JPEG keeps apart


def recognise(sights: Sequence[Sight], count: int | None = None) -> Meaning:
    """Recognise what the masks of a set mean, of ``count`` classes if that is known."""
    space = space_of(sights)
    codes, pixels, inside = summed([counts_in(sight, space) for sight in sights])
    jpeg = any(sight.format == "JPEG" for sight in sights)
    if codes.size > 64 and inside.sum() < pixels.sum() / 2:
        fault = "values change from pixel to pixel: these are photographs or measurements, no masks"
        return Meaning(space, {}, fault=fault)
    # in areas a pixel's neighbours are like it; edges between areas have no such pixels, and are rare besides
    areas = (inside >= 4) & (inside >= pixels / 10)
    often = pixels >= max(np.sort(pixels)[-2:][0] / 10, pixels.sum() / 1000)
    plain = space == "values" and all(code < (count or 0) or code == IGNORE for code in codes)
    if not jpeg and (plain or codes.size - (areas | often).sum() < NOISE):
        return _numbered(space, codes.tolist(), pixels, count)
    found = _apart(codes[areas], pixels[areas], space, NEAR if jpeg else 0)
    if len(found) == 1:  # the other class is all lines, which are all edge: what is farthest from the ground
        far = distance(codes, found[0], space) * often
        found = sorted({found[0], int(codes[far.argmax()])})
    if len(found) < 2 or (jpeg and space == "values" and codes[-1] <= SMALL):
        return Meaning(space, {}, fault="no two classes can be told apart: save the masks again as PNG")
    result = _numbered(space, found, pixels[np.isin(codes, found)], count)
    gap = min(distance(np.array(one), other, space) for i, one in enumerate(found) for other in found[:i])
    result.snap = max(1, int(gap // 2 if len(found) == 2 else gap // 4 if jpeg else gap // 8))
    damage = "JPEG" if jpeg else "smoothed edges (anti-aliasing, or resizing)"
    damage += f": {codes.size - len(found)} values between {_listed(found, space)}"
    result.fault = "; ".join(filter(None, (damage, result.fault)))
    return result


def _apart(codes, pixels, space: str, near: int) -> list[int]:
    """Those of ``codes``, the most frequent first, that are farther than ``near`` from all before; in order."""
    kept: list[int] = []
    for code in codes[np.argsort(-pixels, kind="stable")].tolist():
        if all(distance(np.array(code), other, space) > near for other in kept):
            kept.append(code)
    return sorted(kept)


def _listed(codes: Sequence[int], space: str) -> str:
    some = " and ".join(written(code, space) for code in codes[:6])
    return some + (f" and {len(codes) - 6} more" if len(codes) > 6 else "")


def _numbered(space: str, codes: list[int], pixels: np.ndarray, count: int | None) -> Meaning:
    if space == "colors":
        return Meaning(
            space, _colors(codes, pixels, count), fault="colours, where the layers read class indices"
        )
    classes, fault = _values(codes, count)
    if space == "alpha":
        fault = f"the masks are in the alpha channel{f' ({fault})' if fault else ''}"
    return Meaning(space, classes, fault=fault)


def _colors(codes: list[int], pixels: np.ndarray, count: int | None) -> dict[int, int]:
    """Numbers of VOC's palette; else of two the darker first; else black first, then by how frequent they are."""
    palette = packed(vis.make_palette(256)).tolist()
    voc = [*palette[: count or 21], palette[IGNORE]]
    if len(codes) > 1 and set(codes) <= set(voc):
        return {code: palette.index(code) for code in codes}
    brightness = channels(np.array(codes), "colors").sum(-1)
    if len(codes) == 2:
        order = np.argsort(brightness, kind="stable")
    else:
        order = np.lexsort((brightness, -pixels, brightness > 0))
    return {codes[i]: min(number, IGNORE) for number, i in enumerate(order)}


def _values(values: list[int], count: int | None) -> tuple[dict[int, int], str]:
    """The class of each value, and what is wrong with them as they are."""
    below = [value for value in values if value != IGNORE]
    void = {IGNORE: IGNORE} if IGNORE in values else {}
    same = {value: value for value in below} | void
    if values == [0, IGNORE]:
        if (count or 2) == 2:
            return {0: 0, IGNORE: 1}, "0 and 255 for two classes; to the layers 255 is void"
        return same, f"0 and 255 (void) only, of {count} classes"
    if not below or below[-1] < (count or 0) or below == list(range(len(below))):
        return same, "" if below else "255 (void) only"
    if below == list(range(1, len(below) + 1)) and count in (None, len(below)):
        return {value: value - 1 for value in below} | void, f"numbered from 1 to {below[-1]}, not from 0"
    step = gcd(*below)
    if void and (len(values) == count if count else step > 1 and abs(below[-1] + step - IGNORE) <= step / 5):
        below, void = values, {}  # 255 is a class, too
    if step > 1 and count and below[-1] / step < count:
        return {value: round(value / step) for value in below} | void, f"class indices times {step}"
    if len(below) <= (count or IGNORE):
        what = f"class indices times {step}" if step > 1 else "scattered values"
        return {value: number for number, value in enumerate(below)} | void, what
    beyond = [value for value in below if value >= (count or IGNORE)]
    classes = {value: value if value < (count or IGNORE) else IGNORE for value in below} | void
    return classes, f"{_listed(beyond, 'values')}: no class of {count or IGNORE}; taken for void"


def class_counts(sight: Sight, found: Meaning) -> np.ndarray:
    """Pixels of each class, 256 of them with void, in a mask of a set of that meaning."""
    codes, pixels, _ = counts_in(sight, found.space)
    numbers = classes_of(codes, found.space, found.classes, found.snap)[0]
    return np.bincount(numbers, pixels, 256).astype(np.int64)


def balance(counts: np.ndarray) -> list[float]:
    """Weights for ``counts`` (masks x classes, pixels) by median frequency balancing.

    A class's frequency is its share of the pixels of the images that it occurs in; its weight is the median of all
    frequencies over its own (Eigen and Fergus, 2015). A class that does not occur has weight 1.
    """
    totals = counts.sum(1, keepdims=True)
    frequency = counts.sum(0) / np.maximum((totals * (counts > 0)).sum(0), 1)
    present = frequency > 0
    middle = np.median(frequency[present]) if present.any() else 1.0
    return [float(f"{middle / f:.3g}") if f else 1.0 for f in frequency]
