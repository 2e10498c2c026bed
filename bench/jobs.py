"""What is measured of all engines: inference, training, start, a whole set, labels in low precision."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import material
import numpy as np
from engines import Engine, EngineError
from harness import Bench
from table import line
from turns import Turns

TABLE3 = "paper: 0.175 s (Table 3)"
THREE_DAYS = "paper: three days in all (section 4.3)"


def inference(bench: Bench) -> None:
    """FCN-8s, one image at a time."""
    model, engines = material.fcn(8), bench.named()
    costs = model.costs(bench.sizes)
    for height, width in bench.sizes:
        bench.tell(f"inference {height}x{width}")
        bench.together(
            engines,
            lambda engine, worker: worker("load", **model.load(engine.kind)),
            "forward",
            lambda engine, size=(height, width): {"height": size[0], "width": size[1]},
            job="inference",
            net="fcn8s",
            size=f"{height}x{width}",
            costs=costs[height, width],
            paper=TABLE3 if (height, width) == (500, 500) else "",
        )


def training(bench: Bench, images: int = 1, strides=(32, 8)) -> None:
    """An iteration of FCN-32s and of FCN-8s: forward, backward, update."""
    job = "training" if images == 1 else "minibatch"
    steps = 20 if bench.device == "cuda" and images == 1 else 1
    height, width = bench.sizes[0]
    engines = {name: each for name, each in bench.named().items() if each.trains}
    for stride in strides:
        model = material.fcn(stride)
        cost = model.costs([(height, width)], backward=True)[height, width]
        bench.tell(f"{job} {model.net} {height}x{width}")
        bench.together(
            engines,
            lambda engine, worker: None,
            "train",
            lambda engine, model=model: {
                **model.train(engine.kind, images),
                "height": height,
                "width": width,
                "steps": steps,
            },
            warm_ups=1 if images == 1 else 0,
            suffix=".npz",
            job=job,
            net=model.net,
            size=f"{height}x{width}",
            variant=f"batch {images}",
            costs=cost * images,
            paper=THREE_DAYS if stride == 32 and images == material.MINIBATCH else "",
        )


def minibatch(bench: Bench) -> None:
    """An update of the paper: 20 images, whose gradients are summed. No warm-up: one image in twenty is it."""
    training(bench, material.MINIBATCH, (32,))


def start(bench: Bench) -> None:
    """From the start of a process to its first scores, and of that, loading the net with its 538 MB."""
    model, engines = material.fcn(8), bench.named()
    height, width = bench.sizes[0]
    loaded = Turns(bench.tell, groups=[{name: [] for name in engines}])

    def turn(name):
        engine = engines[name]
        arguments = model.load(engine.kind)
        began = time.perf_counter()
        worker = engine.start()
        try:
            size = {"height": height, "width": width}
            load = worker("load", **arguments, **(size if engine.kind == "openvino" else {}))
            peak = worker("forward", **size)["peak"]
            seconds = time.perf_counter() - began
        finally:
            worker.close()
        loaded.groups[0][name].append(load)
        return {"seconds": seconds, "peak": peak}

    bench.tell(f"start, first image {height}x{width}")
    turns = Turns(bench.tell)
    for name in engines:  # files come from the disk
        turns.attempt(name, turn)
    for answers in loaded.groups[0].values():
        answers.clear()
    try:
        turns.alternate(engines, bench.rounds, turn)
    finally:
        loaded.lost = turns.lost
        bench.record(turns, engines, job="start", net="fcn8s", size=f"{height}x{width}")
        bench.record(loaded, engines, job="load", net="fcn8s")


def whole_set(bench: Bench) -> None:
    """A whole set of VOC's sizes: decoding, forward, argmax, confusion matrix, beside the forward passes alone."""
    model, chunk = material.fcn(8), 4
    bench.tell(f"set of {bench.images} images")
    voc, ids = material.photographs(bench.images)
    val = material.val_net(model, voc)
    chunks = [ids[i : i + chunk] for i in range(0, len(ids), chunk)]
    for name, engine in bench.named("ours").items():
        turns = Turns(bench.tell)
        done, whole, alone = 0, [], []
        try:
            worker = engine.start()
        except EngineError as error:
            bench.tell(f"  {name}: left out: {error}")
            continue
        try:
            for number, part in enumerate([ids[:1], *chunks]):
                answer = turns.attempt(
                    name,
                    lambda _, part=part, worker=worker: worker(
                        "score", val=str(val), deploy=str(model.deploy), weights=str(model.weights), ids=part
                    ),
                )
                if not answer:
                    break
                if number:  # the first image does not count
                    whole.append(answer["seconds"])
                    alone.append(answer["forward"])
                    done += len(part)
                    left = (len(ids) - done) * (sum(whole) + sum(alone)) / done
                    rate = done / sum(whole)
                    bench.tell(
                        f"  {name}: {done} of {len(ids)}, {rate:.2f} images/s; about {left:.0f} s left"
                    )
        finally:
            worker.close()
            if whole:
                _enter_set(bench, name, engine, turns, done, whole, alone)


def _enter_set(bench, name, engine, turns, done, whole, alone) -> None:
    """The rows of a set: the whole, and the forward passes alone, with the ratio of the whole to them."""
    ratios = sorted(a / b for a, b in zip(whole, alone, strict=True))
    key = {"job": "set", "net": "fcn8s", "size": "VOC's", "precision": engine.precision, "rounds": len(whole)}
    peak = f"{turns.peaks[name] / 2**20:.0f}"
    bench.table.add(
        {
            **key,
            "variant": f"{done} images",
            "engine": name,
            "seconds": f"{sum(whole):.3f}",
            "peak_mib": peak,
            "note": f"{done / sum(whole):.3f} images/s",
        },
        {
            **key,
            "variant": f"{done} images, forward alone",
            "engine": name,
            "seconds": f"{sum(alone):.3f}",
            "ratio": f"{sum(whole) / sum(alone):.3f}",
            "ratio_min": f"{ratios[0]:.3f}",
            "ratio_max": f"{ratios[-1]:.3f}",
            "note": "ratio: the whole to its forward passes",
        },
    )
    for row in bench.table.new[-2:]:
        bench.tell(line(row))


def labels(bench: Bench) -> None:
    """Of trained nets, the share of pixels that keep their class in low precision."""
    import infer

    low = {n: e for n, e in bench.named("ours", "openvino").items() if e.precision != "float32"}
    for title, directory in _titles(bench.trained).items():
        model = material.Material(directory.name, directory, infer.find_weights(directory))
        bench.tell(f"labels of {title}, {len(bench.pictures)} pictures")
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{i}.npy" for i in range(len(bench.pictures))]
            for path, picture in zip(files, bench.pictures, strict=True):
                np.save(path, material.seen(picture))
            turns, found = Turns(bench.tell), {}
            for name, engine in {"ours": Engine("ours", "float32", bench.device), **low}.items():
                out = [path.with_name(f"{path.stem}-{name.replace(' ', '-')}.npy") for path in files]
                arguments = {"pictures": [*map(str, files)], "save": [*map(str, out)]}
                if turns.attempt(name, lambda _, e=engine, m=model, a=arguments: _once(e, m, "labels", a)):
                    found[name] = [np.load(path) for path in out]
        for name, engine in low.items():
            row = {"job": "labels", "net": title, "engine": name, "precision": engine.precision}
            row |= {"variant": f"{len(files)} pictures", "note": turns.lost.get(name, "")}
            if {name, "ours"} <= found.keys():
                pairs = zip(found[name], found["ours"], strict=True)
                equal = sum((a == b).sum() for a, b in pairs) / sum(each.size for each in found["ours"])
                row |= {"equal_labels": f"{equal:.6f}", "reference": "ours"}
            bench.table.add(row)
            bench.tell(line(bench.table.new[-1]))


def _titles(directories: list[Path]) -> dict[str, Path]:
    """``directories`` by their names, with as much of the path before these as tells them apart."""
    paths = [path.resolve() for path in directories]
    for length in range(1, max(len(path.parts) for path in paths)):
        titles = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(titles)) == len(set(paths)):
            break
    return dict(zip(titles, paths, strict=True))


def _once(engine: Engine, model: material.Material, job: str, arguments: dict) -> dict:
    """The answer of a process that is there for one job."""
    worker = engine.start()
    try:
        worker("load", **model.load(engine.kind))
        return worker(job, **arguments)
    finally:
        worker.close()
