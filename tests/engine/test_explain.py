"""caffe explain: Table 1 of the paper, receptive fields against gradients, costs by hand, crops, data layers."""

import json
from fractions import Fraction
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe import layers as L
from caffe import params as P
from caffe.command import main
from caffe.coord_map import crop
from caffe.explain import explain
from caffe.explain.report import HEADERS, short
from caffe.explain.source import build

ROOT = Path(__file__).resolve().parents[2]
FIXED = [{"lr_mult": 0}]


def image(channels, height, width):
    return L.Input(shape={"dim": [1, channels, height, width]})


def line(found, name):
    """The line of the layer ``name``."""
    (one,) = [each for each in found.layers if each.name == name]
    return one


# -- Table 1 ---------------------------------------------------------------------------------------


def conv_relu(n, name, bottom, channels, kernel, **more):
    n[name] = L.Convolution(bottom, num_output=channels, kernel_size=kernel, **more)
    n[f"relu_{name}"] = L.ReLU(n[name], in_place=True)
    return n[f"relu_{name}"]


def max_pool(bottom, kernel, stride, pad=0):
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel, stride=stride, pad=pad)


def head(n, top, kernel, stride=32):
    """Scores of 21 classes, fixed bilinear upsampling, and the crop to the image."""
    n.score_fr = L.Convolution(top, num_output=21, kernel_size=1)
    param = {"num_output": 21, "kernel_size": kernel, "stride": stride, "bias_term": False}
    n.upscore = L.Deconvolution(n.score_fr, convolution_param=param, param=FIXED)
    n.score = L.Crop(n.upscore, n.data, crop_param={"offset": 0})
    return n.to_proto()


def alexnet():
    """CaffeNet made convolutional (pooling before normalisation)."""
    n = caffe.NetSpec()
    n.data = image(3, 500, 500)
    top = conv_relu(n, "conv1", n.data, 96, 11, stride=4, pad=100)
    n.norm1 = L.LRN(max_pool(top, 3, 2), local_size=5)
    top = conv_relu(n, "conv2", n.norm1, 256, 5, pad=2, group=2)
    n.norm2 = L.LRN(max_pool(top, 3, 2), local_size=5)
    top = conv_relu(n, "conv3", n.norm2, 384, 3, pad=1)
    top = conv_relu(n, "conv4", top, 384, 3, pad=1, group=2)
    top = conv_relu(n, "conv5", top, 256, 3, pad=1, group=2)
    top = conv_relu(n, "fc6", max_pool(top, 3, 2), 4096, 6)
    return head(n, conv_relu(n, "fc7", top, 4096, 1), 63)


# 1x1, 3x3 after reduction, 5x5 after reduction, projection after pooling; None: a pooling by 2
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "pool3": None,
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "pool4": None,
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(average_pooling):
    """The final classifier's branch alone."""
    n = caffe.NetSpec()
    n.data = image(3, 500, 500)
    top = max_pool(conv_relu(n, "conv1", n.data, 64, 7, stride=2, pad=100), 3, 2)
    top = conv_relu(n, "conv2_reduce", top, 64, 1)
    top = max_pool(conv_relu(n, "conv2", top, 192, 3, pad=1), 3, 2)
    for name, widths in INCEPTIONS.items():
        if widths is None:
            n[name] = top = max_pool(top, 3, 2)
            continue
        one, reduce3, three, reduce5, five, projection = widths
        branches = [
            conv_relu(n, f"{name}_1x1", top, one, 1),
            conv_relu(n, f"{name}_3x3", conv_relu(n, f"{name}_r3", top, reduce3, 1), three, 3, pad=1),
            conv_relu(n, f"{name}_5x5", conv_relu(n, f"{name}_r5", top, reduce5, 1), five, 5, pad=2),
            conv_relu(n, f"{name}_proj", max_pool(top, 3, 1, pad=1), projection, 1),
        ]
        n[name] = top = L.Concat(*branches)
    if average_pooling:
        n.pool5 = top = L.Pooling(top, pool=P.Pooling.AVE, kernel_size=7, stride=1)
    return head(n, top, 64)


@pytest.mark.parametrize(
    "net, millions, exact, depth, field",
    [
        (alexnet, 57, 58_704_590, 8, 355),
        (lambda: ROOT / "voc-fcn32s" / "deploy.prototxt", 134, 136_152_917, 16, 404),
        (lambda: googlenet(True), 6, None, 22, 907),
        (lambda: googlenet(False), 6, None, 22, 715),  # the text drops the average pooling that 907 counts
    ],
    ids=["FCN-AlexNet", "FCN-VGG16", "FCN-GoogLeNet", "FCN-GoogLeNet without its average pooling"],
)
def test_table_1(net, millions, exact, depth, field):
    found = explain(net(), (500, 500))
    totals = found.totals
    assert round(totals.learned / 1e6) == millions
    assert exact is None or totals.parameters == exact
    assert totals.parameter_layers == depth
    assert totals.receptive_field == (field, field) == line(found, "score_fr").field
    assert totals.max_stride == (32, 32)


RELEASED = {  # values in the weight files
    "voc-fcn32s": 136_152_917,
    "voc-fcn16s": 134_815_994,
    "voc-fcn8s": 134_489_759,
    "voc-fcn8s-atonce": 134_490_527,
    "voc-fcn-alexnet": 58_704_590,
    "nyud-fcn32s-color": 140_978_024,
    "nyud-fcn32s-hha": 140_978_024,
    "nyud-fcn32s-color-hha": 275_402_448,
    "siftflow-fcn32s": 138_905_444,
    "siftflow-fcn16s": 135_568_424,
    "siftflow-fcn8s": 134_751_980,
    "pascalcontext-fcn32s": 149_251_964,
    "pascalcontext-fcn16s": 138_281_144,
    "pascalcontext-fcn8s": 135_589_364,
}


@pytest.mark.parametrize("name, parameters", RELEASED.items())
def test_the_released_nets(name, parameters):
    found = explain(ROOT / name / "deploy.prototxt")
    assert found.totals.parameters == parameters
    assert found.crops and all(crop.aligned for crop in found.crops)


@pytest.mark.parametrize(
    "name, offsets", [("voc-fcn32s", [19]), ("voc-fcn16s", [5, 27]), ("voc-fcn8s", [5, 9, 31])]
)
def test_the_released_offsets(name, offsets):
    found = explain(ROOT / name / "deploy.prototxt")
    assert (
        [crop.offset for crop in found.crops]
        == [crop.shift for crop in found.crops]
        == [(x, x) for x in offsets]
    )


def test_a_classifier_sees_what_its_convolutional_form_sees():
    found = explain(ROOT / "ilsvrc-nets" / "vgg16.prototxt")
    assert found.totals.receptive_field == (404, 404)
    assert line(found, "fc6").own == (7, 7)
    assert found.totals.parameters == 138_357_544
    assert round(found.totals.multiply_adds / 1e9, 2) == 15.47


# -- receptive fields: what the gradient of a unit reaches -------------------------------------------


def ones(bottom, **more):
    return L.Convolution(bottom, weight_filler={"type": "constant", "value": 1}, num_output=1, **more)


def average(bottom, **more):
    return L.Pooling(bottom, pool=P.Pooling.AVE, **more)


def up(bottom, **more):
    more = {"num_output": 1, "weight_filler": {"type": "constant", "value": 1}, **more}
    return L.Deconvolution(bottom, convolution_param=more)


def chain(data):
    return average(
        ones(ones(data, kernel_size=5, stride=2), kernel_size=[3, 1], stride=[1, 2]), kernel_size=3
    )


def dilated(data):
    return ones(ones(data, kernel_size=3, dilation=4), kernel_size=2, stride=3, dilation=2)


def inception(data):
    first = ones(data, kernel_size=3, stride=2)
    return L.Concat(
        ones(first, kernel_size=1),
        ones(first, kernel_size=5, pad=2),
        average(first, kernel_size=3, stride=1, pad=1),
    )


def lopsided(data):
    """Two branches that look at places four pixels apart."""
    here = ones(data, kernel_size=3, pad=1)
    return L.Concat(here, L.Crop(ones(data, kernel_size=1, pad=4), here, crop_param={"offset": 0}))


def within_channel(data):
    return L.LRN(ones(data, kernel_size=3), local_size=5, alpha=1, norm_region=P.LRN.WITHIN_CHANNEL)


def reached(net, output, place):
    """First and last row, first and last column of the input that unit ``place`` of ``output`` depends on.

    None where it depends on nothing.
    """
    blob = net.blobs[output]
    blob.diff[...] = 0
    blob.diff[(0, slice(None), *place)] = np.arange(1, blob.shape[1] + 1)
    net.backward()
    rows, columns = np.nonzero(net.blobs["data"].diff[0, 0])
    return (rows.min(), rows.max(), columns.min(), columns.max()) if rows.size else None


def run(make_net, spec):
    """The net of ``spec`` after a forward of random positive numbers, with gradients wanted."""
    net = make_net("force_backward: true\n" + str(spec))
    net.blobs["data"].data[...] = np.random.RandomState(0).uniform(1, 2, net.blobs["data"].shape)
    net.forward()
    return net


@pytest.mark.parametrize("make", [chain, dilated, inception, lopsided, within_channel])
def test_fields_are_what_the_gradient_reaches(make, make_net):
    n = caffe.NetSpec()
    n.data = image(1, 61, 67)
    n.out = make(n.data)
    spec = n.to_proto()
    found = line(explain(spec), "out")
    net = run(make_net, spec)
    row, column = (length // 2 for length in net.blobs["out"].shape[2:])
    top, bottom, left, right = reached(net, "out", (row, column))
    assert found.field == (bottom - top + 1, right - left + 1)
    assert found.centre[0] + row * found.jump[0] == (top + bottom) / 2
    assert found.centre[1] + column * found.jump[1] == (left + right) / 2
    below = reached(net, "out", (row + 1, column))
    beside = reached(net, "out", (row, column + 1))
    assert found.jump == (below[0] - top, beside[2] - left)
    assert not found.upsampled


@pytest.mark.parametrize(
    "kernel, stride, dilation", [(4, 2, 1), (3, 2, 1), (2, 3, 1), (5, 2, 3), (3, 4, 2), (3, 1, 1)]
)
def test_after_a_deconvolution_the_largest_field(kernel, stride, dilation, make_net):
    n = caffe.NetSpec()
    n.data = image(1, 41, 41)
    n.down = ones(n.data, kernel_size=5, stride=3)
    n.out = up(n.down, kernel_size=kernel, stride=stride, dilation=dilation)
    spec = n.to_proto()
    found = explain(spec)
    net = run(make_net, spec)
    middle = net.blobs["out"].shape[2] // 2
    places = range(middle, middle + stride)  # then the pattern repeats
    edges = [reached(net, "out", (row, column)) for row in places for column in places]
    sizes = [bottom - top + 1 for top, bottom, _, _ in filter(None, edges)]
    assert line(found, "out").field == (max(sizes),) * 2
    assert line(found, "out").jump == (Fraction(3, stride),) * 2
    assert line(found, "out").upsampled and not line(found, "down").upsampled
    assert found.totals.receptive_field == (5, 5)
    assert "after a Deconvolution" in str(found)


def test_layers_that_keep_positions_and_layers_that_have_none():
    n = caffe.NetSpec()
    n.data = image(3, 20, 30)
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=[3, 5], stride=[1, 2])
    n.sum = L.Eltwise(n.conv, L.ReLU(n.conv, in_place=False))
    n.scaled = L.Scale(n.sum, bias_term=True)
    n.prob = L.Softmax(n.scaled)
    n.columns = L.Softmax(n.prob, axis=2)
    n.stripes = L.Concat(n.prob, n.prob, axis=2)
    n.pool = L.Pooling(n.prob, pool=P.Pooling.AVE, global_pooling=True)
    n.fc = L.InnerProduct(n.pool, num_output=2)
    found = explain(n.to_proto())
    for name in ("conv", "sum", "scaled", "prob"):
        assert line(found, name).field == (3, 5)
        assert line(found, name).jump == (1, 2)
    for name in ("columns", "stripes"):
        assert line(found, name).field is None
        assert f"'{name}'" in line(found, name).reason
    assert line(found, "pool").kernel == (18, 13)
    assert line(found, "pool").field == line(found, "fc").field == (20, 29)
    assert found.totals.receptive_field == (20, 29)
    text = str(found)
    assert "no field from 'columns' on: 'columns' (Softmax) has no map from positions to positions" in text
    assert "after a Deconvolution, whose" not in text


def test_branches_of_unlike_strides_have_no_field():
    n = caffe.NetSpec()
    n.data = image(1, 9, 9)
    n.coarse = ones(n.data, kernel_size=3, stride=2)
    n.fine = ones(n.data, kernel_size=6)
    n.sum = L.Eltwise(n.coarse, n.fine)
    n.after = L.ReLU(n.sum)
    found = explain(n.to_proto())
    assert line(found, "sum").field is None
    assert (
        line(found, "after").reason == "'sum' (Eltwise) joins bottoms of unlike strides at the input, 1 and 2"
    )


# -- costs, by hand ----------------------------------------------------------------------------------


def test_costs():
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 4, 10, 12]})
    n.conv = L.Convolution(
        n.data, num_output=6, kernel_size=3, group=2, param=[{"lr_mult": 0}, {"lr_mult": 1}]
    )
    n.relu = L.ReLU(n.conv, in_place=True)
    n.up = L.Deconvolution(
        n.relu, convolution_param={"num_output": 5, "kernel_size": 4, "stride": 2, "bias_term": False}
    )
    n.fc = L.InnerProduct(n.up, num_output=7)
    found = explain(n.to_proto())
    conv, relu, up, fc = (line(found, name) for name in ("conv", "relu", "up", "fc"))
    assert conv.outputs == [(2, 6, 8, 10)]
    assert (conv.parameters, conv.learned) == (6 * 2 * 9 + 6, 6)
    assert conv.multiply_adds == 2 * 8 * 10 * (6 * 2 * 9)
    assert conv.memory == 4 * 2 * 6 * 8 * 10
    assert (relu.multiply_adds, relu.memory) == (0, 0)
    assert up.multiply_adds == 2 * 8 * 10 * (6 * 5 * 16)
    assert fc.multiply_adds == 2 * (5 * 18 * 22) * 7
    totals = found.totals
    assert totals.parameters == 114 + 480 + 5 * 18 * 22 * 7 + 7
    assert totals.parameter_memory == 4 * totals.parameters
    assert totals.blob_memory == 4 * 2 * (4 * 10 * 12 + 6 * 8 * 10 + 5 * 18 * 22 + 7)
    assert [each.parameter_layers for each in (conv, relu, up, fc)] == [1, 1, 2, 3]


def test_the_longest_path_counts_and_fixed_upsampling_does_not():
    n = caffe.NetSpec()
    n.data = image(1, 8, 8)
    n.a = ones(ones(n.data, kernel_size=1), kernel_size=1)
    n.b = ones(n.data, kernel_size=1)
    n.c = ones(L.Eltwise(n.a, n.b), kernel_size=1)
    n.up = L.Deconvolution(
        n.c, convolution_param={"num_output": 1, "kernel_size": 2, "stride": 2}, param=FIXED * 2
    )
    n.cut = L.Crop(n.b, n.c, crop_param={"offset": 0})  # its reference gives a size, no values
    found = explain(n.to_proto())
    assert found.totals.parameter_layers == line(found, "up").parameter_layers == 3
    assert line(found, "cut").parameter_layers == 1


def test_shared_parameters_count_once():
    n = caffe.NetSpec()
    n.data = image(2, 8, 8)
    shared = {"num_output": 2, "kernel_size": 3, "pad": 1, "param": [{"name": "w"}, {"name": "b"}]}
    n.one = L.Convolution(n.data, **shared)
    n.two = L.Convolution(n.one, **shared)
    found = explain(n.to_proto())
    assert [each.parameters for each in found.layers] == [0, 38, 0]
    assert found.totals.parameters == 38
    assert line(found, "two").multiply_adds == 8 * 8 * 36


@pytest.mark.parametrize("kind, gates, own", [("RNN", 1, 8 * 8 + 8 * 8), ("LSTM", 4, 4 * 8 * 8)])
def test_recurrent_layers_use_their_weights_at_every_timestep(kind, gates, own):
    n = caffe.NetSpec()
    n.x = L.Input(shape={"dim": [5, 3, 6]})
    n.cont = L.Input(shape={"dim": [5, 3]})
    n.static = L.Input(shape={"dim": [3, 7]})
    n.out = getattr(L, kind)(n.x, n.cont, n.static, recurrent_param={"num_output": 8})
    found = explain(n.to_proto())
    assert line(found, "out").multiply_adds == 3 * (5 * (gates * 8 * 6 + own) + gates * 8 * 7)
    assert line(found, "out").parameter_layers == 1


@pytest.mark.parametrize(
    "number, text",
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1 k"),
        (999_499, "999 k"),
        (999_600, "1 M"),
        (134_346_581, "134 M"),
    ],
)
def test_short_numbers(number, text):
    assert short(number) == text


def test_no_parameter_is_filled():
    n = caffe.NetSpec()
    n.data = image(1, 8, 8)
    n.conv = ones(n.data, kernel_size=3)
    n.fc = L.InnerProduct(n.conv, num_output=9, weight_filler={"type": "xavier"})
    net, _, notes = build(n.to_proto(), None, None, caffe.TEST, 0, ())
    assert all(blob._data.is_zero for blobs in net.params.values() for blob in blobs)
    assert notes == []


# -- crops -------------------------------------------------------------------------------------------


def skip_net(offset=None, data=None):
    n = caffe.NetSpec()
    n.data = data or image(3, 64, 80)
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3, pad=20)
    n.pool = L.Pooling(L.ReLU(n.conv, in_place=True), kernel_size=4, stride=4)
    n.fc = L.Convolution(n.pool, num_output=4, kernel_size=5)
    n.up = L.Deconvolution(n.fc, convolution_param={"num_output": 4, "kernel_size": 8, "stride": 4})
    n.score = crop(n.up, n.data) if offset is None else L.Crop(n.up, n.data, crop_param={"offset": offset})
    return n.to_proto()


def test_a_crop_in_words():
    (found,) = explain(skip_net()).crops
    assert (found.source, found.reference, found.origin) == ("up", "data", "data")
    assert found.aligned and found.offset == found.shift == (13, 13)
    assert [(step.layer, step.scale[0], step.shift[0]) for step in found.source_path] == [
        ("conv", 1, 19),
        ("pool", Fraction(1, 4), Fraction(-3, 8)),
        ("fc", 1, -2),
        ("up", 4, Fraction(7, 2)),
    ]
    assert found.reference_path == []
    words = found.words()
    assert "Crop 'score' cuts 'up' to the size of 'data', from 13 on." in words
    assert "pool  Pooling, kernel 4, stride 4, pad 0" in words
    assert "x/4 - 3/8" in words
    assert "on the way to 'data': x, nothing moves it" in words
    assert words.endswith("So position y of 'data' is y + 13 of 'up': the offset is 13.")


def test_a_crop_that_is_off_says_by_how_much():
    (found,) = explain(skip_net([10, 15])).crops
    assert not found.aligned
    assert found.offset == (10, 15)
    assert found.verdict == (
        "So position y of 'data' is y + 13 of 'up'; the prototxt's offset is 10x15, so what is cut out lies -3x2 off "
        "(in positions of 'up')."
    )


def test_a_crop_between_unlike_strides():
    n = caffe.NetSpec()
    n.data = image(1, 20, 20)
    n.half = ones(n.data, kernel_size=2, stride=2)
    n.cut = L.Crop(n.data, n.half, crop_param={"offset": 1})
    (found,) = explain(n.to_proto()).crops
    assert found.verdict == (
        "So position y of 'half' is 2 y + 1/2 of 'data': the two have unlike strides, and no offset aligns them."
    )


def test_a_crop_of_one_axis_and_one_of_blobs_that_nothing_joins():
    n = caffe.NetSpec()
    n.data = image(1, 20, 30)
    n.small = ones(n.data, kernel_size=[1, 5])
    n.other = L.Input(shape={"dim": [1, 1, 7, 7]})
    n.wide = L.Crop(n.data, n.small, crop_param={"axis": 3, "offset": 2})
    n.apart = L.Crop(n.data, n.other, crop_param={"offset": 2})
    wide, apart = explain(n.to_proto()).crops
    assert wide.aligned and wide.offset == wide.shift == (2,)
    assert not apart.aligned and apart.origin == ""
    assert apart.words().endswith("No spatial layers join the two, so the offset is the prototxt's alone.")


def test_a_crop_without_spatial_axes():
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 9]})
    n.other = L.Input(shape={"dim": [2, 4]})
    n.cut = L.Crop(n.data, n.other, crop_param={"axis": 1, "offset": 3})
    (found,) = explain(n.to_proto()).crops
    assert (
        found.words()
        == "Crop 'cut' cuts 'data' to the size of 'other', from - on.\n  It cuts no spatial axis."
    )


# -- data layers -------------------------------------------------------------------------------------

DATA = """
layer { name: "data" type: "Python" top: "data" top: "label"
        python_param { module: "nowhere_to_be_found" layer: "Data" } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "conv" bottom: "label" top: "accuracy" include { phase: TEST } }
"""


@pytest.fixture
def prototxt(tmp_path):
    """``prototxt(text)``: a file of that text."""

    def write(text):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return path

    return write


def test_a_data_layer_becomes_an_input_and_says_so(prototxt):
    found = explain(prototxt(DATA), (30, 40))
    assert found.inputs == {"data": (1, 3, 30, 40)}
    assert [each.name for each in found.layers] == ["data", "conv"]
    assert found.notes == [
        "No data is read: the layer 'data' (Python) is replaced by the input 'data' 1x3x30x40",
        "Left out, because the shape of 'label' is not known: 'loss', 'accuracy' "
        "(give it with --shape NAME=NxCxHxW to have them too)",
    ]
    assert all(note in str(found) for note in found.notes)


def test_a_label_with_a_shape_keeps_the_loss(prototxt):
    found = explain(prototxt(DATA), (4, 30, 40), shapes={"label": (1, 1, 30, 40)}, phase=caffe.TRAIN)
    assert found.inputs == {"data": (1, 4, 30, 40), "label": (1, 1, 30, 40)}
    assert [each.name for each in found.layers] == ["data", "conv", "loss"]
    assert found.phase == "TRAIN"
    assert line(found, "loss").reason == "a loss or a measure has no positions"
    assert line(found, "loss").outputs == [()]


def test_every_image_of_a_data_layer_gets_the_size(prototxt):
    text = """
    layer { name: "data" type: "Python" top: "color" top: "hha" top: "label" }
    layer { name: "both" type: "Concat" bottom: "color" bottom: "hha" top: "both" }
    layer { name: "loss" type: "Python" bottom: "both" bottom: "label" top: "loss" loss_weight: 1 }
    """
    found = explain(prototxt(text), (5, 6), shapes={"hha": (1, 1, 5, 6)})
    assert line(found, "both").outputs == [(1, 4, 5, 6)]
    assert found.inputs == {"color": (1, 3, 5, 6), "hha": (1, 1, 5, 6)}


def test_a_crop_size_is_a_size(prototxt):
    text = """
    layer { name: "data" type: "Data" top: "data" top: "label" transform_param { crop_size: 11 } }
    layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" }
    """
    assert line(explain(prototxt(text)), "fc").parameters == 2 * 3 * 11 * 11 + 2
    assert line(explain(prototxt(text), (7, 9)), "fc").field == (7, 9)


def test_inputs_keep_their_batch_and_channels(prototxt):
    text = """
    layer { name: "data" type: "DummyData" top: "data" top: "label"
            dummy_data_param { num: 2 channels: 4 channels: 1 height: 8 height: 1 width: 8 width: 1 } }
    layer { name: "more" type: "Input" top: "more" input_param { shape { dim: 2 dim: 5 } } }
    layer { name: "number" type: "Input" top: "number" input_param { shape { } } }
    layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }
    """
    assert line(explain(prototxt(text)), "relu").outputs == [(2, 4, 8, 8)]
    found = explain(prototxt(text), (6, 7), shapes={"label": (2, 1)})
    assert found.inputs == {"data": (2, 4, 6, 7), "label": (2, 1), "more": (2, 5), "number": ()}
    assert found.notes == []


def test_an_input_without_a_shape_gets_one(prototxt):
    text = """
    layer { name: "data" type: "Input" top: "data" }
    layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }
    """
    found = explain(prototxt(text), (5, 6))
    assert line(found, "relu").outputs == [(1, 3, 5, 6)]
    assert found.notes == []
    with pytest.raises(caffe.CaffeError, match="the size of 'data' is not in the prototxt"):
        explain(prototxt(text))


@pytest.mark.parametrize(
    "text, options, message",
    [
        (DATA, {}, "layer 'data' (Python): the size of 'data' is not in the prototxt"),
        (
            DATA,
            {"size": (0, 5)},
            "size is (height, width) or (channels, height, width), each at least 1; found (0, 5)",
        ),
        (DATA, {"size": (5,)}, "each at least 1; found (5,)"),
        (DATA, {"size": (5, 2**63)}, "each at least 1; found (5, 9223372036854775808)"),
        (DATA, {"size": (5, 5), "shapes": {"label": (-1,)}}, "'label' has a length that no blob has: (-1,)"),
        (
            'layer { name: "i" type: "Input" top: "a" top: "b" top: "c" '
            "input_param { shape { dim: 3 } shape { dim: 3 } } }",
            {},
            "layer 'i' (Input): 2 shapes for 3 tops",
        ),
        (DATA, {"size": (5, 5), "shapes": {"datum": (1,)}}, "a shape was given for 'datum'"),
        (
            'layer { name: "i" type: "Input" top: "i" input_param { shape { dim: 3 } } }',
            {"size": (5, 5)},
            "no input takes it",
        ),
        (DATA.replace("kernel_size: 1", "kernel_size: 7"), {"size": (5, 5)}, "layer 'conv' (Convolution)"),
        (DATA.replace('"Convolution"', '"Convolutoin"'), {"size": (5, 5)}, "Unknown layer type: Convolutoin"),
    ],
)
def test_refusals_name_the_file(text, options, message, prototxt):
    path = prototxt(text)
    with pytest.raises(caffe.CaffeError) as caught:
        explain(path, **options)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


# -- a Net, JSON and the command ---------------------------------------------------------------------


def test_a_net_is_explained_as_it_stands(make_net):
    net = make_net(str(skip_net()))
    net.blobs["data"].reshape(1, 3, 100, 90)
    net.reshape()
    found = explain(net)
    assert found.inputs == {"data": (1, 3, 100, 90)}
    assert line(found, "score").outputs == [(1, 4, 100, 90)]
    assert line(found, "score").bottoms == ["up", "data"]  # not the Split's names
    assert [each.type for each in found.layers].count("Split") == 0
    with pytest.raises(caffe.CaffeError, match="reshape its inputs, or give the prototxt and a size"):
        explain(net, (50, 50))


def test_the_table_has_a_row_for_every_layer():
    found = explain(skip_net())
    rows = found.table().splitlines()
    assert len(rows) == 2 + len(found.layers)
    assert rows[0].split() == list(HEADERS)
    cells = next(row for row in rows if row.startswith("pool ")).split()
    assert cells == ["pool", "Pooling", "1x4x26x30", "4", "4", "0", "4", "6", "4", "12.5", "kB"]


def test_equal_tops_are_counted():
    n = caffe.NetSpec()
    n.data = image(5, 3, 3)
    n.a, n.b, n.c = L.Slice(n.data, slice_point=[2, 4], ntop=3)
    found = explain(n.to_proto())
    assert "2 of 1x2x3x3, 1x1x3x3" in found.table()
    assert found.layers[1].field == (1, 1)


def test_json_is_the_same_in_numbers():
    found = explain(skip_net())
    read = json.loads(found.json())
    assert [each["name"] for each in read["layers"]] == [each.name for each in found.layers]
    pool = next(each for each in read["layers"] if each["name"] == "pool")
    assert (pool["field"], pool["jump"], pool["centre"]) == ([6, 6], [4, 4], [-17.5, -17.5])
    assert read["crops"][0]["source_path"][1]["shift"] == [-0.375, -0.375]
    assert read["totals"]["parameters"] == found.totals.parameters
    assert read["inputs"] == {"data": [1, 3, 64, 80]}


def test_the_command(prototxt, capsys):
    path = prototxt(DATA)
    assert main(["explain", str(path), "--size", "30x40"]) == 0
    out, err = capsys.readouterr()
    assert out == str(explain(path, (30, 40))) + "\n"
    assert err == ""  # not a word on how the net was built
    flags = "--size 30x40 --shape label=1x1x30x40 --phase train --json"
    assert main(["explain", str(path), *flags.split()]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["layers"]] == [
        "data",
        "conv",
        "loss",
    ]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--size", "30,40"], "--size takes numbers joined by 'x', such as 500x500; found '30,40'"),
        (["--size", "5x5", "--shape", "label"], "--shape takes NAME=LENGTHxLENGTH..., separated by commas"),
        (
            ["--size", "5x5", "--phase", "TEST1"],
            "--phase is TRAIN or TEST; found 'TEST1' (did you mean TEST?)",
        ),
        ([], "Give it: --size HxW"),
    ],
)
def test_the_command_refuses(flags, message, prototxt, capsys):
    assert main(["explain", str(prototxt(DATA)), *flags]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
