"""Label images made once of MATLAB files, and held against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

import images
import vis
from datakit import checks
from datakit.checks import Table
from datakit.locks import alone
from files import DataError

PALETTE = vis.make_palette(256)
SAMPLE = 200  # label images that are held against their MATLAB files

Reader = Callable[[Path], np.ndarray]


def to_png(folder: Path, read: Reader, classes: int, get: str) -> None:
    """Make a palette PNG beside each MATLAB file of ``folder``, of the classes that ``read`` finds in it.

    One that is there is kept, so an interrupted run goes on where it was. Raises DataError for files without
    labels of ``classes`` classes, after all others are done; ``get`` is the command that gets them.
    """
    mats = sorted(each for each in folder.glob("*.mat") if not each.name.startswith("."))
    if not mats:
        raise DataError(f"{folder} holds no .mat files. Get them with `{get}`")

    def make(mat: Path) -> None:
        label = read(mat)
        images.check_label(label, classes, mat)
        vis.save_indexed(mat.with_suffix(".png"), label, PALETTE)

    with _alone_in(folder):
        rest = [mat for mat in mats if not mat.with_suffix(".png").exists()]
        made, wrong = checks.over(rest, make, f"{folder.name}: .mat to .png")
    print(f"{folder}: {len(made)} label images made, {len(mats) - len(rest)} there already", flush=True)
    if wrong:
        more = f"\nand {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise DataError(
            "\n".join(wrong[:5]) + f"{more}\n{len(wrong)} of {len(mats)} labels could not be made"
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let other runs wait, and remove what a killed one left half written."""
    with ExitStack() as stack:
        try:
            held = stack.enter_context(alone(folder / ".making.lock", f"making label images in {folder}"))
        except OSError as error:
            raise DataError(f"cannot write to {folder}: {error.strerror or error}") from None
        for left in folder.glob(".*.png") if held else ():
            left.unlink(missing_ok=True)
        yield


def check_same(table: Table, what: str, pngs: Sequence[Path], read: Reader, fix: str) -> None:
    """Enter that label images hold what their MATLAB files do, as far as these are there: some of them, evenly spread.

    Which label images are missing or unreadable is for other lines to tell.
    """
    both = [png for png in pngs if png.is_file() and png.with_suffix(".mat").is_file()]
    some = [both[i] for i in np.unique(np.linspace(0, len(both) - 1, min(len(both), SAMPLE)).astype(int))]

    def compare(png: Path) -> None:
        truth = read(png.with_suffix(".mat"))
        try:
            label = images.load_label(png)
        except DataError:
            return
        if label.shape != truth.shape or (label != truth).any():
            raise DataError(f"{png} differs from its .mat")

    _, wrong = checks.over(some, compare, f"comparing {what}s with their .mat")
    if not some:
        table.fact(f"{what}s equal their .mat", "not compared: none has both files")
        return
    table.none(f"{what}s equal their .mat", wrong, len(some), f"compared, of {len(pngs)}", fix)
