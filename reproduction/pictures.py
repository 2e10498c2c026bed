"""What trained nets make of photographs: Figures 4 and 6, and Table 3's archive for the evaluation server."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

import feed
import images
import infer
import score
import score_folders
import training
import vis
from datakit import submission
from files import DataError, read_lines
from reproduction import figures, paper, records, toyset
from reproduction.order import Order
from reproduction.workshop import Net, model_of

NAMES = {row.directory: row.name for row in paper.TABLE2.rows}
SHOWN = 4  # photographs of a figure
TIMED = 20  # images that Table 3's time is the mean of
YEARS = (2011, 2012)  # whose test images Table 3 is about


def segmenter(order: Order, net: Net) -> infer.Segmenter:
    """A trained net, ready to segment."""
    deploy, weights = order.deploy(net, order.seeds[0])
    options = argparse.Namespace(
        model=None, deploy=str(deploy), weights=str(weights), classes=None, mean=None, gpu=order.gpu,
        cpu=order.gpu is None, precision=None,
    )  # fmt: skip
    with quiet():
        return infer.load(options)


@contextmanager
def quiet():
    """Nothing is printed."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def class_names(order: Order) -> list[str]:
    """The names of the classes of VOC, or of the scenes in its place."""
    return toyset.class_names() if order.toy else feed.class_names("pascal")


@cache
def seen(
    order: Order, models: tuple[str, ...], target: str
) -> list[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]:
    """For each photograph of a figure: the photograph, the truth, and what each net makes of it."""
    source = training.source_of(model_of(models[0]).prototxts()["val"])
    first = 0 if target == "figure4" or len(source.ids) < 2 else 1  # Figure 6 shows others
    ids = source.ids[first :: max(1, len(source.ids) // SHOWN)][:SHOWN]
    ready = [segmenter(order, Net(model, model)) for model in models]
    found = []
    for name in ids:
        photograph = source.path("data", name)
        truth = np.asarray(source.read("label", source.path("label", name)))
        segmented = [each(each.read([str(photograph)]))[0] for each in ready]
        found.append((images.load_image(photograph), truth, segmented))
    return found


def rows(order: Order, models: tuple[str, ...], target: str) -> list[dict]:
    """A row for each net: its scores on the photographs that are shown."""
    shown, classes, made = seen(order, models, target), len(class_names(order)), []
    for i, model in enumerate(models):
        hist = sum(score.fast_hist(truth, found[i], classes) for _, truth, found in shown)
        command = order.command(target, order.seeds[:1])
        made.append(records.row(NAMES[model], hist, seed=order.seeds[0], command=command))
    return made


def draw(order: Order, models: tuple[str, ...], target: str) -> list[Path]:
    """The figure, as PNG and PDF."""
    columns = [NAMES[model] for model in models]
    return figures.comparison(
        order.results / target, seen(order, models, target), columns, class_names(order)
    )


# Table 3


def years(order: Order) -> list[int]:
    """The years whose test images are there."""
    there = [year for year in YEARS if _list(order, year).is_file()]
    if not there:
        raise DataError(
            f"no list of test images: looked for {' and '.join(str(_list(order, year)) for year in YEARS)}. The test "
            "images of VOC are a download of their own, from its evaluation server, to be unpacked beside trainval's: "
            "see data/pascal/README.md"
        )
    return there


def _list(order: Order, year: int) -> Path:
    return _voc(order, year) / "ImageSets" / "Segmentation" / "test.txt"


def _voc(order: Order, year: int) -> Path:
    return order.data_root / "pascal" / f"VOC{year}"


def _predictions(order: Order, year: int) -> Path:
    return order.directory(Net("voc-fcn8s", "voc-fcn8s"), order.seeds[0]) / f"test-{year}"


def table3(order: Order) -> list[dict]:
    """A row of FCN-8s: the time of an image, and, where the truth of the test images is known, the scores.

    Segments all test images; those that a run that was stopped has left are not segmented again, but for the
    first, of which the time is taken.
    """
    fcn8s = Net("voc-fcn8s", "voc-fcn8s")
    net, palette, seconds, hist = segmenter(order, fcn8s), vis.make_palette(256), [], None
    for year in years(order):
        ids = read_lines(_list(order, year), "list of test images")
        for name in tqdm(ids, f"segmenting VOC {year} test", unit="image", leave=False, disable=None):
            path = _predictions(order, year) / f"{name}.png"
            if path.is_file() and len(seconds) >= TIMED:
                continue
            values = net.read([str(_voc(order, year) / "JPEGImages" / f"{name}.jpg")])
            began = time.perf_counter()
            (seg,) = net(values)
            seconds.append(time.perf_counter() - began)
            vis.save_indexed(path, seg, palette)
        truths = [_voc(order, year) / "SegmentationClass" / f"{name}.png" for name in ids]
        if all(truth.is_file() for truth in truths):  # of synthetic scenes; VOC's are the server's alone
            pairs = [(_predictions(order, year) / truth.name, truth) for truth in truths]
            hist = score_folders.score_pairs(pairs, len(class_names(order)))
    times = {"inference_s": float(np.mean(seconds[1 : TIMED + 1] or seconds))}  # the first warms up
    about = {
        "directory": order.directory_of(fcn8s),
        "command": order.command("table3", order.seeds[:1]),
        "times": times,
    }
    return [records.row("FCN-8s", hist, seed=order.seeds[0], **about)]


def archive(order: Order, rows: list[dict]) -> list[Path]:
    """The archives for the evaluation server, checked. Raises DataError, after what was found, if one is not right."""
    made = []
    for year in years(order):
        ids = read_lines(_list(order, year), "list of test images")
        path = order.results / f"voc{year}-comp6-test.tgz"
        submission.pack(_predictions(order, year), ids, path, year)
        table = submission.check(
            path,
            ids,
            lambda name, year=year: submission.photograph_size(
                _voc(order, year) / "JPEGImages" / f"{name}.jpg"
            ),
            year,
            classes=len(class_names(order)),
            published=None if order.toy else submission.TEST_IMAGES.get(year),
        )
        print(table)
        if table.failed:
            raise DataError(f"{path} is not what the evaluation server takes: see above")
        made.append(path)
    return made
