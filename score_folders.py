"""Score a folder of predictions against a folder of truths: ``python score.py PREDICTIONS TRUTHS --classes 21``.

Both hold a PNG of class indices for each image (8 bits, palette or grey), called alike. One confusion matrix over
all of them gives the paper's four metrics, per class too, with classes that do not occur left out and counted as 0.
Printed, and written to ``--out``: ``scores.json``, ``classes.csv``, ``confusion.csv`` and ``confusion.png``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

import files
import images
import score
import vis
from files import DataError, read_lines


def pairs(predictions: Path, truths: Path) -> list[tuple[Path, Path]]:
    """(prediction, truth) of every truth, in the order of their names.

    Raises DataError for a folder that is not there or holds no PNG, and for truths without a prediction.
    Predictions without truth are passed over, and told.
    """
    there = {}
    for folder, what in ((predictions, "predictions"), (truths, "truths")):
        there[what] = {path.stem: path for path in sorted(folder.glob("*.png"))}
        if not there[what]:
            found = "holds no PNG" if folder.is_dir() else "does not exist"
            raise DataError(
                f"folder of {what} {folder} {found}: it must hold a PNG of class indices for each image"
            )
    missing = [name for name in there["truths"] if name not in there["predictions"]]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(there['truths'])} truths in {truths} have no prediction in {predictions}, such as "
            f"{missing[0]}.png; a prediction is called as its truth"
        )
    more = len(there["predictions"]) - len(there["truths"])
    if more:
        print(f"{more} predictions without truth are passed over", file=sys.stderr)
    return [(there["predictions"][name], path) for name, path in there["truths"].items()]


def pair_hist(prediction: Path, truth: Path, classes: int, ignore: int | None) -> np.ndarray:
    """The confusion matrix of one pair: classes x classes, int64; truth of ``ignore`` counts nowhere.

    Raises DataError for files that are no label images, of two sizes, or with other values than classes.
    """
    wanted, got = images.load_label(truth), images.load_label(prediction)
    if wanted.shape != got.shape:
        (height, width), (rows, columns) = got.shape, wanted.shape
        raise DataError(
            f"prediction {prediction} is {width} x {height} pixels, its truth {truth} {columns} x {rows}: they must "
            "be of one size; enlarge the prediction without smoothing (nearest neighbour)"
        )
    # all 256 x 256 pairs of bytes at once: what is no class is found in the sums
    joint = np.bincount((wanted.astype(np.uint16) << 8 | got).ravel(), minlength=1 << 16).reshape(256, 256)
    if ignore is not None:
        joint[ignore] = 0
    for sums, path, what in ((joint.sum(1), truth, "truth"), (joint.sum(0), prediction, "prediction")):
        wrong = np.flatnonzero(sums[classes:]) + classes
        if wrong.size:
            also = f", and {ignore} for what is not scored" if what == "truth" and ignore is not None else ""
            raise DataError(
                f"{what} {path} holds {wrong[0]} ({sums[wrong[0]]} pixels that count); valid are 0 to "
                f"{classes - 1}{also}. Set --classes and --ignore as the files have them"
            )
    return joint[:classes, :classes]


def score_pairs(
    items: Sequence[tuple[Path, Path]], classes: int, ignore: int | None = images.IGNORE
) -> np.ndarray:
    """The confusion matrix over all pairs; raises as :func:`pair_hist`."""
    hist = np.zeros((classes, classes), np.int64)
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        found = pool.map(lambda item: pair_hist(*item, classes, ignore), items)
        try:
            for one in tqdm(found, "scoring", len(items), unit="image", leave=False, disable=None):
                hist += one
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return hist


def record(hist: np.ndarray, names: Sequence[str]) -> dict:
    """What scores.json holds: the four metrics by both conventions, the classes, the matrix (rows: truth)."""
    scores = score.Scores(hist)
    rows = zip(score.class_iu(hist), score.class_accuracy(hist), hist.sum(1), hist.sum(0), strict=True)
    return {
        "metrics": {absent: _plain(scores.metrics(absent)) for absent in ("skip", "zero")},
        "classes": [
            {"index": i, "name": vis.class_name(names, i)}
            | _plain({"IU": iu, "accuracy": accuracy, "true": true, "predicted": predicted})
            for i, (iu, accuracy, true, predicted) in enumerate(rows)
        ],
        "confusion": hist.tolist(),
    }


def _plain(values: dict) -> dict:
    """Numbers as JSON has them: None for nan."""
    return {key: None if np.isnan(value) else np.asarray(value).item() for key, value in values.items()}


def write(out: Path, hist: np.ndarray, names: Sequence[str]) -> list[Path]:
    """Write the four files; returns their paths."""
    about, labels = record(hist, names), [vis.class_name(names, i) for i in range(len(hist))]
    paths = [out / name for name in ("scores.json", "classes.csv", "confusion.csv", "confusion.png")]
    files.write(paths[0], (json.dumps(about, indent=1) + "\n").encode())
    for path, rows in (
        (paths[1], [list(about["classes"][0]), *(each.values() for each in about["classes"])]),
        (
            paths[2],
            [
                ["truth \\ prediction", *labels],
                *([name, *row] for name, row in zip(labels, hist, strict=True)),
            ],
        ),
    ):
        with files.replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    picture(paths[3], hist, labels)
    return paths


def picture(path: Path, hist: np.ndarray, labels: Sequence[str]) -> None:
    """Draw the confusion matrix: each row as shares of the class's true pixels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shares = np.divide(
        hist, hist.sum(1, keepdims=True), out=np.zeros(hist.shape), where=hist.sum(1, keepdims=True) > 0
    )
    side = min(max(4.0, 0.32 * len(hist) + 2), 20)
    figure, axes = pyplot.subplots(figsize=(side + 1, side), layout="constrained")
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    named = len(hist) <= 60
    ticks = range(len(hist)) if named else range(0, len(hist), 10)
    axes.set_xticks(ticks, [labels[i] for i in ticks], rotation=90, fontsize=8)
    axes.set_yticks(ticks, [labels[i] for i in ticks], fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(hist) <= 40:
        for i, j in zip(*np.nonzero(shares >= 0.005), strict=True):
            color = "white" if shares[i, j] > 0.6 else "black"
            axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=6, color=color)
    figure.colorbar(shown, shrink=0.7, label="share of the class's true pixels")
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of ``python score.py``; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="folder of predicted labels")
    parser.add_argument("truths", type=Path, metavar="TRUTHS", help="folder of true labels")
    parser.add_argument(
        "--classes", required=True, metavar="N|FILE", help="how many, or a list of their names"
    )
    parser.add_argument(
        "--ignore", default="255", metavar="VALUE", help="truth that is not scored: 0 to 255, or none (255)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("scores"), metavar="DIR", help="default: %(default)s"
    )
    args = parser.parse_args(argv)
    try:
        names = [] if args.classes.isdecimal() else read_lines(args.classes, "class list")
        count = len(names) or int(args.classes)
        if not 1 <= count <= 256:
            parser.error(f"--classes must be 1 to 256, got {count}")
        if args.ignore != "none" and not (args.ignore.isdecimal() and int(args.ignore) <= 255):
            parser.error(f"--ignore must be 0 to 255, or none, got {args.ignore}")
        ignore = None if args.ignore == "none" else int(args.ignore)
        items = pairs(args.predictions, args.truths)
        hist = score_pairs(items, count, ignore)
        if not hist.any():
            raise DataError(f"no pixel of the {len(items)} truths in {args.truths} counts: all are {ignore}")
        print(f"{len(items)} images, {hist.sum()} pixels", score.metrics_table(hist), sep="\n\n")
        print(f"\n{score.class_table(hist, names)}\n")
        for sentence in score.fingerprints(hist):
            print(f"warning: {sentence}")
        print("written:", *write(args.out, hist, names))
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
