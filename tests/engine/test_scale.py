"""Scale and Bias against NumPy's broadcasting."""

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, output, refuses

TEXT = 'type: "Scale" scale_param { %s }'


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("fields", "factors", "broadcast"),
    [
        ("", (3,), (3, 1, 1)),
        ("axis: 0", (2,), (2, 1, 1, 1)),
        ("axis: 2 num_axes: 2", (4, 2), (4, 2)),
        ("axis: 1 num_axes: -1", (3, 4, 2), (3, 4, 2)),
        ("axis: -1", (2,), (2,)),
        ("num_axes: 0", (), ()),
        ("axis: 0 num_axes: -1", (2, 3, 4, 2), (2, 3, 4, 2)),
    ],
)
def test_learned_factors(bias, in_place, fields, factors, broadcast):
    x = noise(2, 3, 4, 2)
    rig = check_gradient(TEXT % f"{fields} bias_term: {str(bias).lower()}", x, in_place=in_place)
    blobs = [blob.data for blob in rig.layer.blobs]
    assert [blob.shape for blob in blobs] == [factors] * (1 + bias)
    expected = x * blobs[0].reshape(broadcast) + (blobs[1].reshape(broadcast) if bias else 0)
    np.testing.assert_allclose(rig.top[0].data, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("axis", "factors", "broadcast"),
    [
        (1, (3,), (3, 1)),
        (0, (2, 3), (2, 3, 1)),
        (0, (2, 3, 4), (2, 3, 4)),
        (-1, (4,), (4,)),
        (1, (), ()),
        (9, (), ()),  # a scalar goes with any axis
    ],
)
def test_factors_from_a_second_bottom(bias, axis, factors, broadcast):
    x, y = noise(2, 3, 4), noise(*factors, seed=1)
    rig = check_gradient(TEXT % f"axis: {axis} bias_term: {str(bias).lower()}", x, y)
    blobs = [blob.data for blob in rig.layer.blobs]
    assert [blob.shape for blob in blobs] == [factors] * bias
    expected = x * y.reshape(broadcast) + (blobs[0].reshape(broadcast) if bias else 0)
    np.testing.assert_allclose(rig.top[0].data, expected, rtol=1e-5, atol=1e-6)


def test_fillers():
    """Factors start at 1, the bias at 0."""
    x = noise(2, 3)
    np.testing.assert_array_equal(output(TEXT % "bias_term: true", x), x)
    fields = 'filler { type: "constant" value: 2 } bias_term: true bias_filler { type: "constant" value: 5 }'
    np.testing.assert_allclose(output(TEXT % fields, x), 2 * x + 5, rtol=1e-6)
    assert (output(TEXT % "filler { }", x) == 0).all()  # a filler's own default is constant 0


def test_refusals():
    refuses(
        "scale blob's shape extends past bottom[0]'s shape when applied starting with bottom[0] axis 1",
        TEXT % "num_axes: 3",
        (2, 3, 4),
    )
    refuses("scale blob's shape extends past bottom[0]'s shape", 'type: "Scale"', (2, 3), (3, 4))
    message = "dimension mismatch between bottom[0]->shape(1) and scale->shape(0): 3 vs. 4"
    refuses(message, 'type: "Scale"', (2, 3), (4,))
    refuses(
        "num_axes must be non-negative, or -1 to extend to the end; got -2", TEXT % "num_axes: -2", (2, 3)
    )
    refuses("axis 2 out of range for 2-D Blob", TEXT % "axis: 2", (2, 3))


def test_the_channels_are_fixed():
    rig = Rig('type: "Scale"', noise(2, 3, 4))
    rig.bottom[0].reshape(1, 3, 7)
    assert rig.forward()[0].shape == (1, 3, 7)
    rig.bottom[0].reshape(1, 4, 7)
    with pytest.raises(RuntimeError, match="dimension mismatch"):
        rig.forward()


BIAS = 'type: "Bias" bias_param { %s }'


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("fields", "terms", "broadcast"),
    [
        ("", (3,), (3, 1, 1)),
        ("axis: 0", (2,), (2, 1, 1, 1)),
        ("axis: 2 num_axes: 2", (4, 2), (4, 2)),
        ("num_axes: -1", (3, 4, 2), (3, 4, 2)),
        ("axis: -1", (2,), (2,)),
        ("num_axes: 0", (), ()),
    ],
)
def test_learned_terms(in_place, fields, terms, broadcast):
    x = noise(2, 3, 4, 2)
    rig = check_gradient(BIAS % fields, x, in_place=in_place)
    (blob,) = rig.layer.blobs
    assert blob.shape == terms
    np.testing.assert_allclose(rig.top[0].data, x + blob.data.reshape(broadcast), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("axis", "terms", "broadcast"), [(1, (3,), (3, 1)), (0, (2, 3), (2, 3, 1)), (-1, (4,), (4,)), (9, (), ())]
)
def test_terms_from_a_second_bottom(axis, terms, broadcast):
    x, y = noise(2, 3, 4), noise(*terms, seed=1)
    rig = check_gradient(BIAS % f"axis: {axis}", x, y)
    assert len(rig.layer.blobs) == 0
    np.testing.assert_allclose(rig.top[0].data, x + y.reshape(broadcast), rtol=1e-5, atol=1e-6)


def test_bias_starts_at_0():
    x = noise(2, 3)
    np.testing.assert_array_equal(output('type: "Bias"', x), x)
    np.testing.assert_allclose(output(BIAS % "filler { value: 2 }", x), x + 2, rtol=1e-6)


def test_bias_refusals():
    text = "bias blob's shape extends past bottom[0]'s shape when applied starting with bottom[0] axis 1"
    refuses(text, BIAS % "num_axes: 3", (2, 3, 4))
    refuses(text, 'type: "Bias"', (2, 3), (3, 4))
    refuses(
        "dimension mismatch between bottom[0]->shape(1) and bias->shape(0): 3 vs. 4",
        'type: "Bias"',
        (2, 3),
        (4,),
    )
    refuses("num_axes must be non-negative, or -1", BIAS % "num_axes: -2", (2, 3))
