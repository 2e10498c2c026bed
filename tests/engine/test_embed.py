"""Embed against NumPy's indexing."""

import numpy as np
import pytest
from layer_check import Rig, check_gradient, output, refuses

TEXT = 'type: "Embed" embed_param { num_output: 3 input_dim: 5 %s }'


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "numbers",
    [[4, 0, 0, 2], [[1, 3], [3, 3]], 2, [1.9, 4.5, -0.5], []],
    ids=["1-D", "2-D", "0-D", "cut", "none"],
)
def test_rows(numbers, bias):
    rig = check_gradient(TEXT % f"bias_term: {str(bias).lower()}", np.float32(numbers), propagate=[False])
    blobs = [blob.data for blob in rig.layer.blobs]
    assert [blob.shape for blob in blobs] == [(5, 3), (3,)][: 1 + bias]
    expected = blobs[0][np.array(numbers).astype(int)] + (blobs[1] if bias else 0)
    np.testing.assert_allclose(rig.top[0].data, expected, rtol=1e-6)


def test_fillers():
    assert (output(TEXT % "", [1, 2]) == np.zeros((2, 3))).all()
    assert (output(TEXT % "weight_filler { value: 2 } bias_filler { value: 3 }", [1, 2]) == 5).all()


@pytest.mark.parametrize("number", [-1, 5, 1e9, np.nan])
def test_numbers_out_of_range(number):
    with pytest.raises(RuntimeError, match=r"'probe' .*1 values of bottom\[0\] are out of range, .* 0\.\.4"):
        output(TEXT % "", [0, number])


def test_no_gradient_for_the_numbers():
    rig = Rig(TEXT % "", [0, 1])
    rig.forward()
    with pytest.raises(RuntimeError, match="Can't backpropagate to EmbedLayer input"):
        rig.backward(1)


def test_forced_backward_leaves_the_numbers_out(make_net):
    """Caffe aborts here."""
    net = make_net("""
    force_backward: true
    layer { name: "n" type: "Input" top: "n" input_param { shape { dim: [2, 3] } } }
    layer { name: "embed" type: "Embed" bottom: "n" top: "y" embed_param { num_output: 4 input_dim: 2 } }""")
    net.blobs["n"].data[...] = [[0, 1, 1], [1, 0, 1]]
    net.forward()
    net.blobs["y"].diff[...] = 1
    net.backward()
    assert net.params["embed"][0].diff.tolist() == [[2] * 4, [4] * 4]
    assert net.params["embed"][1].diff.tolist() == [6] * 4


def test_refusals():
    refuses("EmbedLayer num_output must be positive.", 'type: "Embed" embed_param { input_dim: 5 }', (2,))
    refuses("EmbedLayer input_dim must be positive.", 'type: "Embed" embed_param { num_output: 5 }', (2,))
