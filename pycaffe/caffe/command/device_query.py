"""``caffe device_query``: what the GPUs are."""

from __future__ import annotations

import torch

from .. import common
from ..log import logger
from .device import gpu_ids
from .flags import add_gpu

# what Caffe prints: its words, and what PyTorch calls the property
_PROPERTIES = (
    ("Major revision number", "major"),
    ("Minor revision number", "minor"),
    ("Name", "name"),
    ("Total global memory", "total_memory"),
    ("Total shared memory per block", "shared_memory_per_block"),
    ("Warp size", "warp_size"),
    ("Number of multiprocessors", "multi_processor_count"),
)


def add_parser(commands) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "device_query",
        help="show the GPUs that a net can run on",
        description="Show what PyTorch knows of each GPU: name, memory, compute capability.",
        epilog="examples:\n  caffe device_query\n  caffe device_query --gpu 0,1",
    )
    add_gpu(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    """Print the properties of the GPUs in ``args.gpu`` (default: all)."""
    if not args.gpu and common.device_count() == 0:
        print("No CUDA device: nets run on the CPU.")
        return
    ids = gpu_ids(args.gpu or "all")
    logger.info("Querying GPUs %s", ", ".join(map(str, ids)))
    for number in ids:
        properties = torch.cuda.get_device_properties(number)
        print(f"{'Device id:':32}{number}")
        for words, name in _PROPERTIES:
            if hasattr(properties, name):  # some came with later versions of PyTorch
                print(f"{words + ':':32}{getattr(properties, name)}")
