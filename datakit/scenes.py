"""Synthetic photographs with exact labels: textured shapes that hide each other, on textured ground.

Everything drawn is a function of a seed and an index alone, the same on every platform (:mod:`datakit.drawing`).

A class is a shape, a texture and a hue: no two are the same in all three, but each of the three is shared by several
classes, and neighbours (1 and 2, 3 and 4, ...) have one hue. Hue, brightness, size, aspect, rotation and place vary.
So a pixel's colour says little, its surroundings much. Some classes are seen together more often than others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datakit.drawing import GOLDEN, SHAPES, TEXTURES, between, dealt, finish, generator, noise, paint, stamp

VOID = 255
HUES = ("red", "golden", "lime", "green", "emerald", "cyan", "blue", "violet", "magenta", "crimson")
THEMES = 4  # kinds of places, each with classes and grounds of its own


@dataclass(frozen=True)
class Scene:
    """A photograph and what is in it, all H x W.

    ``image``: uint8 RGB. ``label``: classes, 0 where there is no object, 255 along the borders of objects, where
    people would not agree. ``bare``: the same without void. ``instances``: numbers of objects from 1, 0 where there
    is none. ``ground``: which ground it is, objects or not. All uint8.
    """

    image: np.ndarray
    label: np.ndarray
    bare: np.ndarray
    instances: np.ndarray
    ground: np.ndarray


def scene(seed: int, index: int, size=(375, 500), classes: int = 21, grounds: int = 12) -> Scene:
    """A picture of ``size`` (height, width) with two to six objects of the classes 1 to ``classes`` - 1.

    They stand on two or three of so many ``grounds``, whose textures and hues differ. As many pictures one after the
    other as there are classes of objects show them all, half as many as there are grounds show all grounds.
    """
    rng = generator(seed, index, 0)
    below = [dealt(seed, 2 * index + n, grounds, 11) for n in range(2)]
    theme = below[0] % THEMES
    if rng.random() < 0.5:
        below.append(_themed(rng, grounds, theme))
    canvas, ground = _ground(rng, size, below)
    maps = [np.zeros(size, np.uint8) for _ in range(2)]
    void = np.zeros(size, bool)
    kinds = [_themed(rng, classes - 1, theme) for _ in range(int(rng.integers(1, 6)))]
    for number, k in enumerate([*kinds, dealt(seed, index, classes - 1, 10)], 1):
        radius = min(size) * between(rng, 0.13, 0.34)
        center = [between(rng, 0.08, 0.92) * extent for extent in size]
        _object(rng, canvas, void, maps, (k + 1, number), center, radius)
    bare, instances = maps
    instances = np.unique(instances, return_inverse=True)[1].reshape(size).astype(np.uint8)
    if bare.all():  # not even a pixel of ground: numbers are to start at 1 all the same
        instances += 1
    return Scene(finish(rng, canvas), np.where(void, np.uint8(VOID), bare), bare, instances, ground)


def crop(
    seed: int, index: int, size=(64, 64), classes: int = 21, grounds: int = 12, reach=(0.34, 0.5)
) -> tuple[np.ndarray, int]:
    """A picture of one object, for classifiers: (uint8 RGB, its class, 1 to ``classes`` - 1).

    The object's radius is between the two shares of the shorter side in ``reach``: by default it nearly fills the
    picture. As many pictures one after the other as there are classes show each once.
    """
    rng = generator(seed, index, 1)
    canvas, _ = _ground(rng, size, [int(rng.integers(grounds)) for _ in range(2)])
    k = dealt(seed, index, classes - 1, 12)
    radius = min(size) * between(rng, *reach)
    center = [extent * between(rng, 0.42, 0.58) for extent in size]
    maps, void = [np.zeros(size, np.uint8) for _ in range(2)], np.zeros(size, bool)
    _object(rng, canvas, void, maps, (k + 1, 1), center, radius)
    return finish(rng, canvas), k + 1


def class_names(classes: int) -> list[str]:
    """What the classes look like, such as ``red striped disc``; the first is ``background``."""
    looks = [_look(k) for k in range(classes - 1)]
    return ["background", *(f"{HUES[int(hue * 10)]} {texture} {shape}" for shape, texture, hue in looks)]


def _look(k: int) -> tuple[str, str, float]:
    """Shape, texture and hue (0 to 1) of the k-th class of objects, from 0."""
    return list(SHAPES)[k % len(SHAPES)], list(TEXTURES)[k // 3 % len(TEXTURES)], k // 2 * GOLDEN % 1


def _themed(rng, count: int, theme: int) -> int:
    """One of ``count`` things, more often than not one of those of this theme."""
    own = np.arange(theme, count, THEMES)
    themed = rng.random() < 0.6 and own.size
    return int(rng.choice(own)) if themed else int(rng.integers(count))


def _ground(rng, size, numbers):
    """Grounds one above the other with wavy borders: (canvas H x W x 3, which ground H x W)."""
    height, width = size
    unit = min(size)
    rows, columns = np.mgrid[:height, :width].astype(np.float32) / unit
    canvas, which = np.zeros((*size, 3), np.float32), np.zeros(size, np.uint8)
    for band, number in enumerate(numbers):
        top = (band + between(rng, -0.3, 0.3)) / len(numbers) * height / unit
        edge = top + 0.12 * (noise(rng, columns[0], 0 * columns[0], 0.4) - 0.5)
        here = rows >= (edge if band else -1)
        first = int(np.argmax(here.any(1)))  # rows above have nothing of it
        texture = list(TEXTURES)[(number * 2 + number // 5) % len(TEXTURES)]
        u, v, part = rows[first:] + columns[first:] * 0.3, columns[first:] - rows[first:] * 0.2, here[first:]
        hue = (number * GOLDEN + 0.2) % 1
        color = paint(rng, texture, u[part], v[part], unit, hue, (0.12, 0.45), (0.35, 0.85), period=0.14)
        color *= 0.7 + 0.6 * noise(rng, u[part], v[part], between(rng, 0.05, 0.3))[:, None]
        canvas[first:][part] = color
        which[first:][part] = number
    return canvas, which


def _object(rng, canvas, void, maps, values, center, radius: float) -> None:
    """Draw an object of class ``values[0]`` into ``canvas``; where it is, ``maps`` get ``values``.

    Its border, a few pixels wide, is marked in ``void``; what it hides no longer is.
    """
    shape, texture, hue = _look(values[0] - 1)
    wide = radius * between(rng, 0.85, 1.18)
    high = radius * radius / wide
    window, distance = stamp(
        rng,
        canvas,
        center,
        1.5 * radius,
        lambda x, y: SHAPES[shape](x / wide, y / high) * radius,
        turn=between(rng, -0.3, 0.3),
        shadow=between(rng, 0, 0.45),
        texture=texture,
        unit=radius,
        hue=hue,
    )
    inside = distance < 0
    for each, value in zip(maps, values, strict=True):
        each[window][inside] = value
    void[window][inside] = False
    void[window] |= np.abs(distance) <= max(1.0, 0.005 * max(void.shape))
