"""ReLU and Dropout."""

import numpy as np
import pytest
from caffe import common
from caffe.layer import TensorLayer
from layer_check import TEST, TRAIN, Rig, check_gradient, noise, output, refuses, spread

RELU = 'type: "ReLU" relu_param { negative_slope: %s }'
DROPOUT = 'type: "Dropout" dropout_param { dropout_ratio: %s }'


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("slope", [0, 0.1, 1, -0.5])
def test_relu(slope, in_place):
    x = spread(2, 3, 4)
    expected = np.maximum(x, 0) + slope * np.minimum(x, 0)
    np.testing.assert_allclose(output(RELU % slope, x, in_place=in_place), expected, rtol=1e-6)
    check_gradient(RELU % slope, x, in_place=in_place)


@pytest.mark.parametrize("slope", [0, 0.25])
def test_relu_at_0_has_the_slope_as_gradient(slope):
    rig = Rig(RELU % slope, [-1, 0, 2])
    rig.forward()
    assert rig.backward(1)[0].tolist() == [slope, slope, 1]


def test_dropout_mask_is_caffes_bit_for_bit():
    common.set_random_seed(7)
    expected = np.float32([1.4285715, 1.4285715, 0, 1.4285715, 1.4285715, 0])
    assert output(DROPOUT % 0.3, np.ones(6)).tolist() == expected.tolist()


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("ratio", [0, 0.3, 0.5])
def test_dropout_gradient_uses_the_mask_of_its_forward(ratio, in_place):
    check_gradient(DROPOUT % ratio, spread(3, 4, 2), in_place=in_place)


def test_dropout_drops_about_its_share_and_keeps_the_mean():
    common.set_random_seed(0)
    top = output('type: "Dropout"', np.ones((100, 1000)))
    assert set(np.unique(top)) == {0, 2}
    assert abs((top == 0).mean() - 0.5) < 0.01


def test_dropout_draws_anew_each_forward():
    common.set_random_seed(0)
    rig = Rig('type: "Dropout"', np.ones(100))
    assert not np.array_equal(rig.forward()[0], rig.forward()[0])


@pytest.mark.parametrize("in_place", [False, True])
def test_dropout_in_testing_is_the_identity_and_draws_nothing(in_place):
    common.set_random_seed(0)
    before = common.random().get_state()[2]
    x = noise(2, 5)
    rig = check_gradient('type: "Dropout"', x, phase=TEST, in_place=in_place)
    common.set_random_seed(0)
    assert np.array_equal(rig.forward()[0], x)
    assert common.random().get_state()[2] == before


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_an_array_taken_before_the_forward_shows_the_values_after_it(phase):
    rig = Rig('type: "Dropout"', noise(4), phase=phase)
    view = rig.top[0].data
    (top,) = rig.forward()
    assert np.array_equal(view, top)


@pytest.mark.parametrize("ratio", [1, 1.5, -0.1])
def test_refusals(ratio):
    refuses("dropout_ratio must be at least 0 and less than 1", DROPOUT % ratio, (2, 3))


CHAIN = """
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [2, 3, 4, 5] }} }} }}
layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{
  num_output: 6 kernel_size: 3 weight_filler {{ type: "gaussian" std: 1 }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "y" top: "y" relu_param {{ negative_slope: {slope} }} }}
layer {{ name: "drop" type: "Dropout" bottom: "y" top: "y" }}
{more}
layer {{ name: "z" type: "Pooling" bottom: "y" top: "z" pooling_param {{ kernel_size: 2 }} }}
"""
SCALE = 'layer { name: "scale" type: "Scale" bottom: "y" top: "y" scale_param { filler { value: -2 } } }'


def _run(net, overwrite):
    for layer in net.layers:
        if isinstance(layer, TensorLayer) and not overwrite:
            layer.in_place = False
    common.set_random_seed(3)
    net.blobs["x"].data[...] = noise(2, 3, 4, 5)
    for name in ("y", "z"):
        net.blobs[name].reshape(*net.blobs[name].shape)
    net.forward()
    net.blobs["z"].diff[...] = np.arange(net.blobs["z"].count).reshape(net.blobs["z"].shape)
    net.backward()
    arrays = [array for blob in net.blobs.values() for array in (blob.data, blob.diff)]
    return [array.copy() for array in arrays + [blob.diff for blob in net.params["y"]]]


@pytest.mark.parametrize("slope", [0, 0.2])
@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_overwriting_equals_the_pure_layer(make_net, slope, phase):
    text = "force_backward: true\n" + CHAIN.format(slope=slope, more="")
    common.set_random_seed(1)
    net = make_net(text, phase)
    assert net.layer_dict["relu"].in_place and net.layer_dict["drop"].in_place
    overwritten = _run(net, True)
    net.clear_param_diffs()
    for a, b in zip(overwritten, _run(net, False), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("slope, more", [(-0.5, ""), (0, SCALE)], ids=["sign lost", "overwritten later"])
def test_no_overwriting_of_what_a_gradient_reads(make_net, slope, more):
    net = make_net("force_backward: true\n" + CHAIN.format(slope=slope, more=more), TRAIN)
    assert not any(layer.in_place for layer in net.layers if isinstance(layer, TensorLayer))
