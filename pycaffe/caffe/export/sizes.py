"""Which lengths of a net's inputs may change, asked of the engine itself."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CaffeError
from ..net import Net

Shapes = dict[str, tuple[int, ...]]
Symbols = dict[str, list["int | str"]]

_WORDS = {3: ("length",), 4: ("height", "width"), 5: ("depth", "height", "width")}


@dataclass
class Freedom:
    """What may vary: the number of items in a batch (``batch``), the size of images (``images``).

    ``own`` are the inputs' shapes in the prototxt; ``inputs`` and ``outputs`` the lengths of all,
    with names for those that may change. ``reason``: the engine's words on why images cannot have
    another size ("" when they can).
    """

    own: Shapes
    batch: bool
    images: bool
    reason: str
    inputs: Symbols
    outputs: Symbols

    def others(self) -> list[Shapes]:
        """Another set of input shapes to run at; empty when the net takes its own only."""
        if not (self.batch or self.images):
            return []
        return [_varied(self.own, self.batch, _odd if self.images else None)]


def _odd(length: int, axis: int) -> int:
    """Somewhat more than ``length``, odd, and unlike for height (axis 2) and width (3)."""
    return (length * (7 + axis) // 9 + 2 * axis) | 1


def _far(length: int, axis: int) -> int:
    """So much more than ``length`` that what depends on it changes in the coarsest layer too."""
    return length + 100 + 33 * axis


def _varied(own: Shapes, batch: bool, longer) -> Shapes:
    """``own`` with one more item each if ``batch``, and images made longer by ``longer(length, axis)``."""
    return {
        name: tuple(
            n + 1 if axis == 0 and batch else longer(n, axis) if axis >= 2 and longer else n
            for axis, n in enumerate(shape)
        )
        for name, shape in own.items()
    }


def explore(net: Net) -> Freedom:
    """Try another batch and other images on ``net``, by shape alone; it is left in its own shape."""
    own = {name: tuple(net.blobs[name].shape) for name in net.inputs}
    before = _outputs(net)
    symbols: Symbols = {name: list(shape) for name, shape in {**own, **before}.items()}
    possible = {"batch": True, "images": True}
    reason = ""
    for what, batch, longer in (("batch", True, None), ("images", False, _odd), ("images", False, _far)):
        shapes = _varied(own, batch, longer)
        try:
            after = _reshaped(net, shapes)
        except CaffeError as error:
            possible[what], after = False, None
            reason = reason or (str(error) if longer else "")
        if shapes == own:
            possible[what] = False
        if after and possible[what] and longer is not _odd:
            _name_changes(symbols, own, shapes, before, after)
    _reshaped(net, own)
    return Freedom(
        own,
        **possible,
        reason=reason,
        inputs={name: symbols[name] for name in own},
        outputs={name: symbols[name] for name in before},
    )


def _name_changes(symbols: Symbols, own: Shapes, shapes: Shapes, before: Shapes, after: Shapes) -> None:
    """Put names for the lengths that differ: equal ones for those that equal an input's at both sizes."""
    names = {}
    for source, shape in own.items():
        words = ("batch", "channels", *_WORDS.get(len(shape), [f"size{i}" for i in range(2, len(shape))]))
        for axis, length in enumerate(shape):
            first = next(iter(own))
            word = words[axis] if source == first or axis == 0 else f"{source}_{words[axis]}"
            symbol = names.setdefault((length, shapes[source][axis], axis), word)
            if length != shapes[source][axis]:
                symbols[source][axis] = symbol
    for name, shape in after.items():
        for axis, length in enumerate(shape):
            if length != before[name][axis]:
                symbols[name][axis] = names.get((before[name][axis], length, axis), f"{name}_{axis}")


def _reshaped(net: Net, shapes: Shapes) -> Shapes:
    """The outputs' shapes with the inputs in these."""
    for name, shape in shapes.items():
        net.blobs[name].reshape(*shape)
    net.reshape()
    return _outputs(net)


def _outputs(net: Net) -> Shapes:
    return {name: tuple(net.blobs[name].shape) for name in net.outputs}
