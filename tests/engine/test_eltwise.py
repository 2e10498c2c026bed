"""Eltwise: SUM, PROD, MAX."""

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, output, refuses, spread

TEXT = 'type: "Eltwise" eltwise_param { %s }'


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("in_place", [False, True])
def test_sum(count, in_place):
    bottoms = [noise(2, 3, 2, seed=i) for i in range(count)]
    np.testing.assert_allclose(
        output('type: "Eltwise"', *bottoms, in_place=in_place), sum(bottoms), rtol=1e-5, atol=1e-6
    )
    check_gradient(TEXT % "operation: SUM", *bottoms)


@pytest.mark.parametrize("coefficients", [(2, -0.5), (1, -1), (0, 3, 1)])
def test_weighted_sum(coefficients):
    bottoms = [noise(2, 3, seed=i) for i in range(len(coefficients))]
    text = TEXT % " ".join(f"coeff: {c}" for c in coefficients)
    expected = sum(c * bottom for c, bottom in zip(coefficients, bottoms, strict=True))
    np.testing.assert_allclose(output(text, *bottoms), expected, rtol=1e-5, atol=1e-6)
    check_gradient(text, *bottoms)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("stable", ["true", "false"])
def test_product(count, stable):
    bottoms = [noise(2, 3, seed=i) for i in range(count)]
    text = TEXT % f"operation: PROD stable_prod_grad: {stable}"
    np.testing.assert_allclose(output(text, *bottoms), np.prod(bottoms, axis=0), rtol=1e-5)
    check_gradient(text, *bottoms)


def test_product_with_a_zero_has_the_others_as_gradient():
    rig = Rig(TEXT % "operation: PROD", [0.0, 2], [3.0, 4])
    rig.forward()
    assert [diff.tolist() for diff in rig.backward(1)] == [[3, 4], [0, 2]]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_maximum(count):
    values = spread(count, 3, 4)
    np.testing.assert_array_equal(output(TEXT % "operation: MAX", *values), values.max(0))
    check_gradient(TEXT % "operation: MAX", *values)


def test_of_equal_values_the_second_wins():
    rig = Rig(TEXT % "operation: MAX", [1.0, 5, 1], [1.0, 1, 5], [1.0, 5, 5])
    assert rig.forward()[0].tolist() == [1, 5, 5]
    assert [diff.tolist() for diff in rig.backward(1)] == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]


def test_a_gradient_for_one_bottom_only():
    check_gradient('type: "Eltwise"', noise(2, 3), noise(2, 3, seed=1), propagate=[False, True])


def test_tops_of_one_gradient_do_not_share_memory():
    """Both bottoms of a sum get the same diff; a write into one must not change the other."""
    rig = Rig('type: "Eltwise"', noise(3), noise(3, seed=1))
    rig.forward()
    rig.backward(1)
    rig.bottom[0].diff[...] = 9
    assert rig.bottom[1].diff.tolist() == [1, 1, 1] and rig.top[0].diff.tolist() == [1, 1, 1]


def test_refusals():
    refuses(
        "Eltwise Layer takes one coefficient per bottom blob. 1 given, 2 bottoms",
        TEXT % "coeff: 1",
        (2,),
        (2,),
    )
    text = TEXT % "operation: PROD coeff: 1 coeff: 2"
    refuses("Eltwise layer only takes coefficients for summation.", text, (2,), (2,))
    refuses(
        "bottom[0]: 1x21x34x34, bottom[1]: 1x21x44x44", 'type: "Eltwise"', (1, 21, 34, 34), (1, 21, 44, 44)
    )
