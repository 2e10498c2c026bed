"""The layers that work on each value by itself (Clip and Swish are newer than the original engine)."""

from __future__ import annotations

from .build import IMAGE, case, layer

# type: [kind of numbers, options]; what a power or a logarithm takes must be positive
_GRID = {
    "AbsVal": [("normal", ""), ("ties", "")],
    "BNLL": [("normal", ""), ("large", "")],
    "ELU": [("normal", ""), ("normal", "alpha: 0.5"), ("ties", "alpha: 2")],
    "Exp": [
        ("normal", options)
        for options in ("", "base: 2", "base: 2 scale: 0.5 shift: 1", "scale: -0.5 shift: -2", "base: 0.5")
    ],
    "Log": [
        ("positive", options)
        for options in ("", "base: 2", "base: 10 scale: 2 shift: 1", "shift: 0.5", "base: 0.5")
    ],
    "Power": [
        ("positive", options)
        for options in (
            "",
            "power: 2",
            "power: 2 scale: 0.5 shift: 1",
            "power: 0.5",
            "power: -1.5 shift: 0.5",
            "power: 3 scale: 2 shift: 1",
            "power: 0",
            "scale: 0 shift: 2 power: 3",
            "scale: 0",
        )
    ]
    + [("normal", "scale: -2 shift: 1"), ("normal", "power: 2"), ("normal", "power: 3")],
    "PReLU": [("normal", ""), ("normal", "channel_shared: true"), ("ties", "")],
    "Sigmoid": [("normal", ""), ("large", "")],
    "TanH": [("normal", ""), ("large", "")],
    "Threshold": [("normal", ""), ("normal", "threshold: 0.5"), ("ties", "")],
}
# where the original's gradient is right in place; ELU's there needs a positive alpha
_IN_PLACE = ("ELU", "Exp", "PReLU", "Sigmoid", "TanH")


def cases() -> list[dict]:
    """Each type over its options, in place where the original can, and in other shapes."""
    found = []
    for kind, grid in _GRID.items():
        differentiable = kind != "Threshold"
        for numbers, options in grid:
            inputs = {"x": [IMAGE, numbers]}
            name = f"{kind}/{numbers} {options}"
            found.append(case(name, layer(kind, options), inputs, backward=differentiable))
        row = {"x": [[4, 3], "positive"]}
        found.append(case(f"{kind}/two axes", layer(kind), row, backward=differentiable))
        if kind in _IN_PLACE:
            found.append(case(f"{kind}/in place", layer(kind, tops=("x",))))
    found.append(case("PReLU/as filled", layer("PReLU"), filled=True))
    found.append(case("PReLU/new size", layer("PReLU"), twice={"x": [1, 6, 4, 5]}))
    return found
