import math

import numpy as np
import pytest
from caffe import common, fillers
from caffe.blob import Blob
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from google.protobuf import text_format


def filled(text, *shape, seed=1):
    """A blob's data after the filler of this prototxt text."""
    common.set_random_seed(seed)
    blob = Blob()
    blob.reshape(*shape)
    fillers.fill(blob, text_format.Parse(text, caffe_pb2.FillerParameter()))
    assert blob.data.dtype == np.float32 and blob.data.shape == shape and blob.data.flags.writeable
    return blob.data


def test_xavier_equals_caffes_bit_for_bit():
    expected = [-0.16595602, 0.9943696, 0.44064903, 0.8651147, -0.99977124, -0.7437511]
    assert filled('type: "xavier"', 2, 3).ravel().tolist() == np.float32(expected).tolist()


def test_uniform_equals_caffes_bit_for_bit():
    expected = [3.6523938, 2.2121747, 4.124444, 4.519848, 2.8727143]
    assert filled('type: "uniform" min: 2 max: 5', 5, seed=3).tolist() == np.float32(expected).tolist()


def test_a_uniform_draw_that_rounds_up_to_the_end_is_drawn_again(monkeypatch):
    queue = [2**32 - 1, 0, 2**32 - 1, 2**31, 2**30]
    monkeypatch.setattr(
        fillers, "raw_draws", lambda count: np.array([queue.pop(0) for _ in range(count)], np.uint32)
    )
    assert fillers.uniform(0, 1, 3).tolist() == pytest.approx([0, 0.5, 0.25])
    assert queue == []


def test_equal_ends_give_that_value():
    assert (filled('type: "uniform" min: 3 max: 3', 50) == 3).all()


def test_blobs_filled_in_turn_continue_one_stream():
    common.set_random_seed(1)
    whole = fillers.uniform(0, 1, 7)
    common.set_random_seed(1)
    parts = [fillers.uniform(0, 1, 3), fillers.uniform(0, 1, 4)]
    assert np.array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize(
    ("norm", "n"), [("", 12), ("variance_norm: FAN_OUT", 18), ("variance_norm: AVERAGE", 15)]
)
def test_variance_norm(norm, n):
    """Shape (6, 4, 1, 3): 12 inputs, 18 outputs."""
    by_fan = filled(f'type: "xavier" {norm}', 6, 4, 1, 3)
    limit = math.sqrt(3 / n)
    expected = filled(f'type: "uniform" min: {-limit} max: {limit}', 6, 4, 1, 3)
    np.testing.assert_allclose(by_fan, expected, rtol=1e-5, atol=1e-6)
    deviation = filled(f'type: "msra" {norm}', 6, 4, 1, 3) / filled('type: "gaussian"', 6, 4, 1, 3)
    np.testing.assert_allclose(deviation, math.sqrt(2 / n), rtol=1e-5)


def test_a_vector_has_fan_in_1_and_its_count_as_fan_out():
    vector = filled('type: "xavier"', 100)
    assert math.sqrt(3) * 0.9 < np.abs(vector).max() <= math.sqrt(3)
    by_outputs = filled('type: "xavier" variance_norm: FAN_OUT', 100)
    np.testing.assert_allclose(by_outputs * 10, vector, rtol=1e-5)


def test_gaussian_has_its_mean_and_std():
    values = filled('type: "gaussian" mean: 3 std: 0.5', 100, 1000)
    assert abs(values.mean() - 3) < 0.01 and abs(values.std() - 0.5) < 0.005


def test_gaussian_leaves_no_half_used_pair_behind():
    """The generator's saved state holds no cached normal, so an odd count must not create one."""
    filled('type: "gaussian"', 3)
    assert common.random().get_state()[3] == 0


def test_gaussian_in_chunks_is_one_stream(monkeypatch):
    whole = filled('type: "gaussian"', 25)
    monkeypatch.setattr(fillers, "_CHUNK", 8)
    assert np.array_equal(filled('type: "gaussian"', 25), whole)


def test_sparse_gaussian_keeps_about_sparse_values_per_output():
    values = filled('type: "gaussian" sparse: 5', 50, 400)
    assert abs((values != 0).mean() - 5 / 50) < 0.01
    assert (filled('type: "gaussian" sparse: 0', 50, 4) == 0).all()
    assert (filled('type: "gaussian" sparse: 50', 50, 4) != 0).all()


def test_positive_unitball_rows_sum_to_1():
    values = filled('type: "positive_unitball"', 4, 3, 5)
    assert (values >= 0).all()
    np.testing.assert_allclose(values.reshape(4, -1).sum(1), 1, rtol=1e-5)
    draws = filled('type: "uniform"', 4, 15)
    np.testing.assert_allclose(values.reshape(4, -1), draws / draws.sum(1, keepdims=True), rtol=1e-5)


def test_bilinear():
    three = filled('type: "bilinear"', 2, 3, 3, 3)
    assert three[0, 0].tolist() == [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]
    assert (three == three[0, 0]).all()
    assert filled('type: "bilinear"', 1, 1, 4, 4)[0, 0, 0].tolist() == [0.0625, 0.1875, 0.1875, 0.0625]


@pytest.mark.parametrize("size", [1, 2, 5, 16, 63, 64])
def test_bilinear_is_a_tent_around_the_middle(size):
    """The textbook form of the kernel: (1 - |y - c| / f)(1 - |x - c| / f) around c."""
    f = (size + 1) // 2
    middle = f - 1 if size % 2 else f - 0.5
    ramp = 1 - np.abs(np.arange(size) - middle) / f
    np.testing.assert_allclose(
        filled('type: "bilinear"', 1, 1, size, size)[0, 0], np.outer(ramp, ramp), atol=1e-6
    )


def test_constant():
    assert (filled('type: "constant" value: 2.5', 2, 3) == 2.5).all()
    assert (filled("", 2, 3) == 0).all()  # constant 0 is the default
    assert filled('type: "constant" value: 4').tolist() == 4  # a scalar


def test_constant_0_costs_fresh_memory_nothing_and_clears_used_memory():
    blob = Blob(1000, 1000, 500)  # 2 GB if it were touched
    fillers.fill(blob, caffe_pb2.FillerParameter())
    assert blob._data.is_zero
    used = Blob(3)
    used.data[...] = 9
    fillers.fill(used, caffe_pb2.FillerParameter())
    assert used.data.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ('type: "bilnear"', (1, 1, 2, 2), "Unknown filler name: bilnear"),
        ('type: "xavier" sparse: 3', (2, 2), "Sparsity not supported by this Filler."),
        ('type: "gaussian" std: 0', (2, 2), "sigma > 0"),
        ('type: "gaussian" std: -1', (2, 2), "sigma > 0"),
        ('type: "gaussian" sparse: 3', (2, 2), "sparse: 3 exceeds"),
        ('type: "uniform" min: 2 max: 1', (2, 2), "min 2, max 1"),
        ('type: "bilinear"', (2, 4, 4), "Blob must be 4 dim."),
        ('type: "bilinear"', (1, 1, 4, 5), "Filter must be square"),
        ('type: "xavier"', (), "no first axis"),
        ('type: "positive_unitball"', (), "no first axis"),
    ],
)
def test_refusals(text, shape, message):
    with pytest.raises(CaffeError, match=message):
        filled(text, *shape)


def test_bernoulli_of_1_is_always_true(monkeypatch):
    """Caffe compares with <=, and the largest draws round up to the very bound."""
    monkeypatch.setattr(fillers, "raw_draws", lambda count: np.full(count, 2**32 - 1, np.uint32))
    assert fillers.bernoulli(1, 3).all() and not fillers.bernoulli(0.99, 3).any()
