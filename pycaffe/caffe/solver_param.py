"""Solver prototxts: read, checked, and the part of them that scripts see."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import CaffeError
from .proto import caffe_pb2
from .upgrade import read_text, upgrade_solver


def read_solver(path) -> tuple[caffe_pb2.SolverParameter, str]:
    """The solver message in the file ``path``, with old fields upgraded and ``snapshot_prefix`` filled in.

    Returns it with the path as text. A prefix that is missing is the path without its extension;
    one that is a directory gets the file's name. Raises CaffeError when the file is missing or invalid.
    """
    source = os.fsdecode(os.fspath(path))
    proto = upgrade_solver(read_text(path, caffe_pb2.SolverParameter()), source)
    stem = str(Path(source).with_suffix(""))
    if not proto.snapshot_prefix:
        proto.snapshot_prefix = stem
    elif Path(proto.snapshot_prefix).is_dir():
        proto.snapshot_prefix = str(Path(proto.snapshot_prefix) / Path(stem).name)
    return proto, source


def check_solver(proto: caffe_pb2.SolverParameter, source: str) -> None:
    """Raise CaffeError, naming ``source``, when ``proto`` breaks a rule that needs no net to see."""
    for name in ("average_loss", "iter_size"):
        if getattr(proto, name) < 1:
            raise CaffeError(f"{source}: {name} should be at least 1, found {getattr(proto, name)}")
    if proto.regularization_type not in ("L1", "L2"):
        raise CaffeError(
            f"{source}: Unknown regularization type: {proto.regularization_type} (known: L1, L2)"
        )
    folder = Path(proto.snapshot_prefix).parent
    if proto.snapshot > 0 and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise CaffeError(
            f"Cannot write to snapshot prefix '{proto.snapshot_prefix}'.  Make sure that the directory exists and "
            f"is writable: mkdir -p {folder.absolute()}"
        )


class SolverParameter:
    """The part of a solver's ``proto`` that scripts read: ``solver.param.max_iter`` and so on."""

    def __init__(self, proto: caffe_pb2.SolverParameter):
        self._proto = proto

    max_iter = property(lambda self: self._proto.max_iter, doc="Iteration at which solve() ends.")
    display = property(lambda self: self._proto.display, doc="Iterations between log lines (0: none).")
    layer_wise_reduce = property(lambda self: self._proto.layer_wise_reduce, doc="Kept for compatibility.")

    @property
    def base_lr(self) -> float:
        """The base learning rate; may be assigned."""
        return self._proto.base_lr

    @base_lr.setter
    def base_lr(self, value: float):
        self._proto.base_lr = value
