"""Photographs and their label images, held against each other: one pass over the files, then a line for each fact."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

import images
import vis
from datakit import checks
from datakit.checks import Table
from files import DataError

PALETTE = vis.make_palette(256)
NEAR = 4  # grey levels: means of blue and red are further apart, so that swapped channels are seen


@dataclass(frozen=True)
class Labeling:
    """A label image for each photograph.

    ``what`` its lines are named after; ``path`` gives the file of an id; ``names`` are the classes' names; ``void``
    says whether 255 must occur (True), must not (False) or may (None); ``fix`` is what helps a file that is missing
    or wrong; ``absent`` names the classes that do not occur at all.
    """

    what: str
    path: Callable[[str], Path]
    names: Sequence[str]
    void: bool | None
    fix: str
    absent: Collection[str] = ()


@dataclass
class Seen:
    """What was found at an id: the sums of its photograph's R, G, B, and how many pixels have which label."""

    name: str
    size: tuple[int, int] | None = None  # height and width
    sums: np.ndarray | None = None
    labels: dict[str, np.ndarray] = field(default_factory=dict)  # Labeling.what → pixels of 0..255
    wrong: list[tuple[str, str]] = field(default_factory=list)  # (line, what is wrong)


def look(name: str, photograph: Path, labelings: Sequence[Labeling], size: tuple[int, int] | None) -> Seen:
    """Read the photograph of ``name`` and its labels. ``size``: the height and width that all must have."""
    seen = Seen(name)
    if not photograph.is_file():
        seen.wrong.append(("photographs there", f"{photograph} is not"))
    else:
        try:
            image = images.load_image(photograph)
            seen.size = image.shape[:2]
            # of the ways to add up bytes, the quickest by far
            seen.sums = np.reshape(Image.fromarray(image).histogram(), (3, 256)) @ np.arange(256)
        except DataError as error:
            seen.wrong.append(("photographs decode", str(error)))
    if size and seen.size and seen.size != size:
        seen.wrong.append(("sizes", f"{name} has {_by(seen.size)} pixels"))
    for labeling in labelings:
        for line, text in _label(seen, labeling):
            seen.wrong.append((line, text))
    return seen


def _label(seen: Seen, labeling: Labeling):
    """(line, what is wrong) of one label image; its histogram goes into ``seen``."""
    path, what = labeling.path(seen.name), labeling.what
    if not path.is_file():
        yield f"{what}s there", f"{path} is not"
        return
    if fault := palette_fault(path):
        yield f"{what}s are palette PNGs", f"{path} {fault}"
    try:
        label = images.load_label(path)
    except DataError as error:
        if not fault:  # a mask of RGB cannot be read because it is RGB
            yield f"{what}s decode", str(error)
        return
    if seen.size and label.shape != seen.size:
        yield "sizes", f"{path} has {_by(label.shape)} pixels, its photograph {_by(seen.size)}"
    counts = seen.labels[what] = np.bincount(label.ravel(), minlength=256)
    values = np.flatnonzero(counts[:255])
    if len(beyond := values[values >= len(labeling.names)]):
        yield f"{what} values", f"{path} has {', '.join(map(str, beyond[:5]))}"
    if counts[images.IGNORE] and labeling.void is False:
        yield f"{what} values", f"{path} has 255"


def palette_fault(path: Path) -> str:
    """What a label image has instead of VOC's palette, in words; "" if it has that, or cannot be read at all."""
    try:
        with Image.open(path) as image:
            if image.format != "PNG" or image.mode != "P":
                return f"is {image.format} of mode {image.mode}"
            colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            image.load()
            used = sorted({value for _, value in image.getcolors(256)})
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return ""
    for index in used:
        if index >= len(colors) or (colors[index] != PALETTE[index]).any():
            color = tuple(map(int, colors[index])) if index < len(colors) else "no colour"
            return f"has {color} for {index}, not VOC's {tuple(map(int, PALETTE[index]))}"
    return ""


def check(
    table: Table,
    ids: Sequence[str],
    photograph: Callable[[str], Path],
    labelings: Sequence[Labeling] = (),
    *,
    fix: str,
    size: tuple[int, int] | None = None,
    mean_of: Collection[str] | None = None,
    mean: Sequence[float] | None = None,
) -> list[Seen]:
    """Enter what is true of the photographs and labels of ``ids``; returns what was found, an entry for each id.

    ``fix``: what helps a photograph that is missing or damaged. ``mean_of``: over which the mean goes (all);
    ``mean``: what it must be about, B, G, R, if that is known.
    """
    ids = list(dict.fromkeys(ids))
    seen, _ = checks.over(
        ids, lambda name: look(name, photograph(name), labelings, size), table.title.partition(":")[0]
    )

    def line(name: str, of: int, what: str, fix: str) -> None:
        table.none(name, [text for each in seen for line, text in each.wrong if line == name], of, what, fix)

    line("photographs there", len(ids), "photographs", fix)
    line("photographs decode", sum(each.sums is not None for each in seen), "photographs", fix)
    for labeling in labelings:
        what, read = labeling.what, [each for each in seen if labeling.what in each.labels]
        line(f"{what}s there", len(ids), f"{what}s", labeling.fix)
        line(f"{what}s decode", len(read), f"{what}s", labeling.fix)
        line(f"{what}s are palette PNGs", len(read), f"{what}s, in VOC's colours", labeling.fix)
    line(
        "sizes",
        len(seen),
        f"photographs of {_by(size)} pixels" if size else "of photograph and label agree",
        fix,
    )
    for labeling in labelings:
        _classes(
            table,
            labeling,
            [each.labels[labeling.what] for each in seen if labeling.what in each.labels],
            line,
        )
    _mean(table, [each for each in seen if mean_of is None or each.name in mean_of], mean)
    return seen


def _classes(table: Table, labeling: Labeling, counts: Sequence[np.ndarray], line: Callable) -> None:
    """The lines on the values of a labeling: ``counts`` are its histograms."""
    what, names = labeling.what, labeling.names
    valid = f"0 to {len(names) - 1}" + ("" if labeling.void is False else " and 255")
    line(f"{what} values", len(counts), f"{what}s of {valid}", labeling.fix)
    total = np.sum(counts, axis=0, dtype=np.int64) if counts else np.zeros(256, np.int64)
    void = sum(bool(each[images.IGNORE]) for each in counts)
    if labeling.void is not False:
        found = f"in {void} of {len(counts)} {what}s, {total[images.IGNORE] / max(total.sum(), 1):.1%} of the pixels"
        must = "in some" if labeling.void else None
        table.fact(f"{what} void", found, must, bool(void) or not labeling.void, labeling.fix)
    missing = [names[k] for k in np.flatnonzero(total[: len(names)] == 0)]
    found = f"{len(names) - len(missing)}" + (f", not {', '.join(missing[:5])}" if missing else "")
    must = f"{len(names) - len(labeling.absent)}"
    table.fact(f"{what} classes that occur", found, must, set(missing) == set(labeling.absent), labeling.fix)


def _mean(table: Table, seen: Sequence[Seen], published: Sequence[float] | None) -> None:
    read = [each for each in seen if each.sums is not None]
    if read:
        pixels = sum(each.size[0] * each.size[1] for each in read)
        mean = (sum(each.sums.astype(np.float64) for each in read) / pixels)[::-1]
        expected = None if published is None else f"within {NEAR} of {checks.numbers(published)}"
        near = published is None or bool(np.all(np.abs(mean - published) <= NEAR))
        table.fact(
            "mean B, G, R",
            checks.numbers(mean),
            expected,
            near,
            "if all else holds, these are other photographs",
        )


def _by(size: Sequence[int]) -> str:
    return f"{size[1]} x {size[0]}"
