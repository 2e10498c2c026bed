"""Timer: the milliseconds between two moments, on the CPU or on the GPU."""

from __future__ import annotations

import time

import torch

from . import common
from .log import logger


class Timer:
    """A stop watch: ``start()``, then ``stop()``, then read ``ms``.

    In GPU mode both moments wait for the work given to the device before them.
    """

    def __init__(self):
        self._started: float | None = None
        self._running = False
        self._ms = 0.0

    def start(self) -> None:
        """Begin to measure; without effect while the timer runs."""
        if not self._running:
            self._started, self._running = _now(), True

    def stop(self) -> None:
        """End the measurement; without effect while the timer stands."""
        if self._running:
            self._ms, self._running = (_now() - self._started) * 1e3, False

    @property
    def ms(self) -> float:
        """Milliseconds between start and stop. Reading stops a running timer; 0 if never started."""
        if self._started is None:
            logger.warning("Timer has never been run before reading time.")
        self.stop()
        return self._ms


def _now() -> float:
    device = common.device()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
