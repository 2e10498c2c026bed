"""Work shared among processes, one for each core, that end when they should."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from tqdm import tqdm

from files import DataError


def in_processes(function: Callable, jobs: Sequence[tuple], what: str, unit: str = "image") -> None:
    """``function(*job)`` of all jobs, in as many processes as there are cores, with progress; results are dropped.

    ``function`` is one that a process can import. The first error ends them all, and so does an interrupt, at once.
    A process that is killed gives DataError; when this one is, however, they end too.
    """
    if not jobs:
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(cores(), len(jobs)), context, initializer=_follow_parent)
    try:
        with _no_interrupts(), _one_thread_each():  # the processes start here, and inherit both
            futures = [pool.submit(function, *job) for job in jobs]
        for future in tqdm(as_completed(futures), what, len(futures), leave=False, unit=unit, disable=None):
            future.result()
    except BaseException as error:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        if isinstance(error, BrokenProcessPool):
            raise DataError(
                f"{what}: one of the processes was ended from outside, perhaps for want of memory. Run it again: it "
                "goes on from here"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _follow_parent() -> None:
    """In each process: leave interrupts to the parent, and end when it does, even where it is killed."""

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _one_thread_each():
    """NumPy's own threads would get into the processes' way; this process, and what else it starts, keep theirs."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]


@contextmanager
def _no_interrupts():
    """Interrupts are for this process to pass on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
