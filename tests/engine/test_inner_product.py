"""InnerProduct against NumPy's matrix product."""

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, output, refuses

TEXT = 'type: "InnerProduct" inner_product_param { num_output: 4 %s }'


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("axis", "shape", "top", "inputs"),
    [
        (1, (3, 5), (3, 4), 5),
        (1, (2, 3, 2, 2), (2, 4), 12),
        (2, (2, 3, 5), (2, 3, 4), 5),
        (-1, (2, 3, 5), (2, 3, 4), 5),
        (0, (2, 3), (4,), 6),
    ],
)
def test_values_and_gradients(transpose, bias, axis, shape, top, inputs):
    fields = f"axis: {axis} transpose: {str(transpose).lower()} bias_term: {str(bias).lower()}"
    rig = check_gradient(TEXT % fields, noise(*shape))
    weight = rig.layer.blobs[0].data
    assert weight.shape == ((inputs, 4) if transpose else (4, inputs))
    assert [blob.shape for blob in rig.layer.blobs[1:]] == ([(4,)] if bias else [])
    expected = rig.bottom[0].data.reshape(-1, inputs) @ (weight if transpose else weight.T)
    expected = expected + (rig.layer.blobs[1].data if bias else 0)
    np.testing.assert_allclose(rig.top[0].data, expected.reshape(top), rtol=1e-4, atol=1e-5)


def test_fillers():
    fields = 'weight_filler { type: "constant" value: 2 } bias_filler { type: "constant" value: 1 }'
    assert output(TEXT % fields, np.ones((1, 3))).tolist() == [[7, 7, 7, 7]]
    assert (output(TEXT % "", np.ones((1, 3))) == 0).all()


def test_the_batch_may_change_but_not_the_inputs():
    rig = Rig(TEXT % "", np.zeros((2, 3, 2)))
    rig.bottom[0].reshape(5, 2, 3)
    assert rig.forward()[0].shape == (5, 4)
    rig.bottom[0].reshape(5, 7)
    with pytest.raises(RuntimeError, match="Input size incompatible with inner product parameters"):
        rig.forward()


def test_refusals():
    refuses("num_output must be greater than 0", 'type: "InnerProduct"', (2, 3))
    refuses("axis 2 out of range for 2-D Blob with shape 2x3", TEXT % "axis: 2", (2, 3))
    refuses("Unknown filler name: none", TEXT % 'weight_filler { type: "none" }', (2, 3))
