"""How far a chain is computed for the image alone: the legs, and where everything lies in their maps.

A leg is a stage, or a part of one, with a map at its end that is put together from what depends on
the image and what the blank image shows. Where to end a leg, and how many there are, is chosen for
the least work; large maps should not be in memory as a whole, whatever the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from .chain import Link, Rect, Stage, follow, needs
from .spans import Interval, Span, blank_length

LARGE = 64 * 2**20  # bytes of a map inside a stage, from which on it should not be in memory as a whole
BAND = 24 * 2**20  # bytes of the largest map within a band

Spans = tuple[list[Span], list[Span]]  # of the maps of a stage, the one it starts from first: down, across


@dataclass
class Prices:
    """What the work of an image is made of, in multiplications of a convolution."""

    blank: float  # how much of those for a blank image falls to each image: 1 where it is computed with every one
    copy: float  # to copy a number


class Leg:
    """A stage, and where everything lies in its maps: ``spans``, and ``blank`` over the blank image or None."""

    def __init__(self, stage: Stage, spans: Spans, blank: Spans | None):
        self.links, self.read = stage.links, stage.read
        self.spans, self.blank = spans, blank
        self.whole = whole_map(spans)
        self.part: Rect = tuple(axis[-1].image for axis in spans) if blank else self.whole

    def needed(self) -> Rect:
        """What of the map that it starts from the part reads."""
        return tuple(needs(self.links, axis, self.spans[axis], self.part[axis])[0] for axis in (0, 1))

    def bands(self, batch: int, limit: float) -> list[Interval]:
        """The part's rows, in intervals whose largest map, for ``batch`` images, has about ``limit`` bytes at most."""
        first, end = self.part[0]
        width = (self.part[1][1] - self.part[1][0]) / max(self.whole[1][1], 1)
        row = max(_row_bytes(self.links, self.spans)) * batch * width
        count = min(max(math.ceil((end - first) * row / limit), 1), end - first)
        edges = [first + (end - first) * i // count for i in range(count + 1)]
        return list(pairwise(edges))


def _row_bytes(links: list[Link], spans: Spans) -> list[float]:
    """Of the map after each link: its bytes in float32 for one row of the last map."""
    maps = zip(links, spans[0][1:], spans[1][1:], strict=True)
    return [4 * link.channels * across.size * down.size / spans[0][-1].size for link, down, across in maps]


def legs(stages: list[Stage], shape: tuple[int, ...], prices: Prices) -> tuple[Rect, list[Leg]]:
    """For images of ``shape``: where the image lies in its padding, and the leading ``stages`` worth computing so.

    They are those that ``prices`` makes cheaper, and all up to the last that is large.
    """
    links = [link for stage in stages for link in stage.links]
    pads = links[0].layer.pad
    lengths = [size + 2 * pad for size, pad in zip(shape[2:], pads, strict=True)]
    image = tuple((pad, pad + size) for size, pad in zip(shape[2:], pads, strict=True))
    spans = _follow(links, lengths, image)
    if min(span.size for axis in spans for span in axis) < 1:
        return image, []  # the layers themselves say what is wrong
    if any(span.image[0] >= span.image[1] for axis in spans for span in axis):
        return image, []  # a stride steps over all of the image
    uncut = [Leg(stage, cut, None) for stage, cut in _each(stages, spans)]
    large = max((number for number, leg in enumerate(uncut, 1) if _large(leg, shape[0])), default=0)
    stages = [
        piece
        for stage, cut in _each(stages, spans)
        for piece in _pieces(stage, cut, prices.copy, LARGE / 4 / shape[0])
    ]
    count = _cheapest(stages, spans, lengths, Prices(prices.blank / shape[0], prices.copy))
    last = sum(len(leg.links) for leg in uncut[:large])
    while count and sum(len(stage.links) for stage in stages[:count]) < last:
        count += 1
    blank = _blank([link for stage in stages[:count] for link in stage.links], lengths)
    if blank is None:
        return image, uncut[:large]
    return image, [Leg(stage, *cuts) for stage, *cuts in _each(stages[:count], spans, blank)]


def _each(stages: list[Stage], *spans: Spans | None) -> Iterator[tuple]:
    """Each of ``stages``, with its share of ``spans`` over all of them."""
    begin = 0
    for stage in stages:
        end = begin + len(stage.links)
        yield stage, *(each and tuple(axis[begin : end + 1] for axis in each) for each in spans)
        begin = end


def _pieces(stage: Stage, spans: Spans, copy: float, most: float) -> list[Stage]:
    """``stage`` cut where that spares more multiplications than copying the map there is worth, at ``copy`` a number.

    Maps of more than ``most`` numbers are not put together.

    The further before the end of a stage, the wider around the image must its maps be, to give all
    of that end; maps whose surroundings are known need no more than what depends on the image.
    """
    pieces, end = [], len(stage.links)
    wanted = tuple(axis[end].image for axis in spans)
    for cut in range(end - 1, 0, -1):
        link, at = stage.links[cut - 1], tuple(tuple(axis[cut : end + 1]) for axis in spans)
        read = tuple(needs(stage.links[cut:end], axis, at[axis], wanted[axis])[0] for axis in (0, 1))
        image = tuple(axis[cut].image for axis in spans)
        before = tuple(axis[: cut + 1] for axis in spans)
        spared = _work(stage.links[:cut], before, read) - _work(stage.links[:cut], before, image)
        numbers = link.channels * _area(read)
        if copy * numbers < spared and numbers <= most:
            pieces.insert(0, Stage(stage.links[cut:end], stage.read and end == len(stage.links)))
            end, wanted = cut, image
    return [Stage(stage.links[:end], stage.read and end == len(stage.links)), *pieces]


def _cheapest(stages: list[Stage], spans: Spans, lengths: list[int], prices: Prices) -> int:
    """How many of the leading ``stages`` to compute without their border, for the least work."""
    best, least, spared = 0, 0.0, 0.0
    for count, (stage, cut) in enumerate(_each(stages, spans), 1):
        links = [link for stage in stages[:count] for link in stage.links]
        blank = _blank(links, lengths)
        if blank is None:
            break
        part = tuple(axis[-1].image for axis in cut)
        spared += _work(stage.links, cut, whole_map(cut)) - _work(stage.links, cut, part)
        spared -= prices.copy * stage.links[-1].channels * _area(whole_map(cut))
        cost = prices.blank * _work(links, blank, whole_map(blank)) - spared
        if cost < least:
            best, least = count, cost
    return best


def whole_map(spans: Spans) -> Rect:
    """All cells of the last map of ``spans``."""
    return tuple((0, axis[-1].size) for axis in spans)


def _area(rect: Rect) -> int:
    return math.prod(end - first for first, end in rect)


def _work(links: list[Link], spans: Spans, wanted: Rect) -> int:
    """The multiplications of ``links`` for the cells ``wanted`` of the last map."""
    cells = [needs(links, axis, spans[axis], wanted[axis])[1:] for axis in (0, 1)]
    return sum(link.work * _area(rect) for link, *rect in zip(links, *cells, strict=True))


def _large(leg: Leg, batch: int) -> bool:
    return max(_row_bytes(leg.links, leg.spans)) * leg.whole[0][1] * batch > LARGE


def _follow(links, lengths, image) -> Spans:
    return tuple(follow(links, axis, Span(lengths[axis], image[axis])) for axis in (0, 1))


def _blank(links, lengths) -> Spans | None:
    """The spans over the smallest blank image, if it is smaller along both axes."""
    found = []
    for axis, length in enumerate(lengths):
        step = math.prod(link.step[axis] for link in links)
        found.append(blank_length(length, step, lambda n, axis=axis: follow(links, axis, Span(n, (0, 0)))))
    return None if None in found or not links else _follow(links, found, ((0, 0), (0, 0)))
