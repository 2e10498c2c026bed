"""Input and DummyData."""

import numpy as np
import pytest
from caffe import common
from layer_check import Rig, refuses

INPUT = 'type: "Input" input_param { %s }'
DUMMY = 'type: "DummyData" dummy_data_param { %s }'


def test_input_shapes():
    assert Rig(INPUT % "shape { dim: 2 dim: 3 }").top[0].shape == (2, 3)
    rig = Rig(INPUT % "shape { dim: 2 dim: 3 }", tops=2)
    assert [blob.shape for blob in rig.top] == [(2, 3), (2, 3)]
    rig = Rig(INPUT % "shape { dim: 2 } shape { }", tops=2)
    assert [blob.shape for blob in rig.top] == [(2,), ()]


def test_input_without_a_shape_waits_for_one():
    rig = Rig('type: "Input"')
    with pytest.raises(RuntimeError, match="no shape yet"):
        rig.top[0].data  # noqa: B018
    rig.top[0].reshape(4)
    assert rig.forward()[0].shape == (4,)


def test_input_keeps_what_the_user_wrote():
    rig = Rig(INPUT % "shape { dim: 2 }")
    rig.top[0].reshape(3)
    rig.top[0].data[...] = [1, 2, 3]
    assert rig.forward()[0].tolist() == [1, 2, 3]
    rig.backward(1)


def test_input_refusals():
    text = INPUT % "shape { dim: 1 } shape { dim: 2 }"
    refuses("Must specify 'shape' once, once per top blob, or not at all: 3 tops vs. 2 shapes.", text, tops=3)


def test_dummy_data_shapes():
    assert Rig(DUMMY % "shape { dim: 2 dim: 3 }").top[0].shape == (2, 3)
    rig = Rig(DUMMY % "shape { dim: 2 } shape { dim: 3 }", tops=2)
    assert [blob.shape for blob in rig.top] == [(2,), (3,)]
    rig = Rig(DUMMY % "num: 2 num: 3 channels: 4 height: 5 width: 6", tops=2)
    assert [blob.shape for blob in rig.top] == [(2, 4, 5, 6), (3, 4, 5, 6)]


def test_constants_are_filled_once():
    rig = Rig(DUMMY % 'shape { dim: 2 } data_filler { type: "constant" value: 3 }', tops=2)
    assert rig.top[0].data.tolist() == rig.top[1].data.tolist() == [3, 3]  # at setup
    rig.top[0].data[0] = 5
    assert [top.tolist() for top in rig.forward()] == [[5, 3], [3, 3]]
    assert Rig(DUMMY % "shape { dim: 2 }").top[0].data.tolist() == [0, 0]


def test_others_are_filled_by_every_forward():
    common.set_random_seed(1)
    text = (
        DUMMY % 'shape { dim: 4 } data_filler { type: "constant" value: 3 } data_filler { type: "uniform" }'
    )
    rig = Rig(text, tops=2)
    assert rig.top[1].data.tolist() == [0] * 4
    first, second = rig.forward()[1], rig.forward()[1]
    assert not np.array_equal(first, second)
    common.set_random_seed(1)
    assert np.array_equal(rig.forward()[1], first)
    assert rig.top[0].data.tolist() == [3] * 4
    rig.backward(1, 1)


@pytest.mark.parametrize(
    ("fields", "tops", "message"),
    [
        (
            "shape { dim: 1 } data_filler { } data_filler { }",
            3,
            "Number of data fillers must be 0, 1 or equal to the number of tops: 3; you specified 2 data fillers.",
        ),
        ("shape { dim: 1 } num: 1", 1, "Both shape and legacy fields were specified"),
        (
            "shape { dim: 1 } shape { dim: 1 }",
            3,
            "Must specify 'shape' once, or once per top blob: 3 tops, 2 shapes",
        ),
        (
            "num: 1 channels: 1 height: 1",
            1,
            "Must specify 'shape' or 'width' once, or once per top blob: 1 tops, 0 width",
        ),
        ("", 1, "Must specify 'shape' or 'num' once"),
        ('shape { dim: 1 } data_filler { type: "x" }', 1, "Unknown filler name: x"),
    ],
)
def test_dummy_data_refusals(fields, tops, message):
    refuses(message, DUMMY % fields, tops=tops)
