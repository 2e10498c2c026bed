"""The chain: the layers from the image on, one after another, in which a cell knows only its neighbourhood.

A chain is cut into stages, each with a map at its end that is kept: after every layer of a stride
above 1, and wherever another layer of the net reads. Within a stage any rectangle of the map at
its end can be computed alone, from the rectangle of the map before it that its windows reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ..proto import caffe_pb2
from .spans import Interval, Span, Window, within

_SAME_EVERYWHERE = ("ReLU", "PReLU", "ELU", "Sigmoid", "TanH")  # and LRN across channels

Rect = tuple[Interval, Interval]  # rows, columns


@dataclass
class Link:
    """Layer ``index`` of the net as a part of the chain, with the ReLU ``last`` if its kernel does that, too."""

    index: int
    last: int
    layer: object
    windows: tuple[Window, Window] | None = None  # down and across; None: every cell by itself
    channels: int = 0  # of what it gives

    @property
    def work(self) -> int:
        """Multiplications for a cell of what it gives; those of convolutions alone are worth counting."""
        layer = self.layer
        if layer.type != "Convolution":
            return 0
        return self.channels * layer.channels // layer.group * math.prod(layer.kernel)

    @property
    def step(self) -> tuple[int, int]:
        """How many cells of its bottom it goes on by, down and across."""
        return tuple(window.stride for window in self.windows) if self.windows else (1, 1)


@dataclass
class Stage:
    """Links, and whether a layer outside the chain reads the map at their end."""

    links: list[Link] = field(default_factory=list)
    read: bool = False


def find(net, fused: dict[int, int], wanted: set[str]) -> list[Stage]:
    """The stages of the chain of ``net``, [] if it has none.

    ``fused[i]`` is the number of the ReLU that convolution i does, too. Blobs in ``wanted`` are read from outside.
    """
    index = _first(net)
    stages, stage, start, channels = [], Stage(), True, 0
    while index is not None and (link := _link(net, index, fused, start)):
        channels = link.channels = getattr(link.layer, "num_output", channels)
        stage.links.append(link)
        following = readers(net, link.last)
        inside = [i for i in following if _link(net, i, fused)]
        index, start = inside[0] if inside else None, False
        stage.read = len(following) != 1 or not inside or net._top_lists[link.last][0] in wanted
        if stage.read or max(link.step) > 1:
            stages.append(stage)
            stage = Stage()
    return stages


def is_plane_convolution(layer) -> bool:
    """Is ``layer`` a Convolution over one blob (N, C, H, W)?"""
    return (
        layer.type == "Convolution"
        and layer.spatial == 2
        and layer.axis == 1
        and len(layer.layer_param.bottom) == 1
    )


def _first(net) -> int | None:
    """The first convolution, if it reads an input of the net or what a data layer gives."""
    for i, layer in enumerate(net.layers):
        if layer.type == "Convolution":
            bottom = net._layer_params[i].bottom[0]
            writer = max(j for j in range(i) if bottom in net._top_lists[j])
            if net.layers[writer].type == "Split":
                bottom = net._layer_params[writer].bottom[0]
                writer = max(j for j in range(writer) if bottom in net._top_lists[j])
            return None if net._layer_params[writer].bottom else i
    return None


def readers(net, index: int) -> list[int]:
    """The layers of ``net`` that read a top of layer ``index`` before another overwrites it, also behind a Split."""
    found = []
    for name in net._top_lists[index]:
        for i in range(index + 1, len(net.layers)):
            if name in net._layer_params[i].bottom:
                found += readers(net, i) if net.layers[i].type == "Split" else [i]
            if name in net._top_lists[i]:
                break
    return found


def _link(net, index: int, fused: dict[int, int], start: bool = False) -> Link | None:
    """Layer ``index`` as a link of a chain, or None if it cannot be one; ``start``: the first, on the padded image."""
    layer, last = net.layers[index], fused.get(index, index)
    if (
        len(net._layer_params[index].bottom) != 1
        or len(net._top_lists[index]) != 1
        or any(net._loss_weights[last])
    ):
        return None
    if is_plane_convolution(layer):
        # the first convolution's padding is part of the image that the chain works on
        sizes = zip(layer.extent, layer.stride, (0, 0) if start else layer.pad, strict=True)
        windows = tuple(Window(e, s, p, _counter(e, s, p)) for e, s, p in sizes)
        return Link(index, last, layer, windows)
    if layer.type == "Pooling" and _pools_inside(layer):
        return Link(
            index,
            last,
            layer,
            tuple(
                Window(k, s, 0, _pool_counter(layer, i))
                for i, (k, s) in enumerate(zip(layer.kernel, layer.stride, strict=True))
            ),
        )
    across = (
        layer.type == "LRN"
        and layer.layer_param.lrn_param.norm_region == caffe_pb2.LRNParameter.ACROSS_CHANNELS
    )
    if layer.type in _SAME_EVERYWHERE or across:
        return Link(index, last, layer)
    return None


def _counter(extent: int, stride: int, pad: int) -> Callable[[int], int]:
    return lambda length: (length + 2 * pad - extent) // stride + 1


def _pools_inside(layer) -> bool:
    """Does the layer pool, by maximum or mean, windows without padding that leave no cell out?"""
    methods = (caffe_pb2.PoolingParameter.MAX, caffe_pb2.PoolingParameter.AVE)
    return (
        bool(layer.kernel)
        and layer.method in methods
        and not any(layer.pad)
        and all(kernel >= stride for kernel, stride in zip(layer.kernel, layer.stride, strict=True))
    )


def _pool_counter(layer, axis: int) -> Callable[[int], int]:
    return lambda length: layer._output_size((length, length))[axis]


def follow(links: list[Link], axis: int, span: Span) -> list[Span]:
    """The spans of the maps along ``axis``: of the padded image, which is ``span``, then after each of ``links``."""
    spans = [span]
    for link in links:
        spans.append(link.windows[axis].after(spans[-1]) if link.windows else spans[-1])
    return spans


def needs(links: list[Link], axis: int, spans: list[Span], wanted: Interval) -> list[Interval]:
    """Which cells of the maps along ``axis`` the cells ``wanted`` of the last one come from.

    ``spans`` are those of the maps before, between and after ``links``. In that order, cells within the maps alone.
    """
    intervals = [wanted]
    for link, size in zip(reversed(links), reversed([span.size for span in spans[:-1]]), strict=True):
        first, end = link.windows[axis].reads(intervals[0]) if link.windows else intervals[0]
        intervals.insert(0, within((first, end), 0, size))
    return intervals
