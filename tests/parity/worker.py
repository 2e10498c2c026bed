"""Runs jobs on whichever engine ``import caffe`` finds, and writes what came out as .npz files.

python worker.py JOBS.json FOLDER

JOBS.json is a list of jobs, each with ``name`` and ``kind``; job number i writes FOLDER/i.npz. Jobs
whose file is there are passed over, so that after an abort (the original's way of refusing) the
caller starts the worker again on the rest.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
import data_jobs
from caffe.proto import caffe_pb2
from google.protobuf import text_format

FLOOR = "ceil_mode: false" if hasattr(caffe_pb2.PoolingParameter(), "ceil_mode") else "round_mode: FLOOR"


def main() -> None:
    """Run every job that has no result yet, in order."""
    jobs, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    (folder / "started").touch()
    caffe.set_mode_cpu()
    for number, job in enumerate(jobs):
        target = folder / f"{number}.npz"
        if not target.exists():
            try:
                arrays = KINDS[job["kind"]](job)
            except RuntimeError as error:  # ours refuses
                arrays = {"refused": np.array(str(error))}
            save(target, arrays)


def save(target: Path, arrays: dict) -> None:
    """Write the arrays, whole or not at all."""
    making = target.with_suffix(".part")
    with open(making, "wb") as file:
        np.savez(file, **arrays)
    os.replace(making, target)


def random_for(name: str) -> np.random.RandomState:
    """A generator that depends on ``name`` only, equal in every NumPy."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def make_input(random, shape, kind: str) -> np.ndarray:
    """An input array: normal, large, positive, ties (few small integers), 0 or 1, labels of 5 classes (or 3)."""
    if kind == "normal":
        return random.standard_normal(shape)
    if kind == "large":
        return 200 * random.standard_normal(shape)
    if kind == "positive":
        return 0.1 + np.abs(random.standard_normal(shape))
    if kind == "0 or 1":
        return random.randint(0, 2, shape)
    if kind == "ties":
        return random.randint(-2, 3, shape)
    if kind == "image":
        return 255 * random.random_sample(shape) - 115
    labels = np.asarray(random.randint(0, 3 if kind == "labels of 3" else 5, shape))
    if kind == "labels ignored":
        labels[random.random_sample(shape) < 0.3] = 255
    if kind == "all ignored":
        labels[...] = 255
    return labels


def open_net(text: str, phase: int):
    """A net from prototxt text."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(text.replace("@FLOOR", FLOOR))
        file.flush()
        return caffe.Net(file.name, phase)


def with_inputs(job: dict) -> str:
    """The job's prototxt with an Input layer for each of its inputs."""
    text = "force_backward: true\n" if job["backward"] else ""
    for name, (shape, _) in job["inputs"].items():
        dims = " ".join(f"dim: {size}" for size in shape)
        text += f'layer {{ name: "{name}_in" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    return text + job["net"]


def run_layer(job: dict) -> dict:
    """One small net: every blob, every gradient, every parameter."""
    caffe.set_random_seed(17)
    random = random_for(job["name"])
    net = open_net(with_inputs(job), getattr(caffe, job["phase"]))
    if not job["filled"]:
        for blobs in net.params.values():
            for blob in blobs:
                blob.data[...] = random.standard_normal(tuple(blob.shape))
    arrays = {}
    run(net, job["inputs"], random, job["backward"], arrays, "")
    if job["twice"]:
        inputs = {
            name: [job["twice"].get(name, shape), kind] for name, (shape, kind) in job["inputs"].items()
        }
        for name, (shape, _) in inputs.items():
            net.blobs[name].reshape(*shape)
        run(net, inputs, random, job["backward"], arrays, "again ")
    return arrays


def run(net, inputs: dict, random, backward: bool, arrays: dict, prefix: str) -> None:
    """Forward and, if asked, backward from random diffs; everything into ``arrays``."""
    for name, (shape, kind) in inputs.items():
        net.blobs[name].data[...] = make_input(random, shape, kind)
    net.forward()
    for name, blob in net.blobs.items():
        arrays[f"{prefix}{name} data"] = np.array(blob.data)
    if backward:
        for name in net.outputs:
            blob = net.blobs[name]
            if not blob.diff.any():  # a loss: its diff is its weight
                blob.diff[...] = 0.25 + random.standard_normal(tuple(blob.shape))  # no sum cancels
        net.clear_param_diffs()
        net.backward()
        for name, blob in net.blobs.items():
            arrays[f"{prefix}{name} diff"] = np.array(blob.diff)
    for layer, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            arrays[f"{prefix}{layer}[{index}] data"] = np.array(blob.data)
            if backward:
                arrays[f"{prefix}{layer}[{index}] diff"] = np.array(blob.diff)


def run_net(job: dict) -> dict:
    """A model directory's net at full width, its data layer replaced by inputs, with random weights."""
    param = caffe_pb2.NetParameter()
    text_format.Parse(Path(job["file"]).read_text(), param)
    kept = [layer for layer in param.layer if layer.type not in ("Python", "Input")]
    del param.layer[:]
    param.layer.extend(kept)
    text = with_inputs({**job, "backward": True, "net": text_format.MessageToString(param)})
    net = open_net(text, getattr(caffe, job["phase"]))
    random = random_for("weights of " + Path(job["file"]).parent.name)
    for blobs in net.params.values():
        scale = (2 / max(blobs[0].data[0].size, 1)) ** 0.5
        for blob, size in zip(blobs, (scale, 0.1), strict=False):
            shape = tuple(blob.shape)
            for i in range(shape[0]):  # item by item: a large layer's numbers would need gigabytes
                blob.data[i] = size * random.standard_normal(shape[1:])
    random = random_for(job["name"])
    for name, (shape, kind) in job["inputs"].items():
        net.blobs[name].data[...] = make_input(random, shape, kind)
    caffe.set_random_seed(23)
    if job.get("along"):
        with np.load(job["along"]) as trail:
            return go_along(net, trail)
    return leave_trail(net, random, job["backward"])


def leave_trail(net, random, backward: bool) -> dict:
    """Forward and, if asked, backward, layer by layer; what each layer wrote, by layer number and blob."""
    trail = {}
    layers = list(enumerate(net._layer_names))
    for i, layer in layers:
        net._forward(i, i)
        for name in net.top_names[layer]:
            trail[f"{i} {layer}: {name} data"] = np.array(net.blobs[name].data)
    if not backward:
        return trail
    for name in net.outputs:
        blob = net.blobs[name]
        if not blob.diff.any():  # a loss: its diff is its weight
            blob.diff[...] = 0.25 + random.standard_normal(tuple(blob.shape))
        trail[f"out: {name} diff"] = np.array(blob.diff)
    for i, layer in reversed(layers):
        net._backward(i, i)
        for name in net.bottom_names[layer]:
            trail[f"{i} {layer}: {name} diff"] = np.array(net.blobs[name].diff)
        for j, blob in enumerate(net.params.get(layer, ())):
            trail[f"{i} {layer}: [{j}] diff"] = np.array(blob.diff)
    return trail


def go_along(net, trail) -> dict:
    """The same, but every layer gets the bottoms and the top diffs that the trail's engine had.

    Rounding then stays where it arises. Left alone it would, wherever two values of a pooling
    window are equal but for rounding, send a gradient to another pixel.
    """
    arrays = {}
    layers = list(enumerate(net._layer_names))
    last = {}  # blob -> where its data was written last
    for i, layer in layers:
        bottoms, tops = net.bottom_names[layer], net.top_names[layer]
        for name in bottoms:
            net.blobs[name].data[...] = trail[last[name]]
        net._forward(i, i)
        for name in tops:
            last[name] = f"{i} {layer}: {name} data"
            arrays[last[name]] = np.array(net.blobs[name].data)
        for name in tops:
            above = (
                f"{j} {other}: {name} diff" for j, other in layers[i + 1 :] if name in net.bottom_names[other]
            )
            net.blobs[name].diff[...] = trail[next(above, f"out: {name} diff")]
        net._backward(i, i)
        for name in bottoms:
            arrays[f"{i} {layer}: {name} diff"] = np.array(net.blobs[name].diff)
        for j, blob in enumerate(net.params.get(layer, ())):
            arrays[f"{i} {layer}: [{j}] diff"] = np.array(blob.diff)
    return arrays


def run_solver(job: dict) -> dict:
    """A solver on a small net: the loss of every iteration, the parameters every ten.

    ``resume``: a .solverstate to go on from. ``snapshot``: a path prefix to save to at the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        train, solver = Path(folder, "train.prototxt"), Path(folder, "solver.prototxt")
        train.write_text(job["net"])
        prefix = job.get("snapshot") or f"{folder}/x"
        solver.write_text(f'train_net: "{train}" snapshot_prefix: "{prefix}" random_seed: 5 {job["solver"]}')
        solver = caffe.get_solver(str(solver))
    net = solver.net
    random = random_for(job.get("data") or job["name"])
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = 0.2 * random.standard_normal(tuple(blob.shape))
    for name, (_, kind) in job.get("inputs", {}).items():
        net.blobs[name].data[...] = make_input(random, tuple(net.blobs[name].shape), kind)
    if job.get("resume"):
        solver.restore(job["resume"])
    arrays = {}
    losses = []
    while solver.iter < job["iterations"]:
        solver.step(1)
        losses.append(float(net.blobs["loss"].data))
        if solver.iter % 10 == 0:
            for name, blobs in net.params.items():
                for index, blob in enumerate(blobs):
                    arrays[f"{name}[{index}] after {solver.iter}"] = np.array(blob.data)
    if job.get("snapshot"):
        solver.snapshot()
    return {"losses": np.array(losses), **arrays}


def run_training(job: dict) -> dict:
    """A model directory's own solver on its own data: the loss of every iteration, the predictions at the end.

    Both engines start from the weights in ``weights`` (written there if it does not exist) and from
    one seed. ``dropout``: the ratio of the dropout layers. ``solver``: fields that replace the solver's.
    """
    os.chdir(job["directory"])
    proto = text_format.Parse(Path("solver.prototxt").read_text(), caffe_pb2.SolverParameter())
    text_format.Merge(job["solver"], proto)
    net = text_format.Parse(Path(proto.train_net).read_text(), caffe_pb2.NetParameter())
    for layer in net.layer:
        if layer.type == "Dropout":
            layer.dropout_param.dropout_ratio = job["dropout"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "train.prototxt").write_text(text_format.MessageToString(net))
        proto.train_net, proto.snapshot_prefix = f"{folder}/train.prototxt", f"{folder}/x"
        Path(folder, "solver.prototxt").write_text(text_format.MessageToString(proto))
        solver = caffe.get_solver(f"{folder}/solver.prototxt")
    if not Path(job["weights"]).exists():
        surgery = importlib.import_module("surgery")
        surgery.interp(solver.net, [layer.name for layer in net.layer if layer.type == "Deconvolution"])
        solver.net.save(job["weights"])
    solver.net.copy_from(job["weights"])
    caffe.set_random_seed(31)
    losses = []
    for _ in range(job["iterations"]):
        solver.step(1)
        losses.append(mean_loss(solver.net.blobs["score"].data, solver.net.blobs["label"].data))
    arrays = {"losses": np.array(losses)}
    test = solver.test_nets[0]
    test.share_with(solver.net)
    for i in range(proto.test_iter[0]):
        test.forward()
        arrays[f"prediction {i}"] = test.blobs["score"].data[0].argmax(0)
    return arrays


def mean_loss(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean softmax loss of the labelled pixels, in float64 (the original adds up in one float32)."""
    scores, labels = (
        scores.astype(np.float64),
        labels.reshape(scores.shape[0], 1, *scores.shape[2:]).astype(int),
    )
    scores -= scores.max(1, keepdims=True)
    log = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    taken = np.take_along_axis(log, np.where(labels == 255, 0, labels), 1)
    return float(-taken[labels != 255].mean())


def run_data(job: dict) -> dict:
    """A net with a data layer of its own, on files (see ``data_jobs``)."""
    return data_jobs.run(job, open_net)


KINDS = {
    "data": run_data,
    "layer": run_layer,
    "net": run_net,
    "solver": run_solver,
    "training": run_training,
}

if __name__ == "__main__":
    main()
