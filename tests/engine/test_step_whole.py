"""Solver.step_whole: the weights of step(), and nothing wrong to be seen inside the net."""

import caffe
import numpy as np
import pytest
from caffe import whole

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: [2, 3, 12, 10] } shape { dim: [2, 2, 48, 46] }
  data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param {
  num_output: 6 kernel_size: 3 pad: 20 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
layer { name: "tanh" type: "TanH" bottom: "conv" top: "tanh" }
layer { name: "pool" type: "Pooling" bottom: "tanh" top: "pool" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "Convolution" bottom: "pool" top: "fc" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "smooth" type: "Sigmoid" bottom: "fc" top: "fc" }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "score" type: "Convolution" bottom: "fc" top: "score" convolution_param {
  num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "up" type: "Deconvolution" bottom: "score" top: "up" param { lr_mult: 0 } convolution_param {
  num_output: 2 kernel_size: 4 stride: 2 bias_term: false weight_filler { type: "bilinear" } } }
layer { name: "cut" type: "Crop" bottom: "y" bottom: "up" top: "cut" crop_param { offset: 0 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "up" bottom: "cut" top: "loss" loss_weight: 0.01 }
"""
SOLVER = 'random_seed: 5 base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.001\n'


def close(a, b, bound=1e-5):
    return a.shape == b.shape and np.abs(a - b).max() <= bound * max(np.abs(b).max(), 1e-6)


def states():
    return caffe.common.random_state()[0]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def assert_same_weights(one, other):
    for name, blobs in other.net.params.items():
        for number, (a, b) in enumerate(zip(one.net.params[name], blobs, strict=True)):
            assert close(a.data, b.data), (name, number)


def plain(solver):
    """The solver, made to run layer by layer by a callback that could look."""
    solver.add_callback(lambda: None, lambda: None)
    return solver


@pytest.mark.parametrize("more", ["", "iter_size: 3", "clip_gradients: 0.01", 'type: "Adam"'])
def test_the_weights_are_those_of_step(make_solver, more):
    one = make_solver(NET, SOLVER + more)
    start = one.net.params["conv"][0].data.copy()
    one.step_whole(3)
    one.step_whole(4)
    after_one = states()
    two = plain(make_solver(NET, SOLVER + more))
    two.step(7)
    assert same(after_one, states()), "as many random numbers were drawn"
    assert one.iter == 7
    assert_same_weights(one, two)
    assert not close(one.net.params["conv"][0].data, start, 1e-4)
    assert close(one.net.blobs["loss"].data, two.net.blobs["loss"].data)


def test_inner_blobs_read_before_the_update_are_right_and_reading_moves_no_random_number(make_solver):
    names = ["conv", "tanh", "pool", "fc", "score", "up", "x", "cut", "loss"]
    seen = {}

    def watched(kind):
        solver = make_solver(NET, SOLVER)

        def look():
            before = states()
            values = {name: solver.net.blobs[name].data.copy() for name in names}
            assert same(before, states())
            seen.setdefault(kind, []).append(values)

        solver.add_callback(lambda: None, look)
        return solver

    one = watched("whole")
    one.step_whole(3)
    two = watched("plain")
    two.step(3)
    assert len(seen["whole"]) == len(seen["plain"]) == 3
    for ours, theirs in zip(seen["whole"], seen["plain"], strict=True):
        for name in names:
            assert close(ours[name], theirs[name]), name
    assert (seen["plain"][0]["fc"] == 0).any(), "dropout drops"
    assert_same_weights(one, two)


def test_a_pass_of_a_minibatch_shows_its_last_part(make_solver):
    seen = []

    def watched():
        solver = make_solver(NET, SOLVER + "iter_size: 3")
        solver.add_callback(lambda: None, lambda: seen.append(solver.net.blobs["fc"].data.copy()))
        return solver

    watched().step_whole(1)
    watched().step(1)
    assert close(*seen)


def test_after_the_update_what_was_not_kept_is_refused(make_solver):
    solver = make_solver(NET, SOLVER)
    solver.step_whole(2, blobs=["score", "tanh"])
    for name in ("conv", "fc", "up"):
        with pytest.raises(caffe.CaffeError, match="parameters have changed"):
            _ = solver.net.blobs[name].data
    other = plain(make_solver(NET, SOLVER))
    other.step(2)
    for name in ("score", "tanh", "loss", "x"):
        assert close(solver.net.blobs[name].data, other.net.blobs[name].data), name
    solver.step_whole(1)
    with pytest.raises(caffe.CaffeError):
        _ = solver.net.blobs["score"].data


def test_a_name_that_does_not_exist_is_refused_before_anything_happens(make_solver):
    solver = make_solver(NET, SOLVER)
    before = solver.net.params["conv"][0].data.copy()
    with pytest.raises(KeyError, match="nothing"):
        solver.step_whole(2, blobs=["score", "nothing"])
    assert solver.iter == 0 and (solver.net.params["conv"][0].data == before).all()


def test_parameters_hold_their_gradients_when_they_are_ready(make_solver):
    seen = []

    def watched():
        solver = make_solver(NET, SOLVER)
        blobs = [blob for each in solver.net.params.values() for blob in each]
        solver.add_callback(lambda: None, lambda: seen.append([blob.diff.copy() for blob in blobs]))
        return solver

    watched().step_whole(2)
    watched().step(2)
    for ours, theirs in zip(seen[:2], seen[2:], strict=True):
        assert all(close(a, b, 1e-4) for a, b in zip(ours, theirs, strict=True))


def test_callbacks_come_in_order_once_an_iteration(make_solver):
    solver, calls = make_solver(NET, SOLVER), []
    solver.add_callback(
        lambda: calls.append(("start", solver.iter)), lambda: calls.append(("ready", solver.iter))
    )
    solver.step_whole(2)
    assert calls == [("start", 0), ("ready", 0), ("start", 1), ("ready", 1)]


def test_display_snapshots_and_tests_are_those_of_step(make_solver, lines, tmp_path):
    (tmp_path / "test.prototxt").write_text(NET)
    more = f'display: 2 snapshot: 2 test_net: "{tmp_path}/test.prototxt" test_iter: 2 test_interval: 2'
    logs, snapshots = [], []
    for run in ("step_whole", "step"):
        begin = len(lines())
        solver = make_solver(NET, SOLVER + more)
        getattr(solver, run)(4)
        shown = [line for line in lines()[begin:] if "loss" in line or "Testing" in line]
        logs.append([line.split("(")[0] for line in shown])
        path = f"{solver.proto.snapshot_prefix}_iter_4"
        other = make_solver(NET, SOLVER)
        other.restore(f"{path}.solverstate")
        snapshots.append(other)
    assert logs[0] == logs[1] and any("Testing" in line for line in logs[0])
    assert snapshots[0].iter == 4
    assert_same_weights(*snapshots)


def test_a_hook_that_watches_sees_every_layer(make_solver, monkeypatch):
    solver, seen = make_solver(NET, SOLVER), []
    solver.net.after_forward(lambda i: seen.append(solver.net.blobs["conv"].data.any()))
    monkeypatch.setattr(whole, "step", lambda *args: pytest.fail("nobody could have looked"))
    solver.step_whole(2)
    assert len(seen) == 2 * len(solver.net.layers)


def test_a_net_that_trained_whole_still_runs_forward_and_backward_by_hand(make_solver):
    solver = make_solver(NET, SOLVER)
    solver.step_whole(1)
    solver.net.clear_param_diffs()
    solver.net.forward()
    assert solver.net.blobs["fc"].data.any()
    solver.net.backward()
    assert solver.net.params["conv"][0].diff.any()
    assert solver.net.blobs["pool"].diff.any()


def test_step_after_step_whole_fills_every_blob(make_solver):
    one, two = make_solver(NET, SOLVER), None
    one.step_whole(2)
    one.step(2)
    two = plain(make_solver(NET, SOLVER))
    two.step(4)
    for name in ("conv", "fc", "up", "pool"):
        assert close(one.net.blobs[name].data, two.net.blobs[name].data), name
        assert close(one.net.blobs[name].diff, two.net.blobs[name].diff, 1e-4), name
    assert_same_weights(one, two)
