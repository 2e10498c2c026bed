"""MemoryData: the arrays it takes, and those it does not."""

import numpy as np
import pytest
from caffe import common
from caffe.draws import draw_seed
from caffe.errors import CaffeError
from layer_check import TRAIN, Rig, refuses

TEXT = 'type: "MemoryData" memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }'


def arrays(count=6):
    return np.arange(count * 60, dtype=np.float32).reshape(count, 3, 4, 5), np.arange(count, dtype=np.float32)


def test_batches_round_and_round():
    rig = Rig(TEXT, tops=2)
    assert [blob.shape for blob in rig.top] == [(2, 3, 4, 5), (2,)]
    data, labels = arrays()
    rig.layer.set_arrays(data, labels)
    for first in (0, 2, 4, 0, 2):
        values, found = rig.forward()
        np.testing.assert_array_equal(values, data[first : first + 2])
        assert found.tolist() == [[[[first]]], [[[first + 1]]]]
    rig.layer.set_arrays(data[2:], labels[2:])  # from its beginning
    assert rig.forward()[1].ravel().tolist() == [2, 3]
    rig.backward(1, 1)


def test_labels_may_be_4d():
    rig = Rig(TEXT, tops=2)
    data, labels = arrays(2)
    rig.layer.set_arrays(data, labels.reshape(2, 1, 1, 1))
    assert rig.forward()[1].ravel().tolist() == [0, 1]


def test_arrays_are_kept_not_copied_and_not_written():
    rig = Rig(TEXT, tops=2)
    data, labels = arrays(2)
    rig.layer.set_arrays(data, labels)
    rig.forward()
    data[0], labels[1] = 7, 9
    values, found = rig.forward()
    assert (values[0] == 7).all() and found.ravel().tolist() == [0, 9]
    rig.top[0].data[...] = 1
    assert (data[0] == 7).all()
    data.flags.writeable = False
    rig.forward()


def test_forward_needs_arrays():
    with pytest.raises(CaffeError, match="MemoryDataLayer needs to be initialized by calling Reset"):
        Rig(TEXT, tops=2).forward()


DATA, LABELS = arrays()


@pytest.mark.parametrize(
    ("data", "labels", "words"),
    [
        (DATA.astype(float), LABELS, "data array must be float32"),
        (DATA[0], LABELS, "data array must be 4-d"),
        (DATA[:, ::-1], LABELS, "data array must be C contiguous"),
        (
            np.ascontiguousarray(DATA[:, :2]),
            LABELS,
            "data array has wrong number of channels: 2, the layer's is 3",
        ),
        (np.zeros((6, 3, 5, 5), np.float32), LABELS, "data array has wrong height"),
        (np.zeros((6, 3, 4, 4), np.float32), LABELS, "data array has wrong width"),
        (DATA.tolist(), LABELS, "data array must be a NumPy array, got list"),
        (DATA, LABELS.astype(int), "labels array must be float32"),
        (DATA, LABELS[:, None], "labels array must be 4-d"),
        (DATA, np.zeros((6, 2, 1, 1), np.float32), "labels array has wrong number of channels"),
        (DATA, LABELS[:4], "data and labels must have the same first dimension"),
        (DATA[:5], LABELS[:5], "first dimensions of input arrays must be a multiple of batch size"),
        (DATA[:0], LABELS[:0], "first dimensions of input arrays must be a multiple of batch size"),
    ],
)
def test_arrays_that_do_not_fit(data, labels, words):
    rig = Rig(TEXT, tops=2)
    rig.layer.set_arrays(DATA[2:4], LABELS[2:4])
    with pytest.raises(CaffeError, match="layer 'probe'.*" + words):
        rig.layer.set_arrays(data, labels)
    assert rig.forward()[1].ravel().tolist() == [2, 3]  # the old ones are still there


def test_refusals():
    words = "batch_size, channels, height, and width must be specified and positive in memory_data_param"
    refuses(words, TEXT.replace("width: 5", ""), tops=2)
    refuses(words, 'type: "MemoryData"', tops=2)
    refuses("blob size exceeds INT_MAX", TEXT.replace("channels: 3", "channels: 4000000000"), tops=2)
    refuses("nowhere", TEXT + 'transform_param { mean_file: "nowhere" }', tops=2)


def test_one_seed_is_drawn_where_a_transformer_would_need_it():
    common.set_random_seed(1)
    first, second = draw_seed(), draw_seed()
    for text, expected in ((TEXT, first), (TEXT + "transform_param { mirror: true }", second)):
        common.set_random_seed(1)
        Rig(text, tops=2, phase=TRAIN).layer.set_arrays(DATA, LABELS)
        assert draw_seed() == expected
