"""How the offset of a Crop comes about: the coordinate maps of both paths from where they part."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction

from ..coord_map import compose, inverse
from .geometry import AxisStep, Graph, Node, crop_offsets, pixels

Numbers = tuple[Fraction, ...]
_SAME = (None, Fraction(1), Fraction(0))


@dataclass
class PathStep:
    """A layer on a path: position x of its bottom is ``scale`` x + ``shift`` of its top, for each axis.

    ``layer`` is its name, ``type`` its type, ``settings`` what the map follows from, in words.
    ``total_scale`` and ``total_shift`` are the map from the beginning of the path to this layer's top.
    """

    layer: str
    type: str
    settings: str
    scale: Numbers
    shift: Numbers
    total_scale: Numbers
    total_shift: Numbers


@dataclass
class CropLine:
    """The Crop ``name``: ``source`` is cut to the size of ``reference``, beginning at ``offset``.

    One number for each spatial axis that it cuts. ``origin`` is the blob that both come from,
    "" when spatial layers do not join them; ``source_path`` and ``reference_path`` lead from it to
    either, without the layers that change no position. ``scale`` and ``shift``: position y of the reference
    is ``scale`` y + ``shift`` of the source. ``aligned``: is the offset that shift, and the scale 1?
    ``verdict`` says so in words.
    """

    name: str
    source: str
    reference: str
    offset: tuple[int, ...]
    origin: str = ""
    source_path: list[PathStep] = field(default_factory=list)
    reference_path: list[PathStep] = field(default_factory=list)
    scale: Numbers = ()
    shift: Numbers = ()
    aligned: bool = False
    verdict: str = ""

    def words(self) -> str:
        """The explanation, several lines."""
        lines = [
            f"Crop '{self.name}' cuts '{self.source}' to the size of '{self.reference}', from {pixels(self.offset)} on."
        ]
        if self.origin:
            lines.append(f"  Both come from '{self.origin}'. Its position x becomes, layer by layer:")
            for blob, path in ((self.source, self.source_path), (self.reference, self.reference_path)):
                lines += _path_words(blob, path)
        return "\n".join([*lines, f"  {self.verdict}"])


def _path_words(blob: str, path: list[PathStep]) -> list[str]:
    if not path:
        return [f"    on the way to '{blob}': x, nothing moves it"]
    rows = [
        (step.layer, f"{step.type}, {step.settings}", position("x", step.scale, step.shift)) for step in path
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"    on the way to '{blob}':"]
    for row, step in zip(rows, path, strict=True):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(f"      {cells}  so far {position('x', step.total_scale, step.total_shift)}")
    return lines


def position(name: str, scale: Numbers, shift: Numbers) -> str:
    """``scale`` times ``name`` plus ``shift`` as text, once when all axes have the same."""
    texts = dict.fromkeys(_line(name, a, b) for a, b in zip(scale, shift, strict=True))
    return ", ".join(texts)


def _line(name: str, scale: Fraction, shift: Fraction) -> str:
    top = "" if scale.numerator == 1 else f"{scale.numerator} "
    text = f"{top}{name}" + ("" if scale.denominator == 1 else f"/{scale.denominator}")
    if shift:
        text += f" {'+' if shift > 0 else '-'} {abs(shift)}"
    return text


def explain_crops(graph: Graph) -> list[CropLine]:
    """A :class:`CropLine` for every Crop of the net of ``graph``, in its order."""
    return [_explain(graph, i) for i, layer in enumerate(graph.net.layers) if layer.type == "Crop"]


def _explain(graph: Graph, index: int) -> CropLine:
    net, layer = graph.net, graph.net.layers[index]
    source, reference = (_unsplit(graph, node) for node in graph.sources[index])
    first = max(2, layer.layer_param.crop_param.axis % len(net._bottoms[index][0].shape))
    line = CropLine(
        layer.name, _blob(graph, source), _blob(graph, reference), tuple(crop_offsets(layer)[first:])
    )
    if not line.offset:
        line.verdict = "It cuts no spatial axis."
        return line
    from_source, from_reference = _walk_back(graph, source), _walk_back(graph, reference)
    origin = next((node for node in from_reference if node in from_source), None)
    if origin is None:
        line.verdict = "No spatial layers join the two, so the offset is the prototxt's alone."
        return line
    line.origin = _blob(graph, origin)
    axes = range(first - 2, first - 2 + len(line.offset))
    line.source_path = _path(graph, from_source, origin, axes)
    line.reference_path = _path(graph, from_reference, origin, axes)
    joined = [
        compose(to, inverse(back))
        for to, back in zip(_total(line.source_path, axes), _total(line.reference_path, axes), strict=True)
    ]
    line.scale, line.shift = tuple(each[1] for each in joined), tuple(each[2] for each in joined)
    line.aligned = set(line.scale) == {1} and line.shift == line.offset
    line.verdict = _verdict(line)
    return line


def _verdict(line: CropLine) -> str:
    there = position("y", line.scale, line.shift)
    text = f"So position y of '{line.reference}' is {there} of '{line.source}'"
    if set(line.scale) != {1}:
        return f"{text}: the two have unlike strides, and no offset aligns them."
    if line.aligned:
        return f"{text}: the offset is {pixels(line.offset)}."
    off = tuple(given - wanted for given, wanted in zip(line.offset, line.shift, strict=True))
    return (
        f"{text}; the prototxt's offset is {pixels(line.offset)}, so what is cut out lies {pixels(off)} off "
        f"(in positions of '{line.source}')."
    )


def _walk_back(graph: Graph, start: Node) -> dict[Node, Node | None]:
    """Every top that ``start`` comes from by spatial layers, nearest first, with the next one towards it."""
    towards: dict[Node, Node | None] = {start: None}
    pending = deque([start])
    while pending:
        node = pending.popleft()
        step = graph.steps[node[0]]
        if isinstance(step, str) or not step:
            continue
        for below in graph.positional(node[0]):
            below = _unsplit(graph, below)
            if below not in towards:
                towards[below] = node
                pending.append(below)
    return towards


def _path(graph: Graph, towards: dict, origin: Node, axes) -> list[PathStep]:
    """The layers from ``origin`` on that move positions along ``axes``."""
    path, totals, node = [], [_SAME for _ in axes], towards[origin]
    while node is not None:
        layer = graph.net.layers[node[0]]
        step = [graph.steps[node[0]][axis] for axis in axes]
        if any((axis.scale, axis.shift) != (1, 0) for axis in step):
            maps = [(None, axis.scale, axis.shift) for axis in step]
            totals = [compose(each, total) for each, total in zip(maps, totals, strict=True)]
            path.append(
                PathStep(layer.name, layer.type, _settings(layer, step), *_columns(maps), *_columns(totals))
            )
        node = towards[node]
    return path


def _total(path: list[PathStep], axes) -> list[tuple]:
    if not path:
        return [_SAME for _ in axes]
    return [(None, *each) for each in zip(path[-1].total_scale, path[-1].total_shift, strict=True)]


def _columns(maps: list[tuple]) -> tuple[Numbers, Numbers]:
    return tuple(each[1] for each in maps), tuple(each[2] for each in maps)


def _settings(layer, step: list[AxisStep]) -> str:
    if layer.type == "Crop":
        return f"offset {pixels(tuple(-axis.shift for axis in step))}"
    names = ["kernel", "stride", "pad"] + ["dilation"] * any(axis.dilation > 1 for axis in step)
    return ", ".join(f"{name} {pixels(tuple(getattr(axis, name) for axis in step))}" for name in names)


def _unsplit(graph: Graph, node: Node) -> Node:
    """The top behind the Split layers that the net put in."""
    while graph.net.layers[node[0]].type == "Split":
        node = graph.sources[node[0]][0]
    return node


def _blob(graph: Graph, node: Node) -> str:
    return graph.net._top_lists[node[0]][node[1]]
