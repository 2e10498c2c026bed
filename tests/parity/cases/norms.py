"""BatchNorm, MVN, and Bias."""

from __future__ import annotations

from .build import IMAGE, case, layer

# sums of means and variances over six channels, and their weight
_STATISTICS = "".join(
    f"blobs {{ shape {{ dim: {len(values)} }} {' '.join(f'data: {value}' for value in values)} }} "
    for values in ([1, -2, 0.5, 3, 0, -1], [2, 1, 4, 0.25, 9, 3], [2.5])
)


def _batch_norm():
    flat = {"x": [[5, 6], "normal"]}
    solid = {"x": [[2, 3, 2, 4, 3], "normal"]}
    cases = []
    for options in ("", "eps: 0.5", "moving_average_fraction: 0.5", "use_global_stats: false"):
        for phase in ("TRAIN", "TEST") if "use_global" in options else ("TRAIN",):
            text = layer("BatchNorm", options)
            cases.append(case(f"BatchNorm/{phase} batch {options}", text, phase=phase))
    cases += [
        case("BatchNorm/batch, fresh", layer("BatchNorm"), filled=True),
        case("BatchNorm/batch, in place", layer("BatchNorm", tops=("x",))),
        case("BatchNorm/batch, two axes", layer("BatchNorm"), flat),
        case("BatchNorm/batch, five axes", layer("BatchNorm"), solid),
        case("BatchNorm/batch, new size", layer("BatchNorm"), twice={"x": [1, 6, 4, 5]}),
        case("BatchNorm/global, fresh", layer("BatchNorm"), phase="TEST", filled=True),
    ]
    for phase, options in (("TEST", ""), ("TEST", "eps: 0.5"), ("TRAIN", "use_global_stats: true")):
        text = layer("BatchNorm", options, more=_STATISTICS)
        cases.append(case(f"BatchNorm/{phase} global {options}", text, phase=phase, filled=True))
    text = layer("BatchNorm", tops=("x",), more=_STATISTICS)
    cases.append(case("BatchNorm/global, in place", text, phase="TEST", filled=True))
    zeros = " ".join(["param { lr_mult: 0 }"] * 3)
    cases.append(case("BatchNorm/three params", layer("BatchNorm", more=zeros), filled=True))
    block = layer("Convolution", "num_output: 4 kernel_size: 3 bias_term: false")
    for kind, options in (("BatchNorm", ""), ("Scale", "bias_term: true"), ("ReLU", "")):
        block += layer(kind, options, ("y",))
    cases.append(case("BatchNorm/between a convolution and Scale, ReLU, in place", block))
    return cases


def _mvn():
    cases = [
        case(f"MVN/{options}", layer("MVN", options))
        for options in (
            "",
            "across_channels: true",
            "normalize_variance: false",
            "normalize_variance: false across_channels: true",
            "eps: 0.5",
            "eps: 0.5 across_channels: true",
        )
    ]
    for shape in ([4, 3, 5], [4, 3]):
        inputs = {"x": [shape, "normal"]}
        cases.append(case(f"MVN/{len(shape)} axes", layer("MVN", "across_channels: true eps: 0.01"), inputs))
    cases.append(case("MVN/new size", layer("MVN"), twice={"x": [1, 6, 4, 5]}))
    return cases


def _bias():
    cases = []
    filler = 'filler { type: "constant" value: 2 }'
    for options in (
        "",
        "axis: 0 num_axes: 2",
        "axis: 2 num_axes: -1",
        "axis: 0 num_axes: -1",
        "num_axes: 0",
        "axis: -1",
    ):
        cases.append(case(f"Bias/{options}", layer("Bias", options)))
        cases.append(case(f"Bias/in place {options}", layer("Bias", options, tops=("x",)), phase="TEST"))
    cases.append(case("Bias/as filled", layer("Bias", filler), filled=True))
    for shape, options in (([6], ""), ([2, 6], "axis: 0"), ([9, 7], "axis: 2"), ([], "axis: 0")):
        inputs = {"x": [IMAGE, "normal"], "z": [shape, "normal"]}
        cases.append(
            case(f"Bias/by a bottom of {shape} {options}", layer("Bias", options, ("x", "z")), inputs)
        )
    return cases


def cases() -> list[dict]:
    """All of them, by type."""
    return [*_batch_norm(), *_mvn(), *_bias()]
