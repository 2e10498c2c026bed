"""Times of nets: fair, round by round, on whatever else the machine does (Table 1).

Nets that are compared take turns, a trial each a round, so that noise falls on all alike; a first round
does not count. Times are milliseconds by :class:`caffe.Timer`, which waits for a GPU; they are those of
the device that caffe is set to (``caffe.set_mode_gpu()``). Weights and images are random, of
a spread that all layers keep: times depend on them only where values are zero or vanish.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import caffe
import numpy as np
import torch
from caffe import common
from caffe.proto import caffe_pb2
from tqdm import tqdm

import nets
import surgery
from files import DataError


class Watch:
    """A stop watch that adds up: ``ms`` spent in the blocks ``with watch:``."""

    def __init__(self, timer):
        self.timer, self.ms = timer, 0.0

    def __enter__(self):
        self.timer.start()

    def __exit__(self, *error):
        self.timer.stop()
        self.ms += self.timer.ms


def take_turns(
    jobs: Mapping[str, Callable[[Watch], None]], rounds: int, what: str = "", timer=caffe.Timer
) -> dict[str, list[float]]:
    """Milliseconds of each of the ``jobs`` in each of ``rounds`` rounds, by their names.

    A job is called with a :class:`Watch`, and times what it likes. In a round each has its turn; a round before the
    first does not count. ``what`` names the progress bar. Raises DataError for fewer than one round.
    """
    if rounds < 1:
        raise DataError(f"{rounds} rounds were asked for: at least 1 is needed to measure a time")
    times: dict[str, list[float]] = {name: [] for name in jobs}
    with tqdm(total=(rounds + 1) * len(jobs), desc=what, disable=None, leave=False) as progress:
        for number in range(rounds + 1):
            for name, job in jobs.items():
                watch = Watch(timer())
                job(watch)
                if number:
                    times[name].append(watch.ms)
                progress.update()
    return times


def summary(times: list[float]) -> dict:
    """Median, mean, smallest and largest of ``times`` (ms), and how many there are."""
    return {
        "median_ms": statistics.median(times),
        "mean_ms": statistics.fmean(times),
        "min_ms": min(times),
        "max_ms": max(times),
        "trials": len(times),
    }


def ratio(above: list[float], below: list[float]) -> dict:
    """``above`` over ``below``, round by round: median, smallest and largest of the ratios."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def circumstances() -> dict:
    """What times depend on besides the net: the device's name, and the CPU threads that compute."""
    device = common.device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": name, "threads": torch.get_num_threads()}


def build(param: caffe_pb2.NetParameter, phase=caffe.TEST) -> caffe.Net:
    """The net of ``param``."""
    return caffe.Net.from_param(param, f"the net {param.name!r}", phase)


def sized(param: caffe_pb2.NetParameter, shape) -> caffe_pb2.NetParameter:
    """A copy of ``param`` whose first input has ``shape``."""
    made = caffe_pb2.NetParameter()
    made.CopyFrom(param)
    made.layer[0].input_param.shape[0].dim[:] = shape
    return made


def fill(net: caffe.Net, seed: int = 0) -> caffe.Net:
    """Random weights for ``net``, of He's spread, and small biases; upsampling is bilinear. Returns ``net``."""
    random = np.random.default_rng(seed)
    upsampling = [layer for layer, kind in _types(net).items() if kind == "Deconvolution"]
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            if layer not in upsampling:
                spread = 0.1 if i else (2 / blob.data[0].size) ** 0.5
                random.standard_normal(dtype=np.float32, out=blob.data)
                blob.data[...] *= spread
    surgery.interp(net, upsampling)
    return net


def noise(shape, seed: int = 0) -> np.ndarray:
    """An image of noise, N x C x H x W, float32, mean 0 and spread 1."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def put(net: caffe.Net, image: np.ndarray, blob: str = "data") -> None:
    """Give ``net`` its input, as a user would."""
    if tuple(net.blobs[blob].shape) != image.shape:
        net.blobs[blob].reshape(*image.shape)
    net.blobs[blob].data[...] = image


def forward(models: Mapping[str, object], size=(500, 500), trials: int = 20, timer=caffe.Timer) -> dict:
    """Forward times of ``models``, which take turns: name → :func:`summary`, beside :func:`circumstances`.

    ``models``: name → model directory, or the NetParameter of a deploy net. A time is that of ``net.forward()``
    on an image of ``size`` (height, width): until the scores are there, in the CPU's memory.
    """
    built = {name: fill(build(_param(model, "deploy"))) for name, model in models.items()}
    image = noise((1, 3, *size))

    def job(net):
        def run(watch):
            put(net, image)
            with watch:
                net.forward()

        return run

    jobs = {name: job(net) for name, net in built.items()}
    return _measured(take_turns(jobs, trials, "forward", timer), size)


def _measured(times: dict[str, list[float]], size) -> dict:
    return {
        "size": list(size),
        **circumstances(),
        "nets": {name: summary(each) for name, each in times.items()},
    }


def _types(net: caffe.Net) -> dict[str, str]:
    return {name: layer.type for name, layer in zip(net._layer_names, net.layers, strict=True)}


def _param(model, stem: str) -> caffe_pb2.NetParameter:
    """The NetParameter ``model``, or what the file ``stem``.prototxt of the directory ``model`` has."""
    if isinstance(model, caffe_pb2.NetParameter):
        return model
    return nets.read_prototxt(Path(model) / f"{stem}.prototxt", caffe_pb2.NetParameter())
