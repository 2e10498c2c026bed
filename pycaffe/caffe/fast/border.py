"""A chain computed where it depends on the image, and its constant surroundings taken from a small blank image.

A net with a large padding (FCN: 100 pixels) spends most of its early layers on zeros around the
image. What those layers make of them is the same everywhere but near the padding's end, so a blank
image just large enough to hold both ends and one cell between them shows all of it. Which cells
depend on what is counted, not guessed (:mod:`caffe.fast.spans`): the maps are those of the whole
computation, to rounding.

The part that depends on the image can be computed in bands of rows, few enough for what lies
between the two maps of a stage to stay in the processor's cache; it is never in memory as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch

from .chain import Link, Rect, Stage, follow, needs
from .spans import Interval, Span, blank_length, source, within

WORTH = 0.9  # of a map: where the image's part is more, the border is not worth taking apart
LARGE = 64 * 2**20  # bytes of a map inside a stage, from which on it should not be in memory as a whole
BAND = 24 * 2**20  # bytes of the largest map within a band

Spans = tuple[list[Span], list[Span]]  # of the maps of a stage, the one it starts from first: down, across
Kernel = Callable[[Link, torch.Tensor, tuple[int, int, int, int]], torch.Tensor]


class Leg:
    """A stage, and where everything lies in its maps: ``spans``, and ``blank`` over the blank image or None."""

    def __init__(self, stage: Stage, spans: Spans, blank: Spans | None):
        self.links, self.read = stage.links, stage.read
        self.spans, self.blank = spans, blank
        self.whole: Rect = tuple((0, axis[-1].size) for axis in spans)
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
    channels, sizes = 0, []
    for link, down, across in zip(links, spans[0][1:], spans[1][1:], strict=True):
        channels = getattr(link.layer, "num_output", channels)
        sizes.append(4 * channels * across.size * down.size / spans[0][-1].size)
    return sizes


def legs(stages: list[Stage], shape: tuple[int, ...]) -> tuple[Rect, list[Leg]]:
    """For images of ``shape``: where the image lies in its padding, and the leading stages worth computing here."""
    links = [link for stage in stages for link in stage.links]
    pads = links[0].layer.pad
    lengths = [size + 2 * pad for size, pad in zip(shape[2:], pads, strict=True)]
    image = tuple((pad, pad + size) for size, pad in zip(shape[2:], pads, strict=True))
    spans = _follow(links, lengths, image)
    if min(span.size for axis in spans for span in axis) < 1:
        return image, []  # the layers themselves say what is wrong
    if any(span.image[0] >= span.image[1] for axis in spans for span in axis):
        return image, []  # a stride steps over all of the image
    made = _legs(stages, spans, spans)
    kept = _leading(made, lambda leg: _large(leg, shape[0]) or _share(leg) < WORTH)
    blank = _blank([link for leg in kept for link in leg.links], lengths)
    made = _legs(stages[: len(kept)], spans, blank)
    return image, made if blank else _leading(made, lambda leg: _large(leg, shape[0]))


def _legs(stages, spans, blank) -> list[Leg]:
    made, begin = [], 0
    for stage in stages:
        end = begin + len(stage.links)
        cut = [tuple(axis[begin : end + 1] for axis in each) if each else None for each in (spans, blank)]
        made.append(Leg(stage, *cut))
        begin = end
    return made


def _leading(legs, worth) -> list[Leg]:
    return legs[: max((number for number, leg in enumerate(legs, 1) if worth(leg)), default=0)]


def _large(leg: Leg, batch: int) -> bool:
    return max(_row_bytes(leg.links, leg.spans)) * leg.whole[0][1] * batch > LARGE


def _share(leg: Leg) -> float:
    """How much of the map at its end depends on the image."""
    return math.prod(
        (end - first) / whole for (first, end), (_, whole) in zip(leg.part, leg.whole, strict=True)
    )


def _follow(links, lengths, image) -> Spans:
    return tuple(follow(links, axis, Span(lengths[axis], image[axis])) for axis in (0, 1))


def _blank(links, lengths) -> Spans | None:
    """The spans over the smallest blank image, if it is smaller along both axes."""
    found = []
    for axis, length in enumerate(lengths):
        step = math.prod(link.step[axis] for link in links)
        found.append(blank_length(length, step, lambda n, axis=axis: follow(links, axis, Span(n, (0, 0)))))
    return None if None in found or not links else _follow(links, found, ((0, 0), (0, 0)))


def rectangle(
    leg: Leg, spans: Spans, kernel: Kernel, x: torch.Tensor, cover: Rect, wanted: Rect
) -> torch.Tensor:
    """The cells ``wanted`` of the map at the end of ``leg``; ``x`` holds the cells ``cover`` of the one it starts from.

    Beyond ``cover`` are zeros: around the image, and beyond the maps. ``spans`` are the leg's or its blank
    ones, and ``kernel(link, x, sides)`` does what a link does, after so many rows and columns of zeros.
    """
    cells = [needs(leg.links, axis, spans[axis], wanted[axis]) for axis in (0, 1)]
    for axis, (first, end) in enumerate(cover):
        begin, stop = cells[axis][0] = within(cells[axis][0], first, end)
        x = x.narrow(2 + axis, begin - first, stop - begin)
    for number, link in enumerate(leg.links):
        sides = []
        for axis in (0, 1):
            (first, end), after = cells[axis][number], cells[axis][number + 1]
            reads = link.windows[axis].reads(after) if link.windows else after
            before, behind = first - reads[0], reads[1] - end
            if min(before, behind) < 0:  # all that it reads lies beyond
                shape = [*x.shape[: 2 + axis], reads[1] - reads[0], *x.shape[3 + axis :]]
                x, before, behind = x.new_zeros(shape), 0, 0
            sides += [before, behind]
        x = kernel(link, x, tuple(sides))
    return x


def blanks(legs: list[Leg], kernel: Kernel, image: torch.Tensor) -> list[torch.Tensor]:
    """The blank image's maps at the end of each of ``legs``, by ``kernel``; [] without a border.

    ``image`` tells channels, type and device.
    """
    if not legs or legs[0].blank is None:
        return []
    sizes = [axis[0].size for axis in legs[0].blank]
    x, cover, maps = image.new_zeros(1, image.shape[1], *sizes), tuple((0, size) for size in sizes), []
    for leg in legs:
        wanted = tuple((0, axis[-1].size) for axis in leg.blank)
        x, cover = rectangle(leg, leg.blank, kernel, x, cover, wanted), wanted
        maps.append(x)
    return maps


def surrounded(leg: Leg, part: list[torch.Tensor], blank: torch.Tensor, wanted: Rect) -> torch.Tensor:
    """The cells ``wanted`` of the map at the end of ``leg``: ``part``, in bands, within what ``blank`` shows."""
    (top, bottom), (left, right) = leg.part
    (first, end), (start, stop) = wanted

    def border(down: Interval, across: Interval) -> torch.Tensor:
        picked = blank
        for axis, cells in enumerate((down, across)):
            index = source(leg.spans[axis][-1], leg.blank[axis][-1], cells)
            picked = picked.index_select(2 + axis, torch.tensor(index, device=blank.device, dtype=torch.long))
        return picked.expand(len(part[0]), -1, -1, -1).contiguous(memory_format=torch.channels_last)

    frame = [
        (border((first, top), (start, stop)), first, start),
        (border((top, bottom), (start, left)), top, start),
        (border((top, bottom), (right, stop)), top, right),
        (border((bottom, end), (start, stop)), bottom, start),
    ]
    if torch.is_grad_enabled():  # one operation is less to go back through than many
        middle = torch.cat([frame[1][0], torch.cat(part, 2), frame[2][0]], 3)
        return torch.cat([frame[0][0], middle, frame[3][0]], 2)
    whole = blank.new_empty((len(part[0]), blank.shape[1], end - first, stop - start))
    whole = whole.contiguous(memory_format=torch.channels_last)
    for band in part:
        frame.append((band, top, left))
        top += band.shape[2]
    for piece, down, across in frame:
        whole[:, :, down - first :, across - start :][:, :, : piece.shape[2], : piece.shape[3]] = piece
    return whole


def _around(one: Rect, other: Rect) -> Rect:
    return tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))


def run(
    legs: list[Leg],
    place: Rect,
    kernel: Kernel,
    image: torch.Tensor,
    blank: list[torch.Tensor],
    limit: float = math.inf,
) -> dict[int, torch.Tensor | None]:
    """By the numbers of the layers in ``legs``: the maps that others read and the last one, None for all else.

    ``place`` is where ``image`` lies in its padding, ``blank`` is of :func:`blanks`; ``kernel`` as in
    :func:`rectangle`, ``limit`` as in :meth:`Leg.bands`.
    """
    results, x, cover = {}, image, place
    for number, leg in enumerate(legs):
        last = number + 1 == len(legs)
        bands = [
            rectangle(leg, leg.spans, kernel, x, cover, (rows, leg.part[1]))
            for rows in leg.bands(len(x), limit)
        ]
        cover = leg.whole if leg.read or last else _around(leg.part, legs[number + 1].needed())
        if blank:
            x = surrounded(leg, bands, blank[number], cover)
        else:
            x = torch.cat(bands, 2) if len(bands) > 1 else bands[0]
        if leg.read or last:
            results[leg.links[-1].last] = x
    links = [link for leg in legs for link in leg.links]
    return {i: results.get(i) for link in links for i in (link.index, link.last)}
