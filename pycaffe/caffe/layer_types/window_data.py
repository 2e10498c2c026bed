"""WindowData: labelled windows of images, foreground and background in a fixed proportion (R-CNN)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..data_transformer import DataTransformer
from ..draws import Draws, draw_seed
from ..errors import CaffeError
from ..image_file import decode_image, read_image, resize
from ..log import logger
from ..proto import caffe_pb2
from ..registry import register
from .batches import BatchLayer, Source, about, in_folder, read_text, warn_ignored


@dataclass
class Window:
    """A box of the image ``path``; ``corners`` are x1, y1, x2, y2, pixels that belong to it.

    ``label`` is its class, ``overlap`` how much of it and of an object of this class they share, 0 to 1.
    """

    path: str
    label: int
    overlap: float
    corners: tuple[int, int, int, int]


class _Words:
    """The words of a window file, read one by one."""

    def __init__(self, path: str):
        self._path = path
        lines = read_text(path, "window file").split("\n")
        self._words = [(number, word) for number, line in enumerate(lines, 1) for word in line.split()]
        self._at = 0

    def __bool__(self):
        return self._at < len(self._words)

    def next(self, kind: type, what: str):
        """The next word as a ``kind``; CaffeError, naming file and line, when it is none."""
        if not self:
            raise CaffeError(f"{self._path}: it ends where {what} should stand")
        word = self._words[self._at][1]
        self._at += 1
        try:
            value = kind(word)
        except ValueError:
            value = None
        if value is None or (kind is int and abs(value) >= 2**31):
            raise self.error(f"{word!r} stands where {what} should")
        return value

    def error(self, message: str) -> CaffeError:
        """The exception for what is wrong at the last word."""
        number = self._words[max(self._at, 1) - 1][0] if self._words else 1
        return CaffeError(
            f"{self._path}, line {number}: {message}. A window file repeats: # index, image path, channels, height, "
            "width, number of windows, and for each window a line: class overlap x1 y1 x2 y2"
        )


def read_windows(path: str, root: str) -> list[Window]:
    """The windows that the file ``path`` describes, image paths put after ``root``.

    Raises CaffeError, naming file and line, when it cannot be read, is empty or malformed.
    """
    words, windows = _Words(path), []
    if not words:
        raise CaffeError(f"Window file is empty: {path}")
    while words:
        mark = words.next(str, "#")
        if mark != "#":
            raise words.error(f"{mark!r} stands where # should")
        words.next(int, "an image index")
        image = in_folder(root, words.next(str, "an image path"))
        channels, _, _ = (words.next(int, name) for name in ("channels", "height", "width"))
        if channels != 3:
            raise words.error(
                f"{image} is said to have {channels} channels; windows are read in color, so say 3"
            )
        for _ in range(words.next(int, "a number of windows")):
            label, overlap = words.next(int, "a class"), words.next(float, "an overlap")
            corners = tuple(words.next(int, name) for name in ("x1", "y1", "x2", "y2"))
            windows.append(Window(image, label, overlap, corners))
    return windows


class _Windows(Source):
    """Random windows: batch n is a function of n and the seed."""

    def __init__(self, layer_param: caffe_pb2.LayerParameter, transformer: DataTransformer):
        param, transform = layer_param.window_data_param, layer_param.transform_param
        super().__init__(transformer, param.batch_size)
        # WindowData always crops, so it always needs random numbers; they are its own, not the transformer's
        self._draws = Draws(draw_seed())
        if not transform.crop_size:
            raise CaffeError("crop_size must be above 0: set it in transform_param; windows are scaled to it")
        if param.crop_mode not in ("warp", "square"):
            raise CaffeError(f"Unknown crop_mode: {param.crop_mode}; there are warp and square")
        if 2 * param.context_pad >= transform.crop_size:
            raise CaffeError(
                f"context_pad {param.context_pad} on both sides leaves nothing of crop_size {transform.crop_size}"
            )
        if not 0 <= param.fg_fraction <= 1:
            raise CaffeError(f"fg_fraction must be 0 to 1, got {param.fg_fraction:g}")
        self._param, self._crop, self._mirror = param, transform.crop_size, transform.mirror
        self._scale = np.float32(param.scale)
        self._foreground = int(np.float32(param.batch_size) * np.float32(param.fg_fraction))
        self._sets = self._sorted(read_windows(param.source, param.root_folder))
        self._mean = _window_mean(transformer, self._crop)
        self._files: dict[str, bytes] = {}

    def _sorted(self, windows: list[Window]) -> tuple[list[Window], list[Window]]:
        """(background, foreground); windows between the two thresholds are left out."""
        param = self._param
        background, foreground = [], []
        for window in windows:
            if np.float32(window.overlap) >= param.fg_threshold:
                if window.label <= 0:
                    raise CaffeError(
                        f"{param.source}: a foreground window of {window.path} (overlap {window.overlap:g}) has class "
                        f"{window.label}; it must be above 0, which is the background"
                    )
                foreground.append(window)
            elif np.float32(window.overlap) < param.bg_threshold:
                background.append(Window(window.path, 0, 0.0, window.corners))
        wanted = self.batch_size - self._foreground, self._foreground
        for found, count, name in zip((background, foreground), wanted, ("bg", "fg"), strict=True):
            logger.info("%s: %d windows", name, len(found))
            if count and not found:
                raise CaffeError(
                    f"{param.source}: {count} of each batch's {self.batch_size} windows must be {name} windows, and "
                    f"there is none by {name}_threshold {getattr(param, f'{name}_threshold'):g} "
                    f"(Check failed: {name}_windows_.size() > 0)"
                )
        return background, foreground

    def top_shape(self):
        return (self.batch_size, 3, self._crop, self._crop)

    def load(self, number):
        self._draws.seek(number * self.batch_size * (2 if self._mirror else 1))
        data = np.zeros(self.top_shape(), np.float32)
        labels = np.empty(self.batch_size, np.float32)
        for i in range(self.batch_size):
            windows = self._sets[i >= self.batch_size - self._foreground]
            window = windows[self._draws.below(len(windows))]
            mirror = bool(self._mirror and self._draws.below(2))
            with about(f"{self._param.source}: window {window.corners} of {window.path}"):
                self._fill(data[i], window, mirror)
            labels[i] = window.label
        return data, labels

    def _fill(self, target: np.ndarray, window: Window, mirror: bool) -> None:
        """Write ``window``, scaled, into ``target``, which holds zeros."""
        image = self._image(window.path)
        (x1, y1, x2, y2), (height, width), (left, right, top) = self._place(window, image.shape[:2])
        left = right if mirror else left  # what was added is mirrored too
        height, width = min(height, self._crop - top), min(width, self._crop - left)  # rounding may exceed it
        inside = 0 <= x1 <= x2 < image.shape[1] and 0 <= y1 <= y2 < image.shape[0]
        if not inside or height < 1 or width < 1:
            raise CaffeError(
                f"it does not lie in the image, {image.shape[0]} high and {image.shape[1]} wide (pixels count from 0)"
            )
        pixels = resize(image[y1 : y2 + 1, x1 : x2 + 1], height, width)
        pixels = pixels[:, ::-1] if mirror else pixels
        area = (slice(None), slice(top, top + height), slice(left, left + width))
        values = pixels.transpose(2, 0, 1).astype(np.float32)
        if self._mean is not None:
            values -= self._mean[area]
        target[area] = values * self._scale

    def _place(self, window: Window, size: tuple[int, int]):
        """The part of the image to take, the size to give it, and its distance from left, right and top.

        With context_pad p the box grows by crop_size / (crop_size - 2 p) around its center, so that
        p pixels of the result lie on each side of it; what then lies outside the image stays zero.
        """
        crop, pad = self._crop, self._param.context_pad
        x1, y1, x2, y2 = window.corners
        if not pad and self._param.crop_mode != "square":
            return window.corners, (crop, crop), (0, 0, 0)
        one = np.float32  # Caffe computes all this in single precision
        half = [one(y2 - y1 + 1) / one(2), one(x2 - x1 + 1) / one(2)]
        center = [one(y1) + half[0], one(x1) + half[1]]
        if self._param.crop_mode == "square":
            half = [max(half)] * 2
        grow = one(crop) / one(crop - 2 * pad)
        spans, lengths, before, after = [], [], [], []
        for axis in (0, 1):
            start = _round(center[axis] - half[axis] * grow)
            end = _round(center[axis] + half[axis] * grow)
            outside = max(0, -start), max(0, end - size[axis] + 1)
            scale = one(crop) / one(end - start + 1)
            start, end = start + outside[0], end - outside[1]
            spans.append((start, end))
            lengths.append(_round(one(end - start + 1) * scale))
            before.append(_round(one(outside[0]) * scale))
            after.append(_round(one(outside[1]) * scale))
        return (
            (spans[1][0], spans[0][0], spans[1][1], spans[0][1]),
            lengths,
            (before[1], after[1], before[0]),
        )

    def _image(self, path: str) -> np.ndarray:
        if not self._param.cache_images:
            return read_image(path)
        if path not in self._files:
            try:
                with open(path, "rb") as file:
                    self._files[path] = file.read()
            except (OSError, ValueError) as error:
                raise CaffeError(f"Could not open or find file {path}: {error}") from error
        return decode_image(self._files[path], color=True)

    def seeds(self):
        return {"windows": self._draws.seed}

    def reseed(self, seeds):
        self._draws = Draws(seeds["windows"])


def _window_mean(transformer: DataTransformer, crop: int) -> np.ndarray | None:
    """What to subtract from a window, 3 x ``crop`` x ``crop``: of a mean file the center."""
    mean = transformer.mean
    if mean is None:
        return transformer.mean_for(3, crop, crop)
    offset = (mean.shape[2] - crop) // 2  # Caffe uses the width's for both axes
    if mean.shape[0] != 3 or offset < 0 or offset + crop > mean.shape[1]:
        raise CaffeError(
            f"mean_file {transformer.param.mean_file} is of shape {mean.shape}; it must have 3 channels and, from "
            f"row and column (width - crop_size) / 2 = {offset} on, at least crop_size = {crop} rows and columns"
        )
    return mean[:, offset : offset + crop, offset : offset + crop]


def _round(value: np.float32) -> int:
    """To the nearest integer, halves away from zero, as C's round does."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))


@register("WindowData")
class WindowData(BatchLayer):
    """``batch_size`` windows of images, each warped to ``crop_size`` x ``crop_size``, and their classes.

    ``source`` lists, for each image, windows with a class and an overlap with an object. Of each
    batch the last ``fg_fraction`` (rounded down) are drawn from the windows with an overlap of at
    least ``fg_threshold``, the others, of class 0, from those below ``bg_threshold``.
    ``context_pad`` adds so many pixels of surroundings on each side of the result, ``crop_mode``
    "square" makes the box square first; ``cache_images`` keeps the files in memory. crop_size,
    mirror, mean_file and mean_value are those of transform_param (a mean file is taken from its
    center), ``scale`` is window_data_param's own, as in Caffe.
    """

    exact_tops = 2

    def open(self, transformer):
        param = self.layer_param.window_data_param
        warn_ignored(self, param, ("mean_file", "crop_size", "mirror"))
        if self.layer_param.transform_param.scale != 1:
            logger.warning(
                "layer '%s' (WindowData): transform_param's scale is ignored here, as in Caffe; "
                "set window_data_param's",
                self.name,
            )
        return _Windows(self.layer_param, transformer)
