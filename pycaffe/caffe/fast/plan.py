"""How a net in testing runs fast: which layers together, on which kernels.

A :class:`Plan` belongs to one net and the blobs asked for; :mod:`caffe.whole` asks it for the
results of each layer in turn. Convolutions run on weights laid out once, with the ReLU that
follows; the chain from the image on is computed without its constant border; fixed upsampling is
done channel by channel; every other layer by its own ``compute``.
"""

from __future__ import annotations

from weakref import ref

import torch

from .. import common
from . import border, chain, layout
from .kernels import Convolution
from .upsampling import Upsampling, upsampling

# layers through which a rounded score stays as it is: a convolution with only these after it gives scores
_LINEAR = (
    "Convolution",
    "Deconvolution",
    "Crop",
    "Eltwise",
    "Split",
    "Concat",
    "Softmax",
    "SoftmaxWithLoss",
    "ArgMax",
)
# layers whose computation takes any memory layout and any type
_ANY_LAYOUT = ("Pooling", "ReLU", "Dropout", "Split")
_REMEMBERED = 32  # for how many sizes of images


class Prepared:
    """What was prepared from the parameters of a net: dropped as soon as somebody may change one."""

    def __init__(self):
        self._state = None
        self.kernels: dict = {}
        self.blanks: dict = {}

    def prepare(self) -> None:
        """An array of a parameter is about to be handed out: it may be changed."""
        self._state = None

    def check(self, net) -> None:
        """Start anew if a parameter of ``net``, the device or the precision changed."""
        memories = [blob._data for layer in net.layers for blob in layer.blobs]
        state = [common.device(), common.precision(), *((memory, memory.version) for memory in memories)]
        if state != self._state or any(memory.viewed() for memory in memories):
            self.kernels, self.blanks, self._state = {}, {}, state
        for memory in memories:
            memory.watch(self)


class ChainedPlan:
    """What the ways of testing and of training have in common: the chain first, as one, then layer by layer."""

    prices: layout.Prices

    def __init__(self):
        self.stages: list[chain.Stage] = []
        self.layouts: dict = {}
        self._ready: dict[int, torch.Tensor | None] = {}

    def compute(self, index: int, sources: list[torch.Tensor]) -> list[torch.Tensor]:
        """The tops of layer ``index`` from its bottoms, ``sources``; None for one that nobody will read.

        What is done together with another layer is computed once, for the first of them.
        """
        if index in self._ready:
            return [self._ready.pop(index)]
        if self.stages and index == self.stages[0].links[0].index and self._run_chain(sources[0]):
            return [self._ready.pop(index)]
        return self._compute(index, sources)

    def _legs(self, image: torch.Tensor) -> tuple[chain.Rect, list[layout.Leg]]:
        return remembered(
            self.layouts, tuple(image.shape), lambda shape: layout.legs(self.stages, shape, self.prices)
        )

    def _run_chain(self, image: torch.Tensor) -> bool:
        """Compute the chain for ``image``, if that is worth while."""
        raise NotImplementedError

    def _compute(self, index: int, sources: list[torch.Tensor]) -> list[torch.Tensor]:
        """What :meth:`compute` gives, of a layer outside the chain."""
        raise NotImplementedError


class Plan(ChainedPlan):
    """The way of ``net`` to the blobs ``wanted``, on the kernels in ``prepared``."""

    prices = layout.Prices(blank=1 / 16, copy=100)  # sizes come again

    def __init__(self, net, wanted: frozenset[str], prepared: Prepared):
        super().__init__()
        self._net, self.prepared = ref(net), prepared  # not the net itself, which has its plans
        self.fused = fused_relus(net, wanted)
        self.cropped = _crops(net, wanted)
        self._uncut: dict[int, tuple[Upsampling, torch.Tensor]] = {}  # by the numbers of the Crops
        self.stages = chain.find(net, self.fused, wanted)
        self.scores = _scores(net)

    @property
    def net(self):
        """The net."""
        return self._net()

    def start(self) -> None:
        """A forward begins; whatever an interrupted one left is dropped."""
        self._ready.clear()
        self._uncut.clear()

    def _compute(self, index, sources):
        layer = self.net.layers[index]
        if chain.is_plane_convolution(layer):
            sides = (*[layer.pad[0]] * 2, *[layer.pad[1]] * 2)
            result = self._kernel(index)(layer.completed(sources[0]), sides)
            if index not in self.fused:
                return [result]
            self._ready[self.fused[index]] = result
            return [None]
        if layer.type == "Deconvolution" and len(sources) == 1 and (kernel := self._upsampling(index)):
            if index not in self.cropped:
                return [kernel(sources[0].float())]
            self._uncut[self.cropped[index]] = kernel, sources[0].float()
            return [None]
        if layer.type == "Crop":  # a view: nobody writes into the top of a Crop
            return [self._cropped(index, sources[0], layer.border)]
        if layer.type not in _ANY_LAYOUT:
            sources = [source.float().contiguous() for source in sources]
        if layer.in_place:
            layer.overwrite(sources[0])
            return sources
        return layer.compute(sources, self._params(layer))

    def _cropped(self, index, x, border):
        """``x``, or what the upsampling before gives, without ``border``: of that no more is computed."""
        if index not in self._uncut:
            return _cut(x, border)
        kernel, x = self._uncut.pop(index)
        down, across = kernel.sizes(x)
        left, right, top, bottom, *others = border
        cells = (-top, down + bottom), (-left, across + right)
        return _cut(kernel(x, cells), [0, 0, 0, 0, *others])

    def _params(self, layer) -> list[torch.Tensor]:
        return [blob.tensor(common.device()).detach() for blob in layer.blobs]

    def _kernel(self, index: int) -> Convolution:
        layer, relu = self.net.layers[index], index in self.fused
        kernels = self.prepared.kernels
        if (index, relu) not in kernels:
            dtype = torch.float32 if index in self.scores else common.precision_dtype()
            weight, *bias = self._params(layer)
            kernels[index, relu] = Convolution(layer, weight, bias[0] if bias else None, relu, dtype)
        return kernels[index, relu]

    def _upsampling(self, index: int) -> Upsampling | None:
        if index not in self.prepared.kernels:
            layer = self.net.layers[index]
            self.prepared.kernels[index] = upsampling(layer, self._params(layer))
        return self.prepared.kernels[index]

    def _link(self, link, x, sides):
        if chain.is_plane_convolution(link.layer):
            return self._kernel(link.index)(x, sides)
        if link.layer.type in _ANY_LAYOUT:
            return link.layer.compute([x], [])[0]
        return link.layer.compute([x.float()], self._params(link.layer))[0].to(x.dtype)

    def _run_chain(self, image):
        place, legs = self._legs(image)
        if not legs:
            return False
        blank = []
        if legs[0].blank:
            key = tuple(axis[0].size for axis in legs[0].blank), tuple(leg.links[-1].last for leg in legs)
            blank = remembered(self.prepared.blanks, key, lambda _: border.blanks(legs, self._link, image))
        limit = layout.BAND if image.device.type == "cpu" else layout.LARGE
        self._ready.update(border.run(legs, place, self._link, image, blank, limit))
        return True


def remembered(results: dict, key, make):
    """``results[key]``, made by ``make(key)`` if it is not there; the oldest goes where there are many."""
    if key not in results:
        if len(results) >= _REMEMBERED:
            results.pop(next(iter(results)))
        results[key] = make(key)
    return results[key]


def _cut(x: torch.Tensor, border: list[int]) -> torch.Tensor:
    """``x`` without ``border``: for each axis, the last first, minus what goes before and behind, as F.pad takes it."""
    for axis, (before, behind) in enumerate(zip(border[-2::-2], border[::-2], strict=True)):
        x = x.narrow(axis, -before, x.shape[axis] + before + behind)
    return x


def fused_relus(net, wanted: frozenset[str]) -> dict[int, int]:
    """By the number of a convolution of ``net``, that of the ReLU which alone reads it.

    Blobs in ``wanted`` are read from outside, too.
    """
    fused = {}
    for i, layer in enumerate(net.layers):
        if not chain.is_plane_convolution(layer) or any(net._loss_weights[i]):
            continue
        following = chain.readers(net, i)
        if (
            len(following) == 1
            and net.layers[following[0]].type == "ReLU"
            and not net.layers[following[0]].slope
        ):
            name = net._top_lists[i][0]
            if name not in wanted or name in net._top_lists[following[0]]:
                fused[i] = following[0]
    return fused


def _crops(net, wanted: frozenset[str]) -> dict[int, int]:
    """By the number of a Deconvolution of ``net``, that of the Crop which alone reads it, and cuts it."""
    crops = {}
    for i, layer in enumerate(net.layers):
        following = chain.readers(net, i)
        tops = net._top_lists[i]
        if layer.type != "Deconvolution" or len(tops) != 1 or len(following) != 1 or tops[0] in wanted:
            continue
        (crop,) = following
        cut = net.layers[crop].type == "Crop" and net._layer_params[crop].bottom[0] == tops[0]
        if cut and not any(net._loss_weights[i]):
            crops[i] = crop
    return crops


def _scores(net) -> set[int]:
    """The convolutions after which every layer is linear: what they give is rounded by nothing that follows."""
    straight: set[int] = set()
    for i in reversed(range(len(net.layers))):
        if all(net.layers[j].type in _LINEAR and j in straight for j in chain.readers(net, i)):
            straight.add(i)
    return straight
