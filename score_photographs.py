"""Score a net on a folder of photographs, as papers on image translation score theirs ("FCN score").

The net segments each photograph; what it says is compared with the truth of the same name, as ``score_folders``
compares two folders. ``python score.py --help`` tells the command line.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import images
import infer
import score_folders
import training
import vis
from ahead import in_turn
from files import DataError

PREDICTIONS = "predictions"  # the folder in --out


def run(args: argparse.Namespace, ignore: Collection[int]) -> tuple[np.ndarray, Sequence[str], int]:
    """Load the net of the command line and score it: the confusion matrix, names of classes, number of images.

    Raises DataError for whatever does not fit, before the net sees anything if that can be.
    """
    photographs, out = Path(args.predictions), args.out / PREDICTIONS
    if out.resolve() in (photographs.resolve(), args.truths.resolve()):
        raise DataError(f"predictions would be written to {out}, which is scored: choose another --out")
    found = [path for path in map(Path, infer.find([str(photographs)])) if path.parent == photographs]
    items = score_folders.pairs(photographs, args.truths, "photograph", found)
    with training.one_message():  # what the engine says of nets and weights
        segmenter = infer.load(args)
    which = choose(segmenter.outputs, args.head)
    beside = {"depth": args.depth, "hha": args.hha}
    inputs = infer.beside(segmenter.inputs, [str(photograph) for photograph, _ in items], beside)
    seen = [(files, truth) for files, (_, truth) in zip(inputs, items, strict=True)]
    hist = score(segmenter, which, seen, out, ignore, args.resize == "truth")
    return hist, segmenter.outputs[which].names, len(items)


def choose(outputs: Sequence[infer.Output], head: str | None) -> int:
    """Which of a net's outputs is the one called ``head``, None for an only one. DataError where it must be said."""
    heads = [output.head for output in outputs]
    if len(heads) == 1 and not head:
        return 0
    if head not in heads or not head:
        there = (
            f"the heads {', '.join(heads)}: choose one with --head" if len(heads) > 1 else "one head alone"
        )
        raise DataError(f"the net has {there}" + (f"; there is no head {head}" if head else ""))
    return heads.index(head)


def score(
    segmenter: infer.Segmenter,
    which: int,
    items: Sequence[tuple[Sequence[str], Path]],
    out: Path,
    ignore: Collection[int] = score_folders.IGNORED,
    resize: bool = False,
) -> np.ndarray:
    """The confusion matrix of output ``which`` over ``items``: (the files that the net sees, truth).

    Predictions go to the folder ``out``, as indexed PNGs called as the truths. ``resize``: a photograph of another
    size than its truth is resized to that before the net sees it, bilinearly. Raises DataError for one that is of
    another size otherwise, and as :func:`score_folders.label_hist`.
    """
    sees = [(i.kind, segmenter.net.blobs[i.blob].shape[1]) for i in segmenter.inputs]
    if resize and sees not in [[(kind, 3)] for kind in infer.PHOTOGRAPHS]:
        raise DataError("--resize is for nets that see photographs alone, of three channels")
    classes = segmenter.net.blobs[segmenter.outputs[which].blob].shape[1]
    if classes > 256:
        raise DataError(f"the net has {classes} classes; label images hold 256 at most")
    hist, palette = np.zeros((classes, classes), np.int64), vis.make_palette(256)
    with tempfile.TemporaryDirectory() as scratch:

        def read(item):
            files, truth = item
            wanted = images.load_label(truth)
            if resize:
                files = [resized(files[0], wanted.shape, Path(scratch) / "resized.bmp")]
            return files, wanted, segmenter.read(files)

        found = in_turn(read, items)
        for (_, truth), read_one in tqdm(
            found, "scoring", len(items), unit="image", leave=False, disable=None
        ):
            files, wanted, values = read_one.result()
            if values[0].shape[1:] != wanted.shape:
                (height, width), (rows, columns) = values[0].shape[1:], wanted.shape
                raise DataError(
                    f"photograph {files[0]} is {width} x {height} pixels, its truth {truth} {columns} x {rows}: they "
                    "must be of one size; --resize truth resizes photographs to their truths, as the published FCN "
                    "score does"
                )
            try:
                prediction = segmenter(values)[which].astype(np.uint8)
            except (RuntimeError, MemoryError) as error:  # too large for the machine, mostly
                raise DataError(f"{files[0]}: {(str(error) or 'out of memory').splitlines()[0]}") from None
            path = out / f"{truth.stem}.png"
            vis.save_indexed(path, prediction, palette)
            hist += score_folders.label_hist(prediction, wanted, path, truth, classes, ignore)
    return hist


def resized(photograph: str, size: tuple[int, int], path: Path) -> str:
    """A photograph at another ``size`` (height, width), written to ``path``; itself if it is of that size."""
    image = images.load_image(photograph)
    if image.shape[:2] == tuple(size):
        return photograph
    vis.save(path, Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    return str(path)
