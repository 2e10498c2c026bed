"""Reduction and ArgMax against NumPy."""

import numpy as np
import pytest
from layer_check import TEST, Rig, check_gradient, noise, output, refuses, spread

REDUCTION = 'type: "Reduction" reduction_param { %s }'
ARGMAX = 'type: "ArgMax" argmax_param { %s }'


@pytest.mark.parametrize(
    ("fields", "axis", "coeff"),
    [("", 0, 1), ("axis: 1", 1, 1), ("axis: -1 coeff: 2.5", 2, 2.5), ("axis: 1 coeff: -0.5", 1, -0.5)],
)
@pytest.mark.parametrize(
    ("operation", "function"),
    [
        ("SUM", lambda x: x.sum(-1)),
        ("ASUM", lambda x: np.abs(x).sum(-1)),
        ("SUMSQ", lambda x: np.square(x).sum(-1)),
        ("MEAN", lambda x: x.mean(-1)),
    ],
)
def test_reduction(operation, function, fields, axis, coeff):
    x = spread(2, 3, 4)
    rig = check_gradient(REDUCTION % f"operation: {operation} {fields}", x)
    expected = coeff * function(x.reshape(*x.shape[:axis], -1))
    assert rig.top[0].shape == x.shape[:axis]
    np.testing.assert_allclose(rig.top[0].data, expected, rtol=1e-5, atol=1e-5)


def test_reduction_sums_by_default():
    assert output('type: "Reduction"', [[1, 2], [3, 4]]) == 10


def test_the_gradient_of_an_absolute_value_is_0_at_0():
    rig = Rig(REDUCTION % "operation: ASUM coeff: 3", [-2, 0, 4])
    rig.forward()
    assert rig.backward(2)[0].tolist() == [-6, 0, 6]


def test_reduction_of_nothing():
    assert output('type: "Reduction"', np.zeros((0, 3))) == 0
    assert output(REDUCTION % "axis: 1", np.zeros((0, 3))).shape == (0,)


def test_reduction_refusals():
    refuses("axis 2 out of range for 2-D Blob", REDUCTION % "axis: 2", (2, 3))
    refuses("axis 0 out of range for 0-D Blob", 'type: "Reduction"', ())


# -- ArgMax -----------------------------------------------------------------------------------------


def largest(x, count):
    """Indices and values along the last axis: the larger value first, then the larger index."""
    order = np.array([sorted(range(len(row)), key=lambda i: (-row[i], -i))[:count] for row in x])
    return order, np.take_along_axis(x, order, 1)


@pytest.mark.parametrize("kind", ["distinct", "ties"])
@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 3, 2), (2, 3, 4, 2), (2, 1, 2, 2, 2)])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_argmax_over_each_item(kind, shape, count):
    x = spread(*shape) if kind == "distinct" else np.round(noise(*shape))
    rows = x.reshape(shape[0], -1)
    if count > rows.shape[1]:
        return
    indices, values = largest(rows, count)
    rest = (1,) * (len(shape) - 3)
    top = output(ARGMAX % f"top_k: {count}", x)
    np.testing.assert_array_equal(top, indices.reshape(shape[0], 1, count, *rest))
    top = output(ARGMAX % f"top_k: {count} out_max_val: true", x)
    np.testing.assert_array_equal(top, np.stack([indices, values], 1).reshape(shape[0], 2, count, *rest))


@pytest.mark.parametrize("kind", ["distinct", "ties"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("count", [1, 2])
def test_argmax_along_an_axis(kind, axis, count):
    x = spread(3, 4, 2) if kind == "distinct" else np.round(noise(3, 4, 2))
    rows = np.moveaxis(x, axis, -1)
    for field, expected in zip(
        ("", "out_max_val: true"), largest(rows.reshape(-1, rows.shape[-1]), count), strict=True
    ):
        expected = np.moveaxis(expected.reshape(*rows.shape[:-1], count), -1, axis)
        top = output(ARGMAX % f"axis: {axis} top_k: {count} {field}", x, phase=TEST)
        np.testing.assert_array_equal(top, expected)


def test_of_equal_values_the_last_is_larger():
    """The known case: [1, 3, 3, 2] gives 2, then 1."""
    x = np.float32([[1, 3, 3, 2]])
    assert output('type: "ArgMax"', x).ravel().tolist() == [2]
    assert output(ARGMAX % "top_k: 2", x).ravel().tolist() == [2, 1]
    assert output(ARGMAX % "top_k: 4 axis: 1", x).ravel().tolist() == [2, 1, 3, 0]


def test_argmax_has_no_gradient():
    rig = Rig('type: "ArgMax"', noise(2, 3))
    rig.forward()
    with pytest.raises(RuntimeError, match="Not Implemented Yet"):
        rig.backward(1)


def test_argmax_refusals():
    refuses("top k must not be less than 1.", ARGMAX % "top_k: 0", (2, 3))
    message = "top_k must be less than or equal to the dimension of the "
    refuses(message + "axis", ARGMAX % "axis: 1 top_k: 4", (2, 3))
    refuses(message + "flattened bottom blob per instance", ARGMAX % "top_k: 7", (2, 3, 2))
    refuses("axis 2 out of range for 2-D Blob", ARGMAX % "axis: 2", (2, 3))
    refuses("axis 0 out of range for 0-D Blob", 'type: "ArgMax"', ())
