"""Where a command computes: the flag ``--gpu`` read, and the mode set by it."""

from __future__ import annotations

import torch

from .. import common
from ..errors import CaffeError
from ..log import logger


def gpu_ids(flag: str) -> list[int]:
    """The device numbers in ``flag``, the value of ``--gpu``: ``0``, ``0,1`` or ``all``; none when it is empty.

    Raises CaffeError for anything else, and when PyTorch sees no such device.
    """
    if not flag:
        return []
    count = common.device_count()
    if count == 0:
        raise CaffeError(
            f"--gpu {flag}: Cannot use GPU in CPU-only Caffe: check mode. PyTorch sees no CUDA device here; "
            "leave out --gpu, or install a driver and a CUDA build of PyTorch"
        )
    if flag == "all":
        return list(range(count))
    words = [word.strip() for word in flag.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise CaffeError(f"--gpu takes device numbers separated by commas, or 'all'; found '{flag}'")
    ids = [int(word) for word in words]
    if max(ids) >= count:
        raise CaffeError(f"--gpu {flag}: PyTorch sees {count} CUDA device(s), numbered 0 to {count - 1}")
    return ids


def use(ids: list[int]) -> None:
    """Set the mode: the first GPU of ``ids``, or the CPU when there is none."""
    if not ids:
        logger.info("Use CPU.")
        common.set_mode_cpu()
        return
    logger.info("Use GPU with device ID %d", ids[0])
    logger.info("GPU %d: %s", ids[0], torch.cuda.get_device_name(ids[0]))
    common.set_device(ids[0])
    common.set_mode_gpu()
