"""Along one axis: which cells of a map a layer's windows reach.

Coordinates are cells of a map of ``size``; an interval is a pair (first, end), end excluded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Interval = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A layer's windows along one axis: output i reads the ``extent`` cells from ``i * stride - pad`` on."""

    extent: int
    stride: int
    pad: int
    count: Callable[[int], int]  # how many there are along so many cells

    def reads(self, wanted: Interval) -> Interval:
        """The cells that the outputs ``wanted`` read, those beyond the map included."""
        first, end = wanted
        return first * self.stride - self.pad, (end - 1) * self.stride - self.pad + self.extent

    def after(self, span: Span) -> Span:
        """The span of the output over a map with ``span``."""
        size = self.count(span.size)

        def bounded(i: int) -> int:
            return min(max(i, 0), size)

        def from_end(i: int) -> int:
            return bounded(size - 1 - (i + self.pad - self.extent) // self.stride)

        first, end = span.image
        return Span(
            size,
            (
                bounded((first + self.pad - self.extent) // self.stride + 1),
                bounded(-(-(end + self.pad) // self.stride)),
            ),
            bounded(-(-(span.before + self.pad) // self.stride)),
            from_end(span.size - span.behind),
        )


@dataclass(frozen=True)
class Span:
    """A map of ``size`` cells over a padded image.

    ``image``: the cells that depend on the image. ``before`` and ``behind``: how many cells at
    either end depend on where the padding ends. All others, outside ``image``, are alike.
    """

    size: int
    image: Interval
    before: int = 0
    behind: int = 0


def blank_length(length: int, step: int, spans: Callable[[int], list[Span]]) -> int | None:
    """The shortest blank image whose maps hold everything that surrounds one of ``length``; None if none is shorter.

    It differs by a multiple of ``step``, the product of all strides, so that both ends look alike;
    and in the middle of each of the maps ``spans`` there is a cell that depends on neither end.
    """

    def shows_all(size: int) -> bool:
        return all(span.size > max(span.before + span.behind, 0) for span in spans(size))

    candidates = range(length % step, length, step)
    found = bisect_left(candidates, True, key=shows_all)
    return candidates[found] if found < len(candidates) else None


def sources(span: Span, blank: Span, wanted: Interval) -> Iterator[tuple[Interval, Interval]]:
    """The cells ``wanted`` of the map of ``span``, outside the image, in parts, each with its equals in ``blank``.

    These are as many as the part, or one cell that all of the part are like.
    """
    behind = blank.size - 1 - blank.before  # at least blank.behind
    shift, end = span.size - blank.size, span.size - behind
    for first, stop, equals in (
        (0, blank.before, lambda i, j: (i, j)),
        (blank.before, end, lambda i, j: (blank.before, blank.before + 1)),
        (end, span.size, lambda i, j: (i - shift, j - shift)),
    ):
        first, stop = max(first, wanted[0]), min(stop, wanted[1])
        if first < stop:
            yield (first, stop), equals(first, stop)


def within(cells: Interval, first: int, end: int) -> Interval:
    """Those of ``cells`` from ``first`` to ``end``; the nearest one there if they all lie beyond."""
    begin = min(max(cells[0], first), end - 1)
    return begin, max(min(cells[1], end), begin + 1)
