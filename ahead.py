"""Which item of a data set comes when, and its loading ahead of time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Order:
    """Which item comes k-th: ``order[k]``, a pure function of (size, seed, k).

    With a seed, items are drawn with replacement (floor of a uniform draw times the size, from a
    generator of its own: the release's order under Python 2). Without, they come in file order,
    round and round.
    """

    def __init__(self, size: int, seed: int | None = None):
        self.size, self.seed = size, seed
        self._restart()

    def _restart(self) -> None:
        self._random, self._drawn, self._last = random.Random(self.seed), 0, 0

    def __getitem__(self, k: int) -> int:
        if self.seed is None:
            return k % self.size
        if k < self._drawn - 1:
            self._restart()
        while self._drawn <= k:
            self._last = int(self._random.random() * self.size)
            self._drawn += 1
        return self._last


class Ahead:
    """The results of ``load(k, order[k])`` for k = 0, 1, ..., made ahead of time by worker threads.

    Neither the order nor the results depend on the threads; what ``load`` raises is raised by
    :meth:`get`. ``waited`` is how many seconds :meth:`get` has waited for results that were not yet there.
    """

    def __init__(self, load: Callable[[int, int], Any], order: Order, depth: int = 4, workers: int = 2):
        self._load, self._order, self._depth = load, order, depth
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="data")
        self._loading: dict[int, Future] = {}
        self.waited = 0.0

    def get(self, k: int) -> Any:
        """The k-th result; starts on the next ``depth``, and forgets all others."""
        wanted = range(k, k + self._depth + 1)
        for gone in [i for i in self._loading if i not in wanted]:
            self._loading.pop(gone).cancel()
        for i in wanted:
            if i not in self._loading:
                self._loading[i] = self._pool.submit(self._load, i, self._order[i])
        asked = time.perf_counter()
        try:
            return self._loading[k].result()
        finally:
            self.waited += time.perf_counter() - asked


def in_turn(load: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Future]]:
    """Each of ``items`` with the future of ``load(item)``; a thread makes the next one's while this one's is in use.

    No more is made ahead, for an image may be large. What ``load`` raises, the future's ``result()`` raises.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        following = pool.submit(load, items[0]) if items else None
        for number, item in enumerate(items, 1):
            current, following = following, None
            if number < len(items):
                following = pool.submit(load, items[number])
            yield item, current
