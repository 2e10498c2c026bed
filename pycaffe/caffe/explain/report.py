"""What an explanation holds, and its forms: a table, words, JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from fractions import Fraction

from ..layer_types.rules import dims
from .crops import CropLine
from .geometry import pixels

HEADERS = ("layer", "type", "output", "kernel", "stride", "pad", "own", "field", "jump")
HEADERS += ("parameters", "mult-adds", "memory")
LEGEND = """\
kernel, stride, pad: the prototxt's. own: pixels of its bottom that one unit reads, dilation included.
field: pixels of the input that one unit depends on. jump: pixels of the input between neighbouring units.
parameters shared with an earlier layer are not counted again; mult-adds are those of filters and matrices.
memory: of the blobs that the layer adds, as float32; their gradients take as much again in training."""
UPSAMPLED = (
    "* after a Deconvolution, whose outputs read unlike numbers of its inputs in turn: the largest field, "
    "and the mean jump"
)


@dataclass
class LayerLine:
    """One layer of the net.

    ``name`` and ``type``; ``bottoms`` and ``tops``: names of blobs; ``outputs``: shapes of the tops.

    For each spatial axis, None where the layer has no such number: ``kernel``, ``stride``, ``pad``, ``dilation``;
    ``own``, the extent of its bottom that one unit reads; ``field``, the receptive field of one unit at the input,
    in pixels; ``jump``, the distance between the fields of two neighbours (the stride at the input); ``centre``,
    where the first unit's field is centred. ``upsampled``: a Deconvolution lies below, ``field`` is the largest,
    ``jump`` and ``centre`` are means. ``reason``: why there is no field, or "".

    ``parameters``: how many values, those of an earlier layer that it shares not counted;
    ``learned``: how many of them have lr_mult above 0. ``parameter_layers``: layers with weights on the longest
    path to this one, itself included. ``multiply_adds`` of one forward; ``memory`` in bytes.
    """

    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    outputs: list[tuple[int, ...]]
    kernel: tuple[int, ...] | None
    stride: tuple[int, ...] | None
    pad: tuple[int, ...] | None
    dilation: tuple[int, ...] | None
    own: tuple[int, ...] | None
    field: tuple[int, ...] | None
    jump: tuple[Fraction, ...] | None
    centre: tuple[Fraction, ...] | None
    upsampled: bool
    reason: str
    parameters: int
    learned: int
    parameter_layers: int
    multiply_adds: int
    memory: int

    def cells(self) -> list[str]:
        """The layer's row of the table, as text for each of ``HEADERS``."""
        mark = "*" if self.upsampled else ""
        return [
            self.name,
            self.type,
            _shapes(self.outputs),
            *(_numbers(values) for values in (self.kernel, self.stride, self.pad, self.own)),
            _numbers(self.field, mark),
            _numbers(self.jump, mark),
            f"{self.parameters:,}" if self.parameters else "",
            short(self.multiply_adds) if self.multiply_adds else "",
            short(self.memory, "B") if self.memory else "",
        ]


@dataclass
class Totals:
    """Sums over a net.

    ``parameters``: all values; ``learned``: those with lr_mult above 0. ``parameter_layers``: layers with weights
    (Convolution, InnerProduct, Embed, recurrent ones; a Deconvolution when it learns) on the longest path.
    ``receptive_field`` and ``max_stride``: the largest field and jump, for each spatial axis, of units before any
    Deconvolution (the paper's "rf size" and "max stride"); empty when no layer has positions. ``multiply_adds``
    of one forward. ``blob_memory`` and ``parameter_memory``: bytes of the values, gradients apart.
    """

    parameters: int
    learned: int
    parameter_layers: int
    receptive_field: tuple[int, ...]
    max_stride: tuple[Fraction, ...]
    multiply_adds: int
    blob_memory: int
    parameter_memory: int

    def words(self) -> str:
        """The sums, one a line."""
        fixed = self.parameters - self.learned
        parts = f" ({self.learned:,} learned, {fixed:,} fixed)" if fixed else ""
        rows = [
            ("parameters", f"{self.parameters:,}{parts}"),
            ("parameter layers", f"{self.parameter_layers} on the longest path"),
            ("receptive field", f"{pixels(self.receptive_field)} (the largest before any Deconvolution)"),
            ("max stride", pixels(self.max_stride)),
            ("mult-adds", f"{short(self.multiply_adds)} a forward"),
            (
                "memory",
                f"{short(self.blob_memory, 'B')} of blobs, {short(self.parameter_memory, 'B')} of parameters",
            ),
        ]
        return "\n".join(f"{name:17} {value}" for name, value in rows)


@dataclass
class Explanation:
    """What :func:`caffe.explain.explain` found; ``str()`` gives all of it in words.

    ``name`` of the net; ``source``: the file, or what else it came from; ``phase``: "TRAIN" or "TEST"; ``inputs``:
    blob → shape; ``layers``: a :class:`LayerLine` each, the net's own Split layers left out; ``totals``;
    ``crops``: a :class:`~caffe.explain.crops.CropLine` for every Crop; ``notes``: what was replaced or left out.
    """

    name: str
    source: str
    phase: str
    inputs: dict[str, tuple[int, ...]]
    layers: list[LayerLine]
    totals: Totals
    crops: list[CropLine]
    notes: list[str]

    def table(self) -> str:
        """The layers, a row each, under a line of column names."""
        rows = [list(HEADERS), *(line.cells() for line in self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        text = 3  # the first columns are words, the others numbers
        lines = []
        for row in rows:
            cells = [
                cell.ljust(width) if i < text else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)

    def json(self) -> str:
        """Everything as JSON: the fields of the classes by name, fractions as floating-point numbers."""
        return json.dumps(asdict(self), indent=1, default=_number)

    def __str__(self):
        inputs = ", ".join(f"{name} {dims(shape)}" for name, shape in self.inputs.items())
        name = f"{self.name}, " if self.name else ""
        title = f"{name}{self.source}, phase {self.phase}, input {inputs or 'none'}"
        legend = [LEGEND]
        if any(line.upsampled for line in self.layers):
            legend.append(UPSAMPLED)
        blank: dict[str, str] = {}
        for line in self.layers:
            if line.reason:
                blank.setdefault(line.reason, line.name)
        legend += [f"no field from '{name}' on: {reason}" for reason, name in blank.items()]
        head = "\n".join([title, *self.notes])
        crops = [crop.words() for crop in self.crops]
        return "\n\n".join([head, self.table(), "\n".join(legend), self.totals.words(), *crops])


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    counts = Counter(map(dims, shapes))
    return ", ".join(shape if count == 1 else f"{count} of {shape}" for shape, count in counts.items())


def _numbers(values, mark: str = "") -> str:
    return pixels(values) + mark if values else ""


def _number(value: Fraction):
    return value.numerator if value.denominator == 1 else float(value)


def short(number: int, unit: str = "") -> str:
    """``number`` with three digits, a prefix of thousands and its ``unit``: ``134 M``, ``4 B``."""
    scaled, prefixes = float(number), ["", "k", "M", "G", "T", "P"]
    while scaled >= 999.5 and len(prefixes) > 1:
        scaled, prefixes = scaled / 1000, prefixes[1:]
    return f"{scaled:.3g} {prefixes[0]}{unit}".rstrip()
