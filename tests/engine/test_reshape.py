"""Flatten, Reshape, Tile, BatchReindex and Filter against NumPy."""

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, output, outputs, refuses

FLATTEN = 'type: "Flatten" flatten_param { %s }'
RESHAPE = 'type: "Reshape" reshape_param { %s }'
TILE = 'type: "Tile" tile_param { %s }'
X = noise(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ("", (2, 60)),
        ("axis: 2", (2, 3, 20)),
        ("axis: 0", (120,)),
        ("axis: 0 end_axis: 1", (6, 4, 5)),
        ("axis: -3 end_axis: -2", (2, 12, 5)),
        ("axis: 1 end_axis: 1", (2, 3, 4, 5)),
        ("axis: 2 end_axis: 1", (2, 3, 1, 4, 5)),
    ],
)
def test_flatten(fields, shape):
    np.testing.assert_array_equal(output(FLATTEN % fields, X), X.reshape(shape))
    check_gradient(FLATTEN % fields, X)


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ("shape { dim: 0 dim: -1 }", (2, 60)),
        ("shape { dim: 0 dim: 0 dim: 10 dim: 2 }", (2, 3, 10, 2)),
        ("shape { dim: -1 dim: 8 }", (15, 8)),
        ("shape { dim: 5 dim: 4 } axis: 2", (2, 3, 5, 4)),
        ("shape { dim: -1 } axis: 1 num_axes: 2", (2, 12, 5)),
        ("shape { dim: 2 dim: 6 } axis: 1 num_axes: 2", (2, 2, 6, 5)),
        ("shape { dim: 1 } axis: 1 num_axes: 0", (2, 1, 3, 4, 5)),
        ("shape { dim: 1 dim: 1 } axis: -1 num_axes: 0", (2, 3, 4, 5, 1, 1)),
        ("shape { dim: -1 } axis: -3", (2, 3, 20)),
        ("shape { dim: 0 dim: 4 dim: 5 } axis: 1 num_axes: 3", (2, 3, 4, 5)),
        ("shape { dim: -1 dim: 1 } axis: -1 num_axes: 0", (2, 3, 4, 5, 1, 1)),
    ],
)
def test_reshape(fields, shape):
    np.testing.assert_array_equal(output(RESHAPE % fields, X), X.reshape(shape))
    check_gradient(RESHAPE % fields, X)


def test_reshape_of_a_scalar_to_one_axis_and_back():
    assert output(RESHAPE % "shape { dim: 1 }", np.float32(3)).tolist() == [3]
    assert output(RESHAPE % "", [3]).shape == ()


@pytest.mark.parametrize("text", ['type: "Flatten"', RESHAPE % "shape { dim: 0 dim: -1 }"])
def test_the_memory_is_the_bottoms(text):
    rig = Rig(text, X)
    rig.forward()
    rig.bottom[0].data[1, 2, 3, 4] = 42
    rig.top[0].diff[0, 0] = 43
    assert rig.top[0].data[1, 59] == 42 and rig.bottom[0].diff[0, 0, 0, 0] == 43
    rig.bottom[0].reshape(3, 4, 5, 6)  # a larger one: new memory
    rig.bottom[0].data[...] = noise(3, 4, 5, 6)
    np.testing.assert_array_equal(rig.forward()[0], rig.bottom[0].data.reshape(3, 120))
    rig.top[0].diff[...] = noise(3, 120)
    np.testing.assert_array_equal(rig.bottom[0].diff.reshape(3, 120), rig.top[0].diff)


@pytest.mark.parametrize("kind", ["Flatten", "Reshape"])
def test_gradient_through_a_net(make_net, kind):
    options = "reshape_param { shape { dim: 0 dim: -1 } }" if kind == "Reshape" else ""
    net = make_net(f"""
    force_backward: true
    layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [2, 3, 2] }} }} }}
    layer {{ name: "s" type: "Sigmoid" bottom: "x" top: "s" }}
    layer {{ name: "f" type: "{kind}" bottom: "s" top: "f" {options} }}
    layer {{ name: "relu" type: "Power" bottom: "f" top: "f" power_param {{ power: 2 }} }}
    layer {{ name: "t" type: "TanH" bottom: "f" top: "t" }}""")
    net.blobs["x"].data[...] = x = noise(2, 3, 2)
    sigmoid = 1 / (1 + np.exp(-x))
    top = np.tanh(sigmoid**2)
    np.testing.assert_allclose(net.forward()["t"], top.reshape(2, 6), rtol=1e-5)
    net.blobs["t"].diff[...] = 1
    net.backward()
    slope = (1 - top**2) * 2 * sigmoid * sigmoid * (1 - sigmoid)
    np.testing.assert_allclose(net.blobs["x"].diff, slope, rtol=1e-4)
    np.testing.assert_array_equal(net.blobs["s"].data.ravel(), net.blobs["f"].data.ravel())  # as in Caffe


def test_flatten_refusals():
    refuses("Flatten Layer does not allow in-place computation", 'type: "Flatten"', (2, 3), in_place=True)
    refuses("axis 3 lies behind end_axis 1", FLATTEN % "axis: 3 end_axis: 1", (2, 3, 4, 5))
    refuses("axis 4 out of range for 4-D Blob", FLATTEN % "axis: 4", (2, 3, 4, 5))
    refuses("axis 4 out of range for 4-D Blob", FLATTEN % "end_axis: 4", (2, 3, 4, 5))


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("new shape contains multiple -1 dims", "shape { dim: -1 dim: -1 }"),
        ("-1 (inferred), 0 (copied) or positive", "shape { dim: 2 dim: -2 }"),
        ("axis 4 out of range for 3-D input blob", "axis: 4"),
        ("axis -5 out of range", "axis: -5"),
        ("num_axes must be >= 0, or -1 for all; got -2", "num_axes: -2"),
        ("end_axis = axis + num_axes is out of range", "axis: 2 num_axes: 2"),
        (
            "new shape contains a 0, but there was no corresponding bottom axis to copy",
            "shape { dim: 0 } axis: 3",
        ),
        (
            "bottom count (24) must be divisible by the product of the specified dimensions (5)",
            "shape { dim: 5 dim: -1 }",
        ),
        ("output count must match input count", "shape { dim: 5 dim: 5 }"),
        (
            "output count must match input count",
            "shape { dim: 9223372036854775807 dim: 9223372036854775807 }",
        ),
    ],
)
def test_reshape_refusals(message, fields):
    refuses(message, RESHAPE % fields, (2, 3, 4))


def test_reshape_refuses_to_infer_an_axis_of_an_empty_blob():
    refuses(
        "divisible by the product of the specified dimensions (0)",
        RESHAPE % "shape { dim: 0 dim: -1 }",
        (0, 3),
    )


def test_reshape_does_not_work_in_place():
    refuses("Reshape Layer does not allow in-place computation", 'type: "Reshape"', (2, 3), in_place=True)


@pytest.mark.parametrize(
    ("fields", "times"),
    [
        ("tiles: 3", (1, 3, 1)),
        ("axis: 0 tiles: 2", (2, 1, 1)),
        ("axis: -1 tiles: 4", (1, 1, 4)),
        ("tiles: 1", 1),
    ],
)
def test_tile(fields, times):
    x = noise(2, 3, 2)
    np.testing.assert_array_equal(output(TILE % fields, x), np.tile(x, times))
    check_gradient(TILE % fields, x)


def test_tile_refusals():
    refuses("Number of tiles must be specified.", 'type: "Tile"', (2, 3))
    refuses("Number of tiles must be positive.", TILE % "tiles: 0", (2, 3))
    refuses("Number of tiles must be positive. It is -2", TILE % "tiles: -2", (2, 3))
    refuses("axis 2 out of range for 2-D Blob", TILE % "axis: 2 tiles: 2", (2, 3))


# -- BatchReindex ---------------------------------------------------------------------------------

REINDEX = 'type: "BatchReindex"'


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 1, 3)])
@pytest.mark.parametrize("index", [[3, 0, 0, 2, 3.9], [1], [0, 1, 2, 3], []])
def test_batch_reindex(shape, index):
    x, rows = noise(*shape), np.array(index).astype(int)
    np.testing.assert_array_equal(output(REINDEX, x, index), x[rows])
    check_gradient(REINDEX, x, np.float32(index), propagate=[True, False])


def test_batch_reindex_refusals():
    for index in (-1, -0.5, np.nan):
        with pytest.raises(RuntimeError, match="Index specified for reindex layer was negative"):
            output(REINDEX, noise(3, 2), [0, index])
    with pytest.raises(RuntimeError, match=r"was greater than batch size. bottom\[1\] holds 3, .* 3 items"):
        output(REINDEX, noise(3, 2), [3, 0])
    refuses("bottom[1] one axis of indices; they are 3x2 and 2x1", REINDEX, (3, 2), (2, 1))
    refuses("they are () and 2", REINDEX, (), (2,))
    rig = Rig(REINDEX, noise(3, 2), [1, 2])
    rig.forward()
    with pytest.raises(RuntimeError, match="Cannot backprop to index"):
        rig.backward(1)


# -- Filter -----------------------------------------------------------------------------------------

FILTER = 'type: "Filter"'


@pytest.mark.parametrize("shape", [(5,), (5, 1, 1)])
@pytest.mark.parametrize("selector", [[1, 0, -2, 0, 0.5], [0, 0, 0, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
def test_filter(selector, shape):
    x, z = noise(5, 3, 2), noise(5, seed=1)
    selector = np.float32(selector)
    chosen = selector != 0
    tops = outputs(FILTER, x, z, selector.reshape(shape), tops=2)
    for top, expected in zip(tops, (x[chosen], z[chosen]), strict=True):
        np.testing.assert_array_equal(top, expected)
    check_gradient(FILTER, x, z, selector.reshape(shape), tops=2, propagate=[True, True, False])


def test_filter_first_has_all_items(make_net):
    net = make_net("""
    force_backward: true
    layer { name: "x" type: "Input" top: "x" top: "keep"
      input_param { shape { dim: [4, 3] } shape { dim: 4 } } }
    layer { name: "filter" type: "Filter" bottom: "x" bottom: "keep" top: "y" }
    layer { name: "sum" type: "Reduction" bottom: "y" top: "z" reduction_param { axis: 1 } }""")
    assert net.blobs["y"].shape == (4, 3) and net.blobs["z"].shape == (4,)
    x = noise(4, 3)
    for keep in ([0, 1, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]):
        net.blobs["x"].data[...] = x
        net.blobs["keep"].data[...] = keep
        chosen = np.array(keep, bool)
        np.testing.assert_allclose(net.forward()["z"], x[chosen].sum(1), rtol=1e-5, atol=1e-6)
        net.blobs["z"].diff[...] = 2
        net.backward()
        np.testing.assert_array_equal(net.blobs["x"].diff, np.where(chosen[:, None], 2, np.zeros((4, 3))))


def test_filter_in_a_deploy_net(make_net):
    """Without a gradient, where a net may keep no inner values."""
    net = make_net("""
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [4, 3] } } }
    layer { name: "keep" type: "Reduction" bottom: "x" top: "keep" reduction_param { axis: 1 } }
    layer { name: "positive" type: "ReLU" bottom: "keep" top: "keep" }
    layer { name: "filter" type: "Filter" bottom: "x" bottom: "keep" top: "y" }
    layer { name: "z" type: "AbsVal" bottom: "y" top: "z" }""")
    for seed in range(2):
        x = noise(4, 3, seed=seed)
        net.blobs["x"].data[...] = x
        np.testing.assert_array_equal(net.forward()["z"], np.abs(x[x.sum(1) > 0]))


def test_filter_refusals():
    refuses("Selector blob dimensions must be singletons (1), except the first.", FILTER, (4, 3), (4, 2))
    refuses("Selector blob dimensions must be singletons (1)", FILTER, (4, 3), ())
    refuses("Each bottom should have the same 0th dimension as the selector blob.", FILTER, (4, 3), (3,))
    refuses("bottom[1] is 3x3", FILTER, (4, 3), (3, 3), (4,), tops=2)
    rig = Rig(FILTER, noise(4, 3), np.ones(4))
    rig.forward()
    with pytest.raises(RuntimeError, match="cannot backpropagate to filter index inputs"):
        rig.backward(1)


def test_filter_has_a_top_for_each_bottom_but_the_selector(make_net):
    text = """layer { name: "x" type: "Input" top: "x" top: "keep" input_param { shape { dim: 4 } } }
    layer { name: "filter" type: "Filter" bottom: "x" bottom: "keep" top: "y" top: "z" }"""
    with pytest.raises(RuntimeError, match=r"Filter Layer produces 1 top blob\(s\) as output"):
        make_net(text)
