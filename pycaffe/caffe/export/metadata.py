"""What travels with an exported net besides its graph: classes, colours, and what its input is."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence

from ..errors import CaffeError

PALETTES = ("voc", "none")
ORDERS = ("BGR", "RGB")
_COLORS = 256


def describe(
    classes, palette: str | None, mean: Sequence[float] | None, channel_order: str
) -> dict[str, str]:
    """The metadata of an ONNX file: key → text, JSON but for single words.

    ``classes``: names, or a file of them; ``palette``: one of PALETTES or None; ``mean``: what was subtracted from
    each channel; ``channel_order``: one of ORDERS. Raises CaffeError for anything else.
    """
    if channel_order not in ORDERS:
        raise CaffeError(f"channel order '{channel_order}': it is one of {', '.join(ORDERS)}")
    if palette not in (None, *PALETTES):
        raise CaffeError(f"palette '{palette}': it is one of {', '.join(PALETTES)}")
    found = {"channel_order": channel_order}
    names = read_classes(classes) if isinstance(classes, (str, os.PathLike)) else list(classes or [])
    if names:
        found["classes"] = json.dumps(names, ensure_ascii=False)
    if palette == "voc":
        found["palette"] = json.dumps(voc_palette(len(names) or _COLORS))
    if mean is not None:
        if not all(math.isfinite(value) for value in mean):
            raise CaffeError(f"mean {list(mean)}: every value must be a finite number")
        found["mean"] = json.dumps([float(value) for value in mean])
    return found


def read_classes(path) -> list[str]:
    """The class names in the file ``path``, one a line in the order of their numbers.

    Empty lines at the end do not count. Raises CaffeError for others, and when the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            names = [line.strip() for line in file.read().rstrip().split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise CaffeError(f"{os.fspath(path)}: class names cannot be read: {error}") from error
    if "" in names:
        raise CaffeError(
            f"{os.fspath(path)}: line {names.index('') + 1} is empty; write one class name a line, in the order of "
            "their numbers"
        )
    return names


def voc_palette(count: int) -> list[list[int]]:
    """The first ``count`` colours of PASCAL VOC, as [red, green, blue].

    Bits 0, 3 and 6 of a class number are the highest, next and third bit of its red; 1, 4 and 7 those
    of green; 2, 5 and 8 those of blue.
    """
    return [
        [sum((number >> (3 * i + channel) & 1) << (7 - i) for i in range(3)) for channel in range(3)]
        for number in range(count)
    ]
