"""Recurrent layers, and Parameter."""

from __future__ import annotations

from .build import case, layer

X = {"x": [[4, 3, 5], "normal"], "cont": [[4, 3], "0 or 1"]}
STATIC = {"static": [[3, 2, 2], "normal"]}
HIDDEN = {"h0": [[1, 3, 2], "normal"], "c0": [[1, 3, 2], "normal"]}
UNIFORM = 'weight_filler { type: "uniform" min: -1 } bias_filler { type: "uniform" }'


def _recurrent(kind: str) -> list[dict]:
    states = ["h0", "c0"] if kind == "LSTM" else ["h0"]
    hidden = {name: HIDDEN[name] for name in states}
    cases = []

    def add(name, inputs, options="", tops=("y",), more="", **rest):
        text = layer(kind, f"num_output: 2 {options}", tuple(inputs), tops, more)
        cases.append(case(f"{kind}/{name}", text, inputs, **rest))

    exposed = {"options": "expose_hidden: true", "tops": ("y", "hT", "cT")[: 1 + len(states)]}
    add("plain", X)
    add("images", {**X, "x": [[4, 3, 2, 3, 2], "normal"]})
    add("one timestep", {"x": [[1, 3, 5], "normal"], "cont": [[1, 3], "0 or 1"]})
    add("static input", {**X, **STATIC})
    add("hidden exposed", {**X, **hidden}, **exposed)
    add("static input and hidden exposed", {**X, **STATIC, **hidden}, **exposed)
    add("hidden exposed, again", {**X, **hidden}, **exposed, twice={"x": [4, 3, 5]})
    add("the state goes on", X, twice={"x": [4, 3, 5]})
    add("fewer streams", X, twice={"x": [4, 2, 5], "cont": [4, 2]})
    add("more streams", X, twice={"x": [4, 5, 5], "cont": [4, 5]})
    for phase in ("TRAIN", "TEST"):
        add(f"in {phase}", {**X, **STATIC}, phase=phase, twice={"x": [4, 3, 5]})
    after = layer("InnerProduct", f"num_output: 3 {UNIFORM}", ("y",), ("z",))
    filled = layer(kind, f"num_output: 2 {UNIFORM}", ("x", "cont", "static")) + after
    cases.append(case(f"{kind}/filled, and a layer after it", filled, {**X, **STATIC}, filled=True))
    return cases


def _unit():
    inputs = {"c": [[1, 3, 2], "normal"], "gates": [[1, 3, 8], "normal"], "cont": [[1, 3], "0 or 1"]}
    text = layer("LSTMUnit", "", ("c", "gates", "cont"), ("c1", "h1"))
    return [
        case("LSTMUnit/plain", text, inputs),
        case("LSTMUnit/large gates", text, {**inputs, "gates": [[1, 3, 8], "large"]}),
        case("LSTMUnit/new size", text, inputs, twice={"c": [1, 2, 3], "gates": [1, 2, 12], "cont": [1, 2]}),
        case("LSTMUnit/fractions of cont", text, {**inputs, "cont": [[1, 3], "positive"]}, backward=False),
    ]


def _parameter():
    shape = "shape { dim: 6 }"
    bias = layer("Parameter", shape, (), ("w",)) + layer("Scale", "axis: 1", ("x", "w"))
    both = layer("Parameter", "shape { dim: 2 dim: 6 dim: 9 dim: 7 }", (), ("w",)) + layer(
        "Eltwise", "operation: PROD", ("x", "w")
    )
    return [case("Parameter/scale", bias), case("Parameter/product", both)]


def cases() -> list[dict]:
    """The cases of this module, by layer type."""
    return [*_recurrent("LSTM"), *_unit(), *_parameter(), *_recurrent("RNN")]
