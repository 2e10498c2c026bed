"""A process with one Caffe, ours or the original: ``python caffes.py PRECISION DEVICE`` answers jobs.

It runs on whichever ``caffe`` is importable, and uses only what both have.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("GLOG_minloglevel", "2")

import answering
import caffe
import numpy as np
from answering import image

DEVICE = "cpu"


class Engine:
    """The nets that the jobs need, built once each."""

    def __init__(self, precision: str = "float32"):
        if DEVICE == "cuda":
            caffe.set_mode_gpu()
            caffe.set_device(0)
        if precision != "float32" or hasattr(caffe, "set_precision"):
            if not hasattr(caffe, "set_precision"):
                raise RuntimeError(
                    f"this caffe computes in float32 alone: it has no set_precision({precision!r})"
                )
            caffe.set_precision(precision)
        self.net = self.solver = None
        self.scored = None

    def load(self, prototxt: str, weights: str = "", **_) -> dict:
        """Build the deploy net with its weights, or random ones; the seconds that took."""
        self.net = None
        watch = answering.Watch(DEVICE)
        with watch:
            self.net = (
                caffe.Net(prototxt, caffe.TEST, weights=weights)
                if weights
                else caffe.Net(prototxt, caffe.TEST)
            )
        if not weights:
            from reproduction import timing

            timing.fill(self.net)
        return {"seconds": watch.seconds}

    def forward(self, height: int, width: int, batch: int = 1, save: str = "") -> dict:
        """One forward pass, until the scores are in the CPU's memory; ``save`` writes them there."""
        seconds, scores = self._run(image(height, width, batch))
        if save:
            np.save(save, scores)
        return {"seconds": seconds}

    def _run(self, picture: np.ndarray) -> tuple[float, np.ndarray]:
        blob = self.net.blobs["data"]
        blob.reshape(*picture.shape)
        blob.data[...] = picture
        watch = answering.Watch(DEVICE)
        with watch:
            self.net.forward(blobs=["score"])
            scores = self.net.blobs["score"].data
        return watch.seconds, scores

    def labels(self, pictures: list[str], save: list[str]) -> dict:
        """The class of every pixel of each of ``pictures`` (files of what the net sees), written to ``save``."""
        return answering.labels(self._run, pictures, save)

    def train(self, solver: str, weights: str, height: int, width: int, steps: int = 1, save: str = "", **_):
        """Training iterations: forward, backward, update. ``save`` writes the updates of a few layers."""
        if self.solver is None:
            self.solver = caffe.SGDSolver(solver)
            self.solver.net.copy_from(weights)
        blobs, params = self.solver.net.blobs, self.solver.net.params
        blobs["data"].reshape(1, 3, height, width)
        blobs["label"].reshape(1, 1, height, width)
        blobs["data"].data[...] = image(height, width)
        blobs["label"].data[...] = answering.label(height, width)
        watch = answering.Watch(DEVICE)
        with watch:
            _step(self.solver, steps)
            loss = float(blobs["loss"].data)
        if save:  # a solver leaves in a diff what it took off the weights
            np.savez(save, **{name: params[name][0].diff for name in answering.COMPARED if name in params})
        return {"seconds": watch.seconds / steps, "loss": loss}

    def score(self, val: str, deploy: str, weights: str, ids: list[str]) -> dict:
        """Score the next images of a set as ``score.py`` does, then run the same sizes through ``net.forward`` alone.

        ``seconds``: of scoring, from files to the confusion matrix. ``forward``: the sum of the forward passes, of
        the deploy net with its data already there.
        """
        import score

        if self.scored is None:
            self.scored = caffe.Net(val, caffe.TEST, weights=weights)
            self.net = caffe.Net(deploy, caffe.TEST)
            self.net.share_with(self.scored)
        sizes = []
        start = time.perf_counter()
        score.score_heads(
            self.scored, None, ids, [score.Head()], lambda name, head, truth, *_: sizes.append(truth.shape)
        )
        seconds = time.perf_counter() - start
        forward = sum(self.forward(int(height), int(width))["seconds"] for height, width in sizes)
        return {"seconds": seconds, "forward": forward}


def _step(solver, steps: int) -> None:
    """Training iterations in the way that ``training.py`` has them: on our engine nothing else is kept to look at."""
    if hasattr(solver, "step_whole"):
        solver.step_whole(steps, ["loss", "label"])
    else:
        solver.step(steps)


def peak() -> int:
    """The most memory that was in use, bytes: the GPU's where one computes, if that is known."""
    if DEVICE == "cuda":
        try:
            import torch
        except ImportError:
            return 0
        return torch.cuda.max_memory_reserved()
    return answering.memory()


if __name__ == "__main__":
    DEVICE = sys.argv[2]
    answering.serve(lambda: Engine(sys.argv[1]), peak)
