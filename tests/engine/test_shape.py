"""Concat, Slice, Split, Silence."""

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, output, outputs, refuses

CONCAT = 'type: "Concat" concat_param { %s }'
SLICE = 'type: "Slice" slice_param { %s }'


@pytest.mark.parametrize(
    ("fields", "axis", "shapes"),
    [
        ("", 1, [(2, 3, 2), (2, 1, 2)]),
        ("axis: 0", 0, [(2, 3), (1, 3), (4, 3)]),
        ("axis: -1", 2, [(2, 3, 2), (2, 3, 4)]),
        ("concat_dim: 2", 2, [(2, 3, 2), (2, 3, 1)]),
        ("", 1, [(2, 3)]),
    ],
)
def test_concat(fields, axis, shapes):
    bottoms = [noise(*shape, seed=i) for i, shape in enumerate(shapes)]
    np.testing.assert_array_equal(output(CONCAT % fields, *bottoms), np.concatenate(bottoms, axis))
    check_gradient(CONCAT % fields, *bottoms)


def test_concat_of_one_is_that_blob():
    rig = Rig('type: "Concat"', noise(2, 3))
    rig.forward()
    rig.bottom[0].data[0, 0] = 42
    rig.top[0].diff[0, 0] = 43
    assert rig.top[0].data[0, 0] == 42 and rig.bottom[0].diff[0, 0] == 43


@pytest.mark.parametrize(
    ("fields", "axis", "points", "shape", "tops"),
    [
        ("", 1, [2], (2, 4, 2), 2),
        ("", 1, [1, 2], (2, 3), 3),
        ("axis: 0 slice_point: 1 slice_point: 3", 0, [1, 3], (4, 2), 3),
        ("axis: -1 slice_point: 3", 2, [3], (2, 2, 4), 2),
        ("slice_dim: 0", 0, [2], (4, 2), 2),
        ("slice_point: 3", 1, [3], (2, 3), 2),  # the last one is empty
        ("", 1, [], (2, 3), 1),
    ],
)
def test_slice(fields, axis, points, shape, tops):
    x = noise(*shape)
    for top, part in zip(outputs(SLICE % fields, x, tops=tops), np.split(x, points, axis), strict=True):
        np.testing.assert_array_equal(top, part)
    check_gradient(SLICE % fields, x, tops=tops)


def test_slice_into_one_is_the_blob():
    rig = Rig('type: "Slice"', noise(2, 3))
    rig.forward()
    rig.bottom[0].data[0, 0] = 42
    assert rig.top[0].data[0, 0] == 42


@pytest.mark.parametrize("tops", [1, 2, 3, 4])
def test_split(tops):
    x = noise(2, 3)
    for top in outputs('type: "Split"', x, tops=tops):
        np.testing.assert_array_equal(top, x)
    check_gradient('type: "Split"', x, tops=tops)


def test_split_tops_share_the_bottoms_memory():
    rig = Rig('type: "Split"', noise(2, 3), tops=2)
    rig.forward()
    assert np.shares_memory(rig.bottom[0].data, rig.top[1].data)
    rig.top[0].data[1, 2] = 42
    assert rig.bottom[0].data[1, 2] == rig.top[1].data[1, 2] == 42
    rig.bottom[0].reshape(4, 5)  # grows: new memory, shared again
    rig.forward()
    rig.bottom[0].data[...] = 3
    assert rig.top[1].shape == (4, 5) and (rig.top[1].data == 3).all()


def test_split_diffs_do_not_share_memory():
    rig = Rig('type: "Split"', noise(2), tops=2)
    rig.forward()
    assert rig.backward(1, 10)[0].tolist() == [11, 11]
    assert rig.top[0].diff.tolist() == [1, 1] and rig.top[1].diff.tolist() == [10, 10]


def test_split_writes_no_diff_that_nobody_wants():
    rig = Rig('type: "Split"', noise(2), tops=2, propagate=[False])
    rig.forward()
    rig.bottom[0].diff[...] = 7
    assert rig.backward(1, 10)[0].tolist() == [7, 7]


def test_silence_has_no_gradient():
    rig = Rig('type: "Silence"', noise(2), noise(3), tops=0)
    assert rig.forward() == []
    rig.bottom[0].diff[...] = 7
    assert [diff.tolist() for diff in rig.backward()] == [[0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("text", "shapes", "tops", "message"),
    [
        (CONCAT % "", [(2, 3), (2, 3, 1)], 1, "All inputs must have the same #axes."),
        (CONCAT % "", [(2, 3), (1, 3)], 1, "All inputs must have the same shape, except at concat_axis."),
        (CONCAT % "axis: 2", [(2, 3)], 1, "axis 2 out of range for 2-D Blob"),
        (
            CONCAT % "axis: 1 concat_dim: 1",
            [(2, 3)],
            1,
            "Either axis or concat_dim should be specified; not both.",
        ),
        (CONCAT % "concat_dim: 5", [(2, 3)], 1, "concat_dim out of range."),
        (SLICE % "", [(2, 3)], 2, "Number of top blobs (2) should evenly divide input slice axis (3)"),
        (SLICE % "slice_point: 1", [(2, 3)], 3, "3 tops need 2 slice_point entries, 1 given (1)"),
        (
            SLICE % "slice_point: 2 slice_point: 2",
            [(2, 3)],
            3,
            "slice_point entries must be strictly increasing",
        ),
        (SLICE % "slice_point: 0", [(2, 3)], 2, "slice_point entries must be strictly increasing"),
        (SLICE % "slice_point: 4", [(2, 3)], 2, "at most the size of axis 1, 3; got 4"),
        (
            SLICE % "axis: 1 slice_dim: 1",
            [(2, 4)],
            2,
            "Either axis or slice_dim should be specified; not both.",
        ),
    ],
)
def test_refusals(text, shapes, tops, message):
    refuses(message, text, *shapes, tops=tops)
