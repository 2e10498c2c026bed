"""Layers that move, pick, lay out or add up values."""

from __future__ import annotations

from .build import IMAGE, case, layer

_RESHAPES = (
    "shape { dim: 0 dim: -1 }",
    "shape { dim: -1 }",
    "shape { dim: 0 dim: 3 dim: 2 dim: -1 }",
    "shape { dim: 7 dim: 9 } axis: 2",
    "shape { dim: 1 } axis: 1 num_axes: 0",
    "shape { dim: 1 dim: 1 } axis: -1 num_axes: 0",
    "shape { dim: -1 } axis: 1 num_axes: 2",
    "shape { dim: 0 dim: -1 dim: 7 } axis: -3",
)


def _views():
    cases = []
    for options in ("", "axis: 2", "axis: 0 end_axis: 1", "axis: -3 end_axis: -2", "axis: 2 end_axis: 1"):
        cases.append(case(f"Flatten/{options}", layer("Flatten", options)))
    cases.append(case("Flatten/new size", layer("Flatten"), twice={"x": [3, 6, 4, 12]}))
    for options in _RESHAPES:
        cases.append(case(f"Reshape/{options}", layer("Reshape", options)))
    text = layer("Reshape", _RESHAPES[0])
    cases.append(case("Reshape/new size", text, twice={"x": [3, 6, 4, 12]}))
    # a gradient has to come through the shared memory, to a layer below and from one above
    for kind, options in (("Flatten", ""), ("Reshape", _RESHAPES[0])):
        between = layer("Sigmoid", tops=("s",)) + layer(kind, options, ("s",), ("f",))
        above = layer("InnerProduct", "num_output: 3", ("f",))
        cases.append(case(f"{kind}/between two layers", between + above))
    return cases


def _picks():
    cases = [
        case(f"Tile/{options}", layer("Tile", options))
        for options in ("tiles: 3", "axis: 0 tiles: 2", "axis: -1 tiles: 4", "axis: 2 tiles: 1")
    ]
    # the original refuses a force_backward that reaches indices or selectors
    for shape in ([5, 3, 2, 4], [5]):
        inputs = {"x": [shape, "normal"], "index": [[7], "labels"]}
        text = layer("BatchReindex", bottoms=("x", "index"))
        cases.append(case(f"BatchReindex/{len(shape)} axes", text, inputs, backward=False))
    for shape in ([6], [6, 1, 1, 1]):
        inputs = {"x": [[6, 3, 2], "normal"], "z": [[6], "normal"], "chosen": [shape, "0 or 1"]}
        text = layer("Filter", bottoms=("x", "z", "chosen"), tops=("y", "w"))
        cases.append(case(f"Filter/selector with {len(shape)} axes", text, inputs, backward=False))
    for options in ("", "bias_term: false"):
        for shape in ([4, 3], [5]):
            text = layer("Embed", f"num_output: 3 input_dim: 5 {options}", ("n",))
            inputs = {"n": [shape, "labels"]}
            cases.append(case(f"Embed/{len(shape)} axes {options}", text, inputs, backward=False))
    return cases


def _sums():
    cases = []
    for operation in ("SUM", "ASUM", "SUMSQ", "MEAN"):
        for options in ("", "axis: 1", "axis: -1 coeff: 2.5", "axis: 2 coeff: -0.5"):
            text = layer("Reduction", f"operation: {operation} {options}")
            cases.append(case(f"Reduction/{operation} {options}", text))
        text = layer("Reduction", f"operation: {operation} axis: 1")
        cases.append(case(f"Reduction/{operation} ties", text, {"x": [IMAGE, "ties"]}))
    text = layer("Reduction", "operation: MEAN", more="loss_weight: 3")
    cases.append(case("Reduction/MEAN as a loss", text))
    for kind in ("normal", "ties"):
        for options in ("", "axis: 1", "axis: -1", "axis: 0"):
            for more in ("", "out_max_val: true", "top_k: 2", "top_k: 2 out_max_val: true"):
                inputs = {"x": [IMAGE, kind]}
                text = layer("ArgMax", f"{options} {more}")
                cases.append(case(f"ArgMax/{kind}: {options} {more}", text, inputs, backward=False))
    for shape in ([4, 5], [2, 3, 2, 2, 2]):
        text = layer("ArgMax", "top_k: 3 out_max_val: true")
        cases.append(case(f"ArgMax/{len(shape)} axes", text, {"x": [shape, "normal"]}, backward=False))
    return cases


def _windows():
    cases = [
        case(f"Im2col/{options}", layer("Im2col", options))
        for options in (
            "kernel_size: 3",
            "kernel_size: 3 pad: 1 stride: 2",
            "kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 0 stride_h: 2 stride_w: 1",
            "kernel_size: 2 kernel_size: 3 pad: 2 pad: 1 stride: 3 stride: 1",
            "kernel_size: 3 dilation: 2 pad: 2",
            "kernel_size: 2 dilation: 2 dilation: 3 stride: 2",
            "kernel_size: 3 force_nd_im2col: true pad: 1",
            "kernel_size: 1",
        )
    ]
    cases += [
        case("Im2col/1-D", layer("Im2col", "kernel_size: 3 pad: 1"), {"x": [[2, 3, 9], "normal"]}),
        case("Im2col/3-D", layer("Im2col", "kernel_size: 2 stride: 2"), {"x": [[2, 2, 4, 5, 3], "normal"]}),
        case(
            "Im2col/axis 2",
            layer("Im2col", "kernel_size: 2 pad: 1 axis: 2"),
            {"x": [[2, 2, 3, 4, 3], "normal"]},
        ),
        case(
            "Im2col/input smaller than the kernel",
            layer("Im2col", "kernel_size: 3 stride: 2"),
            {"x": [[2, 3, 2, 2], "normal"]},
        ),
        case("Im2col/new size", layer("Im2col", "kernel_size: 3 pad: 1"), twice={"x": [1, 4, 5, 11]}),
    ]
    for pool in ("MAX", "AVE"):
        for height in (1, 2, 3):
            text = layer("SPP", f"pyramid_height: {height} pool: {pool}")
            cases.append(case(f"SPP/{pool} {height} levels", text))
            uneven = {"x": [[2, 3, 11, 6], "normal"]}
            cases.append(case(f"SPP/{pool} {height} levels, uneven", text, uneven))
        text = layer("SPP", f"pyramid_height: 3 pool: {pool}")
        cases.append(case(f"SPP/{pool} new size", text, twice={"x": [1, 6, 8, 11]}))
    return cases


def cases() -> list[dict]:
    """All of them, by type."""
    return [*_views(), *_picks(), *_sums(), *_windows()]
