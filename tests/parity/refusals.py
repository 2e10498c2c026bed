"""Nets that Caffe refuses: it aborts, ours raises, and both say the same key words."""

from __future__ import annotations

from cases.build import IMAGE, case, layer

X = {"x": [IMAGE, "normal"]}
PAIR = {"x": [IMAGE, "normal"], "z": [IMAGE, "normal"]}


def normal(*shape):
    """One input of ``shape``."""
    return {"x": [list(shape), "normal"]}


def pair(x, z):
    """Two inputs of these shapes."""
    return {"x": [list(x), "normal"], "z": [list(z), "normal"]}


LABELLED = {"x": [IMAGE, "normal"], "z": [[2, 1, 9, 6], "labels"]}

# the key words, the layers, the inputs
REFUSED = [
    (
        "Number of output should be multiples of group",
        layer("Convolution", "num_output: 5 kernel_size: 3 group: 2"),
        X,
    ),
    ("Filter dimensions must be nonzero", layer("Convolution", "num_output: 4 kernel_size: 0"), X),
    (
        "kernel_h & kernel_w can only be used for 2D convolution",
        layer("Convolution", "num_output: 4 kernel_h: 3 kernel_w: 3"),
        {"x": [[2, 3, 9], "normal"]},
    ),
    (
        "Filter size is kernel_size OR kernel_h and kernel_w; not both",
        layer("Pooling", "kernel_size: 3 kernel_h: 2 kernel_w: 2"),
        X,
    ),
    (
        "With Global_pooling: true Filter size cannot specified",
        layer("Pooling", "global_pooling: true kernel_size: 3"),
        X,
    ),
    ("pad is pad OR pad_h and pad_w are required", layer("Pooling", "kernel_size: 3 pad_h: 1"), X),
    ("LRN only supports odd values for local_size", layer("LRN", "local_size: 4"), X),
    ("Eltwise Layer takes one coefficient per bottom blob", layer("Eltwise", "coeff: 1", ("x", "z")), PAIR),
    (
        "Eltwise layer only takes coefficients for summation",
        layer("Eltwise", "operation: PROD coeff: 1 coeff: 2", ("x", "z")),
        PAIR,
    ),
    ("is out-of-bounds with size 9 and offset 3", layer("Crop", "offset: 3", ("x", "z")), PAIR),
    (
        "number of offset values specified must be equal to the number of dimensions following axis",
        layer("Crop", "axis: 1 offset: 1 offset: 1", ("x", "z")),
        PAIR,
    ),
    ("Number of labels must match number of predictions", layer("SoftmaxWithLoss", "", ("x", "z")), LABELLED),
    (
        "The data and label should have the same first dimension",
        layer("SoftmaxWithLoss", "", ("x", "z")),
        {"x": [IMAGE, "normal"], "z": [[1, 1, 18, 7], "labels"]},
    ),
    ("Number of labels must match number of predictions", layer("Accuracy", "", ("x", "z")), LABELLED),
    (
        "top_k must be less than or equal to the number of classes",
        layer("Accuracy", "top_k: 9", ("x", "z")),
        {"x": [IMAGE, "normal"], "z": [[2, 1, 9, 7], "labels"]},
    ),
    ("scale blob's shape extends past bottom[0]'s shape", layer("Scale", "axis: 3 num_axes: 2"), X),
    ("Unknown layer type: NoSuchLayer", layer("NoSuchLayer"), X),
    ("Unknown bottom blob 'q' (layer 'relu', bottom index 0)", layer("ReLU", bottoms=("q",)), X),
    ("produced by multiple sources", layer("ReLU", tops=("y",)) + layer("Dropout", tops=("y",)), X),
    (
        "Specify either include rules or exclude rules; not both",
        layer("ReLU", more="include { phase: TRAIN } exclude { phase: TEST }"),
        X,
    ),
    ("Too many params specified for layer", layer("ReLU", more="param { lr_mult: 1 }"), X),
    (
        "loss_weight must be unspecified or specified once per top blob",
        layer("Slice", "", tops=("a", "b", "c"), more="loss_weight: 1 loss_weight: 2"),
        X,
    ),
    ("takes 1 bottom blob(s) as input", layer("ReLU", bottoms=("x", "z")), PAIR),
    ("produces 1 top blob(s) as output", layer("ReLU", tops=("a", "b")), X),
    ("Unknown filler name: nope", layer("InnerProduct", 'num_output: 3 weight_filler { type: "nope" }'), X),
    (
        "Sparsity not supported by this Filler",
        layer("InnerProduct", 'num_output: 3 weight_filler { type: "constant" sparse: 2 }'),
        X,
    ),
    (
        "Filter must be square",
        layer("Convolution", 'num_output: 3 kernel_h: 2 kernel_w: 3 weight_filler { type: "bilinear" }'),
        X,
    ),
    ("propagate_down", layer("ReLU", more="propagate_down: true propagate_down: true"), X),
    (
        "Must specify 'shape' once, once per top blob, or not at all",
        'layer { type: "Input" name: "in" top: ["a", "b", "c"] input_param { shape { dim: 1 } shape { dim: 2 } } }',
        X,
    ),
    ("AbsVal Layer does not allow in-place", layer("AbsVal", tops=("x",)), X),
    ("Flatten Layer does not allow in-place", layer("Flatten", tops=("x",)), X),
    ("Reshape Layer does not allow in-place", layer("Reshape", tops=("x",)), X),
    ("base must be strictly positive", layer("Exp", "base: 0"), X),
    ("base must be strictly positive", layer("Log", "base: -2"), X),
    ("Inf result: 1/log(base)", layer("Log", "base: 1"), X),
    ("Inf result: log(base)", layer("Exp", "base: inf"), X),
    ("Number of axes of bottom blob must be >=2.", layer("PReLU"), normal(3)),
    ("axis 1 out of range for 1-D Blob", layer("BatchNorm"), normal(4)),
    ("Cannot use legacy accessors on Blobs with > 4 axes.", layer("MVN"), normal(1, 2, 1, 1, 1)),
    (
        "bias blob's shape extends past bottom[0]'s shape when applied starting with bottom[0] axis",
        layer("Bias", "num_axes: 5"),
        X,
    ),
    ("num_axes must be non-negative, or -1", layer("Bias", "num_axes: -2"), X),
    (
        "dimension mismatch between bottom[0]->shape(1) and bias->shape(0)",
        layer("Bias", "", ("x", "z")),
        pair((2, 3), (4,)),
    ),
    ("new shape contains multiple -1 dims", layer("Reshape", "shape { dim: -1 dim: -1 }"), X),
    ("out of range", layer("Reshape", "axis: 5"), X),
    ("num_axes must be >= 0, or -1 for all", layer("Reshape", "num_axes: -2"), X),
    ("end_axis = axis + num_axes is out of range", layer("Reshape", "axis: 3 num_axes: 2"), X),
    (
        "new shape contains a 0, but there was no corresponding bottom axis to copy",
        layer("Reshape", "shape { dim: 0 } axis: 4"),
        X,
    ),
    (
        "must be divisible by the product of the specified dimensions (5)",
        layer("Reshape", "shape { dim: 5 dim: -1 }"),
        X,
    ),
    ("output count must match input count", layer("Reshape", "shape { dim: 5 dim: 5 }"), X),
    ("Number of tiles must be positive.", layer("Tile", "tiles: 0"), X),
    (
        "Selector blob dimensions must be singletons (1), except the first",
        layer("Filter", "", ("x", "z")),
        pair((2, 3), (2, 3)),
    ),
    (
        "Each bottom should have the same 0th dimension as the selector blob",
        layer("Filter", "", ("x", "z")),
        pair((2, 3), (3,)),
    ),
    ("top k must not be less than 1.", layer("ArgMax", "top_k: 0"), X),
    ("top_k must be less than or equal to the dimension of the axis", layer("ArgMax", "top_k: 9 axis: 1"), X),
    (
        "top_k must be less than or equal to the dimension of the flattened bottom blob per instance",
        layer("ArgMax", "top_k: 9"),
        normal(2, 3),
    ),
    ("EmbedLayer num_output must be positive.", layer("Embed", "input_dim: 4"), X),
    ("EmbedLayer input_dim must be positive.", layer("Embed", "num_output: 4"), X),
    ("Input dimensions cannot be zero.", layer("SPP", "pyramid_height: 2"), normal(1, 1, 0, 4)),
    ("Input must have 4 axes", layer("SPP", "pyramid_height: 1"), normal(1, 2, 4)),
    (
        "Padding implemented only for average and max pooling.",
        layer("SPP", "pyramid_height: 2 pool: STOCHASTIC"),
        normal(1, 2, 5, 5),
    ),
]


def jobs() -> list[dict]:
    """A layer job for each, with its key words; an engine's exception counts as its answer."""
    return [
        {"kind": "layer", "words": words, **case(f"refusal/{words}", net, inputs, backward=False)}
        for words, net, inputs in REFUSED
    ]
