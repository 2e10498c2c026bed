"""One engine under measurement: reads jobs as JSON lines from stdin, answers each with a JSON line.

It runs on whichever ``caffe`` is importable, and uses only what both engines have.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
import numpy as np


def memory(name: str) -> int:
    """VmRSS or VmHWM (peak) of this process, bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":"))


def image(height: int, width: int) -> np.ndarray:
    """A picture of noise, as the data layers give it: 1 x 3 x H x W, around 0."""
    return np.random.RandomState(0).uniform(-120, 130, (1, 3, height, width)).astype(np.float32)


class Engine:
    """The nets that the jobs need, built once each."""

    def __init__(self):
        self.net = self.solver = None

    def load(self, prototxt: str, weights: str) -> dict:
        """Build the deploy net with weights; the seconds that took."""
        self.net = None
        start = time.perf_counter()
        self.net = caffe.Net(prototxt, caffe.TEST, weights=weights)
        return {"seconds": time.perf_counter() - start}

    def forward(self, height: int, width: int, save: str = "") -> dict:
        """One forward pass; ``save`` writes the scores there."""
        blob = self.net.blobs["data"]
        blob.reshape(1, 3, height, width)
        blob.data[...] = image(height, width)
        start = time.perf_counter()
        self.net.forward()
        scores = self.net.blobs["score"].data
        seconds = time.perf_counter() - start
        if save:
            np.save(save, scores)
        return {"seconds": seconds}

    def train(self, solver: str, weights: str, height: int, width: int) -> dict:
        """One training iteration: forward, backward, update."""
        if self.solver is None:
            self.solver = caffe.SGDSolver(solver)
            self.solver.net.copy_from(weights)
        blobs = self.solver.net.blobs
        blobs["data"].reshape(1, 3, height, width)
        blobs["label"].reshape(1, 1, height, width)
        blobs["data"].data[...] = image(height, width)
        blobs["label"].data[...] = np.arange(width) * 21 // width
        start = time.perf_counter()
        self.solver.step(1)
        loss = float(blobs["loss"].data)
        return {"seconds": time.perf_counter() - start, "loss": loss}


def main() -> None:
    """Answer until the input ends."""
    engine = Engine()
    # answers go to the real stdout; whatever the engine prints goes to stderr
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        answer = getattr(engine, job.pop("job"))(**job)
        answer["peak"] = memory("VmHWM")
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
