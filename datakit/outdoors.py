"""Synthetic views outdoors with the two labelings of SIFT Flow: 33 semantic classes; sky, horizontal, vertical.

A sky, what stands at the horizon, ground in one or two strips, and things on it, nearer ones larger and lower, which
hide each other. Every view shows all that belongs to its kind of place, so a view of each of the eight kinds shows all
classes. Everything is a function of seed and index (:mod:`datakit.drawing`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datakit.drawing import SHAPES, between, box, finish, generator, noise, paint, stamp

SIZE = (256, 256)
SKY, HORIZONTAL, VERTICAL = 1, 2, 3
RARE = ("cow", "desert", "moon")  # not in the published test split

# The 33 classes in their order: geometric class, texture, hue, and of things that stand somewhere
# the shape, height and width, as shares of the picture for the nearest of them.
CLASSES = {
    "awning": (VERTICAL, "striped", 0.02, "square", 0.07, 0.24),
    "balcony": (VERTICAL, "checked", 0.08, "square", 0.07, 0.2),
    "bird": (SKY, "mottled", 0.6, "arrow", 0.05, 0.1),
    "boat": (VERTICAL, "striped", 0.97, "triangle", 0.16, 0.22),
    "bridge": (VERTICAL, "mottled", 0.07, "rake", 0.14, 0.5),
    "building": (VERTICAL, "checked", 0.06),
    "bus": (VERTICAL, "striped", 0.14, "square", 0.24, 0.42),
    "car": (VERTICAL, "shaded", 0.0, "hexagon", 0.13, 0.26),
    "cow": (VERTICAL, "dotted", 0.07, "square", 0.13, 0.22),
    "crosswalk": (HORIZONTAL, "striped", 0.15, "square", 0.06, 0.5),
    "desert": (HORIZONTAL, "mottled", 0.1),
    "door": (VERTICAL, "shaded", 0.05, "square", 0.17, 0.09),
    "fence": (VERTICAL, "striped", 0.09, "rake", 0.12, 0.36),
    "field": (HORIZONTAL, "striped", 0.2),
    "grass": (HORIZONTAL, "mottled", 0.29),
    "moon": (SKY, "mottled", 0.15, "crescent", 0.13, 0.13),
    "mountain": (VERTICAL, "mottled", 0.7),
    "person": (VERTICAL, "shaded", 0.93, "disc", 0.2, 0.07),
    "plant": (VERTICAL, "mottled", 0.33, "star", 0.13, 0.14),
    "pole": (VERTICAL, "shaded", 0.08, "square", 0.45, 0.025),
    "river": (HORIZONTAL, "mottled", 0.53),
    "road": (HORIZONTAL, "shaded", 0.65),
    "rock": (VERTICAL, "mottled", 0.05, "hexagon", 0.12, 0.19),
    "sand": (HORIZONTAL, "dotted", 0.12),
    "sea": (HORIZONTAL, "striped", 0.57),
    "sidewalk": (HORIZONTAL, "checked", 0.09),
    "sign": (VERTICAL, "dotted", 0.6, "square", 0.12, 0.12),
    "sky": (SKY, "shaded", 0.58),
    "staircase": (VERTICAL, "striped", 0.1, "triangle", 0.16, 0.28),
    "streetlight": (VERTICAL, "shaded", 0.55, "cross", 0.4, 0.13),
    "sun": (SKY, "shaded", 0.14, "disc", 0.11, 0.11),
    "tree": (VERTICAL, "mottled", 0.3, "disc", 0.42, 0.28),
    "window": (VERTICAL, "checked", 0.56, "square", 0.1, 0.08),
}
NUMBERS = {name: number for number, name in enumerate(CLASSES, 1)}
DULL = {"building", "road", "mountain", "pole", "rock", "sidewalk", "river", "bridge"}
# how high above the ground, as a share of the building
ON_WALLS = {"awning": 0.3, "balcony": 0.5, "window": 0.7}

# kind: (the stems of names, what stands at the horizon, strips of ground, things, the farther ones first)
PLACES = {
    "opencountry": ("natu", "mountain", ("field", "grass"), ("sun", "tree", "fence", "cow", "plant", "bird")),
    "coast": ("nat", "", ("sea", "sand"), ("moon", "boat", "boat", "rock", "person", "bird")),
    "forest": ("for", "mountain", ("grass", "river"), ("tree", "tree", "tree", "plant", "staircase", "rock")),
    "highway": ("bost", "mountain", ("field", "road"), ("bridge", "pole", "bus", "sign", "car", "car")),
    "insidecity": (
        "hous",
        "building",
        ("sidewalk", "road"),
        ("window", "awning", "balcony", "door", "staircase", "person", "car"),
    ),
    "mountain": ("nat", "mountain", ("desert", "sand"), ("moon", "tree", "rock", "rock", "plant")),
    "street": (
        "urb",
        "building",
        ("sidewalk", "road"),
        ("window", "door", "tree", "streetlight", "pole", "crosswalk", "person", "car"),
    ),
    "tallbuilding": (
        "art",
        "building",
        ("grass",),
        ("sun", "window", "window", "tree", "streetlight", "bird"),
    ),
}


@dataclass(frozen=True)
class View:
    """A photograph, 256 x 256 RGB, its ``semantic`` labels (uint8: 1 to 33, 0 for void) and ``geometric`` ones
    (int16: 1 to 3, -1 for void), void along the borders of things. ``kind`` is the kind of place."""

    image: np.ndarray
    semantic: np.ndarray
    geometric: np.ndarray
    kind: str


def view(seed: int, index: int, rare: bool = True) -> View:
    """The view ``index`` of the series ``seed``: a kind of place after the other. Without cow, desert and moon
    unless ``rare``: where they would be there is sand, or nothing."""
    rng = generator(seed, index, 4)
    kind = list(PLACES)[index % len(PLACES)]
    _, far, strips, things = PLACES[kind]
    if not rare:
        strips = ["sand" if name == "desert" else name for name in strips]
        things = [name for name in things if name not in RARE]
    paper = _Paper(rng)
    horizon = SIZE[0] * between(rng, 0.4, 0.58)
    roof = paper.far(far, horizon)
    paper.ground(strips, horizon)
    places = rng.permutation(len(things)).tolist()
    for n, name in enumerate(things):
        across = SIZE[1] * (places[n] + between(rng, 0.25, 0.75)) / len(things)
        near = (n + 0.5) / len(things)
        paper.thing(name, across, near, horizon, roof)
    semantic = paper.label
    geometric = np.array([-1, *(geo for geo, *_ in CLASSES.values())], np.int16)[semantic]
    semantic, geometric = (
        np.where(paper.void, none, each) for none, each in ((0, semantic), (-1, geometric))
    )
    return View(finish(rng, paper.canvas), semantic.astype(np.uint8), geometric.astype(np.int16), kind)


class _Paper:
    """A picture being drawn: ``canvas``, ``label`` and ``void``. It starts as all sky."""

    def __init__(self, rng):
        self.rng = rng
        self.canvas = np.zeros((*SIZE, 3), np.float32)
        self.label = np.zeros(SIZE, np.uint8)
        self.void = np.zeros(SIZE, bool)
        self.y, self.x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
        self.fill("sky", np.ones(SIZE, bool), 200, (0.1, 0.5), (0.75, 1.0))
        clouds = np.clip(noise(rng, self.x, self.y * 2, 60) * 1.6 - 0.7, 0, 1)[..., None]
        self.canvas += clouds * between(rng, 0, 1) * (235 - self.canvas)

    def fill(self, name: str, mask, unit: float, saturation, value, squeeze: float = 1.0) -> None:
        """Paint a mask with a class's surface; ``squeeze`` widens it along the picture, as ground lies."""
        _, texture, hue, *_ = CLASSES[name]
        u, v = self.y[mask] / unit, self.x[mask] / unit / squeeze
        self.canvas[mask] = paint(self.rng, texture, u, v, unit, hue, saturation, value)
        self.label[mask] = NUMBERS[name]

    def far(self, name: str, horizon: float) -> float:
        """What stands at the horizon, of uneven height; returns the row of its middle height."""
        if not name:
            return horizon
        rng, height = self.rng, between(self.rng, 0.55, 0.85) * horizon
        if name == "building":
            steps = int(rng.integers(2, 6))
            edge = np.floor(self.x[0] * steps / SIZE[1]).astype(int)
            top = rng.random(steps, np.float32)[edge] * 0.5 + 0.6
        else:
            top = noise(rng, self.x[0], 0 * self.x[0], 70) + 0.15 * noise(rng, self.x[0], 0 * self.x[0], 12)
        mask = (self.y < horizon + 2) & (self.y > horizon - height * top)
        self.fill(name, mask, 60, (0.1, 0.4), (0.4, 0.8))
        return horizon - 0.6 * height

    def ground(self, strips, horizon: float) -> None:
        """Strips of ground from the horizon down, their border slanting."""
        for n, name in enumerate(strips):
            slant = between(self.rng, -0.15, 0.15) * n
            top = horizon + n * between(self.rng, 0.3, 0.5) * (SIZE[0] - horizon)
            mask = self.y > top + slant * (self.x - SIZE[1] / 2)
            strong = (0.05, 0.3) if name in DULL else (0.35, 0.7)
            self.fill(name, mask & (self.y > horizon), 45, strong, (0.35, 0.8), squeeze=2.5)

    def thing(self, name: str, across: float, near: float, horizon: float, roof: float) -> None:
        """A thing at so many pixels from the left; ``near`` is 0 at the horizon, 1 before one's feet."""
        geometric, texture, hue, shape, height, width = CLASSES[name]
        rng, scale = self.rng, (0.6 + 0.4 * near) * between(self.rng, 0.8, 1.15)
        high, wide = (max(share * scale * SIZE[0] / 2, 1.5) for share in (height, width))
        foot = horizon + (0.15 + 0.75 * near) * (SIZE[0] - horizon)
        if name in ON_WALLS or name == "door":
            middle = horizon - ON_WALLS[name] * (horizon - roof) if name in ON_WALLS else horizon + 3 - high
        elif geometric == SKY:
            middle = between(rng, 0.12, 0.45) * horizon
        else:
            middle = min(foot, SIZE[0] - 2) - (0 if geometric == HORIZONTAL else high)
        if shape == "square":
            outline = lambda x, y: box(x, y, -wide, wide, -high, high)  # noqa: E731
        else:
            outline = lambda x, y: SHAPES[shape](x / wide, y / high) * min(high, wide)  # noqa: E731
        window, distance = stamp(
            rng,
            self.canvas,
            (middle, across),
            1.3 * max(high, wide),
            outline,
            shadow=between(rng, 0, 0.3),
            texture=texture,
            unit=max(min(high, wide), 6.0),
            hue=hue,
            saturation=(0.05, 0.3) if name in DULL else (0.45, 0.85),
        )
        inside = distance < 0
        self.label[window][inside] = NUMBERS[name]
        self.void[window][inside] = False
        self.void[window] |= (distance > -0.5) & (distance <= 1)
