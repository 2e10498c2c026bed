"""BatchNorm and MVN against NumPy, and which of BatchNorm's blobs learn."""

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from layer_check import TEST, TRAIN, Rig, check_gradient, noise, output, refuses

BATCH_NORM = 'type: "BatchNorm" batch_norm_param { %s }'
SHAPES = [(4, 3), (4, 3, 2), (2, 3, 2, 3), (2, 3, 1, 2, 2)]


def along(values, shape):
    """One value a channel, ready to be broadcast over ``shape``."""
    return np.reshape(values, (-1, *[1] * (len(shape) - 2)))


def moments(x):
    axes = tuple(i for i in range(x.ndim) if i != 1)
    return x.mean(axes, dtype=np.float64), x.var(axes, dtype=np.float64)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_statistics(shape, in_place):
    x = 3 * noise(*shape) + 1
    rig = check_gradient(BATCH_NORM % "eps: 0.01", x, in_place=in_place)
    mean, variance = moments(x)
    expected = (x - along(mean, shape)) / np.sqrt(along(variance, shape) + 0.01)
    np.testing.assert_allclose(rig.top[0].data, expected, rtol=1e-5, atol=1e-5)
    assert [blob.shape for blob in rig.layer.blobs] == [(3,), (3,), (1,)]


def test_the_default_eps():
    x = noise(4, 2)
    mean, variance = moments(x)
    np.testing.assert_allclose(
        output('type: "BatchNorm"', x), (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5
    )


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_every_forward_with_batch_statistics_adds_to_the_blobs(phase):
    rig = Rig(
        BATCH_NORM % "use_global_stats: false moving_average_fraction: 0.75", noise(2, 3, 4), phase=phase
    )
    assert [blob.data.any() for blob in rig.layer.blobs] == [False] * 3
    held = rig.layer.blobs[0].data
    sums = np.zeros(3), np.zeros(3), 0
    for seed in range(3):
        x = noise(2, 3, 4, seed=seed)
        rig.bottom[0].data[...] = x
        rig.forward()
        mean, variance = moments(x)
        sums = [0.75 * sums[0] + mean, 0.75 * sums[1] + variance * 8 / 7, 0.75 * sums[2] + 1]
        for blob, expected in zip(rig.layer.blobs, sums, strict=True):
            np.testing.assert_allclose(blob.data, np.reshape(expected, blob.shape), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(held, rig.layer.blobs[0].data)


def test_the_default_fraction():
    rig = Rig('type: "BatchNorm"', noise(4, 2))
    rig.forward()
    rig.forward()
    assert rig.layer.blobs[2].data[0] == pytest.approx(1.999, rel=1e-6)


def test_one_value_a_channel():
    """The values less themselves; and no variance to keep."""
    rig = Rig('type: "BatchNorm"', np.float32([[[2]], [[-5]], [[7]]]).reshape(1, 3, 1))
    np.testing.assert_allclose(rig.forward()[0], np.zeros((1, 3, 1)), atol=1e-3)
    assert rig.layer.blobs[0].data.tolist() == [2, -5, 7]
    assert rig.layer.blobs[1].data.tolist() == [0, 0, 0]
    assert (rig.backward(1)[0] == 0).all()


STORED = [1, -2, 0.5], [2, 1, 4], [2.5]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("phase", "fields"), [(TEST, ""), (TRAIN, "use_global_stats: true")], ids=["testing", "training"]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_stored_statistics(shape, phase, fields, in_place):
    x = noise(*shape)
    rig = Rig(BATCH_NORM % f"{fields} eps: 0.25", x, phase=phase, in_place=in_place)
    for blob, values in zip(rig.layer.blobs, STORED, strict=True):
        blob.data[...] = values
    deviation = along(np.sqrt(np.divide(STORED[1], 2.5) + 0.25), shape)
    expected = (x - along(np.divide(STORED[0], 2.5), shape)) / deviation
    np.testing.assert_allclose(rig.forward()[0], expected, rtol=1e-5, atol=1e-6)
    diff = noise(*shape, seed=1)
    np.testing.assert_allclose(rig.backward(diff)[0], diff / deviation, rtol=1e-5)
    for blob, values in zip(rig.layer.blobs, STORED, strict=True):
        assert blob.data.tolist() == values and not blob.diff.any()


def test_a_fresh_layer_in_testing_divides_by_the_root_of_eps():
    np.testing.assert_allclose(
        output(BATCH_NORM % "eps: 0.25", np.ones((2, 3)), phase=TEST), np.full((2, 3), 2), rtol=1e-6
    )


def test_batch_norm_refusals():
    refuses("axis 1 out of range for 1-D Blob", 'type: "BatchNorm"', (4,))
    message = "Cannot configure batch normalization statistics as layer parameters."
    refuses(message, 'type: "BatchNorm" param { lr_mult: 0 } param { lr_mult: 1 }', (2, 3))
    refuses(message, 'type: "BatchNorm" param { name: "mean" }', (2, 3))
    rig = Rig('type: "BatchNorm"', noise(2, 3))
    rig.bottom[0].reshape(3, 2)
    with pytest.raises(RuntimeError, match="the statistics are of 3 channels"):
        rig.forward()


NET = """
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [4, 3, 2] }} }} }}
layer {{ name: "norm" type: "BatchNorm" bottom: "x" top: "y" {param} }}
layer {{ name: "sum" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1
  reduction_param {{ operation: SUMSQ }} }}
"""


@pytest.mark.parametrize("param", ["", "param { lr_mult: 2 } param { decay_mult: 3 } param { lr_mult: 1 }"])
def test_the_blobs_do_not_learn(make_solver, param):
    """Whether the net leaves out their params or, as an old one, has all three of them, of any kind."""
    solver = make_solver(NET.format(param=param), "base_lr: 1 lr_policy: 'fixed' weight_decay: 0.5")
    solver.net.blobs["x"].data[...] = x = noise(4, 3, 2)
    solver.step(1)
    mean, variance = moments(x)
    for blob, expected in zip(solver.net.params["norm"], (mean, variance * 8 / 7, 1), strict=True):
        np.testing.assert_allclose(blob.data, np.reshape(expected, blob.shape), rtol=1e-5, atol=1e-6)
        assert not blob.diff.any()


def test_a_net_says_that_they_do_not_learn(make_net, tmp_path):
    net = make_net(NET.format(param=""), caffe.TRAIN)
    net.save(str(tmp_path / "saved.caffemodel"))
    saved = caffe_pb2.NetParameter.FromString((tmp_path / "saved.caffemodel").read_bytes())
    assert [spec.lr_mult for spec in saved.layer[1].param] == [0, 0, 0]


@pytest.mark.parametrize(("param", "counts"), [("", True), (" ".join(["param { lr_mult: 0 }"] * 3), False)])
def test_whether_it_counts_as_learning(make_net, param, counts):
    """Caffe's rule: a layer without ``param`` does, though nothing in it learns."""
    net = make_net(NET.format(param=param), caffe.TRAIN)
    net.blobs["x"].data[...] = noise(4, 3, 2)
    net.forward()
    net.backward()
    assert net.blobs["y"].diff.any() == counts
    assert not net.blobs["x"].diff.any()


def test_in_training_a_net_without_gradients_still_adds_to_the_blobs(make_net):
    net = make_net(NET.format(param="batch_norm_param { use_global_stats: false }"), caffe.TEST)
    for count in (1, 2):
        net.forward()
        assert net.params["norm"][2].data[0] == pytest.approx(1 if count == 1 else 1.999)


def test_between_a_layer_and_others_in_place(make_net):
    """Convolution, BatchNorm, Scale and ReLU on one blob give what they give on four."""
    kinds = (("BatchNorm", ""), ("Scale", "scale_param { bias_term: true }"), ("ReLU", ""))
    grads = []
    for names in ("cccc", "cdef"):
        text = (
            'force_backward: true layer { name: "x" type: "Input" top: "x" '
            "input_param { shape { dim: [2, 3, 4, 4] } } } "
            'layer { name: "conv" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 4 '
            'kernel_size: 2 bias_term: false weight_filler { type: "xavier" } } }'
        )
        for (kind, options), bottom, top in zip(kinds, names, names[1:], strict=False):
            text += f'layer {{ name: "{kind}" type: "{kind}" bottom: "{bottom}" top: "{top}" {options} }}'
        caffe.set_random_seed(1)
        net = make_net(text, caffe.TRAIN)
        net.blobs["x"].data[...] = noise(2, 3, 4, 4)
        net.forward()
        net.blobs[names[-1]].diff[...] = noise(2, 4, 3, 3, seed=2)
        net.backward()
        grads.append([net.blobs["x"].diff.copy(), *(blob.diff.copy() for blob in net.params["conv"])])
    for a, b in zip(*grads, strict=True):
        assert a.any() and np.array_equal(a, b)


# -- MVN --------------------------------------------------------------------------------------------

MVN = 'type: "MVN" mvn_param { %s }'


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("variance", [True, False])
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 4, 2), (2, 3, 4)])
def test_mvn(shape, across, variance, in_place):
    x = noise(*shape)
    fields = f"across_channels: {str(across).lower()} normalize_variance: {str(variance).lower()}"
    rig = check_gradient(MVN % fields, x, in_place=in_place)
    axes = (1, 2, 3) if across else (2, 3)
    x = x.reshape(*shape, *[1] * (4 - len(shape)))
    expected = x - x.mean(axes, keepdims=True)
    if variance:
        expected = expected / x.std(axes, keepdims=True)
    assert rig.top[0].shape == x.shape
    np.testing.assert_allclose(rig.top[0].data, expected, rtol=1e-5, atol=1e-6)


def test_mvn_eps_is_added_to_the_deviation():
    x, diff = noise(2, 3, 2, 3), noise(2, 3, 2, 3, seed=1)
    rig = Rig(MVN % "eps: 0.5", x)
    divisor = x.std((2, 3), keepdims=True) + 0.5
    y = (x - x.mean((2, 3), keepdims=True)) / divisor
    np.testing.assert_allclose(rig.forward()[0], y, rtol=1e-5, atol=1e-6)
    # Caffe's gradient, which is exact for eps 0
    mean, slope = (each.mean((2, 3), keepdims=True) for each in (diff, diff * y))
    np.testing.assert_allclose(
        rig.backward(diff)[0], (diff - mean - slope * y) / divisor, rtol=1e-4, atol=1e-6
    )


def test_mvn_of_a_constant_plane_is_0_and_differentiable():
    rig = Rig(MVN % "eps: 0.5", np.full((1, 1, 2, 2), 3))
    assert not rig.forward()[0].any()
    np.testing.assert_allclose(rig.backward([[[[1, -1], [0, 0]]]])[0], [[[[2, -2], [0, 0]]]])


def test_mvn_refuses_five_axes():
    refuses("Cannot use legacy accessors on Blobs with > 4 axes.", 'type: "MVN"', (1, 2, 1, 1, 1))
