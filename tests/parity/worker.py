"""Runs jobs on whichever engine ``import caffe`` finds, and writes what came out as .npz files.

python worker.py JOBS.json FOLDER

JOBS.json is a list of jobs, each with ``name`` and ``kind``; job number i writes FOLDER/i.npz. Jobs
whose file is there are passed over, so that after an abort (the original's way of refusing) the
caller starts the worker again on the rest.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
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
            save(target, KINDS[job["kind"]](job))


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
    """An input array: normal, large, ties (few small integers), labels of 5 classes with or without 255."""
    if kind == "normal":
        return random.standard_normal(shape)
    if kind == "large":
        return 200 * random.standard_normal(shape)
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
    text = 'name: "parity"\n' + ("force_backward: true\n" if job["backward"] else "")
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
        inputs = {name: [job["twice"].get(name, shape), kind] for name, (shape, kind) in job["inputs"].items()}
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
    text = ""
    if any(layer.type == "Python" for layer in param.layer):
        tops = [top for layer in param.layer if layer.type == "Python" for top in layer.top]
        kept = [layer for layer in param.layer if layer.type != "Python"]
        del param.layer[:]
        param.layer.extend(kept)
        text = "".join(f'layer {{ name: "{top}_in" type: "Input" top: "{top}" }}\n' for top in tops)
    param.force_backward = True
    net = open_net(text + text_format.MessageToString(param), getattr(caffe, job["phase"]))
    random = random_for("weights of " + Path(job["file"]).parent.name)
    for blobs in net.params.values():
        scale = (2 / max(blobs[0].data[0].size, 1)) ** 0.5
        for blob, size in zip(blobs, (scale, 0.1), strict=False):
            shape = tuple(blob.shape)
            for i in range(shape[0]):  # item by item: a large layer's numbers would need gigabytes
                blob.data[i] = size * random.standard_normal(shape[1:])
    for name, (shape, _) in job["inputs"].items():
        net.blobs[name].reshape(*shape)
    caffe.set_random_seed(23)
    arrays: dict = {}
    run(net, job["inputs"], random_for(job["name"]), True, arrays, "")
    for name in [name for name in arrays if name.endswith("] data")]:
        del arrays[name]  # the weights themselves: given, and large
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


KINDS = {"layer": run_layer, "net": run_net, "solver": run_solver}

if __name__ == "__main__":
    main()
