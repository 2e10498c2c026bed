"""Net: layers connected by blobs, run forward and backward."""

from __future__ import annotations

import os
import sys

import numpy as np

from . import caffemodel, whole
from .blob import Blob
from .fast.plan import Plan, Prepared
from .fast.training import TrainingPlan
from .log import logger
from .net_access import NetAccess
from .net_arguments import net_arguments
from .net_build import BuiltNet
from .net_weights import NetWeights
from .proto import caffe_pb2
from .upgrade import read_net, upgrade_net
from .vectors import NetVec

# what the keyword arguments of forward and backward are called in errors
_ASSIGNED = {"data": ("Input blob", "inputs", "Input"), "diff": ("Top diff", "outputs", "Diff")}


class Net(NetAccess, NetWeights, BuiltNet):
    """A net built from a prototxt.

    ``args`` and ``kwargs`` are ``(network_file, phase, level=0, stages=None, weights=None)``, or in the old form
    ``(network_file, weights_file, phase)``. ``phase`` is ``caffe.TRAIN`` or ``caffe.TEST``.

    ``blobs``, ``params``, ``layer_dict``, ``top_names``, ``bottom_names`` and
    ``blob_loss_weights`` are ordered dictionaries by name; ``layers`` and ``_layer_names`` are
    parallel lists; ``inputs`` and ``outputs`` are names. Raises CaffeError (a RuntimeError)
    for a missing file, a prototxt that does not parse, and a net that breaks a rule.
    """

    def __init__(self, *args, **kwargs):
        network_file, phase, level, stages, weights = net_arguments(args, kwargs)
        param = read_net(network_file)
        self._init(param, os.fsdecode(os.fspath(network_file)), phase, level, stages)
        if weights is None and caffemodel.is_model(network_file):
            weights = network_file
        if weights is not None:
            self.copy_from(weights)

    def __del__(self):
        withheld = getattr(self, "_withheld", None)
        if withheld is not None and not sys.is_finalizing():
            withheld.leave(self)

    @classmethod
    def from_param(cls, param: caffe_pb2.NetParameter, source: str, phase=None, state=None) -> Net:
        """A net from the message ``param`` instead of a file; ``source`` names it in errors.

        ``state`` (NetState) is merged over the message's own, ``phase`` is what both default to.
        """
        net = cls.__new__(cls)
        copy = caffe_pb2.NetParameter()
        copy.CopyFrom(param)
        merged = caffe_pb2.NetState()
        if phase is not None:
            merged.phase = phase
        merged.MergeFrom(copy.state)
        if state is not None:
            merged.MergeFrom(state)
        copy.state.CopyFrom(merged)
        net._init(upgrade_net(copy, source), source)
        return net

    # -- running ------------------------------------------------------------------------------------

    def _forward(self, start_idx: int, end_idx: int) -> float:
        """Run layers ``start_idx`` to ``end_idx``, both included; returns the summed weighted loss."""
        loss = 0.0
        for i in range(start_idx, end_idx + 1):
            for hook in self._hooks["before_forward"]:
                hook(i)
            layer, bottoms, tops = self.layers[i], self._bottoms[i], self._tops[i]
            layer.reshape(bottoms, tops)
            layer.forward(bottoms, tops)
            for blob, weight in zip(tops, self._loss_weights[i], strict=True):
                if weight:
                    loss += whole.weighted_sum(blob.tensor(), self._loss_diff(blob, weight))
            if self._debug_info:
                self._log_forward(i)
            for hook in self._hooks["after_forward"]:
                hook(i)
        return loss

    @staticmethod
    def _loss_diff(blob: Blob, weight: float):
        """The diff of a top of loss weight ``weight``, filled with it if it is not: a tensor like the data."""
        if blob._diff.is_zero:  # the top grew, or its diff was cleared
            blob.diff[...] = weight
        return blob.diff_tensor()

    def _backward(self, start_idx: int, end_idx: int, keep: bool = True) -> None:
        """Run backward from layer ``start_idx`` down to ``end_idx``, both included.

        ``keep`` false drops, layer by layer, what only a second backward of this forward would need.
        """
        if self._withheld is not None:
            self._withheld.record()
        for i in range(start_idx, end_idx - 1, -1):
            for hook in self._hooks["before_backward"]:
                hook(i)
            if self._needs[i]:
                self.layers[i].backward(self._tops[i], self._bottom_needs[i], self._bottoms[i])
                if self._debug_info:
                    self._log_backward(i)
            if not keep:
                self.layers[i]._forget()
            for hook in self._hooks["after_backward"]:
                hook(i)

    def _forget(self) -> None:
        """Drop what a backward of the last forward would need, and what only speeds up the next one."""
        self._prepared, self._plans = None, {}
        for layer in self.layers:
            layer._forget()

    def _index(self, layer_name: str) -> int:
        if layer_name not in self._layer_names:
            raise ValueError(f"'{layer_name}' is not in list: the net has no layer of that name")
        return self._layer_names.index(layer_name)

    def forward(self, blobs=None, start=None, end=None, **kwargs) -> dict[str, np.ndarray]:
        """Run the net, or its layers ``start`` to ``end`` (names, both included).

        ``kwargs``, if any, give the data of every net input by name (axis 0 as long as the blob's).
        Returns name → array for the net's outputs (or the tops of ``end``) and for the names in
        ``blobs``. The arrays are live: the next forward overwrites them. Inputs are not reshaped
        to the arrays given; call ``net.blobs[name].reshape(...)`` before.

        Raises ValueError for an unknown layer name, KeyError for one in ``blobs``, and Exception when ``kwargs`` are
        not the net's inputs.
        """
        first = 0 if start is None else self._index(start)
        last = len(self.layers) - 1 if end is None else self._index(end)
        names = set(self.outputs if end is None else self.top_names[end]) | set(blobs or [])
        self._assign("data", kwargs, self.inputs)
        if first == 0 and last == len(self.layers) - 1 and self._may_withhold(names):
            self._withheld.forward(names)
        else:
            if self._withheld is not None and first == 0:
                self._withheld.recorded = True
            self._forward(first, last)
        return {name: self.blobs[name].data for name in names}

    @property
    def watched(self) -> bool:
        """Does a hook, or the log of ``debug_info``, look into every pass?"""
        return self._debug_info or any(self._hooks.values())

    def _may_withhold(self, names) -> bool:
        """Can this forward give the blobs ``names`` alone, because the others can be computed when asked for?"""
        if self.keeps_values or self.watched or not names <= set(self.blobs):
            return False
        if self._withheld is None:
            self.keeps_values = not (whole.testing(self) and whole.repeatable(self))
            self._withheld = whole.Withheld(self)
        return not self.keeps_values and self._withheld.possible(names)

    def _plan(self, wanted: set[str]) -> Plan:
        """How the net runs fast to the blobs ``wanted``."""
        if self._prepared is None:
            self._prepared = Prepared()
        self._prepared.check(self)
        key = frozenset(wanted)
        if key not in self._plans:
            self._plans[key] = Plan(self, key, self._prepared)
        return self._plans[key]

    def _training_plan(self, wanted: set[str]) -> TrainingPlan:
        """The same for a pass of training."""
        key = "train", frozenset(wanted)
        if key not in self._plans:
            self._plans[key] = TrainingPlan(self, key[1])
        return self._plans[key]

    def backward(self, diffs=None, start=None, end=None, **kwargs) -> dict[str, np.ndarray]:
        """Run backward, or from layer ``start`` down to ``end`` (names, both included).

        ``kwargs``, if any, give the diff of every net output by name. Returns name → array of the
        diffs of the net's inputs (or the bottoms of ``end``) and of the names in ``diffs``.
        Parameter diffs are added to; bottom diffs are overwritten. Raises as :meth:`forward`, for outputs.
        """
        first = len(self.layers) - 1 if start is None else self._index(start)
        last = 0 if end is None else self._index(end)
        names = set(self.inputs if end is None else self.bottom_names[end]) | set(diffs or [])
        self._assign("diff", kwargs, self.outputs)
        self._backward(first, last)
        return {name: self.blobs[name].diff for name in names}

    def _assign(self, part: str, arrays: dict, expected: list[str]) -> None:
        """Write ``arrays``, if any, into the data or diff (``part``) of the blobs ``expected``, one for each."""
        if not arrays:
            return
        what, ends, kind = _ASSIGNED[part]
        if set(arrays) != set(expected):
            raise Exception(
                f"{what} arguments do not match net {ends}. Given: {sorted(arrays)}; the net's {ends}: {expected}"
            )
        for name, array in arrays.items():
            blob = self.blobs[name]
            if blob.shape and len(array) != blob.shape[0]:
                raise Exception(
                    f"{kind} is not batch sized: '{name}' holds {blob.shape[0]} items, given {len(array)}"
                )
            getattr(blob, part)[...] = array

    def reshape(self) -> None:
        """Propagate the inputs' shapes through every layer (forward does so by itself)."""
        for layer, bottoms, tops in zip(self.layers, self._bottoms, self._tops, strict=True):
            layer.reshape(bottoms, tops)

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to 0."""
        for learnable in self._param_table.learnable:
            learnable.blob.zero_diff()

    # -- debug_info -----------------------------------------------------------------------------------

    def _log_forward(self, i):
        name = self._layer_names[i]
        for top, blob in zip(self._top_lists[i], self._tops[i], strict=True):
            logger.info("    [Forward] Layer %s, top blob %s data: %g", name, top, _mean_abs(blob.data))
        for j, blob in enumerate(self.layers[i].blobs):
            spec = self._layer_params[i].param
            label = (spec[j].name if j < len(spec) else "") or str(j)
            logger.info("    [Forward] Layer %s, param blob %s data: %g", name, label, _mean_abs(blob.data))

    def _log_backward(self, i):
        name = self._layer_names[i]
        for j, (bottom, blob) in enumerate(zip(self._layer_params[i].bottom, self._bottoms[i], strict=True)):
            if self._bottom_needs[i][j]:
                logger.info(
                    "    [Backward] Layer %s, bottom blob %s diff: %g", name, bottom, _mean_abs(blob.diff)
                )
        for j, blob in enumerate(self.layers[i].blobs):
            if self._param_table.learns[i][j]:
                logger.info("    [Backward] Layer %s, param blob %d diff: %g", name, j, _mean_abs(blob.diff))


NetVec.kind = Net  # vectors.py cannot know it


def _mean_abs(array: np.ndarray) -> float:
    return float(np.abs(array).mean()) if array.size else 0.0
