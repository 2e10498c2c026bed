"""Snapshots: what a solver writes, and how it goes on from there exactly.

A ``.solverstate`` holds what Caffe's does (iteration, the name of the weight file, the history of
every parameter) and, in a field that Caffe skips, the state of the random generators and the
position of every data layer that can tell it (``get_state`` and ``set_state``, strings). With
``snapshot_format: HDF5`` both files are HDF5, ``.caffemodel.h5`` and ``.solverstate.h5``.
"""

from __future__ import annotations

import os
from pathlib import Path

from . import caffemodel, common, hdf5_model
from .errors import CaffeError
from .log import logger
from .message_file import HDF5_SIGNATURE, read_head
from .proto import caffe_pb2


def write_snapshot(solver) -> None:
    """Write the solver's ``.caffemodel``, then its ``.solverstate``, each whole or not at all.

    With ``snapshot_diff`` the weight file holds the gradients too.
    """
    proto, net = solver.proto, solver.net
    hdf5 = proto.snapshot_format == caffe_pb2.SolverParameter.HDF5
    form, ending = ("HDF5", ".h5") if hdf5 else ("binary proto", "")
    stem = f"{proto.snapshot_prefix}_iter_{solver.iter}"
    model, state_path = f"{stem}.caffemodel{ending}", f"{stem}.solverstate{ending}"
    logger.info("Snapshotting to %s file %s", form, model)
    if hdf5:
        net.save_hdf5(model, proto.snapshot_diff)
    else:
        caffemodel.save(model, net._name, net._stored_layers(), diffs=proto.snapshot_diff)
    state = caffe_pb2.SolverState(
        iter=solver.iter, learned_net=model, current_step=solver.learning_rate.current_step
    )
    common.save_random(state.resume)
    for name, layer in zip(net._layer_names, net.layers, strict=True):
        kept = layer.get_state() if hasattr(layer, "get_state") else None
        if isinstance(kept, str):
            state.resume.layer.add(name=name, state=kept)
    logger.info("Snapshotting solver state to %s file %s", form, state_path)
    (hdf5_model if hdf5 else caffemodel).save_state(state_path, state, solver.history)


def restore_state(solver, path) -> None:
    """Bring the solver to the state in ``path``, of either form; CaffeError, before any change, if it does not fit."""
    path = os.fsdecode(os.fspath(path))
    form = hdf5_model if read_head(path).startswith(HDF5_SIGNATURE) else caffemodel
    state, reader, history = form.load_state(path)
    with reader:
        word = state.resume.mt19937_position
        if word > 624:  # NumPy would read beyond the words
            raise CaffeError(f"{path}: its random generator is at word {word} of 624: the file is damaged")
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
        for i, (blob, stored) in enumerate(zip(solver.history, history, strict=True)):
            if not reader.fill(blob, stored):
                logger.warning("%s: history blob %d has values that are NaN or infinite", path, i)
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
