"""Score predicted label images against true ones, or a net on photographs:

    python score.py PREDICTIONS TRUTHS --classes 21            two folders of label images, whatever made them
    python score.py PHOTOGRAPHS TRUTHS --model voc-fcn8s       what a net of this project sees in photographs
    python score.py PHOTOGRAPHS TRUTHS --deploy FILE --weights FILE --mean B G R --classes FILE     any other FCN

Label images are PNGs of class indices (8 bits, palette or grey); a prediction or photograph is called as its
truth. One confusion matrix over all of them gives the paper's four metrics, per class too, with classes that do
not occur left out and counted as 0. Printed, and written to --out: scores.json, classes.csv, confusion.csv and
confusion.png; of photographs also predictions/, as indexed PNGs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

import files
import images
import options
import score
import vis
from files import DataError, read_lines

IGNORED = (images.IGNORE,)  # values of truth that are not scored, unless others are named


def pairs(
    predictions: Path, truths: Path, what: str = "prediction", found: Sequence[Path] | None = None
) -> list[tuple[Path, Path]]:
    """(prediction, truth) of every truth, in the order of their names.

    Of photographs, ``what`` is "photograph" and ``found`` those in the first folder. Raises DataError for a folder
    that is not there or holds nothing, for truths without a prediction, and for two predictions of one name.
    Predictions without truth are passed over, and told.
    """
    there = _by_name(predictions, what, found)
    wanted = _by_name(truths, "truth")
    missing = [name for name in wanted if name not in there]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(wanted)} truths in {truths} have no {what} in {predictions}, such as "
            f"{missing[0]}.png; a {what} is called as its truth"
        )
    more = len(there) - len(wanted)
    if more:
        print(f"{more} {what}s without truth are passed over", file=sys.stderr)
    return [(there[name], path) for name, path in wanted.items()]


def _by_name(folder: Path, what: str, found: Sequence[Path] | None = None) -> dict[str, Path]:
    """The PNGs in a folder, or the files ``found`` there, by their names without suffix."""
    paths = sorted(folder.glob("*.png")) if found is None else found
    if not paths:
        kind, content = ("PNG", "PNG of class indices") if found is None else ("image", what)
        reason = f"holds no {kind}" if folder.is_dir() else "does not exist"
        raise DataError(f"folder of {what}s {folder} {reason}: it must hold a {content} for each image")
    by_name = {path.stem: path for path in paths}
    for path in paths:
        if by_name[path.stem] != path:
            raise DataError(
                f"folder of {what}s {folder} holds {path.name} and {by_name[path.stem].name}: keep one of them"
            )
    return by_name


def pair_hist(prediction: Path, truth: Path, classes: int, ignore: Collection[int] = IGNORED) -> np.ndarray:
    """The confusion matrix of one pair of files; see :func:`label_hist`. DataError for what are no label images."""
    wanted, got = images.load_label(truth), images.load_label(prediction)
    return label_hist(got, wanted, prediction, truth, classes, ignore)


def label_hist(
    got: np.ndarray, wanted: np.ndarray, prediction: Path, truth: Path, classes: int, ignore: Collection[int]
) -> np.ndarray:
    """The confusion matrix, classes x classes, int64, of a prediction and its truth, H x W uint8.

    Truth of the values ``ignore`` counts nowhere. Raises DataError, which names the files, for two sizes and for
    other values than classes.
    """
    if wanted.shape != got.shape:
        (height, width), (rows, columns) = got.shape, wanted.shape
        raise DataError(
            f"prediction {prediction} is {width} x {height} pixels, its truth {truth} {columns} x {rows}: they must "
            "be of one size; enlarge the prediction without smoothing (nearest neighbour)"
        )
    # all 256 x 256 pairs of bytes at once: what is no class is found in the sums
    joint = np.bincount((wanted.astype(np.uint16) << 8 | got).ravel(), minlength=1 << 16).reshape(256, 256)
    joint[list(ignore)] = 0
    for sums, path, what in ((joint.sum(1), truth, "truth"), (joint.sum(0), prediction, "prediction")):
        wrong = np.flatnonzero(sums[classes:]) + classes
        if wrong.size:
            also = f", and {_listed(ignore)} for what is not scored" if what == "truth" and ignore else ""
            raise DataError(
                f"{what} {path} holds {wrong[0]} ({sums[wrong[0]]} pixels that count); valid are 0 to "
                f"{classes - 1}{also}. Set --ignore, and --classes if there is no net, as the files have them"
            )
    return joint[:classes, :classes]


def _listed(values: Collection[int]) -> str:
    return ", ".join(map(str, values))


def score_pairs(
    items: Sequence[tuple[Path, Path]], classes: int, ignore: Collection[int] = IGNORED
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS|PHOTOGRAPHS",
        help="folder of predicted labels; with --model or --deploy, of photographs (JPEG, PNG, ...)",
    )
    parser.add_argument("truths", type=Path, metavar="TRUTHS", help="folder of true labels")
    parser.add_argument(
        "--classes",
        action="append",
        metavar="N|FILE",
        help="how many, or a list of their names; with a net a list, once for each head (default: of its data)",
    )
    parser.add_argument(
        "--ignore",
        default="255",
        metavar="VALUE[,VALUE...]",
        help="truth that is not scored: 0 to 255, or none (default: 255)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("scores"), metavar="DIR", help="default: %(default)s"
    )
    net = parser.add_argument_group("a net that is to segment photographs (as of infer.py)")
    options.add_net(net, "model directory, such as voc-fcn8s")
    net.add_argument("--head", help="which to score, of a net with several")
    net.add_argument(
        "--resize",
        choices=["truth"],
        help="resize photographs to the size of their truths before the net sees them, bilinearly, as the published "
        "FCN score does (default: other sizes are refused)",
    )
    options.add_device(net)
    options.add_precision(net)
    return parser


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, tuple[int, ...]]:
    """The arguments, and the values to ignore; exits for what does not go together."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)
    if not (args.model or args.deploy):
        if not args.classes:
            parser.error("give --classes for two folders of labels, --model or --deploy for photographs")
        if len(args.classes) > 1:
            parser.error("--classes may be given once, unless a net has several heads")
        for name in ("weights", "mean", "depth", "hha", "head", "resize", "gpu", "cpu", "precision"):
            if getattr(args, name) is not None and getattr(args, name) is not False:
                parser.error(f"--{name} is for photographs: name a net, with --model or --deploy")
    elif any(each.isdecimal() for each in args.classes or ()):
        parser.error("with a net, --classes is a file of names: how many classes there are, the net knows")
    values = [] if args.ignore == "none" else args.ignore.split(",")
    if not all(value.isdecimal() and int(value) <= 255 for value in values):
        parser.error(f"--ignore must be 0 to 255, several with commas between, or none, got {args.ignore}")
    return args, tuple(map(int, values))


def _score_folders(args: argparse.Namespace, ignore: Collection[int]) -> tuple[np.ndarray, list[str], int]:
    """The confusion matrix, the names of classes and the number of images."""
    (classes,) = args.classes
    names = [] if classes.isdecimal() else read_lines(classes, "class list")
    count = len(names) or int(classes)
    if not 1 <= count <= 256:
        raise DataError(f"--classes must be 1 to 256, got {count}")
    items = pairs(args.predictions, args.truths)
    return score_pairs(items, count, ignore), names, len(items)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of ``python score.py``; returns the exit status."""
    args, ignore = _parse(argv)
    try:
        if args.model or args.deploy:
            from score_photographs import run  # which needs the engine; label images do without
        else:
            run = _score_folders
        hist, names, count = run(args, ignore)
        if not hist.any():
            raise DataError(
                f"no pixel of the {count} truths in {args.truths} counts: all are {_listed(ignore)}"
            )
        print(f"{count} images, {hist.sum()} pixels", score.metrics_table(hist), sep="\n\n")
        print(f"\n{score.class_table(hist, names)}\n")
        for sentence in score.fingerprints(hist):
            print(f"warning: {sentence}")
        print("written:", *write(args.out, hist, names))
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped: nothing is scored", file=sys.stderr)
        return 130
    return 0
