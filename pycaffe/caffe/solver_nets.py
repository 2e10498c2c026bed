"""The nets of a solver: which of its fields name them, and in which state they are built."""

from __future__ import annotations

from pathlib import Path

from .errors import CaffeError
from .log import logger
from .net import Net
from .proto import caffe_pb2
from .upgrade import read_text
from .vectors import NetVec

_TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


def make_train_net(proto: caffe_pb2.SolverParameter, source: str) -> Net:
    """The training net of the solver ``proto`` from the file ``source``.

    Its state is phase TRAIN, then the net's own ``state``, then ``train_state``. Raises CaffeError
    unless exactly one field names a net.
    """
    given = [name for name in _TRAIN_FIELDS if proto.HasField(name)]
    if len(given) != 1:
        how = "must specify a train net using one" if not given else "must not contain more than one"
        raise CaffeError(
            f"{source}: SolverParameter {how} of these fields: {', '.join(_TRAIN_FIELDS)}; "
            f"found {', '.join(given) or 'none'}"
        )
    message, origin = _net_message(source, given[0], getattr(proto, given[0]))
    state = proto.train_state if proto.HasField("train_state") else None
    logger.info("Creating training net from %s", origin)
    return Net.from_param(message, origin, caffe_pb2.TRAIN, state)


def make_test_nets(proto: caffe_pb2.SolverParameter, source: str) -> NetVec:
    """The test nets of the solver ``proto`` from the file ``source``, one for each ``test_iter``.

    First those of ``test_net_param`` and ``test_net``, then ``net`` or ``net_param`` for the rest,
    each with its ``test_state`` if any are given. Raises CaffeError when the numbers do not agree.
    """
    nets = [("test_net_param", value) for value in proto.test_net_param]
    nets += [("test_net", value) for value in proto.test_net]
    shared = next((name for name in ("net_param", "net") if proto.HasField(name)), None)
    rest = len(proto.test_iter) - len(nets)
    if rest < 0 or (rest and not shared):
        raise CaffeError(
            f"{source}: test_iter must be specified for each test network. "
            f"{len(proto.test_iter)} test_iter, {len(nets)} test nets."
        )
    nets += [(shared, getattr(proto, shared))] * rest if shared else []
    if proto.test_state and len(proto.test_state) != len(nets):
        raise CaffeError(
            f"{source}: test_state must be unspecified or specified once per test net. "
            f"{len(proto.test_state)} given, {len(nets)} test nets."
        )
    if nets and proto.test_interval <= 0:
        raise CaffeError(f"{source}: test_interval must be greater than 0 when there are test nets")
    made = NetVec()
    for i, (field, value) in enumerate(nets):
        message, origin = _net_message(source, field, value)
        state = proto.test_state[i] if proto.test_state else None
        logger.info("Creating test net (#%d) from %s", i, origin)
        net = Net.from_param(message, origin, caffe_pb2.TEST, state)
        net._debug_info = proto.debug_info
        made.append(net)
    return made


def _net_message(source: str, field: str, value):
    """The net in a solver's ``field``, itself a message or the path of one, and what to call it."""
    if field.endswith("_param"):
        return value, f"{source} ({field})"
    if not value:
        raise CaffeError(f'{source}: {field}: "" names no file. Is this a solver?')
    if not Path(value).exists():
        raise CaffeError(
            f"{source}: {field}: Could not open file {value}: No such file. Paths in a solver start from the "
            f"current directory, which is {Path.cwd()}"
        )
    return read_text(value, caffe_pb2.NetParameter()), value
