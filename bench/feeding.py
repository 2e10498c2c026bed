"""How fast the data layers feed a net, and how long a solver step waits for them.

    make bench-feed
    python bench/feeding.py --rounds 5

Real photographs, brought to 500x375 pixels: the three of the sample under 60 names, as VOC and as SBD, with
labels as PNG and as MATLAB files. Each layer is asked for images as fast as it gives them, loading ahead and not, in
turn; then solvers step on SBD's layer, and their steps' time is divided into waiting and the rest. The table
is printed and written to bench/results/ as CSV. A rate is the median of the rounds, with the smallest and largest.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
import numpy as np
from about import machine
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from PIL import Image
from scipy.io import savemat

import feed
import images
import nets
import surgery
import vis
from ahead import Ahead

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data/pascal/sample/VOC2011"
WORK = ROOT / "build/bench/feed"
SIZE = (500, 375)
COUNT = 60
SOLVERS = {"mini-fcn8s": 20, "voc-fcn8s": 3}  # steps that are timed


def make_trees() -> dict[str, dict]:
    """The photographs in both layouts, under build/; returns name → the layer and its parameters."""
    if not SAMPLE.is_dir():
        sys.exit("error: the photographs are not there; get them with: python data/pascal/prepare.py sample")
    voc, sbd, mat = (WORK / name for name in ("VOC2011", "sbd", "sbd-mat"))
    names = [f"2011_{number:06d}" for number in range(COUNT)]
    photos = sorted((SAMPLE / "JPEGImages").iterdir())
    palette = vis.make_palette(21)
    for number, name in enumerate(names):
        photo = photos[number % len(photos)]
        picture = Image.open(photo).resize(SIZE)
        with Image.open(SAMPLE / "SegmentationClass" / f"{photo.stem}.png") as mask:
            label = np.asarray(mask.resize(SIZE, Image.Resampling.NEAREST))
        whole = np.where(label == images.IGNORE, 0, label).astype(np.uint8)
        for folder in (voc / "JPEGImages", sbd / "img", mat / "img"):
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{name}.jpg", quality=92)
        vis.save_indexed(voc / "SegmentationClass" / f"{name}.png", label, palette)
        vis.save_indexed(sbd / "cls" / f"{name}.png", whole, palette)
        (mat / "cls").mkdir(exist_ok=True)
        savemat(mat / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": whole}}, do_compression=True)
    for folder in (voc / "ImageSets/Segmentation", sbd, mat):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.txt").write_text("\n".join(names))
    common = {"split": "train", "mean": nets.MEAN}
    return {
        "VOC, labels as PNG": ("VOCSegDataLayer", {"voc_dir": str(voc), **common}),
        "SBD, labels as PNG": ("SBDDSegDataLayer", {"sbdd_dir": str(sbd), **common}),
        "SBD, labels as .mat": ("SBDDSegDataLayer", {"sbdd_dir": str(mat), **common}),
    }


def data_net(layer: str, params: dict):
    """A net of this data layer alone, and the layer."""
    n = caffe.NetSpec()
    n.data, n.label = nets.L.Python(module="layers", layer=layer, ntop=2, param_str=str(params))
    path = WORK / "net.prototxt"
    path.write_text(text_format.MessageToString(n.to_proto()))
    before = set(feed.live)
    net = caffe.Net(str(path), caffe.TRAIN)
    return net, (set(feed.live) - before).pop()


def not_ahead(layer) -> None:
    """Let ``layer`` load an image when it is asked for it, no sooner."""
    layer._ahead = Ahead(layer._load_item, layer._ahead._order, depth=0, workers=1)


def rates(rounds: int, layer: str, params: dict, count: int = 300) -> dict[str, list[float]]:
    """Images a second of a layer alone, loading ahead and not, in turn."""
    pairs = {how: data_net(layer, params) for how in ("ahead", "plain")}
    not_ahead(pairs["plain"][1])
    found: dict[str, list[float]] = {how: [] for how in pairs}
    for number in range(rounds + 1):  # the first does not count: labels are checked, files come from the disk
        for how, (net, _) in pairs.items():
            start = time.perf_counter()
            for _ in range(count):
                net.forward()
            if number:
                found[how].append(count / (time.perf_counter() - start))
    return found


def waits(
    rounds: int, model: str, layer: str, params: dict, steps: int
) -> dict[str, list[tuple[float, float]]]:
    """(seconds a step, share of them spent waiting for data) of a solver, loading ahead and not, in turn."""
    proto = nets.read_prototxt(ROOT / model / "train.prototxt", caffe_pb2.NetParameter())
    source = next(each for each in proto.layer if each.type == "Python" and not each.bottom)
    source.python_param.layer, source.python_param.param_str = layer, str(params)
    (WORK / "train.prototxt").write_text(text_format.MessageToString(proto))
    (WORK / "solver.prototxt").write_text(
        f'train_net: "{WORK / "train.prototxt"}"\nbase_lr: 1e-10\nlr_policy: "fixed"\nmomentum: 0.9\n'
        f'snapshot_prefix: "{WORK / "train"}"\nrandom_seed: 1\n'
    )
    solvers = {}
    for how in ("ahead", "plain"):
        before = set(feed.live)
        solvers[how] = caffe.SGDSolver(str(WORK / "solver.prototxt")), (set(feed.live) - before).pop()
        net = solvers[how][0].net
        random = np.random.default_rng(0)
        for blobs in net.params.values():
            weights = blobs[0].data
            weights[...] = random.standard_normal(weights.shape, np.float32) * (2 / weights[0].size) ** 0.5
        surgery.interp(net, [name for name in net.params if name.startswith("up")])
    not_ahead(solvers["plain"][1])
    found: dict[str, list[tuple[float, float]]] = {how: [] for how in solvers}
    for number in range(rounds + 1):
        for how, (solver, data) in solvers.items():
            start, waited = time.perf_counter(), data.waited
            for _ in range(steps):
                solver.step(1)
            seconds = time.perf_counter() - start
            if number:
                found[how].append((seconds / steps, (data.waited - waited) / seconds))
    return found


def spread(values, scale: float = 1, digits: int = 1) -> str:
    """The median of ``values`` and, in brackets, their smallest and largest."""
    low, middle, high = (scale * f(values) for f in (min, statistics.median, max))
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main() -> None:
    """Run all, print the table, write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of each (default: 5)")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    rows, trees = [], make_trees()
    for name, (layer, params) in trees.items():
        found = rates(args.rounds, layer, params)
        ratio = [a / b for a, b in zip(found["ahead"], found["plain"], strict=True)]
        rows.append(
            (
                f"{name}, alone",
                "images/s",
                spread(found["ahead"]),
                spread(found["plain"]),
                spread(ratio, 1, 2),
            )
        )
        print("{:<42}{:<10} {:>22} {:>22}   ratio {}".format(*rows[-1]), flush=True)
    for model, steps in SOLVERS.items():
        found = waits(args.rounds, model, *trees["SBD, labels as PNG"], steps)
        ratio = [a[0] / b[0] for a, b in zip(found["ahead"], found["plain"], strict=True)]
        for what, unit, column, scale in (("step", "ms", 0, 1000), ("waiting for data", "%", 1, 100)):
            values = [spread([pair[column] for pair in found[how]], scale, 2) for how in ("ahead", "plain")]
            rows.append((f"{model}, {what}", unit, *values, spread(ratio, 1, 3) if unit == "ms" else ""))
            print("{:<42}{:<10} {:>22} {:>22}   ratio {}".format(*rows[-1]), flush=True)
    about = machine()
    path = ROOT / f"bench/results/{about['date']}-cpu{about['cores']}-feed.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["job", "unit", "loading ahead", "not ahead", "ratio", *about])
        writer.writerows([*row, *about.values()] for row in rows)
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
