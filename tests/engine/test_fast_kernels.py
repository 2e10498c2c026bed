"""The kernels on prepared weights against float64, and when they are prepared anew."""

from types import SimpleNamespace

import caffe
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from caffe import whole
from caffe.fast import products, upsampling, winograd
from caffe.fast.kernels import Convolution, evened
from hypothesis import assume, given, settings
from hypothesis import strategies as st

many = settings(max_examples=200, deadline=None, derandomize=True, database=None)
FORMATS = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "a part of a larger one": lambda x: F.pad(x, (2, 1, 3, 0)).contiguous()[:, :, 3:, 2:-1],
    "a part, channels last": lambda x: F.pad(x, (2, 1, 3, 0)).contiguous(memory_format=torch.channels_last)[
        :, :, 3:, 2:-1
    ],
    "odd strides of one image": lambda x: torch.stack([x, x], 4)[..., 0],
}


def shape_of(kernel, stride=(1, 1), dilation=(1, 1), group=1, pad=(0, 0)):
    """What a kernel asks of its layer."""
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    return SimpleNamespace(
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        extent=extent,
        group=group,
        pad=pad,
        spatial=2,
        axis=1,
    )


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def directly(x, weight, bias, sides, layer, relu):
    """The convolution in float64."""
    top, bottom, left, right = sides
    x = F.pad(x.double(), (left, right, top, bottom))
    bias = None if bias is None else bias.double()
    y = F.conv2d(x, weight.double(), bias, layer.stride, 0, layer.dilation, layer.group)
    return y.relu() if relu else y


def close(found, expected, bound):
    return (found.double() - expected).abs().max() <= bound * max(expected.abs().max(), 1e-3)


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@many
@given(
    kernel=st.sampled_from([(1, 1), (1, 1), (3, 3), (2, 5), (7, 7)]),
    stride=pairs,
    dilation=pairs,
    group=st.integers(1, 3),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    sides=st.tuples(*[st.integers(0, 3) | st.integers(0, 9)] * 4),
    size=st.tuples(st.integers(1, 3), st.integers(1, 14), st.integers(1, 14)),
    form=st.sampled_from(sorted(FORMATS)),
    biased=st.booleans(),
    relu=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    even=st.booleans(),
)
def test_a_convolution_is_the_one_in_float64(
    kernel, stride, dilation, group, inputs, outputs, sides, size, form, biased, relu, dtype, even
):
    sides = (sides[0], sides[0], sides[2], sides[2]) if even else sides
    layer = shape_of(kernel, stride, dilation, group, (max(sides[:2]), max(sides[2:])))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    assume(size[1] + sum(sides[:2]) >= reach[0] and size[2] + sum(sides[2:]) >= reach[1])
    x = random(size[0], group * inputs, *size[1:])
    weight, bias = random(group * outputs, inputs, *kernel, seed=1), random(group * outputs, seed=2)
    kernel_of = Convolution(layer, weight, bias if biased else None, relu, dtype)
    found = kernel_of(FORMATS[form](x), sides)
    expected = directly(x, weight, bias if biased else None, sides, layer, relu)
    assert found.dtype == dtype and found.shape == expected.shape
    # a sum of rounded terms may be smaller than each of them
    bound = 1e-5 if dtype == torch.float32 else 0.02 * max(1, 4 / expected.abs().max())
    assert close(found, expected, bound)


@pytest.mark.parametrize("pad", [4, 5, 6, 7])
@pytest.mark.parametrize("size", [(5, 1), (1, 5), (2, 2)], ids=str)
def test_a_window_may_lie_wholly_in_the_padding(size, pad):
    layer = shape_of((3, 3), (2, 2), (2, 2))
    sides = (pad * (size[0] < 5), pad * (size[0] < 5), pad * (size[1] < 5), pad * (size[1] < 5))
    weight, bias, x = random(3, 3, 3, 3), random(3), random(2, 3, *size, seed=1)
    kernel = Convolution(layer, weight, bias, False, torch.float32)
    assert close(kernel(x, sides), directly(x, weight, bias, sides, layer, False), 1e-5)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "strides", [None, (75, 1, 5, 1)], ids=["its own strides", "strides of channels last"]
)
def test_a_map_of_one_channel_has_both_formats(form, strides):
    layer, weight, bias = shape_of((1, 3), (1, 4)), random(8, 1, 1, 3), random(8)
    kernel = Convolution(layer, weight, bias, False, torch.float32)
    x = random(3, 1, 15, 5, seed=1)
    x = FORMATS[form](x if strides is None else torch.empty_strided(x.shape, strides).copy_(x))
    assert close(kernel(x, (0,) * 4), directly(x, weight, bias, (0,) * 4, layer, False), 1e-5)


@many
@given(
    kernel=st.sampled_from([(1, 1), (1, 3), (3, 3), (2, 5)]),
    stride=pairs,
    dilation=pairs,
    inputs=st.sampled_from([1, 1, 3, 16]),
    sides=st.tuples(*[st.integers(0, 9)] * 4),
    size=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    form=st.sampled_from(sorted(FORMATS)),
    even=st.booleans(),
)
def test_gradients_after_padding_are_those_in_float64(
    kernel, stride, dilation, inputs, sides, size, form, even
):
    sides = (sides[0], sides[0], sides[2], sides[2]) if even else sides
    layer = shape_of(kernel, stride, dilation)
    assume(size[1] + sum(sides[:2]) >= layer.extent[0] and size[2] + sum(sides[2:]) >= layer.extent[1])
    image = random(size[0], inputs, *size[1:])
    leaves = [FORMATS[form](image).detach(), random(4, inputs, *kernel, seed=1), random(4, seed=2)]
    doubles = [leaf.double().requires_grad_() for leaf in leaves]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    x, pad = evened(leaves[0], sides, layer.extent)
    x = x.contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x, *leaves[1:], stride, pad, dilation)
    expected = directly(*doubles[:2], doubles[2], sides, layer, False)
    seed = random(*y.shape, seed=3)
    found = torch.autograd.grad(y, leaves, seed)
    wanted = torch.autograd.grad(expected, doubles, seed.double())
    assert close(y, expected, 1e-5)
    assert all(close(a, b, 1e-4) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
def test_a_convolution_of_one_by_one_is_a_product(form, biased):
    weight, bias = random(5, 4, 1, 1), random(5) if biased else None
    kernel = Convolution(shape_of((1, 1)), weight, bias, True, torch.float32)
    x = random(2, 4, 6, 7, seed=1)
    expected = directly(x, weight, bias, (0,) * 4, shape_of((1, 1)), True)
    assert close(kernel(FORMATS[form](x), (0,) * 4), expected, 1e-5)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 7), (13, 2), (30, 17)], ids=str)
@pytest.mark.parametrize("sides", [(1, 1, 1, 1), (0, 2, 3, 1), (2, 2, 2, 2)], ids=str)
def test_minimal_filtering_is_the_convolution_in_float64(size, sides):
    layer = shape_of((3, 3))
    weight, bias = random(256, 256, 3, 3) / 48, random(256, seed=1)
    assert winograd.pays(layer, weight, torch.float32)
    height, width = size[0] + sum(sides[:2]), size[1] + sum(sides[2:])
    if min(height, width) < 3:
        pytest.skip("smaller than a window")
    kernels = {relu: Convolution(layer, weight, bias, relu, torch.float32) for relu in (False, True)}
    for form in FORMATS.values():
        x = random(2, 256, *size, seed=2)
        for relu, kernel in kernels.items():
            assert kernel.winograd is not None
            assert close(kernel(form(x), sides), directly(x, weight, bias, sides, layer, relu), 2e-5)
    plain = Convolution(layer, weight, None, False, torch.float32)
    assert close(plain(x, sides), directly(x, weight, None, sides, layer, False), 2e-5)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("pad", [(1, 1), (0, 2)], ids=str)
@pytest.mark.parametrize("size", [(1, 3), (9, 6)], ids=str)
@pytest.mark.parametrize("frozen", [None, "x", "weight", "bias", "no bias", "x, bias"])
def test_minimal_filtering_learns_as_the_convolution_does(size, pad, relu, frozen):
    layer, form = shape_of((3, 3), pad=pad), FORMATS["channels last" if relu else "a part of a larger one"]
    size = [max(length, 3 - 2 * each) for length, each in zip(size, pad, strict=True)]
    leaves = [form(random(2, 256, *size)), random(256, 256, 3, 3, seed=1) / 48, random(256, seed=2)]
    leaves = [leaf.detach() for leaf in leaves[: 2 if frozen == "no bias" else 3]]
    learns = [name not in str(frozen).split(", ") for name in ("x", "weight", "bias")][: len(leaves)]
    doubles = [leaf.double().requires_grad_() for leaf in leaves]
    leaves = [leaf.requires_grad_(learn) for leaf, learn in zip(leaves, learns, strict=True)]
    sides = (pad[0], pad[0], pad[1], pad[1])
    expected = directly(*doubles, *[None] * (3 - len(doubles)), sides, layer, relu)
    found = winograd.learning(*leaves, *[None] * (3 - len(leaves)), pad, relu)
    assert found.shape == expected.shape and close(found, expected, 2e-5)
    seed = random(*found.shape, seed=3)
    if relu:  # next to 0 they may differ in which side they are on
        seed[expected.abs() < 1e-4] = 0
    of = torch.autograd.grad(found, [leaf for leaf in leaves if leaf.requires_grad], seed)
    wanted = torch.autograd.grad(expected, doubles, seed.double())
    wanted = [gradient for gradient, learn in zip(wanted, learns, strict=True) if learn]
    assert all(close(a, b, 1e-4) for a, b in zip(of, wanted, strict=True))


@pytest.mark.parametrize(
    "change",
    [{"kernel": (5, 5)}, {"kernel": (3, 1)}, {"stride": (2, 1)}, {"dilation": (1, 2)}, {"group": 2}],
    ids=str,
)
def test_minimal_filtering_is_for_square_filters_one_cell_apart(change):
    layer = shape_of(**{"kernel": (3, 3), **change})
    assert not winograd.pays(layer, random(256, 256, *layer.kernel), torch.float32)
    assert not winograd.pays(shape_of((3, 3)), random(255, 256, 3, 3), torch.float32)
    assert not winograd.pays(shape_of((3, 3)), random(256, 256, 3, 3), torch.bfloat16)


# -- upsampling ---------------------------------------------------------------------------------------

UP = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3, 5, 4] } } }
layer { name: "up" type: "Deconvolution" bottom: "x" top: "up" convolution_param {
  num_output: 3 kernel_size: 4 stride: 2 pad: 1 bias_filler { value: 0.5 } } }
"""


def diagonal(kernel=4):
    weight = torch.zeros(3, 3, kernel, kernel)
    for channel in range(3):
        weight[channel, channel] = random(kernel, kernel, seed=channel)
    return weight


def upsampler(stride=(2, 2), pad=(1, 1), group=1, dilation=(1, 1), spatial=2):
    layer = shape_of((4, 4), stride, dilation, group, pad)
    layer.spatial = spatial
    return layer


def test_upsampling_channel_by_channel_is_the_transposed_convolution():
    weight, bias, x = diagonal(), random(3, seed=9), random(2, 3, 5, 4, seed=5)
    for more in ({}, {"dilation": (2, 1)}, {"stride": (3, 1), "pad": (0, 2)}):
        layer = upsampler(**more)
        for params in ([weight], [weight, bias]):
            doubles = [each.double() for each in params]
            expected = F.conv_transpose2d(
                x.double(),
                *doubles,
                *[None] * (2 - len(params)),
                layer.stride,
                layer.pad,
                0,
                1,
                layer.dilation,
            )
            found = upsampling.upsampling(layer, params)(x)
            assert found.shape == expected.shape and close(found, expected, 1e-6)


@pytest.mark.parametrize("place", [(0, 1, 0, 0), (2, 0, 3, 3), (1, 2, 1, 2)], ids=str)
@pytest.mark.parametrize("value", [1e-30, -1.0, float("nan")])
def test_one_weight_from_channel_to_channel_is_enough_to_refuse(place, value):
    weight = diagonal()
    weight[place] = value
    assert upsampling.upsampling(upsampler(), [weight]) is None


def separable(down, across, channels=3):
    weight = torch.zeros(channels, channels, len(down), len(across))
    weight[range(channels), range(channels)] = torch.outer(down, across)
    return weight


@many
@given(
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    stride=pairs,
    dilation=pairs,
    pad=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    size=st.tuples(st.integers(1, 2), st.just(3), st.integers(1, 9), st.integers(1, 9)),
    block=st.sampled_from([1, 2, 16]),
    biased=st.booleans(),
    places=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_filters_that_are_products_are_applied_an_axis_at_a_time(
    kernel, stride, dilation, pad, size, block, biased, places
):
    layer = shape_of(kernel, stride, dilation, 1, pad)
    x, bias = random(*size, seed=2), random(3, seed=3) if biased else None
    weight = separable(random(kernel[0]), random(kernel[1], seed=1))
    params = [weight, bias] if biased else [weight]
    made = upsampling.upsampling(layer, params)
    assume(min(made.sizes(x)) > 0)
    doubles = [each.double() for each in params] + [None] * (not biased)
    expected = F.conv_transpose2d(x.double(), *doubles, stride, pad, 0, 1, dilation)
    assert made.filters is not None and tuple(made.sizes(x)) == expected.shape[2:]
    wanted = []
    for length, (one, other) in zip(expected.shape[2:], (places[:2], places[2:]), strict=True):
        first, end = sorted((round(one * length), round(other * length)))
        wanted.append((first, end))
    kept, upsampling.BLOCK = upsampling.BLOCK, block
    try:
        assert close(made(x), expected, 1e-5)
        part, (down, across) = made(x, tuple(wanted)), wanted
        expected = expected[:, :, slice(*down), slice(*across)]
        assert part.shape == expected.shape and (not part.numel() or close(part, expected, 1e-5))
        recorded = made(x.requires_grad_(), tuple(wanted))
        assert recorded.requires_grad and torch.allclose(recorded, part, atol=1e-5)
    finally:
        upsampling.BLOCK = kept


@pytest.mark.parametrize("size", [2, 3, 4, 16, 32, 63])
def test_bilinear_filters_are_found_to_be_products(make_net, size):
    text = UP.replace("kernel_size: 4 stride: 2 pad: 1", f"kernel_size: {size} stride: {max(size // 2, 1)}")
    filler = 'group: 3 weight_filler { type: "bilinear" } bias_filler'
    filled = make_net(text.replace("bias_filler", filler)).params["up"][0].data[:, 0]
    filters = upsampling.separated(torch.from_numpy(filled))
    assert torch.allclose(torch.outer(*filters), torch.from_numpy(filled[0]), rtol=0, atol=1e-6)


def test_filters_that_are_not_one_product_are_not_taken_for_it():
    same = torch.outer(random(4), random(5, seed=1)).repeat(3, 1, 1)
    assert upsampling.separated(same) is not None
    for other in (random(4, 5), torch.zeros(4, 5), 1.001 * same[1], torch.full((4, 5), float("nan"))):
        for place in range(3):
            changed = same.clone()
            changed[place] = other
            assert upsampling.separated(changed) is None
    assert upsampling.separated(torch.zeros(3, 4, 5)) is None


def test_only_as_many_channels_out_as_in_are_upsampled_by_themselves():
    assert upsampling.upsampling(upsampler(), [torch.zeros(3, 4, 4, 4)]) is None
    assert upsampling.upsampling(upsampler(group=3), [torch.zeros(3, 1, 4, 4)]) is None
    assert upsampling.upsampling(upsampler(spatial=3), [torch.zeros(3, 3, 4, 4, 4)]) is None


def twins(make_net, text):
    fast, plain = make_net(text), make_net(text)
    plain.share_with(fast)
    plain.keeps_values = True
    for net in (fast, plain):
        net.blobs["x"].data[...] = np.random.RandomState(0).standard_normal(net.blobs["x"].shape)
    return fast, plain


def assert_forwards_equal(fast, plain):
    found, expected = fast.forward(), plain.forward()
    for name in expected:
        a, b = found[name], expected[name]
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), name
    return {name: values.copy() for name, values in found.items()}


def test_upsampling_weights_are_looked_at_again_when_they_change(make_net, tmp_path):
    fast, plain = twins(make_net, UP)
    fast.params["up"][0].data[...] = diagonal()
    before = assert_forwards_equal(fast, plain)["up"]
    fast.params["up"][0].data[0, 2, 1, 1] = 3
    fast.keeps_values = False  # which handing out an array set
    after = assert_forwards_equal(fast, plain)["up"]
    assert np.abs(after - before).max() > 0.1
    fast.save(str(tmp_path / "up.caffemodel"))
    other = make_net(UP, weights=str(tmp_path / "up.caffemodel"))
    assert other.params["up"][0].data.shape == (3, 3, 4, 4)
    assert (other.params["up"][0].data == fast.params["up"][0].data).all()


CUT = """
layer { name: "cut" type: "Crop" bottom: "up" bottom: "small" top: "cut" crop_param { AXIS offset: 1 } }
"""
SMALL = """layer { name: "s" type: "Input" top: "small" input_param { shape { dim: [2, 2, 6, 5] } } }"""


@pytest.mark.parametrize(
    "weight", [separable(random(4), random(4, seed=1)), diagonal()], ids=["product", "not"]
)
@pytest.mark.parametrize(
    ("more", "axis", "fused"),
    [
        ("", "", True),
        ("", "axis: 1", True),
        ('layer { name: "e" type: "Power" bottom: "up" top: "e" }', "", False),
        ('layer { name: "e" type: "ReLU" bottom: "cut" top: "cut" }', "", True),
    ],
    ids=["rows and columns", "channels, too", "the whole is read, too", "written in place after it"],
)
def test_of_what_a_crop_cuts_off_nothing_is_computed(make_net, more, axis, fused, weight):
    shape = "dim: [2, 3, 6, 5]" if not axis else "dim: [2, 2, 6, 5]"
    small = SMALL.replace("dim: [2, 2, 6, 5]", shape)
    fast, plain = twins(make_net, UP + small + CUT.replace("AXIS", axis) + more)
    fast.params["up"][0].data[...] = weight
    plain.share_with(fast)
    fast.keeps_values = False
    for _ in range(2):
        assert_forwards_equal(fast, plain)
    (plan,) = fast._plans.values()
    assert (plan.cropped == {1: 3}) if fused else not plan.cropped
    for name in ("cut", "up"):
        assert np.abs(fast.blobs[name].data - plain.blobs[name].data).max() < 1e-5, name
    fast.keeps_values = False
    found, expected = (net.forward(blobs=["up", "cut"]) for net in (fast, plain))
    assert all(np.abs(found[name] - expected[name]).max() < 1e-5 for name in expected)


# -- when weights are prepared anew --------------------------------------------------------------------

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3, 9, 8] } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param {
  num_output: 4 kernel_size: 3 pad: 20 weight_filler { type: "xavier" } bias_filler { value: 0.3 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "Convolution" bottom: "conv" top: "fc" convolution_param {
  num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
layer { name: "up" type: "Deconvolution" bottom: "fc" top: "up" convolution_param {
  num_output: 3 kernel_size: 4 stride: 2 bias_term: false weight_filler { type: "bilinear" } } }
"""


def changed(net, make_net, how, path):
    """Change every parameter of ``net`` in one of the ways that there are."""
    other = make_net(NET)
    other.params["up"][0].data[...] = 0.2
    if how == "copy_from":
        other.save(path)
        net.copy_from(path)
    elif how == "copy_from hdf5":
        other.save_hdf5(path + ".h5")
        net.load_hdf5(path + ".h5")
    elif how == "share_with":
        net.share_with(other)
    elif how == "arrays":
        for name, blobs in net.params.items():
            for blob, new in zip(blobs, other.params[name], strict=True):
                blob.data[...] = new.data
    elif how == "one bias":
        net.params["conv"][1].data[2] += 1


@pytest.mark.parametrize("how", ["copy_from", "copy_from hdf5", "share_with", "arrays", "one bias"])
def test_changed_parameters_are_seen_by_the_next_forward(make_net, tmp_path, how):
    fast, plain = twins(make_net, NET)
    before = assert_forwards_equal(fast, plain)["up"]
    kernels = fast._prepared.kernels
    assert_forwards_equal(fast, plain)
    assert fast._prepared.kernels is kernels, "prepared once for both"
    changed(fast, make_net, how, str(tmp_path / "other"))
    plain.share_with(fast)
    fast.keeps_values = False  # which handing out an array set
    after = assert_forwards_equal(fast, plain)["up"]
    assert np.abs(after - before).max() > 0.01
    assert not fast.keeps_values


def test_an_array_held_of_a_parameter_may_be_written_between_forwards(make_net):
    fast, plain = twins(make_net, NET)
    assert_forwards_equal(fast, plain)
    held = [fast.params["conv"][0].data, fast.params["up"][0].data]
    for value in (0.5, -0.25):
        for array in held:
            array[...] = value
        assert_forwards_equal(fast, plain)
    held[0][...] = 1
    del held, array
    fast.keeps_values = False
    assert_forwards_equal(fast, plain)


def test_a_test_net_sees_what_the_solver_learned(make_solver, tmp_path):
    train = NET.replace("Input", "DummyData").replace(
        "input_param { shape { dim: [1, 3, 9, 8] } }",
        'dummy_data_param { shape { dim: [1, 3, 9, 8] } data_filler { type: "gaussian" } }',
    )
    train += """layer { name: "loss" type: "Reduction" bottom: "up" top: "loss" loss_weight: 1
      reduction_param { operation: MEAN } }"""
    solver = make_solver(train, 'base_lr: 0.1 lr_policy: "fixed"')
    (tmp_path / "deploy.prototxt").write_text(NET)
    fast, plain = (caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST) for _ in range(2))
    plain.keeps_values = True
    for net in (fast, plain):
        net.share_with(solver.net)
        net.blobs["x"].data[...] = 1
    before = assert_forwards_equal(fast, plain)["up"]
    for step in (solver.step, solver.step_whole):
        step(3)
        after = assert_forwards_equal(fast, plain)["up"]
        assert np.abs(after - before).max() > 1e-3
        before = after


# -- one product in each direction ---------------------------------------------------------------------


def learned(layer, tensors, seed):
    """The convolution of ``layer`` on ``tensors`` (x, weight, bias or None) in float64, and their gradients."""
    x, weight, bias = [each if each is None else each.detach().double().requires_grad_() for each in tensors]
    y = F.conv2d(x, weight, bias, layer.stride, layer.pad, layer.dilation)
    y.backward(seed(y).double())
    return y.detach(), [None if each is None else each.grad for each in (x, weight, bias)]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frozen", [None, "x", "weight", "bias", "no bias"])
@pytest.mark.parametrize(
    ("kernel", "dilation", "pad", "stride", "size"),
    [
        ((1, 1), (1, 1), (0, 0), (1, 1), (9, 8)),
        ((1, 1), (1, 1), (0, 0), (2, 1), (9, 8)),
        ((1, 1), (1, 1), (1, 0), (1, 1), (9, 8)),
        ((1, 1), (1, 1), (1, 1), (2, 2), (3, 2)),  # as many windows as cells, but elsewhere
        ((7, 7), (1, 1), (3, 3), (1, 1), (9, 8)),
        ((3, 2), (2, 1), (1, 2), (2, 3), (9, 8)),
    ],
    ids=str,
)
def test_products_give_the_convolution_and_add_its_gradients(
    kernel, dilation, pad, stride, size, frozen, batch
):
    blob = caffe.Blob(6, 4, *kernel)
    blob.diff[...] = 2
    layer = SimpleNamespace(
        **vars(shape_of(kernel, stride, dilation, 1, pad)), blobs=[blob], completed=lambda x: x
    )
    x, weight, bias = random(batch, 4, *size), random(6, 4, *kernel, seed=1), random(6, seed=2)
    x.requires_grad_(frozen != "x"), weight.requires_grad_(frozen != "weight")
    bias = None if frozen == "no bias" else bias.requires_grad_(frozen != "bias")

    def seed(y):
        return random(*y.shape, seed=3)

    found = products.product(layer, x, weight, bias)
    expected, (of_x, of_weight, of_bias) = learned(layer, (x, weight, bias), seed)
    assert found.shape == expected.shape and close(found.detach(), expected, 1e-5)
    found.backward(seed(found))
    assert x.grad is None if frozen == "x" else close(x.grad, of_x, 1e-5)
    if bias is not None:
        assert bias.grad is None if frozen == "bias" else close(bias.grad, of_bias, 1e-5)
    assert weight.grad is None
    added = torch.from_numpy(blob.diff - 2)
    assert not added.any() if frozen == "weight" else close(added, of_weight, 1e-5)


def test_layers_with_more_weights_than_windows_learn_by_products(make_net, monkeypatch):
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 128, 8, 9] } } }
    layer { name: "fc" type: "Convolution" bottom: "x" top: "fc" convolution_param {
      num_output: 256 kernel_size: 7 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
    layer { name: "relu" type: "TanH" bottom: "fc" top: "y" }
    layer { name: "fc7" type: "Convolution" bottom: "y" top: "z" convolution_param {
      num_output: 4096 kernel_size: 1 weight_filler { type: "xavier" } } }
    layer { name: "loss" type: "Reduction" bottom: "z" top: "loss" loss_weight: 0.1
      reduction_param { operation: SUMSQ } }
    """
    calls = []
    product = products.product
    monkeypatch.setattr(products, "product", lambda *args: calls.append(1) or product(*args))
    fast, plain = make_net(text, caffe.TRAIN), make_net(text, caffe.TRAIN)
    plain.share_with(fast)
    for net in (fast, plain):
        net.blobs["x"].data[...] = np.random.RandomState(0).standard_normal(net.blobs["x"].shape)
        net.clear_param_diffs()
    whole.step(fast, set())
    assert len(calls) == 2
    plain.forward(), plain.backward()
    for name, blobs in plain.params.items():
        for ours, theirs in zip(fast.params[name], blobs, strict=True):
            assert np.abs(ours.diff - theirs.diff).max() <= 1e-4 * np.abs(theirs.diff).max(), name
