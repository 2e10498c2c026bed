"""TensorBoard's files: numbers and pictures of a training run, where the package tensorboard is installed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

import images
import score
import vis
from files import DataError


class Board:
    """TensorBoard's files, by whatever writes them: an object like ``torch.utils.tensorboard.SummaryWriter``."""

    PICTURES = 4

    def __init__(self, writer):
        self.writer = writer

    @classmethod
    def open(cls, folder: Path, purge_step: int) -> Board | None:
        """A board in ``folder``, on which nothing stays from ``purge_step`` on; None where tensorboard is missing."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                from torch.utils.tensorboard import SummaryWriter
            except Exception:  # not installed, or broken: whatever it raises, training goes on without it
                return None
        return cls(SummaryWriter(str(folder), purge_step=purge_step))

    def numbers(self, group: str, row: Mapping, iteration: int) -> None:
        """The numbers of a row, each under ``group``."""
        for name, value in row.items():
            if name != "iteration" and isinstance(value, (int, float)) and math.isfinite(value):
                self.writer.add_scalar(f"{group}/{name}", value, iteration)
        self.writer.flush()

    def picture(self, name: str, parts: Sequence[np.ndarray], iteration: int) -> None:
        """Pictures of one height, uint8 H x W x 3, side by side."""
        gap = np.full((len(parts[0]), 8, 3), 255, np.uint8)
        row = [each for part in parts for each in (part, gap)][:-1]
        self.writer.add_image(name, np.concatenate(row, axis=1), iteration, dataformats="HWC")

    def viewer(self, iteration: int, photo: Callable[[str], np.ndarray | None]):
        """What :func:`score.score_heads` takes as ``seen``: shows the first few items of every head.

        ``photo(name)`` gives an item's photograph, H x W x 3, or None.
        """
        left: dict[str, int] = {}

        def seen(name: str, head: score.Head, truth: np.ndarray, prediction: np.ndarray, classes: int):
            left[head.layer] = left.get(head.layer, self.PICTURES) - 1
            if left[head.layer] < 0:
                return
            palette, shot = vis.make_palette(classes), photo(name)
            parts = [vis.color_seg(np.where(truth < classes, truth, vis.VOID), palette)]
            parts.append(vis.color_seg(prediction, palette))
            if shot is not None and shot.shape == parts[0].shape:
                parts.insert(0, shot)
            self.picture(f"{head.layer}/{name}", parts, iteration)

        return seen


def photograph(path: Path) -> np.ndarray | None:
    """The photograph in a file, H x W x 3 uint8 RGB; None for what is no picture file that can be read."""
    try:
        return images.load_image(path) if path.suffix.lower() in images.SUFFIXES else None
    except DataError:
        return None
