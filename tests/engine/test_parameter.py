"""Parameter: a learnable blob as a top."""

import caffe
import numpy as np
import pytest
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from layer_check import Rig, noise

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } } '
PARAMETER = 'layer { name: "w" type: "Parameter" top: "w" %s parameter_param { shape { dim: 2 dim: 3 } } } '
PRODUCT = (
    'layer { name: "y" type: "Eltwise" bottom: "x" bottom: "w" top: "y" eltwise_param { operation: PROD } } '
)
LOSS = (
    'layer { name: "sum" type: "Scale" bottom: "y" top: "loss" loss_weight: 1 scale_param { axis: 0 num_axes: 0 \
filler { value: 1 } } param { lr_mult: 0 } } '
)


def net_text(more=""):
    return INPUT + PARAMETER % more + PRODUCT + LOSS


@pytest.mark.parametrize("shape", [(2, 3), (4,), (), (0, 2), (1, 2, 3, 4, 5)])
def test_a_blob_of_zeros(shape):
    dims = " ".join(f"dim: {size}" for size in shape)
    rig = Rig(f'type: "Parameter" parameter_param {{ shape {{ {dims} }} }}')
    assert [blob.shape for blob in rig.layer.blobs] == [shape]
    (top,) = rig.forward()
    assert top.shape == shape and not top.any()
    rig.layer.blobs[0].data[...] = 3
    assert (rig.forward()[0] == 3).all()


def test_without_a_shape_it_is_a_number():
    assert Rig('type: "Parameter"').forward()[0].shape == ()


def test_values_and_gradient_are_those_of_the_top(make_net):
    net = make_net(net_text(), caffe.TRAIN)
    net.blobs["x"].data[...] = noise(2, 3)
    net.params["w"][0].data[...] = noise(2, 3, seed=1)
    net.forward()
    assert np.shares_memory(net.blobs["w"].data, net.params["w"][0].data)
    np.testing.assert_array_equal(net.blobs["y"].data, noise(2, 3) * noise(2, 3, seed=1))
    net.backward()
    assert np.shares_memory(net.blobs["w"].diff, net.params["w"][0].diff)
    np.testing.assert_array_equal(net.params["w"][0].diff, noise(2, 3))


def test_the_gradient_is_overwritten_as_in_caffe(make_net):
    net = make_net(net_text(), caffe.TRAIN)
    for factor in (1, 2):
        net.blobs["x"].data[...] = factor
        net.forward(), net.backward()
    assert (net.params["w"][0].diff == 2).all()


def test_two_readers_are_summed(make_net):
    other = PRODUCT.replace('name: "y"', 'name: "z"').replace('top: "y"', 'top: "z"')
    sums = LOSS + LOSS.replace('"sum"', '"sum2"').replace('"y"', '"z"').replace('"loss"', '"loss2"')
    net = make_net(INPUT + PARAMETER % "" + PRODUCT + other + sums, caffe.TRAIN)
    net.blobs["x"].data[...] = noise(2, 3)
    net.forward(), net.backward()
    np.testing.assert_array_equal(net.params["w"][0].diff, 2 * noise(2, 3))


@pytest.mark.parametrize(("more", "moved"), [("", True), ("param { lr_mult: 0 }", False)])
def test_a_solver_learns_it(make_solver, more, moved):
    solver = make_solver(net_text(more), 'base_lr: 0.5 lr_policy: "fixed"')
    solver.net.blobs["x"].data[...] = noise(2, 3)
    solver.step(2)
    wanted = -2 * 0.5 * noise(2, 3) if moved else np.zeros((2, 3))
    np.testing.assert_allclose(solver.net.params["w"][0].data, wanted, rtol=1e-6)


def test_shared_by_name(make_net):
    second = (PARAMETER % 'param { name: "p" }').replace('"w"', '"v"')
    product = PRODUCT.replace('"x"', '"v"')
    net = make_net(PARAMETER % 'param { name: "p" }' + second + product + LOSS, caffe.TRAIN)
    net.params["w"][0].data[...] = 3
    net.forward()
    assert (net.blobs["y"].data == 9).all()


def test_weights_are_saved_and_loaded(make_net, tmp_path):
    net, other = make_net(net_text()), make_net(net_text())
    net.params["w"][0].data[...] = noise(2, 3)
    net.save(str(tmp_path / "w.caffemodel"))
    other.copy_from(str(tmp_path / "w.caffemodel"))
    other.blobs["x"].data[...] = 1
    other.forward()
    np.testing.assert_array_equal(other.blobs["y"].data, noise(2, 3))


def test_values_in_the_prototxt(make_net):
    blob = caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[2, 3]), data=range(6))
    net = make_net(net_text(f"blobs {{ {blob} }}"))
    net.forward()
    assert net.blobs["w"].data.ravel().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('layer { name: "w" type: "Parameter" bottom: "x" top: "w" }', "takes 0 bottom blob(s)"),
        ('layer { name: "w" type: "Parameter" top: "w" top: "v" }', "produces 1 top blob(s)"),
        (
            'layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: -2 dim: 3 } } }',
            "layer 'w' (Parameter): parameter_param { shape } of -2x3: a blob's sizes are at least 0",
        ),
        (
            'layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 65536 dim: 65536 } } }',
            "layer 'w' (Parameter): parameter_param { shape } of 65536x65536: blob size exceeds INT_MAX",
        ),
    ],
)
def test_refusals(make_net, text, message):
    with pytest.raises(CaffeError) as caught:
        make_net(INPUT + text)
    assert message in str(caught.value)
