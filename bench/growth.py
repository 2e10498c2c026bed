"""How time and memory grow: with pixels, classes and images at once. Peaks are those of processes for one of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import material
from about import free_memory
from engines import EngineError, Worker
from harness import Bench, GiB
from table import read
from turns import Turns, ratio_columns

from reproduction.timing import ratio

CLASSES = (2, 21, 60, 256, 1000)
BATCHES = (1, 2, 4, 8)
SIDE = 256  # of the image, where pixels do not grow
PAPERS = (500, 500)  # Table 3's


def growth(bench: Bench) -> None:
    """All three, of ours and of those of the other engines that are asked for by name."""
    model = material.fcn(8)
    _sizes(bench, model)
    for count in CLASSES:
        path, turns = str(material.classes_net(count)), Turns(bench.tell)
        bench.tell(f"growth, {count} classes: {SIDE}x{SIDE}")
        engines = bench.named("ours")
        for name, engine in engines.items():
            with _loaded(engine, name, turns, {"prototxt": path}) as worker:
                _rounds(bench, worker, name, turns, {"height": SIDE, "width": SIDE})
        _record(bench, turns, engines, "classes", SIDE, SIDE, variant=f"{count} classes")
    for batch in BATCHES:
        turns = Turns(bench.tell)
        bench.tell(f"growth, {batch} images at once: {SIDE}x{SIDE}")
        for name, engine in bench.named().items():
            with _loaded(engine, name, turns, model.load(engine.kind)) as worker:
                _rounds(bench, worker, name, turns, {"height": SIDE, "width": SIDE, "batch": batch})
        _record(bench, turns, bench.named(), "batch", SIDE, SIDE, variant=f"batch {batch}")


@contextmanager
def _loaded(engine, name, turns, load) -> Iterator[Worker | None]:
    """A fresh process of ``engine`` with its net, for the block; None, and a word, where there is none."""
    worker = None
    try:
        worker = engine.start()
    except EngineError as error:
        turns.lost[name] = str(error)
        turns.tell(f"  {name}: left out: {error}")
    try:
        if worker and turns.attempt(name, lambda _: worker("load", **load)) is None:
            yield None
        else:
            yield worker
    finally:
        if worker:
            worker.close()


def _rounds(bench, worker, name, turns, job) -> None:
    """A forward that does not count, then so many as the rounds say."""
    if worker and turns.attempt(name, lambda _: worker("forward", **job)):
        turns.alternate([name], bench.rounds, lambda _: worker("forward", **job))


def _record(bench, turns, engines, what, height, width, **more) -> None:
    bench.record(
        turns, engines, **{"job": f"growth {what}", "net": "fcn8s", "size": f"{height}x{width}", **more}
    )


def _sizes(bench, model) -> None:
    """The peak of each size from a process of its own; then the sizes take turns in one."""
    costs, turns = model.costs(bench.sizes), {size: Turns(bench.tell) for size in bench.sizes}
    for name, engine in bench.named().items():
        known: list[tuple[int, int]] = []  # pixels and peaks so far
        firsts: dict[tuple[int, int], float] = {}
        for size in sorted(bench.sizes, key=math.prod):
            bench.tell(f"growth, memory: {size[0]}x{size[1]} {name}")
            each, need = turns[size], predicted(known, padded(*size))
            if bench.device == "cpu" and need > free_memory():
                each.lost[name] = (
                    f"needs about {need / GiB:.1f} GiB of memory, {free_memory() / GiB:.1f} GiB are free"
                )
                bench.tell(f"  {name}: left out: {each.lost[name]}")
                continue
            with _loaded(engine, name, each, model.load(engine.kind)) as worker:
                first = worker and each.attempt(
                    name, lambda _, w=worker, s=size: w("forward", height=s[0], width=s[1])
                )
            if first:
                firsts[size] = first["seconds"]
                known.append((padded(*size), each.peaks[name]))
        bench.tell(f"growth, time: {name}")
        together = Turns(bench.tell)
        with _loaded(engine, name, together, model.load(engine.kind)) as worker:
            if not worker:
                continue

            def turn(size, worker=worker):
                height, width = map(int, size.split("x"))
                return worker("forward", height=height, width=width)

            for size, seconds in firsts.items():
                if seconds < 20:  # the longest need no warm-up
                    together.attempt(f"{size[0]}x{size[1]}", turn)
            together.alternate([f"{height}x{width}" for height, width in firsts], bench.rounds, turn)
        for height, width in firsts:
            turns[height, width].groups.append({name: together.groups[-1].get(f"{height}x{width}", [])})
        if firsts:  # of the largest, that of many forwards is known, too
            peaks = turns[max(firsts, key=math.prod)].peaks
            peaks[name] = max([peaks[name], *together.peaks.values()])
    for (height, width), each in turns.items():
        for name in bench.named():
            pixel = {name: _a_pixel(turns, name, (height, width))}
            _record(bench, each, [name], "pixels", height, width, costs=costs[height, width], compared=pixel)


def _a_pixel(turns, name, size) -> dict[str, str]:
    """The time a pixel of ``size`` over that of the paper's size, in the same round: median, smallest, largest."""
    base = turns.get(PAPERS)
    own, paper = (each.seconds(name) if each else [] for each in (turns[size], base))
    if size == PAPERS or not own or len(own) != len(paper):
        return {}
    found = ratio([t / math.prod(size) for t in own], [t / math.prod(PAPERS) for t in paper])
    return ratio_columns(found) | {"note": f"ratio: of the time a pixel to that at {PAPERS[0]}x{PAPERS[1]}"}


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
