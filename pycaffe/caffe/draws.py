"""Random numbers as Caffe's data layers draw them: from generators of their own, seeded once.

A layer's crops, flips and shuffles come from an mt19937 that is seeded with one draw of the
thread's generator (the one that ``caffe.set_random_seed`` seeds), so that a thread may load ahead
without touching what fillers and dropout draw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from . import common

_CHUNK = 1 << 20


def draw_seed() -> int:
    """One raw 32-bit draw of this thread's generator."""
    return int(common.random().randint(0, 2**32, dtype=np.uint32))


class Draws:
    """The raw 32-bit draws of an mt19937 seeded with ``seed``, and how many were made (``count``)."""

    def __init__(self, seed: int):
        self.seed = seed
        self._restart()

    def _restart(self) -> None:
        self._random, self.count = np.random.RandomState(self.seed), 0

    def raw(self) -> int:
        """The next draw, 0 to 2**32 - 1."""
        self.count += 1
        return int(self._random.randint(0, 2**32, dtype=np.uint32))

    def below(self, limit: int) -> int:
        """The next draw modulo ``limit``."""
        return self.raw() % limit

    def seek(self, count: int) -> None:
        """Go to where ``count`` draws have been made."""
        if count < self.count:
            self._restart()
        while self.count < count:
            step = min(_CHUNK, count - self.count)
            self._random.randint(0, 2**32, size=step, dtype=np.uint32)
            self.count += step


def shuffle(items: list, raw: Callable[[], int]) -> None:
    """Shuffle ``items`` in place as Caffe does with Boost's uniform integers: from the end down.

    Item i changes places with item j, uniform in 0..i: a draw of ``raw`` (such as
    :meth:`Draws.raw`) divided by floor(2**32 / (i + 1)), drawn anew where that exceeds i.
    """
    for i in range(len(items) - 1, 0, -1):
        bucket = 2**32 // (i + 1)
        j = raw() // bucket
        while j > i:
            j = raw() // bucket
        items[i], items[j] = items[j], items[i]


class CRand:
    """The numbers of the C library's ``rand()`` (glibc) in a program that never seeds it.

    x[k] = x[k-3] + x[k-31] modulo 2**32, of which the lowest bit is dropped; started from powers of
    16807 modulo 2**31 - 1, the first 310 numbers thrown away.
    """

    def __init__(self):
        start = [1]
        for _ in range(30):
            start.append(start[-1] * 16807 % (2**31 - 1))
        self._last = deque(start[3:] + start[:3], maxlen=31)
        for _ in range(310):
            self()

    def __call__(self) -> int:
        """The next number, 0 to 2**31 - 1."""
        value = (self._last[0] + self._last[-3]) % 2**32
        self._last.append(value)
        return value >> 1


def c_shuffle(items: list, rand: Callable[[], int]) -> None:
    """Shuffle ``items`` in place as ``std::random_shuffle`` does with the numbers of ``rand``, a :class:`CRand`."""
    for i in range(1, len(items)):
        j = rand() % (i + 1)
        items[i], items[j] = items[j], items[i]
