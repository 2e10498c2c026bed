"""How each data set stores its labels, and the classes that they become: H x W, from 0, 255 for void.

A PNG holds classes as the nets see them; ``prepare`` makes it once of a MATLAB file, which holds
the numbers of those who published it. Values are read, not judged: whether they are classes of a
net is for :func:`images.check_label`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from images import IGNORE, load_label, load_mat

# The classes 1 to 59 of PASCAL-Context's task among the 459 of its label files; all others are background.
CONTEXT_IDS = (
    *(2, 23, 25, 31, 34, 45, 59, 65, 72, 98),  # VOC's classes, in its order
    *(397, 113, 207, 258, 284, 308, 347, 368, 416, 427),
    *(9, 18, 22, 33, 44, 46, 68, 80, 85, 104, 115, 144, 158, 159, 162, 187, 189, 220, 232, 259),
    *(260, 105, 296, 355, 295, 324, 326, 349, 354, 360, 366, 19, 415, 420, 424, 440, 445, 454, 458),
)
_CONTEXT_CLASSES = np.zeros(460, np.uint8)
_CONTEXT_CLASSES[list(CONTEXT_IDS)] = np.arange(1, 60)


def made_or_mat(stem: Path) -> Path:
    """``stem``.png, or ``stem``.mat where there is no PNG."""
    png = stem.with_name(f"{stem.name}.png")
    return png if png.exists() else stem.with_name(f"{stem.name}.mat")


def read_voc(path: Path) -> np.ndarray:
    """VOC's masks: PNG of 0 to 20, 255 for void."""
    return load_label(path)


def read_sbd(path: Path) -> np.ndarray:
    """SBD: GTcls.Segmentation of 0 to 20, without void."""
    return load_label(path) if path.suffix == ".png" else load_mat(path, "GTcls.Segmentation", range(256))


def read_nyud(path: Path) -> np.ndarray:
    """NYUDv2: ``segmentation`` of 1 to 40, 0 for void."""
    return (
        load_label(path) if path.suffix == ".png" else _from_zero(load_mat(path, "segmentation", range(256)))
    )


def read_siftflow(path: Path) -> np.ndarray:
    """SIFT Flow, either labeling: ``S`` from 1, with 0 and -1 for void."""
    return load_label(path) if path.suffix == ".png" else _from_zero(load_mat(path, "S", range(-1, 256)))


def read_context(path: Path) -> np.ndarray:
    """PASCAL-Context: ``LabelMap`` of 459 classes, of which 59 count and the others are background, 0."""
    return (
        load_label(path)
        if path.suffix == ".png"
        else _CONTEXT_CLASSES[load_mat(path, "LabelMap", range(460))]
    )


def _from_zero(label: np.ndarray) -> np.ndarray:
    """Labels from 1, with 0 and -1 for void, as classes from 0, with 255 for void."""
    return np.where(label > 0, label - 1, IGNORE)
