"""A net as one function: from its inputs to the blobs asked for, or to the gradients of its parameters.

``Net._forward`` and ``_backward`` run layer by layer through blobs, so that everything Caffe shows
can be seen. Here the layers' ``compute`` are chained on tensors alone: a value lives until its last
reader has run, and one autograd graph spans all layers. The numbers are the same, to rounding
(:mod:`caffe.fast`). It is used where nobody can look inside: by ``Net.forward`` in a deploy net (an inner blob
read later is computed again, :class:`Withheld`), and by ``Solver.step`` for all but its last iteration.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from weakref import ref

import torch

from . import common
from .blob import Blob
from .errors import CaffeError
from .layer import TensorLayer, unaliased
from .proto import caffe_pb2


def repeatable(net) -> bool:
    """Would a second forward of ``net``, from the data that the first one had, give the same values?

    Stateless layers do, with the random numbers of the first time; data layers, which read no blob, are left out.
    """
    return all(
        stateless(layer) or not param.bottom
        for layer, param in zip(net.layers, net._layer_params, strict=True)
    )


def testing(net) -> bool:
    """Are all layers in the phase TEST, where no backward is to be expected?"""
    return all(layer.phase == caffe_pb2.TEST for layer in net.layers)


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


def forward(net, wanted: set[str], noted: Callable[[int], None] | None = None) -> float:
    """Run the whole of ``net`` without gradients and return its loss.

    Of the blobs only those in ``wanted``, and the tops of data layers, get their values. ``noted(i)`` is called
    as soon as a layer i that is more than its ``compute`` has run, as data layers are.
    """
    plan = net._plan(wanted)
    plan.start()
    with torch.no_grad():
        return _run(net, wanted, plan.compute, noted)


def step(net, wanted: set[str], noted: Callable[[int], None] | None = None) -> float:
    """Forward and backward of the whole of ``net``: adds to the parameters' diffs, returns the loss.

    The blobs, ``wanted`` and ``noted`` as in :func:`forward`. Raises as the layers do.
    """
    plan, device = net._training_plan(wanted), common.device()
    params: list = []
    losses: list = []

    @cache
    def leaves(layer) -> list[torch.Tensor]:
        tensors = [
            blob.tensor(device).detach().requires_grad_(learns)
            for blob, learns in zip(layer.blobs, layer.needs_blob, strict=True)
        ]
        params.extend(zip(layer.blobs, tensors, strict=True))
        return tensors

    def compute(i: int, sources: list[torch.Tensor]) -> list[torch.Tensor]:
        with torch.set_grad_enabled(net._needs[i]):
            needs = zip(sources, net._bottom_needs[i], strict=True)
            return plan.compute(
                i, [source.detach() if source is not None and not need else source for source, need in needs]
            )

    plan.start(leaves)
    loss = _run(net, wanted, compute, noted, losses)
    # from the last layer to the first, as one by one: shared parameters are summed in that order
    learned = [(blob, leaf) for blob, leaf in reversed(params) if leaf.requires_grad]
    tops = [(top, seed) for top, seed in losses if top.requires_grad]
    if tops and learned:
        grads = torch.autograd.grad(
            [top for top, _ in tops],
            [leaf for _, leaf in learned],
            [seed for _, seed in tops],
            allow_unused=True,
        )
        for (blob, _), grad in zip(learned, grads, strict=True):
            if grad is not None:
                blob.add_diff(unaliased(grad.contiguous(), set()))
    return loss


def _run(net, wanted, compute, noted=None, losses=None) -> float:
    """The layers one after another, stateless ones by ``compute(i, sources)``; returns the loss.

    ``losses``, a list, is filled with what adds to it: the tops and their diffs.
    """
    device = common.device()
    last_reader = {name: i for i, param in enumerate(net._layer_params) for name in param.bottom}
    last_writer = {name: i for i, names in enumerate(net._top_lists) for name in names}
    values: dict[str, torch.Tensor | None] = {}
    loss = 0.0
    for i, layer in enumerate(net.layers):
        bottoms, tops = net._bottoms[i], net._tops[i]
        names, top_names = net._layer_params[i].bottom, net._top_lists[i]
        layer.reshape(bottoms, tops)
        sources = [values[name] for name in names]
        if stateless(layer):
            results = compute(i, sources)
        else:
            for blob, source in zip(bottoms, sources, strict=True):
                blob.write(
                    source.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
                )
            layer.forward(bottoms, tops)
            results = [blob.tensor(device).detach() for blob in tops]
            if noted:
                noted(i)
        for name, blob, result, weight in zip(top_names, tops, results, net._loss_weights[i], strict=True):
            values[name] = result
            if weight:
                seed = net._loss_diff(blob, weight)
                loss += weighted_sum(result, seed)
                if losses is not None:
                    losses.append((result, seed))
            if name in wanted and last_writer[name] == i and stateless(layer):
                taken = {source.untyped_storage().data_ptr() for source in sources if source is not None}
                blob.write(unaliased(result.detach().float().contiguous(), taken))
        for name in [*names, *top_names]:
            if last_reader.get(name, -1) <= i:
                values.pop(name, None)
        del sources, results
    return loss


class Withheld:
    """The inner values that the last whole pass of a net did not keep; computed when one is read.

    They are computed from copies of the data and with the random numbers of that pass, so whatever
    happened since does no harm. Parameters that are asked for, and so may be changed, bring the
    values in before; if a solver or a weight file changed them, reading a withheld value is
    refused. From the first reading on ``net.forward`` keeps the inner values.
    """

    def __init__(self, net):
        self._net = ref(net)  # not the net itself: one that nobody uses should go at once, with its weights
        self.data: list = []  # blob, shape, values
        self.params: list = []  # blob, its memory, the version of that
        self.absent: list = []  # memories
        self.random: dict = {}  # the generators' states: at the start (-1), and after each data layer
        self.recorded = True  # did the last forward's layers run one by one, as a backward needs it?

    def possible(self, wanted: set[str]) -> bool:
        """Can all but the blobs in ``wanted`` be withheld: does nobody hold an array of one, or of a parameter?"""
        net = self._net()
        blobs = [*net.blobs.values(), *(blob for layer in net.layers for blob in layer.blobs)]
        filled = {id(blob._data) for blob in (*_data(net), *map(net.blobs.get, wanted))}
        return not any(blob.viewed() for blob in blobs if id(blob._data) not in filled)

    def forward(self, wanted: set[str]) -> None:
        """Run the net for the blobs in ``wanted`` and withhold all others."""
        self._withhold(wanted, forward)
        self.recorded = False

    def step(self, wanted: set[str]) -> float:
        """:func:`step` for the blobs in ``wanted``; withholds all others and returns the loss."""
        return self._withhold(wanted, step)

    def _note(self, index: int) -> None:
        self.data += _copies(self._net()._tops[index])
        self.random[index] = common.random_state()

    def _withhold(self, wanted, run) -> float:
        self._let_go()
        net = self._net()
        self.data, self.random = [], {-1: common.random_state()}
        for layer in net.layers:
            layer._forget()
        for name in wanted:
            net.blobs[name].release(but=_data(net))  # the old values make room for the new ones
        loss = run(net, wanted, self._note)
        self.params = [(blob, blob._data, blob._data.version) for layer in net.layers for blob in layer.blobs]
        present = {id(blob._data) for blob, *_ in self.data} | {id(net.blobs[name]._data) for name in wanted}
        self.absent = [blob._data for blob in net.blobs.values() if id(blob._data) not in present]
        for memory in self.absent:
            memory.release()
            memory.withheld = self
        for _, memory, _ in self.params:
            memory.watch(self)
        return loss

    def _spoiled(self) -> bool:
        return any(
            blob._data is not memory or memory.version != version for blob, memory, version in self.params
        )

    def prepare(self) -> None:
        """Somebody is about to change a parameter: compute the values while they can be."""
        net = self._net()
        if net is not None and not self._spoiled():
            kept = net.keeps_values
            self.give()
            net.keeps_values = kept  # nobody has looked at an inner value yet

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

    def record(self) -> None:
        """A backward of the last forward is about to begin: what it needs of the layers is computed if it is not there.

        Raises CaffeError when the parameters were changed since.
        """
        if not self.recorded:
            self.give()

    def leave(self, net) -> None:
        """``net`` is about to go: blobs that somebody holds keep their values beyond it."""
        if any(memory.withheld is self for memory in self.absent) and _held(net) and not self._spoiled():
            self._compute(net)

    def _compute(self, net) -> None:
        present = [blob for blob in net.blobs.values() if blob._data.withheld is not self]
        self._let_go()
        net.keeps_values = self.recorded = True
        # what the net gave stays to the last bit; the same layers one by one round otherwise
        now = _copies(present)
        _put(self.data)
        with common.random_again(self.random[-1]):
            for i in range(len(net.layers)):
                if i in self.random:
                    common.set_random_state(self.random[i])
                else:
                    net._forward(i, i)
        _put(now)
        if not any(net._needs):  # else a backward may follow, as of any forward
            net._forget()

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


def _data(net) -> list[Blob]:
    """The blobs that come from outside: the inputs, and the tops of data layers."""
    return [
        blob
        for param, tops in zip(net._layer_params, net._tops, strict=True)
        if not param.bottom
        for blob in tops
    ]


def _copies(blobs) -> list[tuple[Blob, tuple[int, ...], torch.Tensor]]:
    return [(blob, tuple(blob.shape), blob.tensor().clone()) for blob in blobs]


def _put(values) -> None:
    for blob, shape, tensor in values:
        blob.reshape(*shape)
        blob.write(tensor)
