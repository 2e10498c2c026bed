"""A net as one function: the same numbers as layer by layer, and nothing that anybody could miss."""

import weakref

import caffe
import numpy as np
import pytest
from caffe import whole

DEPLOY = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3, 12, 10] } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param {
  num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up" convolution_param {
  num_output: 8 kernel_size: 4 stride: 2 weight_filler { type: "bilinear" } } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "x" top: "crop" crop_param { offset: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "crop" bottom: "conv" bottom: "conv" top: "sum" }
layer { name: "same" type: "Concat" bottom: "sum" top: "same" }
"""
TRAIN = (
    DEPLOY.replace('type: "Input" top: "x" input_param { shape { dim: [2, 3, 12, 10] } }', "DATA")
    + """
layer { name: "score" type: "InnerProduct" bottom: "same" top: "score"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.02 } } }
layer { name: "label" type: "DummyData" top: "label" dummy_data_param {
  shape { dim: 2 } data_filler { type: "uniform" min: 0 max: 4 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_weight: 0.7 }
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" }
layer { name: "more" type: "InnerProduct" bottom: "conv" top: "more" param { name: "shared" } propagate_down: false
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "again" type: "InnerProduct" bottom: "conv" top: "again" param { name: "shared" }
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "fixed" type: "Convolution" bottom: "conv" top: "fixed" param { lr_mult: 0 }
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "power" type: "Pooling" bottom: "fixed" top: "power" pooling_param { global_pooling: true pool: AVE }
  loss_weight: 0.01 }
layer { name: "apart" type: "Eltwise" bottom: "more" bottom: "again" top: "apart" loss_weight: 0.001 }
"""
).replace(
    "DATA",
    'type: "DummyData" top: "x" dummy_data_param { shape { dim: [2, 3, 12, 10] } '
    'data_filler { type: "gaussian" std: 2 } }',
)


def agree(a, b):
    """Are the arrays equal to rounding? The whole way adds up in another order."""
    return a.shape == b.shape and np.abs(a - b).max(initial=0) <= 1e-5 * max(1, np.abs(b).max(initial=0))


def values(seed=0):
    return np.random.RandomState(seed).standard_normal((2, 3, 12, 10)).astype(np.float32)


@pytest.fixture
def nets(make_net):
    """Two equal nets; the second always runs layer by layer."""
    one, two = make_net(DEPLOY), make_net(DEPLOY)
    two.share_with(one)
    two.keeps_values = True
    for net in (one, two):
        net.blobs["x"].data[...] = values()
    return one, two


def held(net):
    """The bytes that a net's blobs hold."""
    memories = {id(blob._data): blob._data for blob in net.blobs.values()}
    return sum(memory._host.nbytes for memory in memories.values() if memory._host is not None)


def test_outputs_agree_and_inner_values_take_no_space(nets):
    one, two = nets
    assert agree(one.forward()["same"], two.forward()["same"])
    assert not one.keeps_values
    assert held(one) < held(two) / 2


def test_an_output_that_somebody_holds_is_filled_and_takes_no_other_way(nets):
    one, two = nets
    held_output = one.forward()["same"]
    for seed in (1, 2):
        for net in nets:
            net.blobs["x"].data[...] = values(seed)
        out = one.forward()["same"]
        assert agree(held_output, two.forward()["same"]) and agree(out, held_output)
    assert not one.keeps_values and held(one) < held(two) / 2


def test_inner_values_are_there_when_read_whatever_was_written_since(nets):
    one, two = nets
    one.forward(), two.forward()
    one.blobs["x"].data[...] = 7
    for name in two.blobs:
        if two.blobs[name]._data is not two.blobs["x"]._data:
            assert agree(one.blobs[name].data, two.blobs[name].data), name
    assert (one.blobs["x"].data == 7).all()
    assert one.keeps_values


def test_inner_values_of_another_size_than_the_input_has_now(nets):
    one, two = nets
    one.forward(), two.forward()
    one.blobs["x"].reshape(1, 3, 5, 6)
    one.blobs["x"].data[...] = 1
    assert agree(one.blobs["conv"].data, two.blobs["conv"].data)
    assert one.blobs["x"].data.shape == (1, 3, 5, 6)
    one.forward()
    assert one.blobs["conv"].data.shape == (1, 8, 5, 6)


def test_changing_a_parameter_does_not_change_what_was_computed_before(nets):
    one, two = nets
    one.forward(), two.forward()
    expected = two.blobs["conv"].data.copy()
    one.params["conv"][0].data[...] = 0
    assert agree(one.blobs["conv"].data, expected)


def test_values_that_can_no_longer_be_computed_are_refused(nets, tmp_path):
    one, _ = nets
    path = str(tmp_path / "x.caffemodel")
    one.save(path)
    one.forward()
    one.copy_from(path)
    for _ in range(2):
        with pytest.raises(caffe.CaffeError, match=r"forward\(blobs="):
            _ = one.blobs["pool"].data
    assert one.params["conv"][0].data.any()  # parameters can always be read
    one.forward()
    assert one.blobs["pool"].data.any()


def test_blobs_asked_for_are_kept(nets):
    one, two = nets
    ours, theirs = one.forward(blobs=["conv", "pool"]), two.forward(blobs=["conv", "pool"])
    assert set(ours) == {"conv", "pool", "same"}
    assert all(agree(ours[name], theirs[name]) for name in ours)
    assert agree(one.blobs["conv"].data, two.blobs["conv"].data)
    assert not one.keeps_values


def test_an_array_taken_before_shows_the_new_values(nets):
    one, two = nets
    view = one.blobs["pool"].data
    one.forward(), two.forward()
    assert agree(view, two.blobs["pool"].data) and view.any()


def test_a_parameter_in_somebodys_hands_is_seen(nets):
    one, two = nets
    weight = one.params["conv"][0].data
    one.forward(), two.forward()
    expected = two.blobs["conv"].data.copy()
    weight[...] = 0
    assert agree(one.blobs["conv"].data, expected)


def test_a_net_that_nobody_uses_goes_at_once(make_net, monkeypatch):
    net = make_net(DEPLOY)
    net.forward()
    gone, runs = weakref.ref(net), []
    monkeypatch.setattr(caffe.Net, "_forward", lambda *args: runs.append(1))
    del net
    assert gone() is None and runs == []


@pytest.mark.parametrize("hold", [lambda net: net.blobs["conv"], lambda net: net.blobs], ids=["one", "all"])
def test_blobs_outlive_their_net(nets, make_net, hold):
    one, two = nets
    two.forward()
    net = make_net(DEPLOY)
    net.share_with(one)
    net.blobs["x"].data[...] = values()
    net.forward()
    held_blobs, gone = hold(net), weakref.ref(net)
    del net
    assert gone() is None
    blob = held_blobs if isinstance(held_blobs, caffe.Blob) else held_blobs["conv"]
    assert agree(blob.data, two.blobs["conv"].data)


def test_a_part_of_the_net_run_after_the_whole(nets):
    one, two = nets
    one.forward(), two.forward()
    for net in nets:
        net.forward(start="pool", end="up")
    assert agree(one.blobs["up"].data, two.blobs["up"].data)


def test_hooks_see_every_layer(nets):
    one, _ = nets
    seen = []
    one.after_forward(lambda i: seen.append(one.blobs["conv"].data.sum()))
    one.forward()
    assert len(seen) == len(one.layers)


def test_random_and_stateful_nets_keep_everything(make_net):
    net = make_net(TRAIN, caffe.TRAIN)
    net.forward()
    assert net.keeps_values


@pytest.mark.parametrize("more", ["", "iter_size: 3", "clip_gradients: 0.5"])
def test_a_solver_step_agrees_bit_for_bit(make_solver, more, monkeypatch):
    text = f'random_seed: 3 base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.01 {more}'
    calls = []
    step = whole.step
    monkeypatch.setattr(whole, "step", lambda *args: calls.append(1) or step(*args))
    one = make_solver(TRAIN, text)
    one.step(6)
    passes = 5 * 3 + 2 if "iter_size" in more else 5
    assert len(calls) == passes, "all but the last"
    two = make_solver(TRAIN, text)
    two.add_callback(lambda: None, lambda: None)  # which may look: layer by layer
    two.step(6)
    assert len(calls) == passes
    for name in one.net.params:
        for a, b in zip(one.net.params[name], two.net.params[name], strict=True):
            assert agree(a.data, b.data) and agree(a.diff, b.diff), name
    for name in one.net.blobs:
        assert agree(one.net.blobs[name].data, two.net.blobs[name].data), name
        assert agree(one.net.blobs[name].diff, two.net.blobs[name].diff), name


def test_a_callback_sees_every_iteration(make_solver):
    solver = make_solver(TRAIN, 'base_lr: 0.01 lr_policy: "fixed"')
    seen = []
    solver.add_callback(lambda: None, lambda: seen.append(solver.net.blobs["conv"].diff.any()))
    solver.step(3)
    assert seen == [True] * 3


def test_gradients_that_caffe_refuses_are_refused_whole_too(make_solver):
    text = TRAIN.replace(
        'bottom: "label" top: "loss"', 'bottom: "label" top: "loss" propagate_down: [true, true]'
    )
    with pytest.raises(caffe.CaffeError, match="cannot backpropagate to label inputs"):
        make_solver(text, 'base_lr: 0.01 lr_policy: "fixed"').step(3)


def test_testing_gives_the_same_means(make_solver, tmp_path, monkeypatch):
    (tmp_path / "test.prototxt").write_text(TRAIN)
    text = f'test_net: "{tmp_path}/test.prototxt" test_iter: 4 test_interval: 10 base_lr: 0.01 lr_policy: "fixed"'
    solver = make_solver(TRAIN, text)
    net, means = solver.test_nets[0], []
    monkeypatch.setattr(solver, "_log_outputs", lambda net, kind, values: means.append(values))
    for _ in range(2):
        caffe.set_random_seed(8)
        solver.test_all()
        net.after_forward(lambda i: None)  # the second time layer by layer
    whole_means, layer_means = means
    assert set(whole_means) == {"accuracy", "apart", "loss", "power"}
    assert all(agree(whole_means[name], layer_means[name]) for name in whole_means)
