"""Synthetic rooms as a depth camera sees them: photograph, depth and classes of the 40 of NYUDv2.

A box of a room with boxes and ellipsoids in it, of the size of what they stand for, is cast ray by ray with the camera
of NYUDv2, about 1.3 m above the floor and looking a little down. So depth, height above the floor and angle
with gravity (data/nyud/hha.py) fit each other and the classes. Everything is a function of seed and index
(:mod:`datakit.drawing`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datakit.drawing import GOLDEN, TEXTURES, between, finish, generator, noise, paint

HEIGHT, WIDTH = 480, 640
FX, FY, CX, CY = 518.858, 519.470, 325.582, 253.736  # pixels, counted from 1
CROP = np.s_[45:470, 40:600]  # what Gupta et al. kept

# The 40 classes in their order: where each stands, and its smallest and largest width, depth and height in metres.
# "wall": hangs there, the last number being the height of its lower edge; "top": lies on another.
CLASSES = {
    "wall": ("room",),
    "floor": ("room",),
    "cabinet": ("floor", (0.6, 1.2), (0.4, 0.6), (0.8, 1.9)),
    "bed": ("floor", (1.3, 1.8), (1.7, 2.0), (0.4, 0.6)),
    "chair": ("floor", (0.4, 0.6), (0.4, 0.6), (0.7, 1.0)),
    "sofa": ("floor", (1.4, 2.1), (0.8, 1.0), (0.6, 0.9)),
    "table": ("floor", (0.8, 1.4), (0.6, 0.9), (0.6, 0.8)),
    "door": ("wall", (0.8, 1.0), (0.05, 0.08), (1.9, 2.1), 0.0),
    "window": ("wall", (0.8, 1.6), (0.04, 0.06), (0.8, 1.2), 0.9),
    "bookshelf": ("floor", (0.7, 1.2), (0.25, 0.4), (1.4, 2.0)),
    "picture": ("wall", (0.3, 0.8), (0.02, 0.04), (0.3, 0.7), 1.3),
    "counter": ("floor", (1.2, 2.2), (0.5, 0.7), (0.85, 1.0)),
    "blinds": ("wall", (0.7, 1.4), (0.04, 0.08), (0.8, 1.3), 0.9),
    "desk": ("floor", (1.0, 1.5), (0.6, 0.8), (0.7, 0.8)),
    "shelves": ("wall", (0.6, 1.2), (0.2, 0.3), (0.3, 0.9), 1.1),
    "curtain": ("wall", (0.4, 1.0), (0.08, 0.15), (1.6, 2.2), 0.1),
    "dresser": ("floor", (0.8, 1.3), (0.4, 0.6), (0.7, 1.1)),
    "pillow": ("top", (0.3, 0.6), (0.3, 0.4), (0.12, 0.25)),
    "mirror": ("wall", (0.4, 0.8), (0.02, 0.04), (0.6, 1.3), 0.8),
    "floor mat": ("floor", (0.8, 1.6), (0.6, 1.2), (0.01, 0.03)),
    "clothes": ("top", (0.3, 0.7), (0.3, 0.5), (0.08, 0.2)),
    "ceiling": ("room",),
    "books": ("top", (0.2, 0.4), (0.15, 0.3), (0.08, 0.3)),
    "refridgerator": ("floor", (0.6, 0.9), (0.6, 0.7), (1.5, 1.9)),
    "television": ("wall", (0.7, 1.2), (0.05, 0.1), (0.4, 0.7), 0.9),
    "paper": ("top", (0.3, 0.5), (0.25, 0.4), (0.03, 0.06)),
    "towel": ("wall", (0.3, 0.5), (0.03, 0.06), (0.5, 0.8), 0.7),
    "shower curtain": ("wall", (0.8, 1.4), (0.05, 0.12), (1.6, 1.9), 0.2),
    "box": ("top", (0.2, 0.5), (0.2, 0.4), (0.15, 0.4)),
    "whiteboard": ("wall", (0.9, 1.8), (0.02, 0.04), (0.7, 1.1), 0.9),
    "person": ("floor", (0.4, 0.6), (0.3, 0.5), (1.5, 1.85)),
    "night stand": ("floor", (0.4, 0.5), (0.35, 0.45), (0.5, 0.65)),
    "toilet": ("floor", (0.4, 0.5), (0.5, 0.7), (0.4, 0.8)),
    "sink": ("top", (0.4, 0.6), (0.3, 0.45), (0.1, 0.2)),
    "lamp": ("top", (0.2, 0.35), (0.2, 0.35), (0.3, 0.5)),
    "bathtub": ("floor", (1.4, 1.7), (0.7, 0.8), (0.5, 0.6)),
    "bag": ("top", (0.25, 0.45), (0.15, 0.3), (0.25, 0.4)),
    "otherstructure": ("wall", (0.2, 0.5), (0.2, 0.5), (2.1, 2.3), 0.0),
    "otherfurniture": ("floor", (0.5, 1.0), (0.4, 0.8), (0.4, 1.2)),
    "otherprop": ("top", (0.12, 0.3), (0.12, 0.3), (0.12, 0.35)),
}
NUMBERS = {name: number for number, name in enumerate(CLASSES, 1)}
ROUND = {"person", "lamp", "pillow", "bag", "toilet"}  # ellipsoids; all others are boxes
DARK = [NUMBERS[name] for name in ("mirror", "window", "television")]  # the sensor sees them badly


@dataclass(frozen=True)
class Room:
    """What the camera saw, 480 x 640: ``image`` uint8 RGB; ``depth`` uint16 millimetres, with holes filled in;
    ``raw`` the same as measured, 0 where nothing was; ``label`` uint8, 1 to 40, 0 where nobody labelled."""

    image: np.ndarray
    depth: np.ndarray
    raw: np.ndarray
    label: np.ndarray


def room(seed: int, index: int) -> Room:
    """The room ``index`` of the series ``seed``. Fifteen rooms one after the other have all 40 classes."""
    rng = generator(seed, index, 2)
    pitch = between(rng, 0.06, 0.14) if index % 3 else between(rng, 0.0, 0.03)  # then the ceiling shows
    turn = _rotation(between(rng, -0.2, 0.2), pitch, between(rng, -0.015, 0.015))
    y, x = np.mgrid[1 : HEIGHT + 1, 1 : WIDTH + 1].astype(np.float32)
    seen = (x - CX) / FX, (y - CY) / FY, np.float32(1)
    rays = [sum(seen[j] * float(turn[i, j]) for j in range(3)) for i in range(3)]  # right, down, forward
    view = _View(seed, index, rng, rays, turn)
    view.walls()
    view.furnish()
    depth = np.clip(view.depth, 0.6, 9.5)
    measured = depth * 1000 + depth * depth * (2.5 * rng.random(depth.shape, np.float32) - 1.25) + 0.5
    depth = np.floor(measured).astype(np.uint16)
    label = np.where(_edges(view.label, 2), 0, view.label).astype(np.uint8)
    return Room(finish(rng, _soft(view.canvas), grain=1), depth, _holes(rng, depth, view.label), label)


class _View:
    """What is seen so far: the distance forward, class and colour of every pixel."""

    def __init__(self, seed, index, rng, rays, turn):
        self.seed, self.index, self.rng, self.rays, self.turn = seed, index, rng, rays, turn
        self.floor = between(rng, 1.2, 1.4)  # below the camera, as y points down
        self.ceiling = self.floor - between(rng, 2.4, 2.8)
        self.left, self.right = -between(rng, 1.4, 2.6), between(rng, 1.4, 2.6)
        self.back = between(rng, 3.0, 5.2)
        self.depth = np.full((HEIGHT, WIDTH), np.inf, np.float32)
        self.label = np.zeros((HEIGHT, WIDTH), np.uint8)
        self.canvas = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        self.standing = []  # (middle, half of its size) of what something can lie on

    def walls(self) -> None:
        """The empty room."""
        names = ("wall", "floor", "ceiling")
        limits = ((self.left, self.right), (self.ceiling, self.floor), (-9.0, self.back))
        with np.errstate(divide="ignore"):
            ends = [np.where(d < 0, low, high) / d for d, (low, high) in zip(self.rays, limits, strict=True)]
        axis = np.argmin(ends, 0)
        self.depth = np.min(ends, 0)
        down = self.rays[1] > 0
        kinds = np.where(axis == 1, np.where(down, 1, 2), 0)
        for kind, name in enumerate(names):
            number = NUMBERS[name]
            for side in (0, 2) if name == "wall" else (1,):
                self._color(
                    number, (kinds == kind) & (axis == side), side, (0.08, 0.3), (0.55, 0.9), vary=0.3
                )

    def furnish(self) -> None:
        """Put things into the room, of each sort the next ones in the order of the classes."""
        for where, count in (("floor", 5), ("wall", 5), ("top", 4)):
            names = [name for name, (place, *_) in CLASSES.items() if place == where]
            for n in range(count):
                name = names[(self.index * count + n) % len(names)]
                for attempt in range(6):
                    middle, half = getattr(self, f"_{where}")(*CLASSES[name][1:])
                    if self._draw(NUMBERS[name], middle, half, name in ROUND, 600 if attempt < 5 else 0):
                        break
                if where == "floor" and half[1] < 0.7:
                    self.standing.append((middle, half))

    def _floor(self, *sizes):
        half = np.array([between(self.rng, *sizes[i]) / 2 for i in (0, 2, 1)])
        x, _, z = self._ahead(between(self.rng, 0.55, 1.0))
        x, z = self._within(x, half[0], self.left, self.right), self._within(z, half[2], 1.5, self.back)
        return np.array([x, self.floor - half[1], z]), half

    def _wall(self, *sizes_and_bottom):
        *sizes, bottom = sizes_and_bottom
        width, thick, height = (between(self.rng, *size) / 2 for size in sizes)
        x, _, z = self._ahead(1.0)
        y = max(self.floor - bottom - height, self.ceiling + height)
        if z >= self.back - 1e-6:
            return np.array([self._within(x, width, self.left, self.right), y, self.back - thick]), np.array(
                [width, height, thick]
            )
        x = self.left + thick if x < 0 else self.right - thick
        return np.array([x, y, self._within(z, width, 1.0, self.back)]), np.array([thick, height, width])

    def _top(self, *sizes):
        half = np.array([between(self.rng, *sizes[i]) / 2 for i in (0, 2, 1)])
        if not self.standing:
            return self._floor(*sizes)
        below, extent = self.standing[int(self.rng.integers(len(self.standing)))]
        x, z = (below[i] + between(self.rng, -1, 1) * max(0, extent[i] - half[i]) for i in (0, 2))
        return np.array([x, below[1] - extent[1] - half[1], z]), half

    def _ahead(self, share: float):
        """A place at the height of the camera, so far of the way to the wall, somewhere in the picture."""
        column = between(self.rng, 70, 570)
        direction = _times(self.turn, np.array([[(column - CX) / FX], [0], [1]]))[:, 0]
        side = (self.left if direction[0] < 0 else self.right) / direction[0]
        return share * min(side, self.back / direction[2]) * direction

    @staticmethod
    def _within(value: float, half: float, low: float, high: float) -> float:
        return min(max(value, low + half), high - half)

    def _draw(self, number: int, middle, half, rounded: bool, least: int) -> bool:
        """A box or ellipsoid, where nothing that is nearer hides it; not at all if less than ``least`` pixels show."""
        corners = middle + half * np.mgrid[-1:2:2, -1:2:2, -1:2:2].reshape(3, -1).T
        seen = _times(corners, self.turn)  # in the camera's own axes: the rotation's inverse is its transpose
        if (seen[:, 2] < 0.2).any():
            part = np.s_[:, :]
        else:
            columns, rows = (f * seen[:, i] / seen[:, 2] + c for i, f, c in ((0, FX, CX), (1, FY, CY)))
            part = tuple(
                slice(int(np.clip(p.min() - 2, 0, end)), int(np.clip(p.max() + 2, 0, end)))
                for p, end in ((rows, HEIGHT), (columns, WIDTH))
            )
        rays = [ray[part] / float(h) for ray, h in zip(self.rays, half, strict=True)]
        start = [-float(m / h) for m, h in zip(middle, half, strict=True)]
        with np.errstate(divide="ignore", invalid="ignore"):
            if rounded:
                a = sum(ray * ray for ray in rays)
                b = sum(ray * s for ray, s in zip(rays, start, strict=True))
                root = b * b - a * (sum(s * s for s in start) - 1)
                distance = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
                axis = np.full(distance.shape, 2)
            else:
                ends = [((-1 - s) / ray, (1 - s) / ray) for ray, s in zip(rays, start, strict=True)]
                near = [np.minimum(*pair) for pair in ends]
                distance, far = np.max(near, 0), np.min([np.maximum(*pair) for pair in ends], 0)
                axis = np.argmax(near, 0)
                distance = np.where(distance < far, distance, np.inf)
        nearer = (distance > 0.3) & (distance < self.depth[part])
        if np.count_nonzero(nearer) < least:
            return False
        self.depth[part][nearer] = distance[nearer]
        for side in range(3):
            mask = np.zeros(self.label.shape, bool)
            mask[part] = nearer & (axis == side)
            if mask.any():
                self._color(number, mask, side, (0.35, 0.8), (0.4, 0.9), middle)
        return True

    def _color(self, number: int, mask, side: int, saturation, value, middle=(0, 0, 0), vary=0.0) -> None:
        """Paint what a mask shows of a class, on planes across the axis ``side``; ``vary`` the hue by so much."""
        x, y, z = (ray[mask] * self.depth[mask] - float(m) for ray, m in zip(self.rays, middle, strict=True))
        u, v = ((z, y), (x, z), (x, y))[side]
        texture = list(TEXTURES)[number * 3 % len(TEXTURES)]
        unit = FX / self.depth[mask]
        rng = generator(self.seed, self.index, 100 + number)  # all sides of a thing alike, and all walls
        hue = number * GOLDEN + between(rng, -1, 1) * vary
        color = paint(rng, texture, u, v, unit, hue, saturation, value, period=0.25)
        color *= (0.8, 1.1, 1.0)[side] * (1.15 - 0.07 * self.depth[mask])[:, None]
        self.canvas[mask], self.label[mask] = color, number


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """From the camera's axes to the room's; of each angle the tangent of its half is given."""

    def turn(axis, half):
        cosine, sine = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
        matrix, (i, j) = np.eye(3), [k for k in range(3) if k != axis]
        matrix[i, i] = matrix[j, j] = cosine
        matrix[i, j], matrix[j, i] = -sine, sine
        return matrix

    return _times(_times(turn(1, yaw), turn(0, -pitch)), turn(2, roll))


def _times(a, b) -> np.ndarray:
    """The product of matrices, added up in the same order everywhere."""
    return (np.asarray(a)[..., None] * b).sum(-2)


def _edges(label: np.ndarray, reach: int) -> np.ndarray:
    """Which pixels lie within so many of one of another class, up, down, left or right."""
    edge = np.zeros(label.shape, bool)
    for step in range(1, reach + 1):
        for one, other in ((np.s_[step:], np.s_[:-step]), (np.s_[:, step:], np.s_[:, :-step])):
            differ = label[one] != label[other]
            edge[one] |= differ
            edge[other] |= differ
    return edge


def _soft(canvas: np.ndarray) -> np.ndarray:
    """Edges as a lens shows them: each pixel mixed with its neighbours."""
    padded = np.pad(canvas, ((1, 1), (1, 1), (0, 0)), "edge")
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (across[:-2] + 2 * across[1:-1] + across[2:]) / 16


def _holes(rng, depth: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Depth as measured: nothing beside what stands before something, on dark things, in spots, along the frame."""
    hole = np.zeros(depth.shape, bool)
    hole[:8] = hole[-10:] = hole[:, :10] = hole[:, -14:] = True
    for step in (2, 4, 6, 8):
        hole[:, :-step] |= depth[:, :-step] > depth[:, step:] + 60.0 * step
    y, x = (axis.astype(np.float32) for axis in np.ogrid[: depth.shape[0], : depth.shape[1]])
    x, y = np.broadcast_arrays(x, y)
    hole |= noise(rng, x, y, 22) > np.where(np.isin(label, DARK), 0.45, 0.93)
    return np.where(hole, 0, depth).astype(np.uint16)
