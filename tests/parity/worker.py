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
    labels = np.asarray(random.randint(0, 5, shape))
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
                blob.diff[...] = random.standard_normal(tuple(blob.shape))
        net.clear_param_diffs()
        net.backward()
        for name, blob in net.blobs.items():
            arrays[f"{prefix}{name} diff"] = np.array(blob.diff)
    for layer, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            arrays[f"{prefix}{layer}[{index}] data"] = np.array(blob.data)
            if backward:
                arrays[f"{prefix}{layer}[{index}] diff"] = np.array(blob.diff)


KINDS = {"layer": run_layer}

if __name__ == "__main__":
    main()
