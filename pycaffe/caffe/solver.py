"""Solver: trains a net as a solver prototxt says. The update rules are in ``solvers.py``."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import torch

from . import common, whole
from .blob import Blob
from .errors import CaffeError
from .log import logger
from .net import Net
from .policy import LearningRate
from .proto import caffe_pb2
from .snapshot import restore_state, write_snapshot
from .upgrade import read_text

_types: dict[str, type[Solver]] = {}


def solver_type(name: str):
    """Class decorator: the ``type`` of a solver prototxt that selects this class."""

    def add(cls):
        _types[name] = cls
        cls.type = name
        return cls

    return add


def get_solver(path) -> Solver:
    """The solver in the prototxt ``path``, of the class that its ``type`` names.

    Raises CaffeError when the file is missing or invalid, or names no known type.
    """
    proto, source = read_solver(path)
    name = proto.type
    if name not in _types:
        raise CaffeError(f"{source}: Unknown solver type: {name} (known types: {', '.join(sorted(_types))})")
    solver = _types[name].__new__(_types[name])
    solver._init(proto, source)
    return solver


def read_solver(path) -> tuple[caffe_pb2.SolverParameter, str]:
    """The solver message in ``path`` with old fields upgraded and ``snapshot_prefix`` filled in."""
    source = os.fsdecode(os.fspath(path))
    proto = read_text(path, caffe_pb2.SolverParameter())
    if proto.HasField("solver_type"):
        if proto.HasField("type"):
            raise CaffeError(f"{source}: Failed to upgrade solver: both old 'solver_type' and 'type' are set")
        old = caffe_pb2.SolverParameter.SolverType.Name(proto.solver_type)
        proto.type = {name.upper(): name for name in _types}[old]
        proto.ClearField("solver_type")
    stem = str(Path(source).with_suffix(""))
    if not proto.snapshot_prefix:
        proto.snapshot_prefix = stem
    elif Path(proto.snapshot_prefix).is_dir():
        proto.snapshot_prefix = str(Path(proto.snapshot_prefix) / Path(stem).name)
    return proto, source


class SolverParameter:
    """The part of a solver's prototxt that scripts read: ``solver.param.max_iter`` and so on."""

    def __init__(self, proto):
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


class Solver:
    """Trains a net: forward, backward and an update per iteration.

    ``SGDSolver(file)`` and its siblings use their own rule whatever ``type`` the file names;
    ``get_solver(file)`` follows it. ``net`` is the training net, ``test_nets`` the test nets,
    ``iter`` the number of updates done, ``lr`` the current rate, ``param`` the settings.
    """

    type = ""
    histories = 1  # history blobs per parameter

    def __init__(self, path):
        self._init(*read_solver(path))

    def _init(self, proto, source):
        self.proto, self._source = proto, source
        self.param = SolverParameter(proto)
        self.iter = 0
        self.requested_action = None
        self._callbacks = []
        self._losses: list[float] = []
        if proto.average_loss < 1:
            raise CaffeError(f"{source}: average_loss should be at least 1, found {proto.average_loss}")
        if proto.iter_size < 1:
            raise CaffeError(f"{source}: iter_size should be at least 1, found {proto.iter_size}")
        if proto.regularization_type not in ("L1", "L2"):
            raise CaffeError(
                f"{source}: Unknown regularization type: {proto.regularization_type} (known: L1, L2)"
            )
        self.learning_rate = LearningRate(proto, source)
        self._check_snapshot_folder()
        if proto.random_seed >= 0:
            common.set_random_seed((proto.random_seed + common.solver_rank()) % 2**32)
        self.net = self._make_train_net()
        self.test_nets = self._make_test_nets()
        for group in proto.weights:
            for path in (name.strip() for name in group.split(",")):
                logger.info("Finetuning from %s", path)
                for net in [self.net, *self.test_nets]:
                    net.copy_from(path)
        table = self.net._param_table.learnable
        self.history = [Blob() for _ in range(self.histories * len(table))]
        for blob, entry in zip(self.history, table * self.histories, strict=True):
            blob.reshape(*entry.blob.shape)
        logger.info("Solver scaffolding done.")

    def _check_snapshot_folder(self):
        if self.proto.snapshot <= 0:
            return
        prefix = Path(self.proto.snapshot_prefix)
        folder = prefix.parent
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise CaffeError(
                f"Cannot write to snapshot prefix '{prefix}'.  Make sure that the directory exists and is "
                f"writable: mkdir -p {folder.absolute()}"
            )

    # -- nets -------------------------------------------------------------------------------------

    def _make_train_net(self) -> Net:
        proto = self.proto
        fields = ("net", "net_param", "train_net", "train_net_param")
        given = [name for name in fields if proto.HasField(name)]
        if len(given) != 1:
            how = "must specify a train net using one" if not given else "must not contain more than one"
            raise CaffeError(
                f"{self._source}: SolverParameter {how} of these fields: {', '.join(fields)}; found {given or 'none'}"
            )
        message, source = self._net_message(given[0], getattr(proto, given[0]))
        state = proto.train_state if proto.HasField("train_state") else None
        logger.info("Creating training net from %s", source)
        return Net.from_param(message, source, caffe_pb2.TRAIN, state)

    def _net_message(self, field: str, value):
        if field.endswith("_param"):
            return value, f"{self._source} ({field})"
        return read_text(value, caffe_pb2.NetParameter()), value

    def _make_test_nets(self) -> list[Net]:
        proto = self.proto
        nets = [("test_net_param", value) for value in proto.test_net_param]
        nets += [("test_net", value) for value in proto.test_net]
        shared = next((name for name in ("net_param", "net") if proto.HasField(name)), None)
        if shared:
            rest = len(proto.test_iter) - len(nets)
            if rest < 0:
                raise CaffeError(f"{self._source}: test_iter must be specified for each test network.")
            nets += [(shared, getattr(proto, shared))] * rest
        elif len(proto.test_iter) != len(nets):
            raise CaffeError(
                f"{self._source}: test_iter must be specified for each test network. "
                f"{len(proto.test_iter)} test_iter, {len(nets)} test nets."
            )
        if proto.test_state and len(proto.test_state) != len(nets):
            raise CaffeError(
                f"{self._source}: test_state must be unspecified or specified once per test net. "
                f"{len(proto.test_state)} given, {len(nets)} test nets."
            )
        if nets and proto.test_interval <= 0:
            raise CaffeError(f"{self._source}: test_interval must be greater than 0 when there are test nets")
        made = []
        for i, (field, value) in enumerate(nets):
            message, source = self._net_message(field, value)
            state = proto.test_state[i] if proto.test_state else None
            logger.info("Creating test net (#%d) from %s", i, source)
            made.append(Net.from_param(message, source, caffe_pb2.TEST, state))
        return made

    # -- training ---------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate of the coming update (before ``lr_mult``)."""
        return self.learning_rate(self.iter)

    def step(self, iterations: int) -> None:
        """Run ``iterations`` updates; test, display and snapshot when the prototxt says so."""
        proto = self.proto
        stop_at = self.iter + int(iterations)
        self._losses = []
        start = self.iter
        mark, marked_at = time.monotonic(), self.iter
        while self.iter < stop_at:
            self.net.clear_param_diffs()
            if self._testing_due():
                self.test_all()
                if self.requested_action == "stop":
                    break
            for on_start, _ in self._callbacks:
                on_start()
            loss = 0.0
            for _ in range(proto.iter_size):
                if self.iter + 1 < stop_at and self._unwatched(self.net):
                    loss += whole.step(self.net, set(self.net.outputs))
                else:  # the last of this call: every blob shows what it held
                    loss += self.net._forward(0, len(self.net.layers) - 1)
                    self.net._backward(len(self.net.layers) - 1, 0, keep=False)
            smoothed = self._smooth(loss / proto.iter_size, start)
            if proto.display and self.iter % proto.display == 0:
                seconds, done = time.monotonic() - mark, self.iter - marked_at
                self._display(smoothed, seconds, done)
                mark, marked_at = time.monotonic(), self.iter
            for _, on_gradients_ready in self._callbacks:
                on_gradients_ready()
            self.apply_update()
            if (
                proto.snapshot and self.iter % proto.snapshot == 0 and common.solver_rank() == 0
            ) or self.requested_action == "snapshot":
                self.snapshot()
            if self.requested_action == "stop":
                break
            self.requested_action = None

    def _unwatched(self, net: Net) -> bool:
        """Can nobody see the inner blobs of ``net`` before the next iteration, so that it may run whole?"""
        return not self._callbacks and not net.watched and whole.differentiable(net)

    def _testing_due(self) -> bool:
        interval = self.proto.test_interval
        return bool(
            self.test_nets
            and interval
            and self.iter % interval == 0
            and (self.iter > 0 or self.proto.test_initialization)
            and common.solver_rank() == 0
        )

    def _smooth(self, loss: float, start: int) -> float:
        """The mean of the last ``average_loss`` losses of this call of step()."""
        window = self.proto.average_loss
        if len(self._losses) < window:
            self._losses.append(loss)
        else:
            self._losses[(self.iter - start) % window] = loss
        return sum(self._losses) / len(self._losses)

    def _display(self, loss: float, seconds: float, done: int):
        rate = f"{done / seconds if seconds > 0 else 0:.6g} iter/s, {seconds:.6g}s/{self.proto.display} iters"
        logger.info("Iteration %d (%s), loss = %.6g", self.iter, rate, loss)
        self._log_outputs(self.net, "Train", {})

    @staticmethod
    def _log_outputs(net: Net, kind: str, means: dict):
        weights = net.blob_loss_weights
        k = 0
        for name in net.outputs:
            values = means.get(name)
            if values is None:
                values = net.blobs[name].data.reshape(-1).copy()
            for value in values.tolist():
                weight = weights.get(name, 0)
                note = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
                logger.info("    %s net output #%d: %s = %.6g%s", kind, k, name, value, note)
                k += 1

    def solve(self, resume_file=None) -> None:
        """Train to ``max_iter``, from the state file ``resume_file`` when given."""
        proto = self.proto
        logger.info("Solving %s", self.net._name)
        logger.info("Learning Rate Policy: %s", proto.lr_policy)
        if resume_file:
            self.restore(resume_file)
        start = self.iter
        self.step(proto.max_iter - self.iter)
        saved = proto.snapshot and self.iter % proto.snapshot == 0 and self.iter > start
        if proto.snapshot_after_train and not saved:
            self.snapshot()
        if self.requested_action == "stop":
            logger.info("Optimization stopped early.")
            return
        if proto.display and self.iter % proto.display == 0:
            loss = self.net._forward(0, len(self.net.layers) - 1)
            self.net._forget()
            logger.info("Iteration %d, loss = %.6g", self.iter, self._smooth(loss, start))
        if self._testing_due():
            self.test_all()
        logger.info("Optimization Done.")

    def test_all(self) -> None:
        """Run every test net for its ``test_iter`` and log the means of its outputs."""
        for i, net in enumerate(self.test_nets):
            if self.requested_action == "stop":
                return
            logger.info("Iteration %d, Testing net (#%d)", self.iter, i)
            net.share_with(self.net)
            sums: dict = {}
            loss = 0.0
            count = self.proto.test_iter[i]
            for k in range(count):
                if k + 1 < count and self._unwatched(net):
                    loss += whole.forward(net, set(net.outputs))
                else:
                    loss += net._forward(0, len(net.layers) - 1)
                for name in net.outputs:
                    values = net.blobs[name].data.reshape(-1).astype("float64")
                    sums[name] = sums.get(name, 0) + values
            net._forget()
            if self.proto.test_compute_loss:
                logger.info("Test loss: %.6g", loss / max(count, 1))
            self._log_outputs(net, "Test", {name: total / count for name, total in sums.items()})

    def apply_update(self) -> None:
        """Change the parameters by the gradients that lie in their diffs; ``iter`` grows by 1."""
        proto = self.proto
        rate = self.learning_rate(self.iter)
        if proto.display and self.iter % proto.display == 0:
            logger.info("Iteration %d, lr = %.6g", self.iter, rate)
        table = self.net._param_table.learnable
        count = len(table)
        device = common.device()
        with torch.no_grad():
            scale = self._clip_scale(table, device) / proto.iter_size
            for i, entry in enumerate(table):
                w, g = entry.blob.tensor(device), entry.blob.diff_tensor(device)
                lr_mult = 1.0 if entry.lr_mult is None else entry.lr_mult
                decay = proto.weight_decay * (1.0 if entry.decay_mult is None else entry.decay_mult)
                if scale != 1:
                    g.mul_(scale)
                if decay:
                    g.add_(w if proto.regularization_type == "L2" else w.sign(), alpha=decay)
                blobs = [self.history[k * count + i] for k in range(self.histories)]
                if lr_mult:
                    self.update(w, g, [blob.tensor(device) for blob in blobs], rate * lr_mult)
                    entry.blob.modified()
                    for blob in blobs:
                        blob.modified()
                entry.blob.diff_modified()
        self.iter += 1

    def _clip_scale(self, table, device) -> float:
        limit = self.proto.clip_gradients
        if limit < 0:
            return 1.0
        total = sum(float(entry.blob.diff_tensor(device).double().square().sum()) for entry in table)
        norm = math.sqrt(total)
        if norm <= limit:
            return 1.0
        factor = limit / norm
        logger.info(
            "Gradient clipping: scaling down gradients (L2 norm %.6g > %.6g) by scale factor %.6g",
            norm,
            limit,
            factor,
        )
        return factor

    def update(self, w, g, history, rate) -> None:
        """Change ``w`` and ``history`` in place for the gradient ``g``; implemented by each solver type."""
        raise NotImplementedError

    # -- snapshots --------------------------------------------------------------------------------

    def snapshot(self) -> None:
        """Write ``<prefix>_iter_<N>.caffemodel`` and ``.solverstate``."""
        write_snapshot(self)

    def restore(self, path) -> None:
        """Continue from a ``.solverstate``: iteration, weights, history, and the random state if stored."""
        restore_state(self, path)

    def add_callback(self, on_start, on_gradients_ready) -> None:
        """Call ``on_start()`` before each iteration and ``on_gradients_ready()`` before each update."""
        self._callbacks.append((on_start, on_gradients_ready))

    def share_weights(self, net: Net) -> None:
        """Let ``net`` use this solver's training net's parameter values."""
        net.share_with(self.net)
