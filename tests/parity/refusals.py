"""Nets that Caffe refuses: it aborts, ours raises, and both say the same key words."""

from __future__ import annotations

from cases.build import IMAGE, case, layer

X = {"x": [IMAGE, "normal"]}
PAIR = {"x": [IMAGE, "normal"], "z": [IMAGE, "normal"]}
LABELLED = {"x": [IMAGE, "normal"], "z": [[2, 1, 9, 6], "labels"]}

# the key words, the layers, the inputs
REFUSED = [
    ("Number of output should be multiples of group", layer("Convolution", "num_output: 5 kernel_size: 3 group: 2"), X),
    ("Filter dimensions must be nonzero", layer("Convolution", "num_output: 4 kernel_size: 0"), X),
    ("kernel_h & kernel_w can only be used for 2D convolution",
     layer("Convolution", "num_output: 4 kernel_h: 3 kernel_w: 3"), {"x": [[2, 3, 9], "normal"]}),
    ("Filter size is kernel_size OR kernel_h and kernel_w; not both",
     layer("Pooling", "kernel_size: 3 kernel_h: 2 kernel_w: 2"), X),
    ("With Global_pooling: true Filter size cannot specified",
     layer("Pooling", "global_pooling: true kernel_size: 3"), X),
    ("pad is pad OR pad_h and pad_w are required", layer("Pooling", "kernel_size: 3 pad_h: 1"), X),
    ("LRN only supports odd values for local_size", layer("LRN", "local_size: 4"), X),
    ("Eltwise Layer takes one coefficient per bottom blob", layer("Eltwise", "coeff: 1", ("x", "z")), PAIR),
    ("Eltwise layer only takes coefficients for summation",
     layer("Eltwise", "operation: PROD coeff: 1 coeff: 2", ("x", "z")), PAIR),
    ("is out-of-bounds with size 9 and offset 3", layer("Crop", "offset: 3", ("x", "z")), PAIR),
    ("number of offset values specified must be equal to the number of dimensions following axis",
     layer("Crop", "axis: 1 offset: 1 offset: 1", ("x", "z")), PAIR),
    ("Number of labels must match number of predictions", layer("SoftmaxWithLoss", "", ("x", "z")), LABELLED),
    ("The data and label should have the same first dimension", layer("SoftmaxWithLoss", "", ("x", "z")),
     {"x": [IMAGE, "normal"], "z": [[1, 1, 18, 7], "labels"]}),
    ("Number of labels must match number of predictions", layer("Accuracy", "", ("x", "z")), LABELLED),
    ("top_k must be less than or equal to the number of classes", layer("Accuracy", "top_k: 9", ("x", "z")),
     {"x": [IMAGE, "normal"], "z": [[2, 1, 9, 7], "labels"]}),
    ("scale blob's shape extends past bottom[0]'s shape", layer("Scale", "axis: 3 num_axes: 2"), X),
    ("Unknown layer type: NoSuchLayer", layer("NoSuchLayer"), X),
    ("Unknown bottom blob 'q' (layer 'relu', bottom index 0)", layer("ReLU", bottoms=("q",)), X),
    ("produced by multiple sources", layer("ReLU", tops=("y",)) + layer("Dropout", tops=("y",)), X),
    ("Specify either include rules or exclude rules; not both",
     layer("ReLU", more="include { phase: TRAIN } exclude { phase: TEST }"), X),
    ("Too many params specified for layer", layer("ReLU", more="param { lr_mult: 1 }"), X),
    ("loss_weight must be unspecified or specified once per top blob",
     layer("Slice", "", tops=("a", "b", "c"), more="loss_weight: 1 loss_weight: 2"), X),
    ("takes 1 bottom blob(s) as input", layer("ReLU", bottoms=("x", "z")), PAIR),
    ("produces 1 top blob(s) as output", layer("ReLU", tops=("a", "b")), X),
    ("Unknown filler name: nope", layer("InnerProduct", 'num_output: 3 weight_filler { type: "nope" }'), X),
    ("Sparsity not supported by this Filler",
     layer("InnerProduct", 'num_output: 3 weight_filler { type: "constant" sparse: 2 }'), X),
    ("Filter must be square",
     layer("Convolution", 'num_output: 3 kernel_h: 2 kernel_w: 3 weight_filler { type: "bilinear" }'), X),
    ("propagate_down", layer("ReLU", more="propagate_down: true propagate_down: true"), X),
    ("Must specify 'shape' once, once per top blob, or not at all",
     'layer { name: "in" type: "Input" top: "a" top: "b" top: "c" input_param { shape { dim: 1 } shape { dim: 2 } } }',
     X),
]  # fmt: skip


def jobs() -> list[dict]:
    """A layer job for each, with its key words; an engine's exception counts as its answer."""
    return [
        {"kind": "layer", "words": words, **case(f"refusal/{words}", net, inputs, backward=False)}
        for words, net, inputs in REFUSED
    ]
