"""Whole nets on the fast way: FCNs an eighth as wide, the precisions, and nets with data layers in testing."""

import math
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe import NetSpec
from caffe.fast import layout
from caffe.fast.plan import Plan, Prepared
from caffe.proto import caffe_pb2
from google.protobuf import text_format

import nets
import surgery
import trunks

MODELS = {
    "fcn8s": {"skips": ["pool4", "pool3"]},
    "fcn16s": {"skips": ["pool4"]},
    "fcn32s": {},
    "alexnet": {"trunk": trunks.caffenet, "kernel": 63},
    "googlenet": {"trunk": trunks.googlenet, "kernel": 63, "offset": 98},
}
RECIPE = nets.Recipe(divide=8, from_scratch=True, learn_upsampling=False)
SIZES = [(64, 97), (120, 75)]


def deploy(**model):
    n = NetSpec()
    n.data = nets.image((1, 3, 64, 64))
    nets.fcn(n, RECIPE, 21, **model)
    return n.to_proto()


def twins(param, phase=caffe.TEST):
    fast, plain = (caffe.Net.from_param(param, "made", phase) for _ in range(2))
    plain.share_with(fast)
    plain.keeps_values = True
    return fast, plain


def filled(net):
    """Scores that differ and upsampling that is bilinear, as after training."""
    random = np.random.RandomState(0)
    for name, blobs in net.params.items():
        if name.startswith("score"):
            blobs[0].data[...] = random.standard_normal(blobs[0].shape) * 0.1
            blobs[1].data[...] = random.standard_normal(blobs[1].shape) * 0.01
    surgery.interp(net, [name for name in net.params if name.startswith("up")])
    net.blobs["data"].data[...] = random.uniform(-120, 130, net.blobs["data"].shape)
    means = net.forward()["score"].mean((0, 2, 3))
    net.params["score_fr"][1].data[...] -= means  # so that many classes win somewhere
    net.keeps_values = False


def show(nets_shown, size, seed=1):
    image = np.random.RandomState(seed).uniform(-120, 130, (1, 3, *size))
    for net in nets_shown:
        net.blobs["data"].reshape(1, 3, *size)
        net.blobs["data"].data[...] = image


def close(a, b, bound=1e-5):
    return a.shape == b.shape and np.abs(a - b).max() <= bound * np.abs(b).max()


def same_labels(a, b):
    return (a.argmax(1) == b.argmax(1)).mean()


@pytest.fixture
def float32_afterwards():
    yield
    caffe.set_precision("float32")


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_fcns_give_the_scores_of_layer_by_layer(model):
    fast, plain = twins(deploy(**model))
    filled(fast)
    for size in SIZES:
        show((fast, plain), size)
        found, expected = fast.forward()["score"], plain.forward()["score"]
        assert expected.std() > 0 and len(np.unique(expected.argmax(1))) > 1
        assert close(found, expected) and same_labels(found, expected) >= 0.9999
    assert not fast.keeps_values
    (plan,) = fast._plans.values()
    assert all(legs and legs[0].blank for _, legs in plan.layouts.values()), "the border was not taken apart"


def test_inner_maps_of_an_fcn_are_those_of_layer_by_layer():
    fast, plain = twins(deploy(**MODELS["fcn8s"]))
    filled(fast)
    show((fast, plain), SIZES[0])
    asked = ["conv1_1", "pool2", "pool3", "fc7", "score_fr"]
    found, expected = fast.forward(blobs=asked), plain.forward(blobs=asked)
    assert set(found) == {*asked, "score"}
    assert all(close(found[name], expected[name]) for name in found)
    for name in ("conv3_2", "fuse_pool4", "upscore8"):  # not asked for
        assert close(fast.blobs[name].data, plain.blobs[name].data), name


def test_what_the_readme_says_of_fewer_multiplications():
    root = Path(nets.__file__).parent
    net = caffe.Net(str(root / "voc-fcn8s/deploy.prototxt"), caffe.TEST)
    plan = Plan(net, frozenset({"score"}), Prepared())
    shares = []
    for side in (500, 256):
        net.blobs["data"].reshape(1, 3, side, side)
        net.reshape()
        whole = 0  # a filter is applied at every cell: of the output, or of a Deconvolution's input
        for i, layer in enumerate(net.layers):
            if layer.type in ("Convolution", "Deconvolution"):
                cells = net._bottoms[i] if layer.type == "Deconvolution" else net._tops[i]
                whole += layer.blobs[0].count * math.prod(cells[0].shape[2:])
        spared = 0
        for leg in layout.legs(plan.stages, (1, 3, side, side), plan.prices)[1]:
            spared += layout._work(leg.links, leg.spans, leg.whole)
            spared -= layout._work(leg.links, leg.spans, leg.part)
        shares.append(f"{spared / whole:.0%}".replace("%", " %"))
    text = (root / "pycaffe/README.md").read_text(encoding="utf-8")
    assert f"{shares[0]} fewer multiply-adds at 500×500, {shares[1]} at 256×256" in text


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"bf17.*float32, tf32, bf16"):
        caffe.set_precision("bf17")


@pytest.mark.parametrize("model", ["fcn8s", "alexnet"])
def test_precisions_change_what_they_say_and_nothing_else(model, float32_afterwards):
    fast, _ = twins(deploy(**MODELS[model]))
    filled(fast)
    show([fast], SIZES[0])
    results = {}
    for precision in ("float32", "tf32", "bf16", "float32 again"):
        caffe.set_precision(precision.split()[0])
        results[precision] = fast.forward()["score"].copy()
    assert not fast.keeps_values
    exact, rough = results["float32"], results["bf16"]
    assert (results["tf32"] == exact).all(), "on a processor it is float32"
    assert (results["float32 again"] == exact).all()
    assert rough.dtype == np.float32 and (rough != exact).any()
    assert (
        close(rough, exact, 0.05) and same_labels(rough, exact) > 0.9
    )  # of random weights, whose scores lie close together


def test_blobs_asked_for_are_float32_in_any_precision(float32_afterwards):
    fast, plain = twins(deploy(**MODELS["fcn32s"]))
    filled(fast)
    show((fast, plain), SIZES[1])
    caffe.set_precision("bf16")
    found, expected = fast.forward(blobs=["conv1_2", "pool3"]), plain.forward(blobs=["conv1_2", "pool3"])
    for name in found:
        assert found[name].dtype == np.float32 and close(found[name], expected[name], 0.05), name


# -- odd nets -------------------------------------------------------------------------------------------


def built(text, phase=caffe.TEST):
    return twins(text_format.Parse(text, caffe_pb2.NetParameter()), phase)


def conv(name, below, above, kernel=3, more=""):
    return f"""
    layer {{ name: "{name}" type: "Convolution" bottom: "{below}" top: "{above}" convolution_param {{ num_output: 3
      kernel_size: {kernel} {more} weight_filler {{ type: "xavier" }} bias_filler {{ value: 0.2 }} }} }}"""


def layer(name, kind, below, above, more=""):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{below}" top: "{above}" {more} }}\n'


INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 3, 9, 9] } } }\n'


def assert_equal(pair, size, names=()):
    show(pair, size)
    found, expected = (net.forward(blobs=names) for net in pair)
    assert all(close(found[name], expected[name]) for name in expected)


def test_a_map_short_of_its_only_window_is_completed_with_zeros():
    assert_equal(
        built(INPUT + conv("c", "data", "c", more="stride: 2") + layer("r", "ReLU", "c", "r")), (9, 2)
    )


def test_a_dilated_filter_of_one_cell_is_a_filter_of_one_cell():
    assert_equal(built(INPUT + conv("c", "data", "c", 1, "stride: 2 pad: 1 dilation: 2")), (2, 1))


def test_what_a_convolution_gives_is_kept_apart_from_its_relu_when_asked_for():
    text = INPUT + conv("c", "data", "c", more="pad: 20") + layer("r", "ReLU", "c", "r") + conv("d", "r", "d")
    pair = built(text)
    for names in ([], ["c"], [], ["r"], ["c", "r"]):
        assert_equal(pair, (20, 30), names)


def test_a_crop_that_others_see_is_not_written_by_the_layer_in_place_after_it():
    text = INPUT + conv("c", "data", "c") + conv("d", "c", "d") + layer("t", "TanH", "c", "t")
    text += layer("cut", "Crop", "c", "cut", 'bottom: "d" crop_param { offset: 1 }')
    text += layer("r", "ReLU", "cut", "cut") + layer("s", "Eltwise", "cut", "s", 'bottom: "d"')
    assert_equal(built(text + layer("late", "Power", "c", "late")), (12, 11))


@pytest.mark.parametrize("kind", ["ReLU", "Power"])
def test_inner_values_are_right_after_a_layer_that_works_in_place_on_the_image(kind):
    more = "power_param { shift: 1 }" if kind == "Power" else ""
    text = (
        INPUT + layer("p", kind, "data", "data", more) + conv("c", "data", "c") + layer("e", "TanH", "c", "e")
    )
    pair = built(text)
    assert_equal(pair, (9, 9), ["data"])
    fast, plain = pair
    assert close(fast.blobs["c"].data, plain.blobs["c"].data)
    pair = built(text)
    assert_equal(pair, (9, 9))
    assert close(fast.blobs["data"].data, plain.blobs["data"].data)


# -- data layers in testing -------------------------------------------------------------------------------

DUMMY = """layer { name: "in" type: "DummyData" top: "data" dummy_data_param { shape { dim: [1, 3, 30, 20] }
  data_filler { type: "gaussian" std: 50 } } }"""
PYTHON = """layer { name: "in" type: "Python" top: "data" top: "label"
  python_param { module: "test_fast_plan" layer: "Counted" } }"""
BODY = (
    conv("c", "data", "c", more="pad: 20")
    + layer("r", "ReLU", "c", "c")
    + layer("p", "Pooling", "c", "p", "pooling_param { kernel_size: 2 stride: 2 }")
    + conv("d", "p", "d")
)


class Counted(caffe.Layer):
    """Images whose values are how many have been given."""

    given = 0

    def reshape(self, bottom, top):
        top[0].reshape(1, 3, 30, 20)
        top[1].reshape(1)

    def forward(self, bottom, top):
        Counted.given += 1
        top[0].data[...] = Counted.given
        top[1].data[...] = Counted.given


def values_by_hand(fast, plain, names):
    """What ``plain``, layer by layer, makes of the image that ``fast`` had last."""
    plain.blobs["data"].data[...] = fast.blobs["data"].data
    plain._forward(1, len(plain.layers) - 1)
    return {name: plain.blobs[name].data.copy() for name in names}


def test_inner_values_are_of_the_random_image_that_the_forward_had():
    fast, plain = built(DUMMY + BODY)
    plain.forward()
    images = []
    for _ in range(2):
        out = fast.forward()["d"].copy()
        assert not fast.keeps_values, "it ran whole"
        images.append(fast.blobs["data"].data.copy())
        expected = values_by_hand(fast, plain, ["c", "p", "d"])
        assert close(out, expected["d"])
    state = caffe.common.random_state()[0]
    for name in ("p", "c", "d"):
        assert close(fast.blobs[name].data, expected[name]), name
    assert (fast.blobs["data"].data == images[1]).all() and (images[0] != images[1]).any()
    after = caffe.common.random_state()[0]
    assert all(np.array_equal(a, b) for a, b in zip(state, after, strict=True)), "no number was drawn"


def test_reading_an_inner_blob_does_not_advance_a_python_data_layer(monkeypatch):
    monkeypatch.setattr(Counted, "given", 0)
    fast, plain = built(PYTHON + BODY)
    plain.forward()
    for count in (2, 3):
        out = fast.forward()
        assert Counted.given == count and out["label"] == [count]
        assert not fast.keeps_values
        assert (fast.blobs["data"].data == count).all()
    expected = values_by_hand(fast, plain, ["c", "p", "d"])
    for name in ("c", "p", "d"):
        assert close(fast.blobs[name].data, expected[name]), name
    assert Counted.given == 3 and fast.blobs["label"].data == [3]
