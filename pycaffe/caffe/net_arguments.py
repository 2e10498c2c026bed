"""The constructors of pycaffe's Net told apart: the current one, and the old one with three positions."""

from __future__ import annotations

import operator
import os

from .errors import CaffeError
from .log import logger
from .proto import caffe_pb2

_USAGE = (
    "Net takes (network_file, phase, level=0, stages=None, weights=None), or in the old form "
    "(network_file, weights_file, phase); phase is caffe.TRAIN or caffe.TEST"
)
_PATH = (str, bytes, os.PathLike)


def net_arguments(args: tuple, kwargs: dict) -> tuple:
    """``(network_file, phase, level, stages, weights)`` from what Net was called with, ``args`` and ``kwargs``.

    The old form logs a deprecation warning. Raises TypeError for arguments that fit neither form, and
    CaffeError for a phase that is none.
    """
    if len(args) == 3 and not kwargs and isinstance(args[1], _PATH):
        network_file, weights, phase = args
        logger.warning("DEPRECATION WARNING - deprecated use of Python interface")
        logger.warning('Use this instead (with the named "weights" parameter):')
        logger.warning("Net('%s', %s, weights='%s')", network_file, phase, weights)
        args, kwargs = (network_file, phase), {"weights": weights}
    try:
        values = _current(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{_USAGE}; got {_written(args, kwargs)}: {error}") from None
    if values[1] not in (caffe_pb2.TRAIN, caffe_pb2.TEST):
        raise CaffeError(
            f"{os.fsdecode(values[0])}: the phase of a net is caffe.TRAIN (0) or caffe.TEST (1), got {values[1]}"
        )
    return values


def _current(network_file, phase, level=0, stages=None, weights=None):
    for name, value in (("network_file", network_file), ("weights", weights)):
        if not isinstance(value, _PATH) and (name == "network_file" or value is not None):
            raise TypeError(f"{name} is a path, not {value!r}")
    stages = [] if stages is None else stages
    if isinstance(stages, (str, bytes)) or not all(isinstance(stage, str) for stage in stages):
        raise TypeError(f"stages is a list of names, not {stages!r}")
    return network_file, operator.index(phase), operator.index(level), list(stages), weights


def _written(args: tuple, kwargs: dict) -> str:
    parts = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f"({', '.join(parts)})"
