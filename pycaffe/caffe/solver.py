"""Solver: trains a net as a solver prototxt says. The update rules are in ``solvers.py``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from . import common, whole
from .blob import Blob
from .errors import CaffeError
from .log import logger
from .nccl import NCCL
from .net import Net
from .policy import LearningRate
from .snapshot import restore_state, write_snapshot
from .solver_log import norms_line, output_lines
from .solver_nets import make_test_nets, make_train_net
from .solver_param import SolverParameter, check_solver, read_solver

_types: dict[str, type[Solver]] = {}


def solver_type(name: str):
    """Class decorator: ``name`` is the ``type`` in a solver prototxt that selects this class."""

    def add(cls):
        _types[name] = cls
        cls.type = name
        return cls

    return add


def get_solver(path) -> Solver:
    """The solver in the prototxt ``path``, of the class that its ``type`` names.

    Raises CaffeError when the file is missing or invalid, or names no known type.
    """
    return make_solver(*read_solver(path))


def make_solver(proto, source: str) -> Solver:
    """The solver of the message ``proto`` (SolverParameter); ``source`` names its file in errors."""
    name = proto.type
    if name not in _types:
        raise CaffeError(f"{source}: Unknown solver type: {name} (known types: {', '.join(sorted(_types))})")
    solver = _types[name].__new__(_types[name])
    solver._init(proto, source)
    return solver


class Solver:
    """Trains a net: forward, backward and an update per iteration.

    ``SGDSolver(path)`` and its siblings use their own rule whatever ``type`` the prototxt ``path`` names;
    ``get_solver(path)`` follows it. ``net`` is the training net, ``test_nets`` the test nets,
    ``iter`` the number of updates done, ``lr`` the current rate, ``param`` the settings.

    ``action_source`` is a function asked after every update and before every batch of a test:
    ``"snapshot"`` writes one, ``"stop"`` ends the call of ``step`` or ``solve`` under way, None does
    nothing. ``stopped`` says whether the last one ended so.
    """

    type = ""
    histories = 1  # history blobs per parameter
    history_of_steps = False  # does the history hold past steps, so that it stays 0 while the rate is 0?

    def __init__(self, path):
        self._init(*read_solver(path))

    def _init(self, proto, source):
        self.proto, self._source = proto, source
        self.param = SolverParameter(proto)
        self.iter = 0
        self.action_source: Callable[[], str | None] = lambda: None
        self.stopped = False
        self._callbacks = []
        self._losses: list[float] = []
        check_solver(proto, source)
        self.learning_rate = LearningRate(proto, source)
        if proto.random_seed >= 0:
            common.set_random_seed((proto.random_seed + common.solver_rank()) % 2**32)
        self.net = make_train_net(proto, source)
        self.test_nets = make_test_nets(proto, source)
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

    # -- training ---------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate of the coming update (before ``lr_mult``)."""
        return self.learning_rate(self.iter)

    def step(self, iterations: int) -> None:
        """Run ``iterations`` updates; test, display and snapshot when the prototxt says so."""
        self._step(iterations, None)

    def step_whole(self, iterations: int, blobs=()) -> None:
        """Run ``iterations`` updates like :meth:`step`, in less time and memory: it keeps little to look at.

        Its outputs, its data and the ``blobs`` (names) hold their values when ``on_gradients_ready`` is
        called and afterwards. Any other blob is computed if it is read before the update, and refused
        after it (CaffeError). Gradients are there for parameters alone. An extension of this engine.

        Raises KeyError for a name that the net does not have.
        """
        for name in blobs:
            self.net.blobs[name]
        self._step(iterations, {*self.net.outputs, *blobs})

    def _step(self, iterations: int, kept: set[str] | None) -> None:
        for net in self.test_nets:
            net._forget()  # it takes memory, and the weights will be others
        proto = self.proto
        stop_at = self.iter + int(iterations)
        self._losses, self.stopped = [], False
        start = self.iter
        mark, marked_at = time.monotonic(), self.iter
        while self.iter < stop_at:
            self.net.clear_param_diffs()
            if self._testing_due() and (self.iter > 0 or proto.test_initialization):
                self.test_all()
                if self.stopped:
                    break
            for on_start, _ in self._callbacks:
                on_start()
            shown = bool(proto.display) and self.iter % proto.display == 0
            self.net._debug_info = shown and proto.debug_info
            last = self.iter + 1 == stop_at
            loss = sum(self._pass(last and i + 1 == proto.iter_size, kept) for i in range(proto.iter_size))
            smoothed = self._smooth(loss / proto.iter_size, start)
            if shown:
                seconds, done = time.monotonic() - mark, self.iter - marked_at
                self._display(smoothed, seconds, done)
                mark, marked_at = time.monotonic(), self.iter
            for _, on_gradients_ready in self._callbacks:
                on_gradients_ready()
            self.apply_update()
            action = self.action_source()
            due = proto.snapshot and self.iter % proto.snapshot == 0 and common.solver_rank() == 0
            if due or action == "snapshot":
                self.snapshot()
            if action == "stop":
                self.stopped = True
                break

    def _pass(self, last: bool, kept: set[str] | None) -> float:
        """Forward and backward of the training net; the ``last`` of a call fills every blob, or those ``kept``."""
        net = self.net
        if kept is not None and not net.watched and whole.differentiable(net) and whole.repeatable(net):
            if net._withheld is None:
                net._withheld = whole.Withheld(net)
            return net._withheld.step(kept)
        if not last and self._unwatched(net):
            return whole.step(net, set(net.outputs))
        end = len(self.net.layers) - 1
        loss = self.net._forward(0, end)
        self.net._backward(end, 0, keep=False)
        if self.net._debug_info:
            logger.error("%s", norms_line(self.net))
        return loss

    def _unwatched(self, net: Net) -> bool:
        """Can nobody see the inner blobs of ``net`` before the next iteration, so that it may run whole?"""
        return not self._callbacks and not net.watched and whole.differentiable(net)

    def _testing_due(self) -> bool:
        interval = self.proto.test_interval
        return bool(interval and self.iter % interval == 0 and common.solver_rank() == 0)

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
        values = {name: self.net.blobs[name].data.reshape(-1).copy() for name in self.net.outputs}
        self._log_outputs(self.net, "Train", values)

    @staticmethod
    def _log_outputs(net: Net, kind: str, values: dict):
        for k, line in enumerate(output_lines(net, values)):
            logger.info("    %s net output #%d: %s", kind, k, line)

    def solve(self, resume_file=None) -> None:
        """Train to ``max_iter``, from the state file ``resume_file`` when given."""
        proto = self.proto
        logger.info("Solving %s", self.net._name)
        logger.info("Learning Rate Policy: %s", proto.lr_policy)
        if resume_file:
            logger.info("Restoring previous solver status from %s", resume_file)
            self.restore(resume_file)
        start = self.iter
        self.step(proto.max_iter - self.iter)
        if proto.snapshot_after_train and (not proto.snapshot or self.iter % proto.snapshot):
            self.snapshot()
        if self.stopped:
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
        self.stopped = False
        for i, net in enumerate(self.test_nets):
            logger.info("Iteration %d, Testing net (#%d)", self.iter, i)
            net.share_with(self.net)
            sums: dict = {}
            loss = 0.0
            count = self.proto.test_iter[i]
            for k in range(count):
                self._act_before_test()
                if self.stopped:
                    logger.info("Test interrupted.")
                    return
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

    def _act_before_test(self):
        while not self.stopped and (action := self.action_source()):
            if action == "snapshot":
                self.snapshot()
            self.stopped = action == "stop"

    def apply_update(self) -> None:
        """Change the parameters by the gradients that lie in their diffs; ``iter`` grows by 1.

        Afterwards the diffs hold what was subtracted, as Caffe leaves them.
        """
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
                lr_mult = 1.0 if entry.lr_mult is None else entry.lr_mult
                decay = proto.weight_decay * (1.0 if entry.decay_mult is None else entry.decay_mult)
                blobs = [self.history[k * count + i] for k in range(self.histories)]
                no_gradient = entry.blob._diff.is_zero and not decay
                no_rate = not lr_mult and self.history_of_steps
                if (no_gradient or no_rate) and all(blob._data.is_zero for blob in blobs):
                    entry.blob.zero_diff()  # the rule would subtract 0: spare its memory, of frozen layers above all
                    continue
                w, g = entry.blob.tensor(device), entry.blob.diff_tensor(device)
                if scale != 1:
                    g.mul_(scale)
                if decay:
                    g.add_(w if proto.regularization_type == "L2" else w.sign(), alpha=decay)
                self.to_step(g, [blob.tensor(device) for blob in blobs], rate * lr_mult)
                w.sub_(g)
                entry.blob.modified()
                entry.blob.diff_modified()
                for blob in blobs:
                    blob.modified()
        self.iter += 1

    def _clip_scale(self, table, device) -> float:
        limit = self.proto.clip_gradients
        if limit < 0:
            return 1.0
        total = sum(float(entry.blob.diff_tensor(device).double().square().sum()) for entry in table)
        norm = math.sqrt(total)
        if not norm > limit:  # a NaN, too, clips nothing
            return 1.0
        factor = limit / norm
        logger.info(
            "Gradient clipping: scaling down gradients (L2 norm %.6g > %.6g) by scale factor %.6g",
            norm,
            limit,
            factor,
        )
        return factor

    def to_step(self, g, history, rate) -> None:
        """Turn the gradient ``g`` into what is subtracted from the parameter, in place; the rule of each type.

        ``g`` and the tensors in ``history`` have the parameter's shape; ``rate`` is the learning rate
        times ``lr_mult``.
        """
        raise NotImplementedError

    # -- snapshots --------------------------------------------------------------------------------

    def snapshot(self) -> None:
        """Write ``<prefix>_iter_<N>.caffemodel`` and ``.solverstate``."""
        write_snapshot(self)

    def restore(self, path) -> None:
        """Continue from the ``.solverstate`` in ``path``: iteration, weights, history, the random state if stored."""
        restore_state(self, path)

    def add_callback(self, on_start, on_gradients_ready=None) -> None:
        """Call ``on_start()`` before each iteration and ``on_gradients_ready()`` before each update.

        One argument alone is an ``NCCL`` object, which stands for both; TypeError if it is not.
        """
        if on_gradients_ready is None:
            if not isinstance(on_start, NCCL):
                raise TypeError(
                    "add_callback takes (on_start, on_gradients_ready), or one caffe.NCCL; "
                    f"got {type(on_start).__name__} alone"
                )
            on_gradients_ready = on_start
        self._callbacks.append((on_start, on_gradients_ready))

    def share_weights(self, net: Net) -> None:
        """Let ``net`` use this solver's training net's parameter values."""
        net.share_with(self.net)
