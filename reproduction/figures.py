"""The paper's figures 4, 5 and 6 from our own runs, each written as PNG and as PDF.

The same content gives the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import vis
from files import replacing

# Okabe and Ito's colours, which people of any colour vision tell apart; black first, for whole images
COLORS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7")
STYLES = ("-", "--", "-.", ":", "-")
Curve = tuple[Sequence[float], Sequence[float], Sequence[float]]  # iterations, seconds, losses


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure, stem: str | os.PathLike) -> list[Path]:
    """Write a figure as ``stem``.png and ``stem``.pdf, without a date; returns the paths."""
    paths = [Path(f"{stem}{suffix}") for suffix in (".png", ".pdf")]
    for path, metadata in zip(paths, ({"Software": None}, {"CreationDate": None}), strict=True):
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=150, metadata=metadata)
    _pyplot().close(figure)
    return paths


def comparison(
    stem: str | os.PathLike,
    rows: Sequence[tuple[np.ndarray, np.ndarray, Sequence[np.ndarray]]],
    columns: Sequence[str],
    names: Sequence[str],
) -> list[Path]:
    """Figures 4 and 6: photographs, the segmentations of several nets, and truths, a row for each photograph.

    ``rows`` holds (photograph H x W x 3 uint8 RGB, truth H x W, a segmentation H x W of each net); ``columns`` the
    names of the nets; ``names`` those of the classes, for the legend of those that are to be seen. Returns the
    paths of the files, ``stem``.png and ``stem``.pdf.
    """
    pyplot = _pyplot()
    from matplotlib.patches import Patch

    palette = vis.make_palette(max(len(names), 1))
    titles = ["image", *columns, "ground truth"]
    seen = sorted({int(i) for _, truth, found in rows for seg in (truth, *found) for i in np.unique(seg)})
    cell, gap = 1.75, 0.05  # inches: the width of a picture, and between two
    width = cell * len(titles) + gap * (len(titles) + 1)
    longest = max(len(vis.class_name(names, i)) for i in seen)
    per_line = max(1, min(len(seen), int(width / (0.6 + 0.09 * longest))))
    heights = [cell * truth.shape[0] / truth.shape[1] for _, truth, _ in rows]
    top, bottom = 0.34, 0.22 * -(-len(seen) // per_line) + 0.2
    height = sum(heights) + gap * len(rows) + top + bottom
    figure = pyplot.figure(figsize=(width, height))
    y = height - top
    for (image, truth, found), tall in zip(rows, heights, strict=True):
        y -= tall
        pictures = [image, *(vis.color_seg(seg, palette) for seg in (*found, truth))]
        for i, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
            x = gap + i * (cell + gap)
            axes = figure.add_axes((x / width, y / height, cell / width, tall / height))
            axes.imshow(picture, interpolation="antialiased" if i == 0 else "nearest", aspect="auto")
            axes.set_axis_off()
            if y > height - top - tall - gap:
                axes.set_title(title, fontsize=13, pad=5)
        y -= gap
    colors = vis.color_seg(np.array([seen]), palette)[0] / 255
    handles = [
        Patch(facecolor=color, edgecolor="0.4", linewidth=0.6, label=vis.class_name(names, i))
        for i, color in zip(seen, colors, strict=True)
    ]
    figure.legend(
        handles=handles, loc="lower center", ncol=per_line, frameon=False, fontsize=11,
        handlelength=1, handleheight=1, columnspacing=1.2, handletextpad=0.5, borderaxespad=0.2,
    )  # fmt: skip
    return _save(figure, stem)


def convergence(
    stem: str | os.PathLike, curves: Mapping[str, Sequence[Curve]], ylabel: str = "loss per pixel"
) -> list[Path]:
    """Figure 5: loss per pixel against iterations (left) and relative wall time (right), a curve for each sampling.

    ``curves``: label → (iterations, seconds so far, losses per pixel) of each seed, of equal iterations. Drawn is the
    mean over seeds, smoothed, with the mean itself faint behind it. The first, training on full images,
    is the measure of time: 1 is its whole run, where the right panel ends. Curves of few points, which were smoothed
    by what they are means of, are drawn as they are. Returns the paths of the files.
    """
    pyplot = _pyplot()
    means = {label: _mean(seeds) for label, seeds in curves.items()}
    whole = next(iter(means.values()))[1][-1]
    last = max(steps[-1] for steps, _, _ in means.values())
    figure, panels = pyplot.subplots(
        1, 2, figsize=(8, 3.7), sharey=True, layout="constrained", gridspec_kw={"wspace": 0.04}
    )
    shown = []
    for (label, (steps, taken, losses)), color, style in zip(means.items(), COLORS, STYLES, strict=False):
        smooth = smoothed(losses) if len(losses) >= 40 else losses
        for axes, x in zip(panels, (steps, taken / whole), strict=True):
            axes.plot(x, losses, color=color, alpha=0.22, linewidth=0.8)
            axes.plot(x, smooth, color=color, linestyle=style, linewidth=2, label=label)
        shown.append(smooth[len(smooth) // 20 :])  # the first steps fall so far that they would hide the rest
    shown = np.concatenate(shown)
    room = 0.06 * (shown.max() - shown.min())
    panels[0].set(
        xlabel="iterations",
        ylabel=ylabel,
        xlim=(0, last),
        ylim=(shown.min() - room, shown.max() + room),
    )
    panels[1].set(xlabel=f"wall time (1: {next(iter(means))}, the whole run)", xlim=(0, 1))
    for axes in panels:
        axes.xaxis.label.set_size(13)
        axes.yaxis.label.set_size(13)
        axes.tick_params(labelsize=12)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(fontsize=12, frameon=False, loc="upper right")
    return _save(figure, stem)


def _mean(seeds: Sequence[Curve]) -> np.ndarray:
    """The mean over seeds of iterations, seconds and losses, up to the end of the shortest: 3 x points."""
    points = min(len(losses) for _, _, losses in seeds)
    return np.mean([[np.asarray(part[:points], float) for part in seed] for seed in seeds], axis=0)


def smoothed(losses: np.ndarray) -> np.ndarray:
    """A running mean over a tenth of the curve, of as many points on each side as there are towards its ends."""
    half = max(1, len(losses) // 20)
    at = np.arange(len(losses))
    reach = np.minimum(half, np.minimum(at, at[::-1]))
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    return (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)
