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

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import torch

from .chain import Link, Rect, needs
from .layout import Leg, Spans, whole_map
from .spans import Interval, sources, within

Kernel = Callable[[Link, torch.Tensor, tuple[int, int, int, int]], torch.Tensor]


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
        wanted = whole_map(leg.blank)
        x, cover = rectangle(leg, leg.blank, kernel, x, cover, wanted), wanted
        maps.append(x)
    return maps


def surrounded(leg: Leg, part: list[torch.Tensor], blank: torch.Tensor, wanted: Rect) -> torch.Tensor:
    """The cells ``wanted`` of the map at the end of ``leg``: ``part``, in bands, within what ``blank`` shows."""
    (top, bottom), (left, right) = leg.part
    (first, end), (start, stop) = wanted

    def border(down: Interval, across: Interval) -> Iterator[tuple[torch.Tensor, Rect]]:
        columns = list(sources(leg.spans[1][-1], leg.blank[1][-1], across))
        for rows, (above, below) in sources(leg.spans[0][-1], leg.blank[0][-1], down):
            for cells, (before, behind) in columns:
                size = (len(part[0]), -1, rows[1] - rows[0], cells[1] - cells[0])
                yield blank[:, :, above:below, before:behind].expand(size), (rows, cells)

    frame = [
        border((first, top), (start, stop)),
        border((top, bottom), (start, left)),
        border((top, bottom), (right, stop)),
        border((bottom, end), (start, stop)),
    ]
    if torch.is_grad_enabled():  # one operation is less to go back through than many
        above, before, behind, below = map(_joined, frame)
        middle = torch.cat([*before, torch.cat(part, 2), *behind], 3)
        return torch.cat([*above, middle, *below], 2)
    size = (len(part[0]), blank.shape[1], end - first, stop - start)
    whole = torch.empty(size, dtype=blank.dtype, device=blank.device, memory_format=torch.channels_last)
    bands = []
    for band in part:
        bands.append((band, ((top, top + band.shape[2]), (left, right))))
        top += band.shape[2]
    for piece, ((above, below), (before, behind)) in itertools.chain(bands, *frame):
        whole[:, :, above - first : below - first, before - start : behind - start] = piece
    return whole


def _joined(pieces: Iterable[tuple[torch.Tensor, Rect]]) -> list[torch.Tensor]:
    """[The rectangle that ``pieces``, row by row, lie in]; [] if there are none."""
    rows: dict[Interval, list[torch.Tensor]] = {}
    for piece, (down, _) in pieces:
        rows.setdefault(down, []).append(piece)
    return [torch.cat([torch.cat(row, 3) for row in rows.values()], 2)] if rows else []


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
