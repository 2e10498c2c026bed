"""Export to ONNX: every translation against the engine through ONNX Runtime, and every refusal."""

import itertools
import json
import re
from pathlib import Path

import caffe
import caffe.export
import numpy as np
import onnx
import onnxruntime
import pytest
from caffe.command import main
from caffe.export import check, metadata, table, write
from layer_check import noise

ROOT = Path(__file__).parents[2]


def deploy(*shapes, body):
    """A net of inputs ``a``, ``b`` ... and ``body``."""
    inputs = "".join(
        f'layer {{ name: "in_{name}" type: "Input" top: "{name}" input_param {{ shape {{ %s }} }} }}\n'
        % " ".join(f"dim: {n}" for n in shape)
        for name, shape in zip("abc", shapes, strict=False)
    )
    return inputs + body


def one_layer(fields, bottoms, tops):
    names = " ".join(f'bottom: "{name}"' for name in "abc"[:bottoms])
    return f'layer {{ name: "probe" {names} {" ".join(f"top: {chr(34)}y{i}{chr(34)}" for i in range(tops))} {fields} }}'


def fill(net):
    """Random parameters; variances positive."""
    for layer in net.layers:
        for i, blob in enumerate(layer.blobs):
            blob.data[...] = noise(*blob.shape, seed=i)
            if layer.type == "BatchNorm":
                blob.data[...] = np.abs(blob.data) + 0.5
    return net


def named(cases):
    """The cases with the layer type in their ids."""
    types = [re.search(r'type: "(\w+)"', case[0])[1] for case in cases]
    return [pytest.param(*case, id=f"{i}-{types[i]}") for i, case in enumerate(cases)]


def run(path, **arrays):
    return onnxruntime.InferenceSession(str(path)).run(None, arrays)


@pytest.fixture
def export(make_net, tmp_path):
    """``export(text, **options)``: the net of ``text`` with random parameters, exported."""

    def export(text, **options):
        return caffe.export.to_onnx(fill(make_net(text)), None, tmp_path / "net.onnx", **options)

    return export


IMAGE = (2, 4, 9, 8)
POOL = 'type: "Pooling" pooling_param { %s }'

# fields, shapes of the bottoms, number of tops
EVERY_SIZE = [
    ('type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 }', [IMAGE], 1),
    (
        'type: "Convolution" convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 '
        "pad_h: 2 pad_w: 1 group: 2 bias_term: false }",
        [IMAGE],
        1,
    ),
    ('type: "Convolution" convolution_param { num_output: 3 kernel_size: 3 dilation: 2 pad: 2 }', [IMAGE], 1),
    ('type: "Convolution" convolution_param { num_output: 3 kernel_size: 2 }', [(2, 4, 5)], 1),
    (
        'type: "Convolution" convolution_param { num_output: 3 kernel_size: 2 stride: 2 }',
        [(1, 2, 5, 6, 7)],
        1,
    ),
    ('type: "Convolution" convolution_param { num_output: 5 }', [(3, 4)], 1),
    ('type: "Convolution" convolution_param { num_output: 5 kernel_size: 3 }', [IMAGE, IMAGE], 2),
    ('type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 stride: 2 }', [(1, 3, 2, 2)], 1),
    ('type: "Deconvolution" convolution_param { num_output: 6 kernel_size: 4 stride: 2 }', [IMAGE], 1),
    (
        'type: "Deconvolution" convolution_param { num_output: 4 kernel_size: 3 stride: 3 pad: 1 group: 4 '
        "bias_term: false }",
        [IMAGE],
        1,
    ),
    ('type: "Deconvolution" convolution_param { num_output: 3 kernel_size: 2 dilation: 2 }', [(2, 4, 5)], 1),
    *[
        (f'type: "Pooling" pooling_param {{ pool: {method} {fields} }}', [shape], tops)
        for method, tops in (("MAX", 1), ("MAX", 2), ("AVE", 1))
        for fields, shape in [
            ("kernel_size: 2 stride: 2", (1, 2, 5, 8)),
            ("kernel_size: 3 stride: 2", (1, 2, 6, 5)),
            ("kernel_size: 3 stride: 2 pad: 1", (1, 2, 6, 5)),
            ("kernel_size: 3 pad: 1", (2, 2, 6, 5)),
            ("kernel_size: 3 pad: 2", (2, 2, 4, 5)),
            ("kernel_size: 2 stride: 2 pad: 1", (1, 2, 3, 4)),
            ("kernel_size: 4 stride: 3 pad: 3", (1, 2, 5, 6)),
            ("kernel_size: 3 stride: 2 round_mode: FLOOR", (1, 2, 6, 5)),
            ("kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR", (1, 2, 6, 8)),
            ("kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 2 stride_h: 2 stride_w: 1", (1, 2, 4, 4)),
            ("kernel_size: 1 stride: 3", (1, 2, 5, 6)),  # windows wholly outside
            ("kernel_size: 2 stride: 4", (1, 2, 7, 5)),
            ("kernel_size: 3 stride: 2", (1, 2, 2, 2)),  # a window larger than the image
            ("global_pooling: true", (2, 3, 4, 5)),
        ]
    ],
    ('type: "ReLU"', [IMAGE], 1),
    ('type: "ReLU" relu_param { negative_slope: 0.1 }', [IMAGE], 1),
    ('type: "PReLU"', [IMAGE], 1),
    ('type: "PReLU"', [(3, 4)], 1),
    ('type: "PReLU" prelu_param { channel_shared: true }', [IMAGE], 1),
    ('type: "ELU" elu_param { alpha: 0.5 }', [IMAGE], 1),
    ('type: "Sigmoid"', [IMAGE], 1),
    ('type: "TanH"', [IMAGE], 1),
    ('type: "AbsVal"', [IMAGE], 1),
    ('type: "BNLL"', [IMAGE], 1),
    ('type: "Exp" exp_param { base: 2 scale: 0.01 shift: 1 }', [IMAGE], 1),
    ('type: "Exp" exp_param { scale: 0.01 }', [IMAGE], 1),
    ('type: "Log" log_param { base: 2 scale: 0.1 shift: 20 }', [IMAGE], 1),
    ('type: "Log" log_param { shift: 200 }', [IMAGE], 1),
    ('type: "Power" power_param { power: 3 scale: 0.1 shift: 2 }', [IMAGE], 1),
    ('type: "Power" power_param { power: 0.5 shift: 130 }', [IMAGE], 1),
    ('type: "Power" power_param { power: 2 scale: 0 shift: 3 }', [IMAGE], 1),
    ('type: "Power" power_param { power: 0 }', [IMAGE], 1),
    ('type: "Clip" clip_param { min: -3 max: 5 }', [IMAGE], 1),
    ('type: "Swish" swish_param { beta: 0.1 }', [IMAGE], 1),
    ('type: "Threshold" threshold_param { threshold: 2.5 }', [IMAGE], 1),
    ('type: "Eltwise"', [IMAGE, IMAGE, IMAGE], 1),
    ('type: "Eltwise" eltwise_param { coeff: 1 coeff: -2.5 }', [IMAGE, IMAGE], 1),
    ('type: "Eltwise" eltwise_param { operation: PROD }', [IMAGE, IMAGE, IMAGE], 1),
    ('type: "Eltwise" eltwise_param { operation: MAX }', [IMAGE, IMAGE, IMAGE], 1),
    ('type: "Dropout"', [IMAGE], 1),
    ('type: "Softmax"', [IMAGE], 1),
    ('type: "Softmax" softmax_param { axis: -1 }', [IMAGE], 1),
    ('type: "LRN" lrn_param { alpha: 0.01 k: 2 local_size: 3 }', [IMAGE], 1),
    ('type: "LRN" lrn_param { alpha: 0.01 local_size: 3 norm_region: WITHIN_CHANNEL }', [IMAGE], 1),
    ('type: "BatchNorm" batch_norm_param { eps: 0.01 }', [IMAGE], 1),
    ('type: "BatchNorm"', [(3, 4)], 1),
    ('type: "BatchNorm" batch_norm_param { use_global_stats: false }', [IMAGE], 1),
    ('type: "MVN"', [IMAGE], 1),
    ('type: "MVN" mvn_param { across_channels: true }', [(2, 3, 5)], 1),
    ('type: "MVN" mvn_param { normalize_variance: false }', [IMAGE], 1),
    ('type: "Scale"', [IMAGE], 1),
    ('type: "Scale" scale_param { num_axes: 0 bias_term: true }', [IMAGE], 1),
    ('type: "Scale" scale_param { bias_term: true }', [IMAGE], 1),
    ('type: "Scale" scale_param { axis: 0 }', [(2, 4), (2,)], 1),
    ('type: "Scale" scale_param { axis: 0 }', [IMAGE, IMAGE], 1),
    ('type: "Bias"', [IMAGE], 1),
    ('type: "Bias" bias_param { axis: 0 }', [(2, 4), (2, 4)], 1),
    ('type: "Concat"', [IMAGE, (2, 1, 9, 8)], 1),
    ('type: "Concat" concat_param { axis: -1 }', [IMAGE, (2, 4, 9, 8)], 1),
    ('type: "Concat"', [IMAGE], 1),
    ('type: "Slice"', [IMAGE], 2),
    ('type: "Slice" slice_param { slice_point: 1 slice_point: 2 }', [IMAGE], 3),
    ('type: "Slice" slice_param { axis: 2 slice_point: 4 }', [IMAGE], 2),
    ('type: "Slice"', [IMAGE], 1),
    ('type: "Split"', [IMAGE], 2),
    ('type: "Crop" crop_param { offset: 1 offset: 2 }', [(1, 3, 12, 13), (1, 2, 7, 8)], 1),
    ('type: "Crop" crop_param { axis: 1 }', [(1, 3, 12, 13), (1, 2, 7, 8)], 1),
    ('type: "Flatten" flatten_param { axis: 2 }', [IMAGE], 1),
    ('type: "Flatten" flatten_param { axis: 0 end_axis: 1 }', [IMAGE], 1),
    ('type: "Flatten"', [IMAGE], 1),
    ('type: "Reshape" reshape_param { shape { dim: 0 dim: 2 dim: 2 dim: -1 } }', [(2, 4, 9)], 1),
    ('type: "Reshape" reshape_param { axis: 1 num_axes: 1 shape { dim: 2 dim: 2 } }', [IMAGE], 1),
    ('type: "Reshape" reshape_param { axis: -1 shape { dim: 1 } }', [IMAGE], 1),
    ('type: "Tile" tile_param { axis: 2 tiles: 3 }', [IMAGE], 1),
    *[
        (f'type: "Reduction" reduction_param {{ operation: {name} axis: {axis} coeff: 0.5 }}', [IMAGE], 1)
        for name in ("SUM", "ASUM", "SUMSQ", "MEAN")
        for axis in (1, -1)
    ],
    ('type: "Reduction"', [IMAGE], 1),
    ('type: "ArgMax" argmax_param { axis: 1 }', [IMAGE], 1),
    ('type: "ArgMax" argmax_param { axis: 1 top_k: 2 out_max_val: true }', [IMAGE], 1),
    ('type: "ArgMax" argmax_param { top_k: 3 }', [IMAGE], 1),
    ('type: "ArgMax" argmax_param { top_k: 2 out_max_val: true }', [(3, 5)], 1),
    ('type: "Embed" embed_param { input_dim: 7 num_output: 3 }', [(4, 2)], 1),
    ('type: "BatchReindex"', [IMAGE, (5,)], 1),
    ('type: "InnerProduct" inner_product_param { num_output: 3 axis: -1 bias_term: false }', [(2, 3, 5)], 1),
]


@pytest.mark.parametrize(("fields", "shapes", "tops"), named(EVERY_SIZE))
def test_every_layer_at_two_sizes(export, fields, shapes, tops):
    found = export(deploy(*shapes, body=one_layer(fields, len(shapes), tops)))
    assert len(found.comparisons) == 2
    assert all(comparison.worst < 1e-5 for comparison in found.comparisons), found.comparisons
    assert all("batch" in lengths or 0 in lengths for lengths in found.inputs.values())


CONV = """
layer { name: "conv" type: "Convolution" bottom: "a" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
"""
SCORE = """layer { name: "score" type: "InnerProduct" bottom: "conv" top: "score"
inner_product_param { num_output: 3 %s } }"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "b" top: "loss" }'
SMALL = (1, 3, 7, 6)


@pytest.mark.parametrize("fields", ["", "transpose: true", "bias_term: false", "axis: 2"])
def test_a_net_for_one_size_of_image(export, fields):
    found = export(deploy(SMALL, body=CONV + SCORE % fields))
    assert "Input size incompatible with inner product parameters" in found.fixed
    assert found.inputs == {"a": ["batch", 3, 7, 6]}
    assert [comparison.shapes["a"] for comparison in found.comparisons] == [SMALL, (2, 3, 7, 6)]
    assert all(comparison.worst < 1e-5 for comparison in found.comparisons)


def test_a_net_for_one_shape_is_checked_once(export):
    body = one_layer('type: "InnerProduct" inner_product_param { num_output: 2 axis: 0 }', 1, 1)
    found = export(deploy((2, 3, 4), body=body))
    assert len(found.comparisons) == 1 and found.inputs == {"a": [2, 3, 4]} and found.outputs == {"y0": [2]}


def test_scale_by_a_computed_blob(export):
    body = """layer { name: "sum" type: "Reduction" bottom: "a" top: "sum" reduction_param { axis: 2 coeff: 0.01 } }
    layer { name: "scale" type: "Scale" bottom: "a" bottom: "sum" top: "y" scale_param { axis: 0 } }
    layer { name: "bias" type: "Bias" bottom: "y" bottom: "sum" top: "z" bias_param { axis: 0 } }"""
    found = export(deploy(IMAGE, body=body))
    assert len(found.comparisons) == 2 and max(c.worst for c in found.comparisons) < 1e-5


def test_parameter_as_an_input_of_another_layer(export):
    body = """layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 4 } } }
    layer { name: "scale" type: "Scale" bottom: "a" bottom: "p" top: "y" }"""
    assert max(c.worst for c in export(deploy(IMAGE, body=body)).comparisons) < 1e-5


@pytest.mark.parametrize(
    "fields",
    [
        "kernel_size: 2 stride: 2",
        "kernel_size: 3 stride: 2",
        "kernel_size: 3 stride: 2 pad: 1",
        "kernel_size: 2 stride: 3",
        "kernel_size: 4 stride: 3 pad: 3",
        "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR",
        "kernel_h: 3 kernel_w: 2 stride_h: 3 stride_w: 1 pad_h: 0 pad_w: 1",
        "global_pooling: true",
    ],
)
@pytest.mark.parametrize(("method", "tops"), [("MAX", 1), ("MAX", 2), ("AVE", 1)])
def test_one_pooling_at_every_size(make_net, tmp_path, method, tops, fields):
    net = make_net(deploy((1, 2, 9, 9), body=one_layer(POOL % f"pool: {method} {fields}", 1, tops)))
    found = caffe.export.to_onnx(net, None, tmp_path / "net.onnx", check=False)
    session = onnxruntime.InferenceSession(str(found.path))
    compared = 0
    for height, width in itertools.product(range(1, 10), repeat=2):
        image = noise(1, 2, height, width)
        net.blobs["a"].reshape(*image.shape)
        try:
            expected = net.forward(a=image)
        except caffe.CaffeError:  # too small for the window
            continue
        for name, result in zip(found.outputs, session.run(None, {"a": image}), strict=True):
            assert result.shape == expected[name].shape, (height, width)
            np.testing.assert_allclose(result, expected[name], rtol=1e-5, atol=1e-6)
        compared += 1
    assert compared > 40


def mini_fcn8s(make_net):
    """The project's FCN-8s, an eighth as wide, with upsampling as it is published and other weights random."""
    text = (ROOT / "mini-fcn8s" / "deploy.prototxt").read_text().replace("dim: 500", "dim: 63")
    net = make_net(text)
    for name, blobs in net.params.items():
        weight = blobs[0].data
        if name.startswith("up"):
            place = np.arange(weight.shape[2])
            line = 1 - abs(place - place.mean()) / (len(place) / 2)
            weight[range(21), range(21)] = np.outer(line, line)
        else:
            fan_in = weight[0].size
            weight[...] = noise(*weight.shape, seed=len(name)) * (2 / fan_in) ** 0.5
            blobs[1].data[...] = noise(*blobs[1].shape)
    return net


def test_fcn8s_at_odd_sizes(make_net, tmp_path):
    net = mini_fcn8s(make_net)
    found = caffe.export.to_onnx(net, None, tmp_path / "fcn.onnx")
    assert found.inputs == {"data": ["batch", 3, "height", "width"]}
    assert found.outputs == {"score": ["batch", 21, "height", "width"]}
    for height, width in ((65, 97), (131, 45), (33, 77)):
        image = noise(1, 3, height, width, seed=height) * 50
        net.blobs["data"].reshape(*image.shape)
        expected = net.forward(data=image)["score"]
        (score,) = run(found.path, data=image)
        assert score.shape == (1, 21, height, width)
        assert np.abs(score - expected).max() < 1e-5 * np.abs(expected).max()
        assert expected.std() > 0


def test_fixed_upsampling_is_kept_exactly(make_net, tmp_path):
    net = mini_fcn8s(make_net)
    found = caffe.export.to_onnx(net, None, tmp_path / "fcn.onnx", check=False)
    graph = onnx.load(found.path).graph
    (node,) = [node for node in graph.node if node.name.startswith("upscore8/")]
    (weight,) = [one for one in graph.initializer if one.name == node.input[1]]
    assert node.op_type == "ConvTranspose"
    assert np.array_equal(onnx.numpy_helper.to_array(weight), net.params["upscore8"][0].data)


def test_names_are_those_of_the_blobs(export):
    body = (
        CONV
        + """
    layer { name: "drop" type: "Dropout" bottom: "conv" top: "kept" }
    layer { name: "sig" type: "Sigmoid" bottom: "kept" top: "sig" }
    layer { name: "same" type: "Split" bottom: "conv" top: "one" top: "two" }"""
    )
    found = export(deploy(SMALL, body=body))
    assert list(found.outputs) == ["one", "sig", "two"]
    graph = onnx.load(found.path).graph
    written = [name for node in graph.node for name in node.output]
    assert written[:2] == ["conv/Conv", "conv"] and len(set(written)) == len(written)
    assert [node.name for node in graph.node[:2]] == ["conv/Conv", "relu/Relu"]


def test_an_input_written_in_place(export):
    body = 'layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }'
    found = export(deploy(SMALL, body=body))
    assert list(found.inputs) == ["a"] and list(found.outputs) == ["relu/Relu"]
    assert np.array_equal(run(found.path, a=-np.ones(SMALL, np.float32))[0], np.zeros(SMALL))


def test_an_output_that_is_an_input(export):
    found = export(deploy(SMALL, body='layer { name: "d" type: "Dropout" bottom: "a" top: "y" }'))
    assert np.array_equal(run(found.path, a=np.ones(SMALL, np.float32))[0], np.ones(SMALL))


def test_lengths_of_several_inputs(export):
    crop = 'layer { name: "crop" type: "Crop" bottom: "a" bottom: "b" top: "y" }'
    found = export(deploy((1, 3, 20, 22), (1, 1, 9, 8), body=crop))
    assert found.inputs == {"a": ["batch", 3, "height", "width"], "b": ["batch", 1, "b_height", "b_width"]}
    assert found.outputs == {"y": ["batch", 3, "b_height", "b_width"]}


def test_layers_for_training_are_left_out(export):
    body = (
        CONV
        + """
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "b" top: "loss" }
    layer { name: "accuracy" type: "Accuracy" bottom: "conv" bottom: "b" top: "accuracy" }
    layer { name: "quiet" type: "Silence" bottom: "b" }"""
    )
    found = export(deploy(SMALL, (1, 1, 5, 4), body=body))
    assert found.inputs.keys() == {"a"} and found.outputs.keys() == {"conv"}
    assert [re.match(r"(layer|input) '\w+'", words)[0] for words in found.dropped] == [
        "layer 'loss'",
        "layer 'accuracy'",
        "layer 'quiet'",
        "input 'b'",
    ]


def test_of_equal_values_the_last_is_the_argmax(export):
    body = one_layer('type: "ArgMax" argmax_param { top_k: 2 axis: 1 }', 1, 1)
    found = export(deploy((1, 5), body=body))
    assert run(found.path, a=np.array([[1, 3, 3, 0, 3]], np.float32))[0].tolist() == [[4, 2]]


def test_of_equal_values_the_first_is_the_place_of_the_maximum(export):
    found = export(deploy((1, 1, 4, 4), body=one_layer(POOL % "kernel_size: 3 pad: 1 stride: 2", 1, 2)))
    assert run(found.path, a=np.ones((1, 1, 4, 4), np.float32))[1].ravel().tolist() == [
        0,
        1,
        3,
        4,
        5,
        7,
        12,
        13,
        15,
    ]


def test_the_net_given_stays_as_it_is(make_net, tmp_path):
    net = fill(make_net(deploy(SMALL, body=CONV)))
    image = noise(*SMALL)
    before = net.forward(a=image)["conv"].copy()
    caffe.export.to_onnx(net, None, tmp_path / "net.onnx")
    assert tuple(net.blobs["a"].shape) == SMALL and np.array_equal(net.blobs["a"].data, image)
    assert np.allclose(net.forward()["conv"], before, rtol=1e-5)


def test_from_files(make_net, tmp_path):
    (tmp_path / "deploy.prototxt").write_text(deploy(SMALL, body=CONV))
    net = fill(make_net(deploy(SMALL, body=CONV)))
    net.save(tmp_path / "net.caffemodel")
    found = caffe.export.to_onnx(
        tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel", tmp_path / "net.onnx"
    )
    image = noise(*SMALL)
    np.testing.assert_allclose(
        run(found.path, a=image)[0], net.forward(a=image)["conv"], rtol=1e-4, atol=1e-5
    )


def test_shared_weights_are_stored_once(export):
    shared = CONV.replace("convolution_param", 'param { name: "w" } param { name: "b" } convolution_param')
    body = shared + shared.replace('name: "conv"', 'name: "other"').replace(
        'top: "conv"', 'top: "other"'
    ).replace('bottom: "conv"', 'bottom: "other"')
    found = export(deploy(SMALL, body=body))
    assert len(onnx.load(found.path).graph.initializer) == 2


def test_weights_in_a_file_beside(export, tmp_path):
    body = 'layer { name: "fc" type: "InnerProduct" bottom: "a" top: "y" inner_product_param { num_output: 300 } }'
    found = export(deploy((1, 20), body=body), external_data=True)
    assert sorted(path.name for path in tmp_path.iterdir() if "net.onnx" in path.name) == [
        "net.onnx",
        "net.onnx.data",
    ]
    assert found.data.stat().st_size == 300 * 20 * 4 and found.path.stat().st_size < 5000
    inside = export(deploy((1, 20), body=body))
    assert inside.path.stat().st_size > 300 * 20 * 4


def test_weights_over_the_limit_go_beside(export, monkeypatch):
    monkeypatch.setattr(write, "INT_MAX", 2**24 + 20000)
    body = 'layer { name: "fc" type: "InnerProduct" bottom: "a" top: "y" inner_product_param { num_output: 300 } }'
    assert export(deploy((1, 20), body=body)).data.stat().st_size == 300 * 20 * 4
    assert export(deploy((1, 10), body=body)).data is None


def test_metadata(export, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("background\naéroplane\nbicycle\n\n")
    mean = [104.5, 116.25, 122.0]
    found = export(deploy(SMALL, body=CONV), classes=classes, palette="voc", mean=mean)
    stored = {entry.key: entry.value for entry in onnx.load(found.path).metadata_props}
    assert json.loads(stored["classes"]) == ["background", "aéroplane", "bicycle"]
    assert json.loads(stored["palette"]) == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    assert json.loads(stored["mean"]) == mean and stored["channel_order"] == "BGR"


def test_voc_palette():
    colours = metadata.voc_palette(256)
    assert colours[15] == [192, 128, 128] and colours[20] == [0, 64, 128] and colours[255] == [224, 224, 192]


def refused(export, tmp_path, message, text, **options):
    with pytest.raises(caffe.CaffeError, match=re.escape(message)):
        export(text, **options)
    assert not [path for path in tmp_path.iterdir() if "onnx" in path.name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            deploy(SMALL, body=one_layer(POOL % "pool: STOCHASTIC kernel_size: 2", 1, 1)),
            "layer 'probe' (Pooling): STOCHASTIC pooling cannot be exported",
        ),
        (
            deploy(SMALL, body=one_layer('type: "DummyData"', 0, 1)),
            "layer 'probe' (DummyData) makes or reads data, which an exported net does not",
        ),
        (
            deploy(
                SMALL,
                SMALL,
                body=one_layer('type: "EuclideanLoss"', 2, 1)
                + one_layer('type: "ReLU"', 0, 1).replace('top: "y0"', 'bottom: "y0" top: "z"'),
            ),
            "layer 'probe' (ReLU) reads 'y0', the top of a layer that is left out",
        ),
        (deploy(SMALL, body=one_layer('type: "Silence"', 1, 0)), "no Input layer: an exported net needs one"),
    ],
)
def test_refusals(tmp_path, text, message):
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(caffe.CaffeError, match=re.escape(message)) as caught:
        caffe.export.to_onnx(tmp_path / "net.prototxt", None, tmp_path / "net.onnx")
    assert "net.prototxt" in str(caught.value) or "STOCHASTIC" in message
    assert [path.name for path in tmp_path.iterdir()] == ["net.prototxt"]


def test_a_type_that_cannot_be_exported_is_named_with_those_that_can(tmp_path):
    body = one_layer('type: "Python" python_param { module: "nowhere" layer: "Nothing" }', 1, 1)
    (tmp_path / "net.prototxt").write_text(deploy(SMALL, body=body))
    with pytest.raises(
        caffe.CaffeError, match=r"layer 'probe' \(Python\) cannot be exported to ONNX.*ArgMax, .*Tile"
    ):
        caffe.export.to_onnx(tmp_path / "net.prototxt", None, tmp_path / "net.onnx")


def test_an_input_without_a_shape(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "a" }' + one_layer('type: "ReLU"', 1, 1)
    )
    with pytest.raises(caffe.CaffeError, match="shape"):
        caffe.export.to_onnx(tmp_path / "net.prototxt", None, tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"palette": "rainbow"}, "palette 'rainbow': it is one of voc, none"),
        ({"channel_order": "GBR"}, "channel order 'GBR': it is one of BGR, RGB"),
        ({"mean": [1, float("nan"), 2]}, "every value must be a finite number"),
        ({"classes": "nowhere.txt"}, "nowhere.txt: class names cannot be read"),
    ],
)
def test_wrong_options(export, tmp_path, options, message):
    refused(export, tmp_path, message, deploy(SMALL, body=CONV), **options)


def test_an_empty_line_among_the_classes(export, tmp_path):
    (tmp_path / "classes.txt").write_text("one\n\nthree\n")
    refused(export, tmp_path, "line 2 is empty", deploy(SMALL, body=CONV), classes=tmp_path / "classes.txt")


def test_a_wrong_translation_is_found_and_nothing_written(export, tmp_path, monkeypatch):
    right = table.translator("Convolution")

    def wrong(g, layer, bottoms, shapes):
        return [g.op("Mul", top, g.number(1.01)) for top in right(g, layer, bottoms, shapes)]

    monkeypatch.setitem(table._translators, "Convolution", wrong)
    refused(
        export,
        tmp_path,
        "the exported net gives other values of 'conv' than the engine",
        deploy(SMALL, body=CONV),
    )


def test_weights_of_a_failed_training(make_net, tmp_path):
    net = fill(make_net(deploy(SMALL, body=CONV)))
    net.params["conv"][0].data[...] = np.nan
    with pytest.raises(caffe.CaffeError, match="no finite value of 'conv'"):
        caffe.export.to_onnx(net, None, tmp_path / "net.onnx")
    assert caffe.export.to_onnx(net, None, tmp_path / "net.onnx", check=False).path.exists()


def test_a_wrong_shape_is_found(export, tmp_path, monkeypatch):
    monkeypatch.setitem(
        table._translators, "ReLU", lambda g, layer, bottoms, shapes: [g.reshape(bottoms[0], [-1, 2, 5, 4])]
    )
    refused(export, tmp_path, "exported net", deploy(SMALL, body=CONV))


def test_without_onnx_runtime(export, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    refused(export, tmp_path, "pip install 'pycaffe-torch[export]'", deploy(SMALL, body=CONV))
    assert export(deploy(SMALL, body=CONV), check=False).comparisons == []


def test_without_onnx(export, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    refused(export, tmp_path, "needs the package onnx", deploy(SMALL, body=CONV), check=False)


def test_a_folder_that_is_not_there(make_net, tmp_path):
    net = make_net(deploy(SMALL, body=CONV))
    with pytest.raises(caffe.CaffeError, match=r"cannot write .*nowhere"):
        caffe.export.to_onnx(net, None, tmp_path / "nowhere" / "net.onnx")


@pytest.mark.parametrize(
    ("found", "expected", "indices", "fine"),
    [
        ([1.0, 100.0], [1.05, 100.0], False, True),  # relative to the largest
        ([1.0, 100.0], [1.2, 100.0], False, False),
        ([np.nan, 1.0], [np.nan, 1.0], False, True),
        ([np.nan, 1.0], [0.0, 1.0], False, False),
        ([], [], False, True),
        ([np.inf, 1.0], [np.inf, 1.0], False, True),
        ([np.inf, 1.0], [3.0, 1.0], False, False),
        ([0.0], [0.0], False, True),
        ([1e-3], [0.0], False, False),
        ([3.0] * 2000, [3.0] * 1999 + [9.0], True, True),
        ([3.0] * 2000, [3.0] * 1990 + [9.0] * 10, True, False),
    ],
)
def test_what_counts_as_equal(found, expected, indices, fine):
    arrays = np.array(found, np.float32), np.array(expected, np.float32)
    if fine:
        check._difference("y", *arrays, indices)
    else:
        with pytest.raises(caffe.CaffeError, match="other values of 'y'"):
            check._difference("y", *arrays, indices)


def test_command(make_net, tmp_path, capsys):
    (tmp_path / "deploy.prototxt").write_text(deploy(SMALL, (1, 1, 5, 4), body=CONV + LOSS))
    fill(make_net(deploy(SMALL, body=CONV))).save(tmp_path / "net.caffemodel")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    files = {
        "model": "deploy.prototxt",
        "weights": "net.caffemodel",
        "output": "net.onnx",
        "classes": "classes.txt",
    }
    flags = [word for flag, name in files.items() for word in (f"--{flag}", str(tmp_path / name))]
    assert main(["export", *flags, "--palette", "voc", "--mean", "104,116.5,122"]) == 0
    printed = capsys.readouterr().out
    assert "left out: layer 'loss' (SoftmaxWithLoss)" in printed
    assert "input a: batch x 3 x height x width" in printed
    assert len(re.findall(r"checked with a .*: largest relative difference \d\.\de-\d\d", printed)) == 2
    assert printed.endswith(f"wrote {tmp_path / 'net.onnx'}\n")
    stored = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert stored["mean"] == "[104.0, 116.5, 122.0]" and stored["classes"] == '["a", "b"]'
    assert main(["export", *flags, "--no-check", "--external-data"]) == 0
    assert "\nnot checked\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "Need a model definition to export: --model"),
        (["--model", "a.prototxt"], "Need model weights to export: --weights"),
        (["--model", "a.prototxt", "--weights", "a.caffemodel"], "Need a file to write: --output"),
        (
            ["--model", "a", "--weights", "a", "--output", "a", "--mean", "1,two"],
            "--mean '1,two': numbers separated",
        ),
        (["--model", "a", "--weights", "a", "--output", "a"], "Could not open file a"),
    ],
)
def test_command_refusals(capsys, flags, message):
    assert main(["export", *flags]) == 1
    assert message in capsys.readouterr().err
