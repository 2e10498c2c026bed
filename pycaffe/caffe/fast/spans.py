"""Along one axis: which cells of a map a layer's windows reach.

Coordinates are cells of a map of ``size``; an interval is a pair (first, end), end excluded.
"""

from __future__ import annotations

from collections.abc import Callable
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
    for shorter in range(length % step, length, step):
        if all(span.size > max(span.before + span.behind, 0) for span in spans(shorter)):
            return shorter
    return None


def source(span: Span, blank: Span, wanted: Interval) -> list[int]:
    """For the cells ``wanted`` of the map of ``span``, outside the image: their equals in that of ``blank``."""
    behind = blank.size - 1 - blank.before  # at least blank.behind
    shift = span.size - blank.size
    return [
        i if i < blank.before else i - shift if i >= span.size - behind else blank.before
        for i in range(*wanted)
    ]


def within(cells: Interval, first: int, end: int) -> Interval:
    """Those of ``cells`` from ``first`` to ``end``; the nearest one there if they all lie beyond."""
    begin = min(max(cells[0], first), end - 1)
    return begin, max(min(cells[1], end), begin + 1)
