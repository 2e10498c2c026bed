"""Drawing without a graphics library: random numbers, shapes, textures, soft edges, a photograph's light and grain.

All that makes a pixel are sums, products, roots and comparisons, which every platform rounds alike, so a seed means
the same bytes everywhere, as far as NumPy's generator does; NumPy's global random state is neither read nor changed.
Colours are RGB from 0 to 255, coordinates float32.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np

GOLDEN = 0.381966  # steps of it around the circle of hues keep apart


def generator(seed: int, index: int, kind: int) -> np.random.Generator:
    """The random numbers of picture ``index`` of the series ``seed``; ``kind`` keeps different pictures apart."""
    return np.random.default_rng([seed, index, kind])


def dealt(seed: int, card: int, count: int, kind: int) -> int:
    """One of ``count`` things, dealt: so many cards one after the other are all of them, in random order."""
    order = generator(seed, card // count, kind).permutation(count)
    return int(order[card % count])


def between(rng, low: float, high: float) -> float:
    """A uniform random number."""
    return low + (high - low) * float(rng.random())


# ------------------------------------------------------------------ shapes


def _depth(u, v, planes: int, rank: int, radius: float):
    """How far outside of a polygon points are, inside negative: of so many planes, the ``rank``-th farthest counts.

    The first makes it a regular polygon, the second a star: in a star's points one may lie outside of one plane.
    """
    far = [np.float32(-9)] * rank
    for n in range(planes):
        angle = math.tau * n / planes + math.pi / 2
        distance = u * round(math.cos(angle), 6) + v * round(math.sin(angle), 6)
        for place in range(rank):
            far[place], distance = np.maximum(far[place], distance), np.minimum(far[place], distance)
    return far[-1] - radius


def _length(u, v):
    return np.sqrt(u * u + v * v)


def box(u, v, left, right, top, bottom):
    """How far outside of a rectangle points are, inside negative."""
    return np.maximum(
        np.abs(u - (left + right) / 2) - (right - left) / 2,
        np.abs(v - (top + bottom) / 2) - (bottom - top) / 2,
    )


def _union(*distances):
    result = distances[0]
    for distance in distances[1:]:
        result = np.minimum(result, distance)
    return result


# Each maps coordinates, right and down, to about how far outside of the shape they are. A shape's radius is 1.
SHAPES: dict[str, Callable] = {
    "disc": lambda u, v: _length(u, v) - 0.85,
    "square": lambda u, v: _depth(u, v, 4, 1, 0.76),
    "triangle": lambda u, v: _depth(u, v, 3, 1, 0.56),
    "ring": lambda u, v: np.abs(_length(u, v) - 0.74) - 0.22,
    "cross": lambda u, v: _union(box(u, v, -0.95, 0.95, -0.27, 0.27), box(u, v, -0.27, 0.27, -0.95, 0.95)),
    "star": lambda u, v: _depth(u, v, 5, 2, 0.34),
    "hexagon": lambda u, v: _depth(u, v, 6, 1, 0.8),
    "crescent": lambda u, v: np.maximum(_length(u, v) - 0.95, 0.78 - _length(u - 0.48, v)),
    "rake": lambda u, v: _union(
        box(u, v, -0.9, 0.9, -0.9, -0.54),
        *(box(u, v, x - 0.17, x + 0.17, -0.9, 0.9) for x in (-0.73, 0, 0.73)),
    ),
    "arrow": lambda u, v: _union(_depth(v, 0.35 - u, 3, 1, 0.3), box(u, v, -0.95, 0.2, -0.19, 0.19)),
}


# ------------------------------------------------------------------ textures


def _wave(x, period, unit):
    """Bars of width ``period`` / 2 across x, 0 or 1 with soft edges; ``unit``: pixels in 1 of x."""
    x = x / period
    return np.clip((np.abs(x - np.floor(x) - 0.5) * 2 - 0.5) * (period * unit / 2) + 0.5, 0, 1)


def _checks(u, v, period, unit):
    a, b = _wave(u, period, unit), _wave(v, period, unit)
    return a * b + (1 - a) * (1 - b)


def _dots(u, v, period, unit):
    u, v = u / period, v / period
    inside = 0.33 - _length(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5)
    return np.clip(inside * (period * unit) + 0.5, 0, 1)


def noise(rng, u, v, period):
    """Smooth noise, 0 to 1, over coordinates: random values at a lattice's corners, blended between them."""
    lattice = rng.random((32, 32), np.float32)
    u, v = u / period, v / period
    i, j = np.floor(v), np.floor(u)
    f, g = v - i, u - j
    f, g = f * f * (3 - 2 * f), g * g * (3 - 2 * g)
    i, j = i.astype(np.int32) & 31, j.astype(np.int32) & 31
    low, high = i * 32, ((i + 1) & 31) * 32
    flat, after = lattice.ravel(), (j + 1) & 31
    upper = flat[low + j] * (1 - g) + flat[low + after] * g
    lower = flat[high + j] * (1 - g) + flat[high + after] * g
    return upper * (1 - f) + lower * f


# Each gives for coordinates how much of the second colour there is. ``period`` is the pattern's, in the same units.
TEXTURES: dict[str, Callable] = {
    "striped": lambda rng, u, v, period, unit: _wave(u, period, unit),
    "checked": lambda rng, u, v, period, unit: _checks(u, v, period * 1.3, unit),
    "dotted": lambda rng, u, v, period, unit: _dots(u, v, period, unit),
    "mottled": lambda rng, u, v, period, unit: noise(rng, u + 8, v + 8, period / 2),
    "shaded": lambda rng, u, v, period, unit: np.clip((u + v) * 0.35 + 0.5, 0, 1),
}


def paint(
    rng, texture: str, u, v, unit: float, hue: float, saturation=(0.5, 0.9), value=(0.5, 0.95), period=0.3
):
    """A textured surface at coordinates u and v (float32, alike in shape): RGB, 0 to 255.

    ``unit``: pixels in 1 of u, for soft edges. ``hue`` is jittered, saturation and value lie in the given ranges.
    """
    hue, saturation, value = hue + between(rng, -0.03, 0.03), between(rng, *saturation), between(rng, *value)
    first = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    darker = value * between(rng, 0.45, 0.7)
    second = colorsys.hsv_to_rgb(
        (hue + between(rng, -0.04, 0.04)) % 1, saturation * between(rng, 0.5, 1), darker
    )
    share = TEXTURES[texture](rng, u, v, period * between(rng, 0.8, 1.25), unit)
    first, second = (255 * np.array(color, np.float32) for color in (first, second))
    return first + share[..., None] * (second - first)


def stamp(rng, canvas, center, reach, shape, *, turn=0.0, shadow=0.0, unit, **surface):
    """Draw a shape into ``canvas`` with soft edges; returns (the part that was looked at, distances there).

    ``center``: row and column; nothing is farther from it than ``reach``. ``shape``: function of pixels right and
    down of the center, which gives how many pixels outside of the shape they are. ``turn``: the tangent of half
    the angle it is turned by, which needs no cosine. ``shadow``: how dark it makes what is around it.
    ``unit`` and ``surface``: see :func:`paint`.
    """
    rows, columns = (
        slice(max(0, math.floor(middle - reach)), max(0, math.ceil(middle + reach))) for middle in center
    )
    target = canvas[rows, columns]
    height, width = target.shape[:2]
    y = np.arange(rows.start, rows.start + height, dtype=np.float32)[:, None] - center[0]
    x = np.arange(columns.start, columns.start + width, dtype=np.float32) - center[1]
    cosine, sine = (1 - turn * turn) / (1 + turn * turn), 2 * turn / (1 + turn * turn)
    x, y = x * cosine + y * sine, y * cosine - x * sine
    distance = shape(x, y)
    u, v = x / unit, y / unit
    color = paint(rng, surface.pop("texture"), u, v, unit, **surface)
    color *= (1 - between(rng, 0, 0.2) * np.clip(v, -1, 1))[..., None]  # lit from above
    target *= 1 - shadow * np.clip(1 - distance / (0.25 * unit), 0, 1)[..., None]
    target += np.clip(0.5 - distance, 0, 1)[..., None] * (color - target)
    return (rows, columns), distance


def finish(rng, canvas: np.ndarray, grain: int = 7) -> np.ndarray:
    """A canvas (H x W x 3, 0 to 255) as a photograph, uint8: light from one side, and noise of up to ``grain``."""
    height, width = canvas.shape[:2]
    across = np.linspace(-1, 1, width, dtype=np.float32) * between(rng, -0.15, 0.15)
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * between(rng, -0.15, 0.15)
    speckles = rng.integers(-grain, grain + 1, (height, width, 1), np.int8)
    if grain > 3:
        speckles = speckles + rng.integers(-3, 4, canvas.shape, np.int8)
    lit = canvas * (between(rng, 0.8, 1.15) + across + down)[..., None] + speckles
    return np.rint(np.clip(lit, 0, 255)).astype(np.uint8)
