"""Snapshots: what a solver writes, and how it goes on from there exactly.

A ``.solverstate`` holds what Caffe's does (iteration, the name of the weight file, the history of
every parameter) and, in a field that Caffe skips, the state of the random generators and the
position of every data layer that can tell it (``get_state`` and ``set_state``, strings).
"""

from __future__ import annotations

import os
from pathlib import Path

from . import caffemodel, common
from .errors import CaffeError
from .log import logger
from .proto import caffe_pb2


def write_snapshot(solver) -> None:
    """Write the solver's ``.caffemodel``, then its ``.solverstate``, each whole or not at all."""
    proto = solver.proto
    if proto.snapshot_format == caffe_pb2.SolverParameter.HDF5:
        raise CaffeError(
            f"{solver._source}: snapshot_format: HDF5 is not written by this engine yet; "
            "remove the line (BINARYPROTO is the default)"
        )
    stem = f"{proto.snapshot_prefix}_iter_{solver.iter}"
    model, state_path = f"{stem}.caffemodel", f"{stem}.solverstate"
    logger.info("Snapshotting to binary proto file %s", model)
    net = solver.net
    caffemodel.save(model, net._name, net._stored_layers(), diffs=proto.snapshot_diff)
    state = caffe_pb2.SolverState(
        iter=solver.iter, learned_net=model, current_step=solver.learning_rate.current_step
    )
    common.save_random(state.resume)
    for name, layer in zip(net._layer_names, net.layers, strict=True):
        kept = layer.get_state() if hasattr(layer, "get_state") else None
        if isinstance(kept, str):
            state.resume.layer.add(name=name, state=kept)
    logger.info("Snapshotting solver state to binary proto file %s", state_path)
    caffemodel.save_state(state_path, state, solver.history)


def restore_state(solver, path) -> None:
    """Bring the solver to the state in ``path``; CaffeError, before any change, when it does not fit."""
    path = os.fsdecode(os.fspath(path))
    if path.endswith(".h5"):
        raise CaffeError(
            f"{path}: solver states in HDF5 are not read by this engine yet; use the .solverstate"
        )
    state, reader, history = caffemodel.load_state(path)
    with reader:
        if len(history) != len(solver.history):
            raise CaffeError(
                f"{path}: Incorrect length of history blobs: {len(history)} in the file, "
                f"{len(solver.history)} needed. The state is of another net or of another solver type "
                f"(this one is {solver.type})."
            )
        for i, (blob, stored) in enumerate(zip(solver.history, history, strict=True)):
            if not stored.fits(blob.shape):
                raise CaffeError(
                    f"{path}: history blob {i} has shape {stored.shape}, this solver's net needs {tuple(blob.shape)}. "
                    "The state is of another net."
                )
        if state.HasField("learned_net"):
            solver.net.copy_from(_find_model(state.learned_net, path))
        logger.info("SGDSolver: restoring history")
        for blob, stored in zip(solver.history, history, strict=True):
            reader.fill(blob, stored)
    solver.iter = state.iter
    solver.learning_rate.current_step = state.current_step
    if state.HasField("resume"):
        common.load_random(state.resume)
        layers = dict(zip(solver.net._layer_names, solver.net.layers, strict=True))
        for entry in state.resume.layer:
            if hasattr(layers.get(entry.name), "set_state"):
                layers[entry.name].set_state(entry.state)


def _find_model(learned_net: str, state_path: str) -> str:
    """The weight file as the state names it, or, if that is gone, of the same name beside the state."""
    beside = Path(state_path).parent / Path(learned_net).name
    return learned_net if Path(learned_net).exists() or not beside.exists() else str(beside)
