"""The layers that work on each value by itself, against NumPy."""

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, output, refuses, spread

X = spread(2, 3, 4)
POSITIVE = np.abs(X)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# type and options, bottom, expected
FUNCTIONS = [
    ("AbsVal", "", X, np.abs(X)),
    ("BNLL", "", X, np.log1p(np.exp(X))),
    ("Clip", "clip_param { min: -1.5 max: 2 }", X, np.clip(X, -1.5, 2)),
    ("ELU", "", X, np.where(X > 0, X, np.expm1(X))),
    ("ELU", "elu_param { alpha: 0.5 }", X, np.where(X > 0, X, 0.5 * np.expm1(X))),
    ("Exp", "", X, np.exp(X)),
    ("Exp", "exp_param { base: 2 scale: 0.5 shift: 3 }", X, 2 ** (3 + 0.5 * X)),
    ("Exp", "exp_param { base: 0.5 scale: -1 }", X, 0.5**-X),
    ("Exp", "exp_param { shift: -1 }", X, np.exp(X - 1)),
    ("Exp", "exp_param { base: 1 shift: 4 }", X, np.ones_like(X)),
    ("Log", "", POSITIVE, np.log(POSITIVE)),
    ("Log", "log_param { base: 2 }", POSITIVE, np.log2(POSITIVE)),
    ("Log", "log_param { base: 10 scale: -3 shift: 15 }", X, np.log10(15 - 3 * X)),
    ("Power", "", X, X),
    ("Power", "power_param { scale: -2 shift: 3 }", X, 3 - 2 * X),
    ("Power", "power_param { power: 2 scale: 0.5 shift: 1 }", X, (1 + 0.5 * X) ** 2),
    ("Power", "power_param { power: 3 }", X, X**3),
    ("Power", "power_param { power: 0.5 }", POSITIVE, np.sqrt(POSITIVE)),
    ("Power", "power_param { power: -1.5 shift: 0.5 }", POSITIVE, (POSITIVE + 0.5) ** -1.5),
    ("Power", "power_param { power: 0 shift: 5 }", X, np.ones_like(X)),
    ("Power", "power_param { power: 3 scale: 0 shift: 2 }", X, np.full_like(X, 8)),
    ("Power", "power_param { scale: 0 }", X, np.zeros_like(X)),
    ("Sigmoid", "", X, sigmoid(X)),
    ("Swish", "", X, X * sigmoid(X)),
    ("Swish", "swish_param { beta: -0.5 }", X, X * sigmoid(-0.5 * X)),
    ("TanH", "", X, np.tanh(X)),
]
NAMES = [f"{kind} {options}" for kind, options, *_ in FUNCTIONS]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("kind", "options", "x", "expected"), FUNCTIONS, ids=NAMES)
def test_values_and_gradient(kind, options, x, expected, in_place):
    if in_place and kind == "AbsVal":
        refuses("AbsVal Layer does not allow in-place computation", 'type: "AbsVal"', (2, 3), in_place=True)
        return
    rig = check_gradient(f'type: "{kind}" {options}', x, in_place=in_place)
    np.testing.assert_allclose(rig.top[0].data, expected, rtol=2e-5, atol=1e-6)


def test_every_one_of_them_is_here():
    from caffe.layer_types import pointwise
    from caffe.registry import layer_class, layer_type_list

    module = pointwise.__name__
    types = {name for name in layer_type_list() if layer_class(name, "").__module__ == module}
    assert types == {kind for kind, *_ in FUNCTIONS} | {"Threshold"}


@pytest.mark.parametrize("kind", ["Log", "Sigmoid", "BNLL", "PReLU"])
def test_gradient_in_place_under_a_held_array(kind):
    """The forward then writes into that array, and must not spoil what the gradient needs."""
    apart, together = Rig(f'type: "{kind}"', POSITIVE), Rig(f'type: "{kind}"', POSITIVE, in_place=True)
    held = together.bottom[0].data
    assert np.array_equal(together.forward()[0], apart.forward()[0])
    assert np.array_equal(held, apart.top[0].data)
    assert np.array_equal(together.backward(3)[0], apart.backward(3)[0])


@pytest.mark.parametrize(
    ("kind", "options", "x", "slopes"),
    [
        ("AbsVal", "", [-2, 0, 3], [-1, 0, 1]),
        ("Clip", "clip_param { min: -1 max: 2 }", [-2, -1, 0, 2, 3], [0, 1, 1, 1, 0]),
        ("ELU", "elu_param { alpha: 0.5 }", [0, 1], [0.5, 1]),
        ("BNLL", "", [-200, 0, 60, 1000], [0, 0.5, 1, 1]),
        ("Power", "power_param { power: 3 }", [0, 1], [0, 3]),  # Caffe divides 0 by 0
    ],
)
def test_gradient_at_the_edges(kind, options, x, slopes):
    rig = Rig(f'type: "{kind}" {options}', x)
    rig.forward()
    assert rig.backward(1)[0].tolist() == slopes


def test_large_values_stay_finite():
    x = np.float32([-1000, -200, 90, 1000])
    assert output('type: "BNLL"', x).tolist() == [0, 0, 90, 1000]
    np.testing.assert_allclose(output('type: "BNLL"', [6, 16]), np.log1p(np.exp([6, 16])), rtol=1e-7)
    assert output('type: "Sigmoid"', x).tolist()[::3] == [0, 1]
    assert output('type: "Swish"', x).tolist()[::3] == [0, 1000]
    assert output('type: "ELU"', x).tolist() == [-1, -1, 90, 1000]


def test_power_of_a_negative_number_is_no_number():
    assert np.isnan(output('type: "Power" power_param { power: 0.5 }', [-1])).all()
    assert np.isinf(output('type: "Power" power_param { power: -1 scale: 0 }', [3])).all()


def test_a_constant_power_does_not_read_its_bottom():
    rig = Rig('type: "Power" power_param { scale: 0 shift: 2 power: 3 }', [np.nan, np.inf, 1])
    assert rig.forward()[0].tolist() == [8, 8, 8]
    assert rig.backward(1)[0].tolist() == [0, 0, 0]


def test_clip_with_crossed_limits_gives_the_lower_limit():
    assert output('type: "Clip" clip_param { min: 2 max: 1 }', [0, 1.5, 3]).tolist() == [2, 2, 2]


def test_any_number_of_axes():
    for shape in ((), (3,), (2, 1, 2, 1, 2)):
        assert output('type: "TanH"', noise(*shape)).shape == shape
    assert output('type: "Sigmoid"', np.zeros((2, 0))).shape == (2, 0)


@pytest.mark.parametrize("in_place", [False, True])
def test_threshold(in_place):
    rig = Rig('type: "Threshold" threshold_param { threshold: 0.5 }', [-1, 0.5, 0.6, 2], in_place=in_place)
    assert rig.forward()[0].tolist() == [0, 0, 1, 1]
    with pytest.raises(RuntimeError, match="Not Implemented Yet"):
        rig.backward(1)
    assert output('type: "Threshold"', [-1, 0, 1]).tolist() == [0, 0, 1]


@pytest.mark.parametrize("kind", ["Exp", "Log"])
def test_bases(kind):
    text = f'type: "{kind}" {kind.lower()}_param {{ base: %s }}'
    for base in (0, -2, -0.5, "nan"):
        refuses("base must be strictly positive.", text % base, (2,))
    refuses("Inf result: log(base)", text % "inf", (2,))
    if kind == "Log":
        refuses("Inf result: 1/log(base)", text % 1, (2,))


def test_clip_needs_its_limits():
    refuses("clip_param { min: ... max: ... }", 'type: "Clip"', (2,))


CHAIN = """
force_backward: true
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [2, 3] }} }} }}
layer {{ name: "f" type: "{kind}" bottom: "x" top: "y" {options} }}
layer {{ name: "relu" type: "ReLU" bottom: "y" top: "y" }}
"""


@pytest.mark.parametrize(("kind", "options", "x", "expected"), FUNCTIONS, ids=NAMES)
def test_relu_in_place_on_top_of_it(make_net, kind, options, x, expected):
    """ReLU overwrites the top only where this layer's gradient does not need it."""
    net = make_net(CHAIN.format(kind=kind, options=options))
    part, after = x[:, :, 0], np.maximum(expected[:, :, 0], 0)
    net.blobs["x"].data[...] = part
    net.forward()
    np.testing.assert_allclose(net.blobs["y"].data, after, rtol=2e-5, atol=1e-6)
    net.blobs["y"].diff[...] = 1
    net.backward()
    alone = Rig(f'type: "{kind}" {options}', part)
    alone.forward()
    slope = alone.backward((after > 0).astype(np.float32))[0]
    np.testing.assert_allclose(net.blobs["x"].diff, slope, rtol=1e-6, atol=1e-7)


# -- PReLU, which learns --------------------------------------------------------------------------


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 2, 2), (2, 3, 1, 2, 2)])
@pytest.mark.parametrize("shared", ["true", "false"])
def test_prelu(shape, shared, in_place):
    x = spread(*shape)
    text = f'type: "PReLU" prelu_param {{ channel_shared: {shared} }}'
    rig = check_gradient(text, x, in_place=in_place)
    slope = rig.layer.blobs[0].data
    assert slope.shape == (() if shared == "true" else (3,))
    along = slope.reshape(-1, *[1] * (len(shape) - 2))
    np.testing.assert_allclose(rig.top[0].data, np.maximum(x, 0) + along * np.minimum(x, 0), rtol=1e-5)


def test_prelu_starts_with_a_quarter():
    assert output('type: "PReLU"', [[-4, 4]]).tolist() == [[-1, 4]]
    assert output('type: "PReLU" prelu_param { filler { value: 0.5 } }', [[-4, 4]]).tolist() == [[-2, 4]]


def test_prelu_at_0_has_the_slope_as_gradient():
    rig = Rig('type: "PReLU"', [[-1, 0, 2]])
    rig.forward()
    assert rig.backward(1)[0].tolist() == [[0.25, 0.25, 1]]
    assert rig.layer.blobs[0].diff.tolist() == [-1, 0, 0]


def test_prelu_in_place_in_a_net(make_net):
    net = make_net("""
    force_backward: true
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3] } } }
    layer { name: "y" type: "Scale" bottom: "x" top: "y" scale_param { filler { value: -1 } } }
    layer { name: "prelu" type: "PReLU" bottom: "y" top: "y" }
    layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }""")
    net.blobs["x"].data[...] = x = spread(2, 3)
    np.testing.assert_array_equal(net.forward()["y"], np.maximum(-x, 0))
    net.blobs["y"].diff[...] = 1
    net.backward()
    np.testing.assert_array_equal(net.blobs["x"].diff, np.where(x < 0, -1, 0))


def test_prelu_refusals():
    refuses("Number of axes of bottom blob must be >=2.", 'type: "PReLU"', (3,))
    rig = Rig('type: "PReLU"', noise(2, 3))
    rig.bottom[0].reshape(2, 4)
    with pytest.raises(RuntimeError, match="Negative slope size is inconsistent with prototxt config"):
        rig.forward()
    rig.bottom[0].reshape(6)
    with pytest.raises(RuntimeError, match="must be >=2"):
        rig.forward()
