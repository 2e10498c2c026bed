"""What the command line's ``upgrade_*`` commands do: rewrite old files in the current form."""

from __future__ import annotations

import os

from google.protobuf import text_format

from . import caffemodel
from .errors import CaffeError
from .log import logger
from .message_file import HDF5_SIGNATURE, is_text, read_head, read_text
from .proto import caffe_pb2
from .upgrade import needs_upgrade, upgrade_reporting, upgrade_solver
from .wire import Reader, replacing


def upgrade_net_text(source, target) -> bool:
    """Write the net in the file ``source``, of any generation, to ``target`` as a prototxt in current form.

    Returns False when something of a V0 layer had to be left out (each is logged), else True.
    Raises CaffeError, with nothing written, when ``source`` is no net or breaks a rule.
    """
    net = read_text(source, caffe_pb2.NetParameter())
    complete = _upgrade(net, source)
    with replacing(target) as file:
        file.write(text_format.MessageToString(net).encode())
    logger.info("Wrote upgraded NetParameter text proto to %s", os.fsdecode(os.fspath(target)))
    return complete


def upgrade_net_binary(source, target) -> bool:
    """Write the net in the file ``source``, with its weights, to ``target`` as a current ``.caffemodel``.

    The weights are copied as they are. Returns and raises as :func:`upgrade_net_text`.
    """
    content, head = None, read_head(source)
    if head.startswith(HDF5_SIGNATURE):
        raise CaffeError(f"{source}: this is an HDF5 file: it holds weights alone, and needs no upgrade")
    if is_text(head):
        content = read_text(source, caffe_pb2.NetParameter()).SerializeToString()
    with Reader(source, "caffemodel", content) as reader:
        net, blobs = caffemodel.skeleton(reader)
        complete = _upgrade(net, source)
        caffemodel.save_skeleton(target, net, blobs)
    logger.info("Wrote upgraded NetParameter binary proto to %s", os.fsdecode(os.fspath(target)))
    return complete


def upgrade_solver_text(source, target) -> bool:
    """Write the solver in the file ``source`` to ``target`` with ``type`` for the old ``solver_type``.

    Returns True. Raises CaffeError, with nothing written, when ``source`` is no solver or sets both.
    """
    solver = read_text(source, caffe_pb2.SolverParameter())
    if not solver.HasField("solver_type"):
        _already(source)
    upgrade_solver(solver, os.fsdecode(os.fspath(source)))
    with replacing(target) as file:
        file.write(text_format.MessageToString(solver).encode())
    logger.info("Wrote upgraded SolverParameter text proto to %s", os.fsdecode(os.fspath(target)))
    return True


def _upgrade(net: caffe_pb2.NetParameter, source) -> bool:
    if not needs_upgrade(net):
        _already(source)
    problems = upgrade_reporting(net, os.fsdecode(os.fspath(source)))
    for problem in problems:
        logger.error("%s", problem)
    return not problems


def _already(source) -> None:
    logger.error("File already in latest proto format: %s", os.fsdecode(os.fspath(source)))
