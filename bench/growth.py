"""How time and memory grow: with pixels, classes and images at once. Each is measured in a process of its own."""

from __future__ import annotations

import math
from pathlib import Path

import material
from about import free_memory
from engines import EngineError
from harness import Bench, GiB
from table import read
from turns import Turns

CLASSES = (2, 21, 60, 256, 1000)
BATCHES = (1, 2, 4, 8)
SIDE = 256  # of the image, where pixels do not grow
SIZES = ((64, 64), (128, 128), (256, 256), (500, 500), (1000, 1000), (2048, 2048), (4096, 4096))


def growth(bench: Bench) -> None:
    """All three, of ours and of those of the other engines that are asked for by name."""
    model = material.fcn(8)
    known: dict[str, list[tuple[int, int]]] = {}  # engine → pixels and peaks so far
    costs = model.costs(bench.sizes)
    for height, width in bench.sizes:
        _measure(bench, model.load, height, width, known, "pixels", costs=costs[height, width])
    for count in CLASSES:
        path = str(material.classes_net(count))
        _measure(
            bench,
            lambda kind, path=path: {"prototxt": path},
            SIDE,
            SIDE,
            {},
            "classes",
            f"{count} classes",
            ("ours",),
        )
    for batch in BATCHES:
        _measure(bench, model.load, SIDE, SIDE, {}, "batch", f"batch {batch}", batch=batch)


def _measure(bench, load, height, width, known, what, variant="", kinds=(), batch=1, costs=0) -> None:
    """A row of each engine: a fresh process loads, runs once uncounted, then so often as the rounds say."""
    engines, turns = bench.named(*kinds), Turns(bench.tell)
    bench.tell(f"growth, {what}: {height}x{width} {variant}".rstrip())
    for name, engine in engines.items():
        need = predicted(known.get(name, []), batch * padded(height, width))
        if bench.device == "cpu" and need > free_memory():
            turns.lost[name] = (
                f"needs about {need / GiB:.1f} GiB of memory, {free_memory() / GiB:.1f} GiB are free"
            )
            bench.tell(f"  {name}: left out: {turns.lost[name]}")
            continue

        try:
            worker = engine.start()
        except EngineError as error:
            turns.lost[name] = str(error)
            bench.tell(f"  {name}: left out: {error}")
            continue
        try:
            job = {"height": height, "width": width, "batch": batch}
            if turns.attempt(name, lambda _, w=worker, e=engine: w("load", **load(e.kind))) is None:
                continue
            first = turns.attempt(name, lambda _, w=worker, job=job: w("forward", **job))
            if first and first["seconds"] < 20:  # the longest need no warm-up
                turns.alternate([name], bench.rounds, lambda _, w=worker, job=job: w("forward", **job))
            elif first:
                turns.groups.append({name: [first]})
        finally:
            worker.close()
        if name in turns.peaks:
            known.setdefault(name, []).append((batch * padded(height, width), turns.peaks[name]))
    bench.record(
        turns,
        engines,
        costs=costs,
        job=f"growth {what}",
        net="fcn8s",
        size=f"{height}x{width}",
        variant=variant,
    )


def padded(height: int, width: int) -> int:
    """The pixels that the net's first layer sees: with the 100 around the image that FCN pads."""
    return (height + 200) * (width + 200)


def predicted(known: list[tuple[int, int]], pixels: int) -> float:
    """The memory that an image of so many ``pixels`` needs, from (pixels, bytes) of the two largest so far."""
    if len(known) < 2:
        return 0
    (few, small), (many, large) = known[-2:]
    return large + max(0, large - small) / (many - few) * (pixels - many)


def picture(csv: Path, path: Path) -> bool:
    """Draw the rows of growth in ``csv`` as ``path`` (PNG); False if there are none."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in read(csv) if row["job"].startswith("growth") and row["seconds"]]
    if not rows:
        return False
    figure, axes = pyplot.subplots(2, 2, figsize=(8, 6), layout="constrained")
    for name in sorted({row["engine"] for row in rows}, key=lambda name: (name != "ours", name)):
        for axis, (what, over, y, scale, words) in zip(axes.flat, PANELS, strict=True):
            points = sorted(
                (over(row), y(row) * scale)
                for row in rows
                if row["engine"] == name and row["job"] == f"growth {what}" and row["peak_mib"]
            )
            axis.set(xlabel=words[0], ylabel=words[1], xscale="log")
            if points:
                axis.plot(*zip(*points, strict=True), "o-", label=name)
                axis.set_xticks([x for x, _ in points], [f"{x:.0f}" for x, _ in points])
                axis.minorticks_off()
                axis.set_ylim(0, None)
    axes[0, 0].legend()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
    return True


def _side(row) -> float:
    return math.sqrt(_pixels(row))


def _pixels(row) -> int:
    return math.prod(int(length) for length in row["size"].split("x"))


def _number(row) -> int:
    return int(next(word for word in row["variant"].split() if word.isdecimal()))


def _seconds(row) -> float:
    return float(row["seconds"])


PANELS = (
    (
        "pixels",
        _side,
        lambda row: _seconds(row) / _pixels(row),
        1e6,
        ("side of the image, pixels", "µs a pixel"),
    ),
    (
        "pixels",
        _side,
        lambda row: float(row["peak_mib"]),
        1 / 1024,
        ("side of the image, pixels", "peak memory, GiB"),
    ),
    ("classes", _number, _seconds, 1, ("classes, 256×256", "seconds")),
    (
        "batch",
        _number,
        lambda row: _seconds(row) / _number(row),
        1,
        ("images at once, 256×256", "seconds an image"),
    ),
)
