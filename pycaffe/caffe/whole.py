"""A net as one function: from its inputs to the blobs asked for, or to the gradients of its parameters.

``Net._forward`` and ``_backward`` run layer by layer through blobs, so that everything Caffe shows
can be seen. Here the layers' ``compute`` are chained on tensors alone: a value lives until its last
reader has run, and one autograd graph spans all layers. The numbers are the same, bit for bit on
the CPU. It is used where nobody can look inside: by ``Net.forward`` in a deploy net (an inner blob
read later is computed again, :class:`Withheld`), and by ``Solver.step`` for all but its last iteration.
"""

from __future__ import annotations

import sys
from collections import Counter
from weakref import WeakSet, ref

import torch

from . import common
from .blob import Blob
from .errors import CaffeError
from .layer import TensorLayer, unaliased
from .proto import caffe_pb2


def repeatable(net) -> bool:
    """Would a second forward of ``net`` give the same values? Inputs and stateless layers in testing do."""
    return all(
        layer.type == "Input" or (stateless(layer) and layer.phase == caffe_pb2.TEST) for layer in net.layers
    )


def differentiable(net) -> bool:
    """Can one graph give all gradients of ``net``? Layers of another kind may only lie where none is needed."""
    return all(
        not needs or (stateless(layer) and layer.backward_refusal(wanted) is None)
        for layer, needs, wanted in zip(net.layers, net._needs, net._bottom_needs, strict=True)
    )


def stateless(layer) -> bool:
    """Is the layer nothing but its ``compute``?"""
    return isinstance(layer, TensorLayer) and layer.stateless


def weighted_sum(values: torch.Tensor, weights: torch.Tensor) -> float:
    """The sum of ``values`` times ``weights``, in float64: what a top adds to the loss."""
    return float((values.detach().double() * weights).sum())


def forward(net, wanted: set[str]) -> float:
    """Run the whole of ``net`` without gradients and return its loss.

    Of the blobs only those in ``wanted``, and the tops of data layers, get their values.
    """
    with torch.no_grad():
        return _run(net, wanted)


def step(net, wanted: set[str]) -> float:
    """Forward and backward of the whole of ``net``: adds to the parameters' diffs, returns the loss.

    The blobs, and ``wanted``, as in :func:`forward`. Raises as the layers do.
    """
    params: list = []
    losses: list = []
    loss = _run(net, wanted, params, losses)
    # from the last layer to the first, as one by one: shared parameters are summed in that order
    leaves = [(blob, leaf) for blob, leaf in reversed(params) if leaf.requires_grad]
    tops = [(top, seed) for top, seed in losses if top.requires_grad]
    if tops and leaves:
        grads = torch.autograd.grad(
            [top for top, _ in tops],
            [leaf for _, leaf in leaves],
            [seed for _, seed in tops],
            allow_unused=True,
        )
        for (blob, _), grad in zip(leaves, grads, strict=True):
            if grad is not None:
                blob.add_diff(unaliased(grad, set()))
    return loss


def _run(net, wanted, params=None, losses=None) -> float:
    """The layers one after another; with ``params`` and ``losses``, lists to fill, it records gradients."""
    record = params is not None
    device = common.device()
    last_reader = {name: i for i, param in enumerate(net._layer_params) for name in param.bottom}
    last_writer = {name: i for i, names in enumerate(net._top_lists) for name in names}
    values: dict[str, torch.Tensor] = {}
    loss = 0.0
    for i, layer in enumerate(net.layers):
        bottoms, tops = net._bottoms[i], net._tops[i]
        names, top_names = net._layer_params[i].bottom, net._top_lists[i]
        layer.reshape(bottoms, tops)
        sources = [values[name] for name in names]
        if stateless(layer):
            with torch.set_grad_enabled(record and net._needs[i]):
                results = _compute(layer, sources, net._bottom_needs[i], device, params)
        else:
            for blob, source in zip(bottoms, sources, strict=True):
                blob.write(source.detach().clone())
            layer.forward(bottoms, tops)
            results = [blob.tensor(device).detach() for blob in tops]
        for name, blob, result, weight in zip(top_names, tops, results, net._loss_weights[i], strict=True):
            values[name] = result
            if weight:
                seed = net._loss_diff(blob, weight)
                loss += weighted_sum(result, seed)
                if record:
                    losses.append((result, seed))
            if name in wanted and last_writer[name] == i and stateless(layer):
                blob.write(
                    unaliased(result.detach(), {source.untyped_storage().data_ptr() for source in sources})
                )
        for name in [*names, *top_names]:
            if last_reader.get(name, -1) <= i:
                values.pop(name, None)
        del sources, results
    return loss


def _compute(layer, sources, needs, device, params):
    if params is None and layer.in_place:
        layer.overwrite(sources[0])
        return sources
    leaves = []
    for blob, learns in zip(layer.blobs, layer.needs_blob, strict=True):
        leaf = blob.tensor(device).detach()
        if params is not None:
            params.append((blob, leaf.requires_grad_(learns)))
        leaves.append(leaf)
    sources = [source if need else source.detach() for source, need in zip(sources, needs, strict=True)]
    return layer.compute(sources, leaves)


class Withheld:
    """The inner values that the last whole forward of a net did not keep; computed when one is read.

    They are computed from copies of the inputs, so whatever was written into those since does no
    harm. Parameters that are asked for, and so may be changed, bring the values in before; if a
    solver or a weight file changed them, reading a withheld value is refused. From the first reading
    on the net keeps its inner values.
    """

    def __init__(self, net):
        self._net = ref(net)  # not the net itself: one that nobody uses should go at once, with its weights
        self.inputs: list = []  # blob, shape, values
        self.params: list = []  # blob, its memory, the version of that
        self.absent: list = []  # memories

    def possible(self) -> bool:
        """Can inner values be withheld now: does nobody hold an array of one, or of a parameter?"""
        net = self._net()
        blobs = [*net.blobs.values(), *(blob for layer in net.layers for blob in layer.blobs)]
        inputs = {id(net.blobs[name]._data) for name in net.inputs}
        return not any(blob.viewed() for blob in blobs if id(blob._data) not in inputs)

    def forward(self, wanted: set[str]) -> None:
        """Run the net for the blobs in ``wanted`` and withhold all others."""
        self._let_go()
        net = self._net()
        forward(net, wanted)
        self.inputs = [
            (blob, tuple(blob.shape), blob.tensor().clone()) for blob in map(net.blobs.get, net.inputs)
        ]
        self.params = [(blob, blob._data, blob._data.version) for layer in net.layers for blob in layer.blobs]
        present = {id(blob._data) for blob, *_ in self.inputs} | {
            id(net.blobs[name]._data) for name in wanted
        }
        self.absent = [blob._data for blob in net.blobs.values() if id(blob._data) not in present]
        for memory in self.absent:
            memory.release()
            memory.withheld = self
        for _, memory, _ in self.params:
            if memory.before_change is None:
                memory.before_change = WeakSet()
            memory.before_change.add(self)

    def _spoiled(self) -> bool:
        return any(
            blob._data is not memory or memory.version != version for blob, memory, version in self.params
        )

    def prepare(self) -> None:
        """Somebody is about to change a parameter: compute the values while they can be."""
        if self._net() is not None and not self._spoiled():
            self.give()

    def give(self) -> None:
        """Compute the withheld values.

        Raises CaffeError when the parameters were changed since.
        """
        if self._spoiled():
            raise CaffeError(
                "this blob's values were not kept by the last forward, and the parameters have changed since; ask "
                "for it by name, net.forward(blobs=['...']), or read it before they change"
            )
        self._compute(self._net())

    def leave(self, net) -> None:
        """``net`` is about to go: blobs that somebody holds keep their values beyond it."""
        if any(memory.withheld is self for memory in self.absent) and _held(net) and not self._spoiled():
            self._compute(net)

    def _compute(self, net) -> None:
        self._let_go()
        net.keeps_values = True
        now = [(blob, tuple(blob.shape), blob.tensor().clone()) for blob, *_ in self.inputs]
        _put(self.inputs)
        net._forward(0, len(net.layers) - 1)
        _put(now)

    def _let_go(self) -> None:
        for memory in self.absent:
            if memory.withheld is self:
                memory.withheld = None
        for _, memory, _ in self.params:
            if memory.before_change is not None:
                memory.before_change.discard(self)


def _held(net) -> bool:
    """Does anybody but ``net`` refer to one of its blobs whose values are withheld, or to all blobs?"""
    if sys.getrefcount(net.blobs) > sys.getrefcount(net._hooks):  # nobody else has the hooks
        return True
    own = Counter(id(blob) for blobs in (*net._bottoms, *net._tops) for blob in blobs)
    (alone,) = [sys.getrefcount(blob) for blob in {"": Blob()}.values()]
    return any(
        sys.getrefcount(blob) > alone + own[id(blob)] for blob in net.blobs.values() if blob._data.withheld
    )


def _put(values) -> None:
    for blob, shape, tensor in values:
        blob.reshape(*shape)
        blob.write(tensor)
