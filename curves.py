"""Draw how training runs went, over each other: ``python vis.py curves RUN...``.

On the left the loss per pixel, on the right mean IU (line) and pixel accuracy (dashes) on the images that were scored,
against the iteration or, with ``--by time``, the time spent training. A RUN is a model directory, its folder of
snapshots, or one of the CSV files in it.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import watching
from files import DataError, exit_status, replacing

# Okabe and Ito's colours, which the colour-blind tell apart; the lightest, yellow, is left out
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
INK, FAINT = "#333333", "#9a9a9a"
UNITS = ((2 * 86400, 3600, "hours"), (2 * 3600, 60, "minutes"), (0, 1, "seconds"))


@dataclass
class Run:
    """What a run left: rows of both tables, and the loss per pixel of a net that knows nothing (0: not known)."""

    path: Path
    train: list[dict]
    scores: list[dict]
    chance: float = 0.0
    classes: tuple[int, ...] = ()

    def names(self) -> tuple[str, ...]:
        """The folders that it is called by, the nearest first."""
        folder = self.path.resolve()
        if folder.is_file():
            folder = folder.parent if folder.name in ("train.csv", "scores.csv") else folder.with_suffix("")
        parts = folder.parts[::-1]
        return parts[1:] if parts[0] == "snapshot" else parts


def read(path: Path) -> Run:
    """The run in ``path``. Raises DataError when there is none, or its files are damaged."""
    if path.is_file():
        text = path.read_bytes()[:200].decode(errors="replace")
        if text.startswith(",".join(watching.SCORES)):
            return _known(Run(path, [], watching.read_table(path, watching.SCORES)), path.parent)
        return _known(Run(path, watching.read_table(path, watching.TRAIN), []), path.parent)
    folders = [path, path / "snapshot"]
    for folder in folders:
        if (folder / "train.csv").is_file():
            return _known(Run(path, watching.read_train(folder), watching.read_scores(folder)), folder)
    found = "there is no train.csv in it or in its folder snapshot" if path.is_dir() else "it does not exist"
    raise DataError(
        f"{path} is no training run: {found}. A RUN is a model directory after its solve.py has trained, its folder "
        "of snapshots, or a CSV file in it"
    )


def _known(run: Run, folder: Path) -> Run:
    if (folder / "scores.json").is_file():
        heads = watching.read_record(folder)["heads"].values()
        run.classes = tuple(len(head["classes"]) for head in heads)
        run.chance = sum(map(math.log, run.classes))
    return run


def labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its directory's, with as many directories above as it takes to tell all apart."""
    names = [run.names() for run in runs]
    depth = next((n for n in range(1, 20) if len({name[:n] for name in names}) == len(names)), 1)
    return ["/".join(name[:depth][::-1]) for name in names]


def draw(runs: Sequence[Run], by: str = "iteration"):
    """The figure of ``runs``, by ``"iteration"`` or ``"time"``; a matplotlib Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    longest = max((row["seconds"] for run in runs for row in (*run.train, *run.scores)), default=0.0)
    _, second, unit = next(each for each in UNITS if longest >= each[0])
    handles = []
    for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True)):
        style = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[(i + i // len(COLORS)) % len(MARKERS)]}

        def across(rows):
            return [row["iteration"] if by == "iteration" else row["seconds"] / second for row in rows]

        _loss(left, across(run.train), [row["loss_per_pixel"] for row in run.train], style)
        for j, head in enumerate(dict.fromkeys(row["head"] for row in run.scores)):
            rows = [row for row in run.scores if row["head"] == head]
            hollow = {"markerfacecolor": "white"} if j else {}
            for metric, dashes in (("mean_iu", "-"), ("pixel_accuracy", (0, (4, 2)))):
                values = [row[metric] for row in rows]
                right.plot(
                    across(rows), values, linestyle=dashes, markersize=4, linewidth=1.5, **style, **hollow
                )
        handles.append((label, style))
    _chance(left, runs)
    for axes, title in ((left, "loss per pixel"), (right, "scores on the validation images")):
        axes.set_title(title, loc="left", fontsize=11, color=INK)
        axes.set_xlabel("iteration" if by == "iteration" else f"{unit} of training")
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(left=0)
        axes.tick_params(colors=INK)
    right.set_ylim(0, 1)
    _legends(figure, right, handles, runs)
    return figure


def _loss(axes, x, y, style):
    """The loss as it was written, and over a noisy one its moving mean."""
    width = len(y) // 40
    axes.plot(x, y, color=style["color"], linewidth=0.8 if width else 1.6, alpha=0.35 if width else 1)
    if width:
        kernel = np.ones(2 * width + 1)
        mean = np.convolve(y, kernel, "same") / np.convolve(np.ones(len(y)), kernel, "same")
        axes.plot(x, mean, color=style["color"], linewidth=1.8)


def _chance(axes, runs: Sequence[Run]):
    """A line where the loss of a net that knows nothing is; the axis from 0, or logarithmic for a wide range."""
    values = [row["loss_per_pixel"] for run in runs for row in run.train]
    values = [value for value in values if math.isfinite(value) and value > 0]
    for chance, classes in sorted({(run.chance, run.classes) for run in runs if run.chance and run.train}):
        axes.axhline(chance, color=FAINT, linewidth=1.2, linestyle=(0, (1, 1.5)), zorder=1)
        words = " + ".join(f"ln {count}" for count in classes)
        place = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3), "textcoords": "offset points"}
        look = {"ha": "right", "color": "#6a6a6a", "fontsize": 9}
        axes.annotate(f"{words} = {chance:.2f}: knows nothing", (1, chance), **place, **look)
        values.append(1.06 * chance)
    if values and max(values) > 30 * min(values):
        axes.set_yscale("log")
    elif values:
        axes.set_ylim(0, 1.05 * max(values))


def _legends(figure, axes, handles, runs):
    from matplotlib.lines import Line2D

    kinds = [
        Line2D([], [], color=INK, label="mean IU"),
        Line2D([], [], color=INK, linestyle=(0, (4, 2)), label="pixel accuracy"),
    ]
    heads = list(dict.fromkeys(row["head"] for run in runs for row in run.scores))
    if len(heads) > 1:
        for j, head in enumerate(heads):
            fill = {"markerfacecolor": "white"} if j else {}
            kinds.append(
                Line2D([], [], color=INK, marker="o", markersize=4, linestyle="", label=head, **fill)
            )
    axes.legend(handles=kinds, loc="best", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9)
    lines = [Line2D([], [], linewidth=2, markersize=5, label=label, **style) for label, style in handles]
    columns = min(len(lines), 6)
    figure.legend(handles=lines, loc="outside upper center", ncols=columns, frameon=False, fontsize=10)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of ``python vis.py``; returns the exit status."""
    parser = argparse.ArgumentParser(prog="vis.py", description="Pictures of training runs.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    curves = commands.add_parser(
        "curves",
        help="draw losses and scores of training runs over each other",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    curves.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="a model directory, a folder of snapshots, or a CSV file",
    )
    curves.add_argument(
        "--by", choices=("iteration", "time"), default="iteration", help="the horizontal axis"
    )
    curves.add_argument(
        "--out",
        type=Path,
        default=Path("curves.png"),
        metavar="FILE",
        help=".png or .pdf (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    if args.out.suffix.lower() not in (".png", ".pdf", ".svg"):
        curves.error(f"--out must end in .png, .pdf or .svg, got {args.out}")
    return exit_status(lambda: write(args.runs, args.by, args.out))


def write(paths: Sequence[Path], by: str, out: Path) -> None:
    """Draw the runs in ``paths`` into the file ``out``; says so."""
    runs = [read(path) for path in paths]
    empty = [str(run.path) for run in runs if not (run.train or run.scores)]
    if len(empty) == len(runs):
        raise DataError(
            f"{', '.join(empty)}: no row yet; a run writes one every 20 iterations (display in its solver)"
        )
    for path in empty:
        print(f"{path} has no row yet", file=sys.stderr)
    figure = draw(runs, by)
    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=150)
    print(f"{os.fspath(out)}: {', '.join(labels(runs))}")
