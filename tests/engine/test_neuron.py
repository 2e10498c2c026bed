"""ReLU and Dropout."""

import numpy as np
import pytest
from caffe import common
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
