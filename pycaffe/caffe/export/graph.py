"""A graph of ONNX operators under construction, and lengths that are known only when it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

OPSET = 17  # read by every runtime since 2022
END = np.iinfo(np.int64).max  # as the end of a Slice: to the end


@dataclass
class Node:
    """One operator.

    ``kind``: its ONNX type. ``name``: unique. ``inputs``, ``outputs``: tensors. ``attributes``: by name.
    """

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict


@dataclass
class Graph:
    """Operators (``nodes``) in order of use, and constant tensors (``constants``). Tensors are their names.

    ``layer`` is the Caffe layer that is being translated: the new operators are named after it.
    ``index_limits``: net inputs that hold indices → how many there are (values 0..n-1).
    ``labels``: tensors that hold indices, where a rounding error may show as another number.
    ``outputs``: the net's output blobs → their tensors.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    layer: str = ""
    index_limits: dict[str, int] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    outputs: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _known: dict = field(default_factory=dict)  # constants and sizes already there

    def reserve(self, name: str) -> str:
        """``name``, or when it is taken the name with the first free number behind it."""
        free, number = name, 0
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free

    def op(self, kind: str, *inputs: str, tops: int = 1, **attributes):
        """Add an operator of type ``kind``; returns its output, or with ``tops`` above 1 their list.

        ``inputs`` are tensors, "" for one left out; ``attributes`` that are None are left out.
        """
        name = self.reserve(f"{self.layer}/{kind}")
        outputs = [name] if tops == 1 else [self.reserve(f"{name}:{i}") for i in range(tops)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(Node(kind, name, list(inputs), outputs, given))
        return outputs[0] if tops == 1 else outputs

    def constant(self, array: np.ndarray, name: str = "constant", key=None) -> str:
        """``array`` as a constant tensor, named after ``name``.

        Those of one ``key`` (default: type, shape and bytes) are stored once.
        """
        key = key or (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.reserve(f"{self.layer}/{name}")
            self.constants[self._known[key]] = array
        return self._known[key]

    def weight(self, blob, shape: tuple[int, ...] | None = None, name: str = "weight") -> str:
        """The values of ``blob`` as a constant, in another ``shape`` if given, named after ``name``.

        Blobs that share their values are stored once.
        """
        shape = tuple(blob.shape) if shape is None else shape
        return self.constant(blob.data.reshape(shape), name, ("blob", id(blob._data), shape))

    def ints(self, *values: int) -> str:
        """A constant vector of the integers ``values``."""
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        """The float ``value`` as a constant without axes."""
        return self.constant(np.array(value, np.float32))

    def size(self, tensor: str, axis: int) -> Size:
        """The length of ``tensor`` along ``axis`` (not negative)."""
        return Size(self, self.dims(tensor, axis, axis + 1))

    def dims(self, tensor: str, start: int = 0, end: int | None = None) -> str:
        """The lengths of the axes ``start`` to ``end`` (excluded) of ``tensor``, a vector of integers."""
        key = ("dims", tensor, start, end)
        if key not in self._known:
            self._known[key] = self.op("Shape", tensor, start=start, end=end)
        return self._known[key]

    def join(self, *parts) -> str:
        """One vector of integers from ``parts``: vectors (tensors), :class:`Size` objects, lists of ints."""
        vectors = []
        for part in parts:
            if isinstance(part, Size):
                vectors.append(part.tensor)
            elif isinstance(part, str):
                vectors.append(part)
            elif part:
                vectors.append(self.ints(*part))
        return vectors[0] if len(vectors) == 1 else self.op("Concat", *vectors, axis=0)

    def reshape(self, tensor: str, *parts) -> str:
        """``tensor`` in the shape that ``parts`` join to (-1: what is left)."""
        return self.op("Reshape", tensor, self.join(*parts))

    def cut(self, tensor: str, axis: int, start, end) -> str:
        """The part from ``start`` to ``end`` (ints or sizes) of ``tensor`` along ``axis``."""
        bounds = [value.tensor if isinstance(value, Size) else self.ints(value) for value in (start, end)]
        return self.op("Slice", tensor, *bounds, self.ints(axis))


class Size:
    """A length that the graph computes from the shapes it is run with: arithmetic adds operators.

    ``tensor`` is a vector of one integer (or more: then the arithmetic is on each) in ``graph``. Division
    truncates, so dividends must not be negative.
    """

    def __init__(self, graph: Graph, tensor: str):
        self.graph, self.tensor = graph, tensor

    def _with(self, kind: str, other, swapped: bool = False) -> Size:
        other = other.tensor if isinstance(other, Size) else self.graph.ints(other)
        pair = (other, self.tensor) if swapped else (self.tensor, other)
        return Size(self.graph, self.graph.op(kind, *pair))

    def __add__(self, other) -> Size:
        return self._with("Add", other)

    __radd__ = __add__

    def __sub__(self, other) -> Size:
        return self._with("Sub", other)

    def __rsub__(self, other) -> Size:
        return self._with("Sub", other, swapped=True)

    def __mul__(self, other) -> Size:
        return self._with("Mul", other)

    def __floordiv__(self, other) -> Size:
        return self._with("Div", other)

    def __mod__(self, other) -> Size:
        return self._with("Mod", other)

    def at_most(self, other) -> Size:
        """This or ``other``, the smaller."""
        return self._with("Min", other)

    def at_least(self, other) -> Size:
        """This or ``other``, the larger."""
        return self._with("Max", other)

    def scalar(self) -> str:
        """The same number as a tensor without axes."""
        return self.graph.op("Squeeze", self.tensor)
