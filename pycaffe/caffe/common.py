"""What Caffe keeps per thread: the mode (CPU or GPU), the device and the random generator."""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import contextmanager

import numpy as np
import torch

from .errors import CaffeError

_MALLOC_VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next blob, up to 2 GiB, instead of returning it at once.

    Without it every large blob of every pass is new to the process, and a fifth of the time goes
    into the kernel's clearing of pages. Whoever sets one of glibc's own variables decides; with
    another C library nothing happens.
    """
    if any(name in os.environ for name in _MALLOC_VARIABLES):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


PRECISIONS = ("float32", "tf32", "bf16")


class _ThreadState(threading.local):
    def __init__(self):
        self.device_id = 0
        self.gpu = False
        self.precision = "float32"
        self.seed(int.from_bytes(os.urandom(4), "little"))
        self.solver_count = 1
        self.solver_rank = 0
        self.multiprocess = False

    def seed(self, seed: int):
        # the very generator of Caffe: mt19937, whose raw 32-bit draws NumPy gives unchanged
        self.random = np.random.RandomState(seed)
        self.cuda_seed = seed
        self.cuda_generator = None


_state = _ThreadState()


def set_mode_cpu() -> None:
    """Compute on the CPU (the default of every thread)."""
    _state.gpu = False


def set_mode_gpu() -> None:
    """Compute on the CUDA device chosen by :func:`set_device`.

    Raises CaffeError when PyTorch sees no CUDA device.
    """
    _require_cuda(_state.device_id)
    _state.gpu = True
    _tell_cuda()


def set_precision(precision: str) -> None:
    """Choose how convolutions compute where nobody looks inside a net: ``net.forward`` in testing, solver steps.

    "float32" (the default): as Caffe does. "tf32": float32 whose products keep 10 bits of the
    mantissa, on CUDA; elsewhere the same as float32. "bf16": bfloat16 (8 bits) from the image to
    the last ReLU, float32 for the scores, in testing; solver steps stay in float32. Blobs are float32 always.

    An extension of this engine: the original has no such name. Raises ValueError for any other word.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; there are {', '.join(PRECISIONS)}")
    _state.precision = precision
    _tell_cuda()


def precision() -> str:
    """This thread's precision, as :func:`set_precision` takes it."""
    return _state.precision


def precision_dtype() -> torch.dtype:
    """The type in which that computes the layers before the scores."""
    return torch.bfloat16 if _state.precision == "bf16" else torch.float32


def _tell_cuda() -> None:
    # float32 means float32, as on Caffe, unless somebody wants less
    allowed = _state.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def set_device(device_id: int) -> None:
    """Choose the CUDA device of this thread by its number.

    Raises CaffeError when PyTorch sees no device of that number.
    """
    _require_cuda(device_id)
    _state.device_id = int(device_id)


def _require_cuda(device_id: int) -> None:
    if device_count() == 0:
        raise CaffeError(
            "Cannot use GPU in CPU-only Caffe: check mode. PyTorch sees no CUDA device here; "
            "call caffe.set_mode_cpu() (scripts: --cpu), or install a driver and a CUDA build of PyTorch."
        )
    count = device_count()
    if not 0 <= int(device_id) < count:
        raise CaffeError(
            f"Cannot use GPU {device_id}: PyTorch sees {count} CUDA device(s), numbered 0 to {count - 1}."
        )


def device_count() -> int:
    """How many CUDA devices PyTorch sees (0 without a GPU, a driver or a CUDA build)."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def device() -> torch.device:
    """The device on which this thread's layers compute."""
    return torch.device("cuda", _state.device_id) if _state.gpu else torch.device("cpu")


def set_random_seed(seed: int) -> None:
    """Reseed this thread's generators; ``seed`` is an unsigned 32-bit integer.

    Raises OverflowError below 0 and TypeError for anything but an integer.
    """
    if isinstance(seed, float):
        raise TypeError(f"set_random_seed takes an unsigned integer, got {seed!r}")
    seed = int(seed)
    if seed < 0:
        raise OverflowError(f"set_random_seed takes an unsigned integer, got {seed}")
    _state.seed(seed % 2**32)


def random() -> np.random.RandomState:
    """This thread's generator on the CPU."""
    return _state.random


def cuda_generator(where: torch.device) -> torch.Generator:
    """This thread's generator on the device ``where``, seeded with the CPU one's seed."""
    if _state.cuda_generator is None or _state.cuda_generator.device != where:
        _state.cuda_generator = torch.Generator(device=where)
        _state.cuda_generator.manual_seed(_state.cuda_seed)
    return _state.cuda_generator


def random_state() -> tuple:
    """The state of both generators."""
    generator = _state.cuda_generator
    return _state.random.get_state(), None if generator is None else generator.get_state()


@contextmanager
def random_again(state: tuple):
    """Inside, this thread's generators go on from ``state``; afterwards from where they were."""
    before = random_state()
    set_random_state(state)
    try:
        yield
    finally:
        set_random_state(before)


def set_random_state(state: tuple) -> None:
    """Set both generators to ``state``, as :func:`random_state` gave it."""
    _state.random.set_state(state[0])
    if state[1] is not None and _state.cuda_generator is not None:
        _state.cuda_generator.set_state(state[1])


def save_random(message) -> None:
    """Write both generators' states into a ``ResumeState`` message."""
    _, key, position, _, _ = _state.random.get_state()
    message.mt19937_key.extend(int(word) for word in key)
    message.mt19937_position = int(position)
    if _state.cuda_generator is not None:
        message.cuda_generator = _state.cuda_generator.get_state().numpy().tobytes()


def load_random(message) -> None:
    """Set both generators as :func:`save_random` saw them."""
    if len(message.mt19937_key) == 624:
        key = np.array(message.mt19937_key, dtype=np.uint32)
        _state.random.set_state(("MT19937", key, int(message.mt19937_position)))
    if message.HasField("cuda_generator") and torch.cuda.is_available():
        state = torch.frombuffer(bytearray(message.cuda_generator), dtype=torch.uint8)
        cuda_generator(torch.device("cuda", _state.device_id)).set_state(state)


def solver_count() -> int:
    """Number of solvers training in parallel (1 unless set)."""
    return _state.solver_count


def set_solver_count(count: int) -> None:
    """Set the number of solvers training in parallel."""
    _state.solver_count = int(count)


def solver_rank() -> int:
    """Number of this solver among those in parallel (0 is the one that logs and saves)."""
    return _state.solver_rank


def set_solver_rank(rank: int) -> None:
    """Set the number of this solver among those in parallel."""
    _state.solver_rank = int(rank)


def multiprocess() -> bool:
    """Is each of the parallel solvers a process of its own?"""
    return _state.multiprocess


def set_multiprocess(value: bool) -> None:
    """Say with ``value`` whether each of the parallel solvers is a process of its own."""
    _state.multiprocess = bool(value)
