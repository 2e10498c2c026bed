"""What every process under measurement shares: it answers jobs, JSON lines in, JSON lines out.

No import of an engine here: each of the processes imports its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np

# Of a training iteration, the layers whose updates are compared: first, middle, last, and the skips
COMPARED = ("conv1_1", "conv3_1", "conv5_3", "score_fr", "score_pool4", "score_pool3")


def memory(name: str = "VmHWM") -> int:
    """VmHWM (peak) or VmRSS of this process, bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":"))


def image(height: int, width: int, batch: int = 1) -> np.ndarray:
    """Pictures of noise, as the data layers give them: N x 3 x H x W, around 0; the same in every process."""
    random = np.random.RandomState(0)
    return random.uniform(-120, 130, (batch, 3, height, width)).astype(np.float32)


def label(height: int, width: int) -> np.ndarray:
    """The truth that goes with :func:`image`: 21 upright bands, H x W float32."""
    return np.broadcast_to(np.arange(width) * 21 // width, (height, width)).astype(np.float32)


def labels(
    run: Callable[[np.ndarray], tuple[float, np.ndarray]], pictures: list[str], save: list[str]
) -> dict:
    """The job ``labels``: the class of every pixel of each of ``pictures``, written to ``save``.

    ``pictures`` are files of what the net sees; ``run`` gives the seconds of one, and its scores.
    """
    total = 0.0
    for picture, path in zip(pictures, save, strict=True):
        seconds, scores = run(np.load(picture))
        np.save(path, scores.argmax(1).astype(np.uint8))
        total += seconds
    return {"seconds": total}


class Watch:
    """``with watch:`` measures ``watch.seconds``; a GPU has finished by then."""

    def __init__(self, device: str = "cpu"):
        self.synchronize = lambda: None
        if device == "cuda":
            with suppress(ImportError):  # the original has none; reading its blobs waits for its GPU
                import torch

                self.synchronize = torch.cuda.synchronize

    def __enter__(self):
        self.synchronize()
        self.start = time.perf_counter()
        return self

    def __exit__(self, *error):
        self.synchronize()
        self.seconds = time.perf_counter() - self.start


def serve(make: Callable[[], object], peak: Callable[[], int] = memory) -> None:
    """Answer until the input ends: a job is a method of what ``make()`` gives, its answer a dict with ``peak``.

    What fails is answered by its error, in one line. Answers go to the real stdout; whatever the engine
    prints goes to stderr.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    engine = broken = None
    try:
        engine = make()
    except Exception as error:
        broken = _said(error)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = {"error": broken} if broken else getattr(engine, job.pop("job"))(**job)
        except Exception as error:
            answer = {"error": _said(error)}
        answer.setdefault("peak", peak())
        print(json.dumps(answer), file=answers, flush=True)


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
