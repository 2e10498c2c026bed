"""The layer types of the nets of the paper, and the fillers."""

from __future__ import annotations

from .build import IMAGE, case, layer

_CONV = (
    "kernel_size: 3",
    "kernel_size: 3 pad: 1",
    "kernel_size: 3 stride: 2",
    "kernel_size: 3 pad: 2 stride: 2",
    "kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 0 stride_h: 2 stride_w: 1",
    "kernel_size: 3 kernel_size: 2 pad: 2 pad: 1 stride: 1 stride: 3",
    "kernel_size: 3 dilation: 2 pad: 2",
    "kernel_size: 2 dilation: 2 dilation: 3 stride: 2",
    "kernel_size: 3 group: 2",
    "kernel_size: 3 group: 3 pad: 1 bias_term: false",
    "kernel_size: 1",
    "kernel_size: 1 stride: 2",
    "kernel_size: 5 pad: 4",
    "kernel_size: 3 force_nd_im2col: true pad: 1",
)


def _convolution():
    cases = [
        case(f"Convolution/{options}", layer("Convolution", f"num_output: 6 {options}")) for options in _CONV
    ]
    small = {"x": [[2, 3, 2, 2], "normal"]}
    kernel = "num_output: 4 kernel_size: 3 stride: 2"
    cases.append(case("Convolution/input smaller than the kernel", layer("Convolution", kernel), small))
    lines = {"x": [[2, 3, 9], "normal"]}
    cases.append(case("Convolution/1-D", layer("Convolution", "num_output: 4 kernel_size: 3 pad: 1"), lines))
    solid = {"x": [[2, 3, 4, 5, 3], "normal"]}
    cases.append(
        case("Convolution/3-D", layer("Convolution", "num_output: 4 kernel_size: 2 stride: 2"), solid)
    )
    two = {"x": [IMAGE, "normal"], "z": [IMAGE, "normal"]}
    both = layer("Convolution", "num_output: 4 kernel_size: 3", ("x", "z"), ("y", "w"))
    cases.append(case("Convolution/two bottoms, one weight", both, two))
    plain = layer("Convolution", "num_output: 4 kernel_size: 3 pad: 1")
    cases.append(case("Convolution/new size", plain, twice={"x": [1, 6, 5, 11]}))
    fixed = layer(
        "Convolution", "num_output: 4 kernel_size: 3", more="param { lr_mult: 0 } param { lr_mult: 1 }"
    )
    cases.append(case("Convolution/lr_mult 0", fixed))
    shared = (
        'layer { name: "a" type: "Convolution" bottom: "x" top: "a" param { name: "w" } '
        "convolution_param { num_output: 6 kernel_size: 3 pad: 1 bias_term: false } }\n"
        'layer { name: "b" type: "Convolution" bottom: "a" top: "b" param { name: "w" } '
        "convolution_param { num_output: 6 kernel_size: 3 pad: 1 bias_term: false } }\n"
    )
    cases.append(case("Convolution/shared weight", shared))
    return cases


def _deconvolution():
    return [
        case(f"Deconvolution/{options}", layer("Deconvolution", f"num_output: 6 {options}"))
        for options in (
            *_CONV[:11],
            "kernel_size: 4 stride: 2 pad: 1",
            "kernel_size: 4 stride: 2 group: 6 bias_term: false",
        )
    ] + [
        case(
            "Deconvolution/kernel_size: 16 stride: 8",
            layer("Deconvolution", "num_output: 3 kernel_size: 16 stride: 8"),
            {"x": [[1, 3, 2, 3], "normal"]},
        )
    ]


def _pooling():
    cases = []
    for method in ("MAX", "AVE"):
        for options in (
            "kernel_size: 2 stride: 2",
            "kernel_size: 3 stride: 2",
            "kernel_size: 3 stride: 2 pad: 1",
            "kernel_size: 3 stride: 1 pad: 1",
            "kernel_size: 4 stride: 3 pad: 2",
            "kernel_size: 4 stride: 4 pad: 3",
            "kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 2",
            "kernel_h: 3 kernel_w: 4 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 2",
            "kernel_size: 3 stride: 2 @FLOOR",
            "kernel_size: 3 stride: 2 pad: 1 @FLOOR",
            "global_pooling: true",
        ):
            cases.append(case(f"Pooling/{method} {options}", layer("Pooling", f"pool: {method} {options}")))
        ties = {"x": [IMAGE, "ties"]}
        text = layer("Pooling", f"pool: {method} kernel_size: 3 stride: 2")
        cases.append(case(f"Pooling/{method} ties", text, ties))
        cases.append(case(f"Pooling/{method} new size", text, twice={"x": [1, 6, 4, 12]}))
        small = {"x": [[1, 2, 2, 2], "normal"]}
        cases.append(case(f"Pooling/{method} input smaller than the kernel", text, small))
        # a window wholly outside: the original's MAX then writes out of bounds backward
        outside = layer("Pooling", f"pool: {method} kernel_size: 1 stride: 3")
        five = {"x": [[1, 2, 5, 5], "normal"]}
        cases.append(case(f"Pooling/{method} window outside", outside, five, backward=False))
    indexed = layer("Pooling", "pool: MAX kernel_size: 3 stride: 2", tops=("y", "index"))
    cases.append(case("Pooling/MAX with indices", indexed, backward=False))
    cases.append(case("Pooling/MAX with indices, ties", indexed, {"x": [IMAGE, "ties"]}, backward=False))
    for size in (1, 2, 3, 6, 39):
        text = layer("Pooling", "pool: MAX kernel_size: 2 stride: 2")
        cases.append(case(f"Pooling/MAX of {size}x{size}", text, {"x": [[1, 1, size, size], "normal"]}))
    return cases


def _lrn():
    cases = []
    for options in (
        "",
        "local_size: 3 alpha: 0.5 beta: 0.6",
        "local_size: 5 alpha: 1e-4 beta: 0.75",
        "k: 2 alpha: 2",
    ):
        for region in ("ACROSS_CHANNELS", "WITHIN_CHANNEL"):
            cases.append(case(f"LRN/{region} {options}", layer("LRN", f"norm_region: {region} {options}")))
    cases.append(case("LRN/more neighbours than channels", layer("LRN", "local_size: 9")))
    cases.append(case("LRN/new size", layer("LRN", "local_size: 3"), twice={"x": [1, 6, 4, 5]}))
    return cases


def _softmax():
    return [
        case("Softmax/axis 1", layer("Softmax")),
        case("Softmax/axis -1", layer("Softmax", "axis: -1")),
        case("Softmax/axis 0", layer("Softmax", "axis: 0")),
        case("Softmax/large values", layer("Softmax"), {"x": [IMAGE, "large"]}),
        case("Softmax/in place", layer("Softmax", tops=("x",)), backward=False),
    ]


def _softmax_loss():
    cases = []
    for kind in ("labels", "labels ignored", "all ignored"):
        for options in (
            "",
            "normalize: true",
            "normalize: false",
            *(f"normalization: {mode}" for mode in ("FULL", "VALID", "BATCH_SIZE", "NONE")),
            "normalization: VALID normalize: false",
        ):
            options = f"{'' if kind == 'labels' else 'ignore_label: 255 '}{options}"
            inputs = {"x": [IMAGE, "normal"], "label": [[2, 1, 9, 7], kind]}
            text = layer("SoftmaxWithLoss", options, ("x", "label"))
            cases.append(case(f"SoftmaxWithLoss/{kind}: {options}", text, inputs))
    forms = {
        "labels without channel axis": ([2, 6, 9, 7], [2, 9, 7]),
        "a class for each item": ([5, 6], [5]),
    }
    for name, (scores, labels) in forms.items():
        inputs = {"x": [scores, "normal"], "label": [labels, "labels"]}
        cases.append(
            case(f"SoftmaxWithLoss/{name}", layer("SoftmaxWithLoss", bottoms=("x", "label")), inputs)
        )
    sure = {"x": [IMAGE, "large"], "label": [[2, 1, 9, 7], "labels"]}
    weighted = layer("SoftmaxWithLoss", bottoms=("x", "label"), more="loss_weight: 2.5")
    cases.append(case("SoftmaxWithLoss/saturated, loss_weight 2.5", weighted, sure))
    return cases


def _accuracy():
    cases = []
    for options in ("", "top_k: 2", "ignore_label: 255", "ignore_label: 255 top_k: 3"):
        for tops in (("y",), ("y", "each")):
            inputs = {
                "x": [IMAGE, "normal"],
                "label": [[2, 1, 9, 7], "labels ignored" if "255" in options else "labels"],
            }
            text = layer("Accuracy", options, ("x", "label"), tops)
            cases.append(case(f"Accuracy/{len(tops)} tops {options}", text, inputs, "TEST", backward=False))
    flat = {"x": [[7, 5], "normal"], "label": [[7], "labels"]}
    cases.append(
        case("Accuracy/flat", layer("Accuracy", bottoms=("x", "label")), flat, "TEST", backward=False)
    )
    return cases


def _crop():
    inputs = {"x": [[2, 6, 9, 8], "normal"], "size": [[2, 3, 4, 5], "normal"]}
    like = {"x": [[2, 6, 9, 8], "normal"], "size": [[1, 9, 4, 5], "normal"]}
    return [
        case("Crop/no offset", layer("Crop", "axis: 2", ("x", "size")), inputs),
        case("Crop/one offset", layer("Crop", "axis: 2 offset: 3", ("x", "size")), inputs),
        case("Crop/an offset each", layer("Crop", "offset: 5 offset: 1", ("x", "size")), like),
        case("Crop/axis 1", layer("Crop", "axis: 1 offset: 2 offset: 1 offset: 3", ("x", "size")), inputs),
        case("Crop/axis -1", layer("Crop", "axis: -1 offset: 3", ("x", "size")), inputs),
    ]


def _eltwise():
    cases = []
    for kind in ("normal", "ties"):
        for bottoms in (("x", "z"), ("x", "z", "u")):
            inputs = {name: [IMAGE, kind] for name in bottoms}
            weights = "".join(f" coeff: {value}" for value in (0.5, -2, 1)[: len(bottoms)])
            for options in (
                "",
                "operation: SUM" + weights,
                "operation: PROD",
                "operation: PROD stable_prod_grad: false",
                "operation: MAX",
            ):
                if kind == "ties" and "stable" in options:
                    continue  # divides by the zeros among them
                name = f"Eltwise/{len(bottoms)} {kind}: {options}"
                cases.append(case(name, layer("Eltwise", options, bottoms), inputs))
    twice = layer("Eltwise", "operation: PROD", ("x", "x"))
    cases.append(case("Eltwise/one blob twice", twice))
    return cases


def _scale():
    cases = []
    for options in (
        "",
        "bias_term: true",
        "axis: 0 num_axes: 2 bias_term: true",
        "axis: 2 num_axes: -1",
        "axis: 0 num_axes: -1 bias_term: true",
        "num_axes: 0 bias_term: true",
        "axis: -1",
    ):
        cases.append(case(f"Scale/{options}", layer("Scale", options)))
        cases.append(case(f"Scale/in place {options}", layer("Scale", options, tops=("x",)), phase="TEST"))
    for shape, options in (
        ([6], ""),
        ([2, 6], "axis: 0"),
        ([9, 7], "axis: 2 bias_term: true"),
        ([], "axis: 0"),
    ):
        inputs = {"x": [IMAGE, "normal"], "z": [shape, "normal"]}
        cases.append(
            case(f"Scale/by a bottom of {shape} {options}", layer("Scale", options, ("x", "z")), inputs)
        )
    return cases


def _inner_product():
    return [
        case(f"InnerProduct/{options}", layer("InnerProduct", f"num_output: 5 {options}"))
        for options in (
            "",
            "bias_term: false",
            "axis: 2",
            "axis: -1",
            "axis: 0",
            "transpose: true",
            "transpose: true axis: 3 bias_term: false",
        )
    ]


def _relu():
    return [
        case("ReLU/plain", layer("ReLU")),
        case("ReLU/slope", layer("ReLU", "negative_slope: 0.1")),
        case("ReLU/zeros", layer("ReLU", "negative_slope: 0.1"), {"x": [IMAGE, "ties"]}),
        case("ReLU/in place", layer("Convolution", "num_output: 4 kernel_size: 3", tops=("c",))
             + layer("ReLU", bottoms=("c",), tops=("c",))),
        case("ReLU/in place, slope", layer("Convolution", "num_output: 4 kernel_size: 3", tops=("c",))
             + layer("ReLU", "negative_slope: 0.1", bottoms=("c",), tops=("c",))),
    ]  # fmt: skip


def _dropout():
    cases = []
    for ratio in (0.1, 0.3, 0.5, 0.9):
        for phase in ("TRAIN", "TEST"):
            text = layer("Dropout", f"dropout_ratio: {ratio}")
            cases.append(case(f"Dropout/{ratio} {phase}", text, phase=phase))
    chain = layer("Dropout", "dropout_ratio: 0.4", tops=("x",)) + layer("InnerProduct", "num_output: 3")
    chain += 'layer { name: "d2" type: "Dropout" bottom: "y" top: "y" }\n'
    cases.append(case("Dropout/two in place", chain))
    return cases


def _concat_slice_split():
    def pair(a, b):
        return {"x": [a, "normal"], "z": [b, "normal"]}

    slices = ("a", "b", "c")
    return [
        case("Concat/axis 1", layer("Concat", "", ("x", "z")), pair([2, 3, 4, 5], [2, 1, 4, 5])),
        case("Concat/axis 0", layer("Concat", "axis: 0", ("x", "z")), pair([2, 3, 4, 5], [1, 3, 4, 5])),
        case("Concat/axis -1", layer("Concat", "axis: -1", ("x", "z")), pair([2, 3, 4, 5], [2, 3, 4, 2])),
        case(
            "Concat/concat_dim",
            layer("Concat", "concat_dim: 2", ("x", "z")),
            pair([2, 3, 4, 5], [2, 3, 1, 5]),
        ),
        case("Slice/equal", layer("Slice", "", tops=slices)),
        case("Slice/points", layer("Slice", "slice_point: 1 slice_point: 4", tops=slices)),
        case("Slice/axis 2", layer("Slice", "axis: 2 slice_point: 2 slice_point: 3", tops=slices)),
        case("Slice/slice_dim", layer("Slice", "slice_dim: 2", tops=slices)),
        case("Split/three", layer("Split", tops=slices)),
        case("Silence/one", layer("ReLU") + layer("Silence", tops=())),
    ]


_DUMMY = "shape { dim: 2 dim: 3 } shape { dim: 4 }"


def _dummy_data():
    options = {
        "constant": f"{_DUMMY} data_filler {{ value: 1.5 }}",
        "uniform": f'{_DUMMY} data_filler {{ type: "uniform" min: -1 max: 2 }}',
        "legacy sizes": "num: 2 channels: 3 height: 1 width: 5",
    }
    return [
        case(f"DummyData/{name}", layer("DummyData", text, (), ("y", "z")), {}, backward=False)
        for name, text in options.items()
    ]


_FILLERS = (
    'type: "constant" value: 0.25',
    'type: "uniform" min: -2 max: 5',
    'type: "uniform"',
    'type: "xavier"',
    'type: "xavier" variance_norm: FAN_OUT',
    'type: "xavier" variance_norm: AVERAGE',
    'type: "positive_unitball"',
    'type: "bilinear"',
)


def _fillers():
    cases = []
    for filler in _FILLERS:
        options = f"num_output: 4 group: 2 kernel_size: 4 weight_filler {{ {filler} }}"
        if "bilinear" not in filler:
            options += f" bias_filler {{ {filler} }}"
        cases.append(case(f"filler/{filler}", layer("Convolution", options), filled=True, backward=False))
    product = layer("InnerProduct", 'num_output: 5 weight_filler { type: "xavier" variance_norm: AVERAGE }')
    cases.append(case("filler/xavier of a matrix", product, filled=True, backward=False))
    odd = 'num_output: 6 group: 6 kernel_size: 5 weight_filler { type: "bilinear" }'
    cases.append(case("filler/bilinear, odd", layer("Deconvolution", odd), filled=True, backward=False))
    return cases


def cases() -> list[dict]:
    """The cases of this module, by layer type."""
    makers = (
        _accuracy,
        _concat_slice_split,
        _convolution,
        _crop,
        _deconvolution,
        _dropout,
        _dummy_data,
        _eltwise,
        _fillers,
        _inner_product,
        _lrn,
        _pooling,
        _relu,
        _scale,
        _softmax,
        _softmax_loss,
    )
    return [each for make in makers for each in make()]
