"""The constant border: every net gives what it gives layer by layer, forward and back."""

import caffe
import numpy as np
import pytest
from caffe import whole
from caffe.fast import layout, winograd
from caffe.fast.plan import Plan
from caffe.fast.training import TrainingPlan
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

many = settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
CHANNELS = 3


def layer(number, kind, below, above, param=""):
    return f'layer {{ name: "n{number}" type: "{kind}" bottom: "{below}" top: "{above}" {param} }}\n'


def convolution(number, below, above, kernel, stride=1, pad=0, dilation=1, more="", layer_more=""):
    fillers = 'weight_filler { type: "xavier" } bias_filler { type: "uniform" min: -1 max: 1 }'
    sizes = f"num_output: {CHANNELS} kernel_size: {kernel} stride: {stride} pad: {pad} dilation: {dilation}"
    param = f"convolution_param {{ {sizes} {fillers} {more} }} {layer_more}"
    return layer(number, "Convolution", below, above, param)


def image_input(batch, height, width):
    shape = f"shape {{ dim: [{batch}, {CHANNELS}, {height}, {width}] }}"
    return f'layer {{ name: "x" type: "Input" top: "x" input_param {{ {shape} }} }}\n'


def built(text, phase=caffe.TEST):
    return caffe.Net.from_param(text_format.Parse(text, caffe_pb2.NetParameter()), "drawn", phase)


def twins(text):
    """A net, and its twin with the same weights that always runs layer by layer."""
    fast, plain = built(text), built(text)
    plain.share_with(fast)
    plain.keeps_values = True
    return fast, plain


def agree(a, b, tolerance=1e-5):
    return a.shape == b.shape and np.abs(a - b).max(initial=0) <= tolerance * np.abs(b).max(initial=1e-6)


def run_both(nets, shape, seed, names=()):
    """Both nets' outputs, and their blobs ``names``, for an image of ``shape`` drawn from ``seed``."""
    for net in nets:
        net.blobs["x"].reshape(*shape)
        net.blobs["x"].data[...] = np.random.RandomState(seed).standard_normal(shape) * 3
    fast, plain = (net.forward(blobs=names) for net in nets)
    assert not nets[0].keeps_values and nets[1].keeps_values
    return fast, plain


def assert_equal(nets, shape, seed, names=()):
    fast, plain = run_both(nets, shape, seed, names)
    assert set(fast) == set(plain)
    for name in plain:
        assert agree(fast[name], plain[name]), name


convolutions = st.tuples(
    st.just("conv"), st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2)
)
poolings = st.tuples(
    st.just("pool"), st.sampled_from(["MAX", "AVE"]), st.integers(2, 3), st.sampled_from(["CEIL", "FLOOR"])
)
others = st.tuples(st.sampled_from(["ReLU", "relu apart", "Dropout", "LRN", "TanH"]))
bodies = st.lists(convolutions | convolutions | poolings | others, max_size=5)
firsts = st.tuples(
    st.sampled_from([1, 3, 5]), st.sampled_from([1, 1, 2, 3]), st.integers(0, 40), st.integers(1, 2)
)
sizes = st.tuples(st.integers(1, 2), st.just(CHANNELS), st.integers(1, 60), st.integers(1, 60))


def drawn_net(first, body, skips):
    """The text of a net of these layers whose maps numbered in ``skips`` are read a second time, and their names."""
    kernel, stride, pad, dilation = first
    text, names = convolution(0, "x", "t0", kernel, stride, pad, dilation), ["t0"]
    for number, (kind, *sizes) in enumerate(body, 1):
        below = above = names[-1]
        if kind in ("conv", "pool", "LRN", "TanH", "relu apart"):
            above = f"t{number}"
            names.append(above)
        if kind == "conv":
            text += convolution(number, below, above, *sizes)
        elif kind == "pool":
            method, kernel, rounded = sizes
            param = f"pool: {method} kernel_size: {kernel} stride: 2 round_mode: {rounded}"
            text += layer(number, "Pooling", below, above, f"pooling_param {{ {param} }}")
        else:
            param = "lrn_param { local_size: 3 alpha: 0.5 }" if kind == "LRN" else ""
            text += layer(number, kind.replace("relu apart", "ReLU"), below, above, param)
    for skip in sorted({skip % len(names) for skip in skips}):
        text += layer(f"_skip{skip}", "Power", names[skip], f"skip{skip}", "power_param { scale: 2 }")
    return text, names


@pytest.fixture(autouse=True)
def constants(monkeypatch):
    """What makes the border worth taking apart in nets as small as these; a test may change more."""
    for place, name, value in (
        (layout, "BAND", layout.BAND),
        (layout, "LARGE", layout.LARGE),
        (Plan, "prices", layout.Prices(0, 0)),
        (TrainingPlan, "prices", layout.Prices(0, 0)),
    ):
        monkeypatch.setattr(place, name, value)


@many
@given(
    firsts,
    bodies,
    st.lists(st.integers(0, 9), max_size=2),
    sizes,
    sizes,
    st.none() | st.integers(0, 9),
    st.sampled_from([0, 0, 10, 100]),
    st.sampled_from([0, 0, 1 / 16, 1]),
    st.sampled_from([1, 1000, 1e12]),
    st.sampled_from([0, 64 * 2**20, 64 * 2**20]),
)
def test_any_small_net_gives_the_same_for_one_image_and_the_next(
    first, body, skips, shape, other, asked, copy, share, band, large
):
    layout.BAND, layout.LARGE, Plan.prices = band, large, layout.Prices(share, copy)
    text, names = drawn_net(first, body, skips)
    caffe.set_random_seed(7)
    try:
        nets = twins(image_input(*shape[:1], *shape[2:]) + text)
        nets[1].blobs["x"].reshape(*other)
        nets[1].reshape()
    except caffe.CaffeError:  # too small for its layers
        assume(False)
    assert_equal(nets, shape, 1, [names[asked % len(names)]] if asked is not None else ())
    assert_equal(nets, other, 2)
    assert_equal(nets, shape, 3)


def laid_out(net):
    """The legs of the only plan of ``net``, for the only size that it has seen."""
    (plan,) = net._plans.values()
    ((_, legs),) = plan.layouts.values()
    return legs, plan.stages


@pytest.mark.parametrize(("copy", "cut"), [(0, True), (40, False)])
def test_a_stage_is_cut_where_its_maps_may_be_smaller(copy, cut):
    Plan.prices = layout.Prices(0, copy)
    text = image_input(1, 30, 40) + convolution(0, "x", "t0", 3, pad=20)
    for number in (1, 2, 3):
        text += convolution(number, f"t{number - 1}", f"t{number}", 3, pad=1)
    text += layer(4, "Pooling", "t3", "t4", "pooling_param { kernel_size: 2 stride: 2 }")
    nets = twins(text)
    assert_equal(nets, (1, CHANNELS, 30, 40), 1)
    legs, stages = laid_out(nets[0])
    assert len(stages) == 1 and (len(legs) > 1) == cut
    assert not any(leg.read for leg in legs[:-1])
    if cut:
        sizes = [leg.part[0][1] - leg.part[0][0] for leg in legs]
        assert sizes[:3] == [32, 34, 36], "a cell more at each end, not those that later maps will need"


def test_the_border_is_taken_apart_as_far_as_that_spares_work():
    text = image_input(1, 8, 8) + convolution(0, "x", "t0", 3, pad=30)
    for number in range(1, 12):
        text += convolution(number, f"t{number - 1}", f"t{number}", 5, pad=2)
    found = {}
    for share in (0, 0.1, 1, 1e6):
        Plan.prices = layout.Prices(share, 1)
        nets = twins(text)
        assert_equal(nets, (1, CHANNELS, 8, 8), 1)
        found[share] = sum(len(leg.links) for leg in laid_out(nets[0])[0])
    assert 12 >= found[0] >= found[0.1] >= found[1] > found[1e6] == 0


def test_a_layer_between_a_convolution_and_its_relu_keeps_its_own_values():
    text = image_input(1, 30, 20) + convolution(0, "x", "a", 3, pad=20) + convolution(1, "x", "b", 3, pad=20)
    text += layer(2, "ReLU", "a", "c") + layer(3, "Eltwise", "c", "sum", 'bottom: "b"')
    assert_equal(twins(text), (1, CHANNELS, 30, 20), 1)


def test_what_was_asked_for_before_does_not_disturb_what_is_asked_for_now():
    text = image_input(1, 30, 30) + convolution(0, "x", "a", 3, pad=20) + convolution(1, "a", "b", 3, pad=1)
    text += layer(2, "ReLU", "b", "c")
    text += layer(3, "Pooling", "c", "d", "pooling_param { kernel_size: 2 stride: 2 }")
    nets = twins(text + layer(4, "Power", "d", "e"))
    for seed, names in enumerate([["a"], ["b"], [], ["c"], ["b"], ["a", "d"]]):
        assert_equal(nets, (1, CHANNELS, 30, 30), seed, names)


def test_an_image_that_a_stride_steps_over_leaves_the_border_alone():
    text = image_input(1, 1, 30) + convolution(0, "x", "a", 1, stride=2, pad=21)
    assert_equal(twins(text + convolution(1, "a", "b", 3)), (1, CHANNELS, 1, 30), 1)


def test_the_last_cells_of_a_map_may_be_read_by_no_window():
    text = image_input(1, 1, 4) + convolution(0, "x", "a", 3, stride=2, pad=11)
    text += convolution(1, "a", "b", 3)
    for number, kernel in ((2, 2), (3, 3)):
        param = f"pooling_param {{ kernel_size: {kernel} stride: 2 round_mode: FLOOR }}"
        text += layer(number, "Pooling", "b" * (number - 1), "b" * number, param)
    nets = twins(text)
    for height in range(1, 6):
        for width in range(1, 6):
            assert_equal(nets, (1, CHANNELS, height, width), 1)


def test_only_the_image_and_its_halo_are_computed():
    text = image_input(1, 64, 40) + convolution(0, "x", "a", 3, pad=40) + convolution(1, "a", "b", 3, pad=1)
    nets = twins(text)
    assert_equal(nets, (1, CHANNELS, 64, 40), 1)
    (plan,) = nets[0]._plans.values()
    ((place, legs),) = plan.layouts.values()
    assert place == ((40, 104), (40, 80))
    assert legs[-1].part == ((37, 105), (37, 81))  # of 142 rows and 118 columns
    assert [axis[0].size for axis in legs[0].blank] == [5, 5]


def test_bands_are_as_few_as_fit_and_cover_the_part():
    text = image_input(1, 64, 40) + convolution(0, "x", "a", 3, pad=40)
    fast, _ = nets = twins(text)
    assert_equal(nets, (1, CHANNELS, 64, 40), 1)
    (plan,) = fast._plans.values()
    ((_, (leg,)),) = plan.layouts.values()
    (top, bottom), _ = leg.part
    assert leg.bands(1, 1e9) == [(top, bottom)]
    assert leg.bands(1, 1) == [(row, row + 1) for row in range(top, bottom)]
    some = leg.bands(2, 16000)
    assert 1 < len(some) < bottom - top
    assert [row for band in some for row in range(*band)] == list(range(top, bottom))


# -- training ---------------------------------------------------------------------------------------

SMOOTH = [  # no ties, no kinks: the gradients are continuous
    convolution(0, "x", "a", 3, pad=20) + layer("0t", "TanH", "a", "a"),
    convolution(1, "a", "b", 3, pad=1) + layer("1t", "Sigmoid", "b", "b"),
    layer(2, "Pooling", "b", "c", "pooling_param { pool: AVE kernel_size: 2 stride: 2 }"),
    convolution(3, "c", "d", 3, stride=2, dilation=2) + layer("3t", "TanH", "d", "d"),
    layer(4, "LRN", "d", "e", "lrn_param { local_size: 3 alpha: 0.5 }"),
    convolution(5, "e", "f", 5),
    convolution(6, "c", "skip", 1)
    + layer("6c", "Crop", "skip", "cut", 'bottom: "f" crop_param { offset: 3 }'),
    layer(7, "Eltwise", "f", "sum", 'bottom: "cut"'),
    'layer { name: "up" type: "Deconvolution" bottom: "sum" top: "up" param { lr_mult: 0 } convolution_param {'
    f" num_output: {CHANNELS} kernel_size: 4 stride: 2 pad: 3 bias_term: false weight_filler "
    '{ type: "bilinear" } } }\n',
    layer(9, "Crop", "x", "target", 'bottom: "up" crop_param { offset: 2 }'),
    'layer { name: "loss" type: "EuclideanLoss" bottom: "up" bottom: "target" top: "loss" }\n',
]
CHANGES = {
    "all learn": {},
    "the first convolution is frozen": {
        0: convolution(0, "x", "a", 3, pad=20, layer_more="param { lr_mult: 0 } param { lr_mult: 0 }")
    },
    "a bias is frozen": {1: convolution(1, "a", "b", 3, pad=1, layer_more="param {} param { lr_mult: 0 }")},
    "weights are frozen in the middle": {
        1: convolution(1, "a", "b", 3, pad=1, layer_more="param { lr_mult: 0 }")
    },
    "weights are shared": {
        number: convolution(number, *names, 3, pad=pad, layer_more='param { name: "w" } param { name: "b" }')
        for number, names, pad in ((0, ("x", "a"), 20), (1, ("a", "b"), 1))
    },
    "no biases": {
        number: convolution(number, *names, 3, pad=pad, more="bias_term: false")
        for number, names, pad in ((0, ("x", "a"), 20), (1, ("a", "b"), 1))
    },
    "a map is read from outside": {2: SMOOTH[2] + layer("e", "Reduction", "b", "r", "loss_weight: 0.01")},
    "relu, fused": {3: convolution(3, "c", "d", 3, stride=2) + layer("3r", "ReLU", "d", "d")},
}


def gradients(net):
    return {
        (name, number): blob.diff.copy()
        for name, blobs in net.params.items()
        for number, blob in enumerate(blobs)
    }


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_pass_of_training_gives_the_gradients_of_layer_by_layer(changes, batch):
    body = "".join(changes.get(number, text) for number, text in enumerate(SMOOTH))
    caffe.set_random_seed(3)

    fast, plain = (built(image_input(batch, 30, 23) + body, caffe.TRAIN) for _ in range(2))
    plain.share_with(fast)
    for seed, size in enumerate([(30, 23), (17, 41)]):
        for net in (fast, plain):
            net.blobs["x"].reshape(batch, CHANNELS, *size)
            net.blobs["x"].data[...] = np.random.RandomState(seed).standard_normal(net.blobs["x"].shape)
            net.clear_param_diffs()
        end = len(plain.layers) - 1
        expected = plain._forward(0, end)
        plain._backward(end, 0)
        assert whole.step(fast, set()) == pytest.approx(expected, rel=1e-5)
        if "lr_mult: 0 } param { lr_mult: 0" not in body:
            (plan,) = fast._plans.values()
            assert all(legs and legs[0].blank for _, legs in plan.layouts.values()), "nothing was taken apart"
        found, wanted = gradients(fast), gradients(plain)
        for key in wanted:
            assert agree(found[key], wanted[key], 1e-4), key
        assert any(gradient.any() for gradient in wanted.values())


def test_wide_convolutions_learn_by_minimal_filtering_in_the_chain_and_behind_it(monkeypatch):
    def wide(number, below, above, relu=False, count=128):
        text = convolution(number, below, above, 3, pad=1).replace(
            f"num_output: {CHANNELS}", f"num_output: {count}"
        )
        return text + layer(f"{number}r", "ReLU" if relu else "TanH", above, above)

    text = image_input(2, 20, 14) + convolution(0, "x", "a", 3, pad=20).replace(
        f"num_output: {CHANNELS}", "num_output: 128"
    )
    text += wide(1, "a", "b") + wide(2, "b", "c", relu=True)
    text += layer(3, "Power", "c", "d", "power_param { scale: 0.5 }")  # ends the chain
    text += wide(4, "d", "e", relu=True) + wide(5, "e", "f") + wide(6, "f", "g", count=2)
    text += layer(7, "Reduction", "g", "loss", "reduction_param { operation: SUMSQ } loss_weight: 0.001")
    calls, learning = [], winograd.learning
    monkeypatch.setattr(winograd, "learning", lambda *args: calls.append(args[-1]) or learning(*args))
    fast, plain = (built(text, caffe.TRAIN) for _ in range(2))
    plain.share_with(fast)
    for net in (fast, plain):
        net.blobs["x"].data[...] = np.random.RandomState(0).standard_normal(net.blobs["x"].shape)
        net.clear_param_diffs()
    plain.forward(), plain.backward()
    whole.step(fast, set())
    # two in the chain, on the blank image, too; two behind it
    assert sorted(calls) == [False] * 3 + [True] * 3
    found, wanted = gradients(fast), gradients(plain)
    for key in wanted:
        assert agree(found[key], wanted[key], 1e-3), key


def test_gradients_are_added_to_those_that_are_there():
    text = image_input(1, 20, 20) + "".join(SMOOTH)
    fast = built(text, caffe.TRAIN)
    fast.blobs["x"].data[...] = np.random.RandomState(0).standard_normal(fast.blobs["x"].shape)
    fast.clear_param_diffs()
    whole.step(fast, set())
    once = gradients(fast)
    whole.step(fast, set())
    for key, gradient in gradients(fast).items():
        assert agree(gradient, 2 * once[key], 1e-5), key
