"""Solvers: update rules and policies against Caffe's own numbers, the step loop, snapshots."""

import json
import logging

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2

# one learnable number w = 1 (facts: update rules applied to given gradients)
ONE = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "loss" loss_weight: 1
  inner_product_param { num_output: 1 bias_term: false weight_filler { type: "constant" value: 1 } } }
"""
BASE = 'base_lr: 0.1 lr_policy: "fixed" weight_decay: 0.01 '

RULES = [
    ('type: "SGD" momentum: 0.9', [0.949, 0.927151, 0.8065598]),
    ('type: "SGD" momentum: 0.9 regularization_type: "L1"', [0.949, 0.9271, 0.80639]),
    ('type: "SGD" momentum: 0.9 clip_gradients: 0.2', [0.979, 0.979121, 0.9582508]),
    ('type: "SGD" momentum: 0.9 iter_size: 4', [0.9865, 0.9796135, 0.9474361]),
    ('type: "SGD" momentum: 0.9 iter_size: 4 clip_gradients: 0.2', [0.994, 0.992606, 0.9853588]),
    ('type: "Nesterov" momentum: 0.9', [0.9031, 0.9075741, 0.6981892]),
    ('type: "AdaGrad"', [0.9, 0.9427248, 0.8554298]),
    ('type: "RMSProp" rms_decay: 0.9', [0.6837723, 0.8257765, 0.5440127]),
    ('type: "AdaDelta" momentum: 0.9 delta: 1e-6', [0.9996838, 0.9998825, 0.9994553]),
    ('type: "Adam" momentum: 0.9', [0.9, 0.8712294, 0.8046144]),
]


@pytest.mark.parametrize(("text", "expected"), RULES, ids=[text for text, _ in RULES])
def test_update_rules_reproduce_caffes_numbers(make_solver, text, expected):
    solver = make_solver(ONE, BASE + text)
    weight = solver.net.params["ip"][0]
    values = []
    for gradient in (0.5, -0.25, 1.0):
        weight.diff[...] = gradient
        solver.apply_update()
        values.append(weight.data.item())
    assert values == pytest.approx(expected, abs=1e-6)
    assert solver.iter == 3


POLICIES = [
    ('lr_policy: "inv" gamma: 0.1 power: 0.75', [0.1, 0.0931012, 0.0872196, 0.0821377, 0.0776969, 0.0737788]),
    (
        'lr_policy: "poly" power: 0.9 max_iter: 10',
        [0.1, 0.0909533, 0.0818052, 0.0725418, 0.0631446, 0.0535887],
    ),
    ('lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 4', [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]),
    (
        'lr_policy: "sigmoid" gamma: 0.5 stepsize: 3',
        [0.0182426, 0.0268941, 0.0377541, 0.05, 0.0622459, 0.0731059],
    ),
    ('lr_policy: "step" gamma: 0.1 stepsize: 2', [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]),
    ('lr_policy: "exp" gamma: 0.5', [0.1, 0.05, 0.025, 0.0125, 0.00625, 0.003125]),
    ('lr_policy: "fixed"', [0.1] * 6),
]


@pytest.mark.parametrize(("text", "expected"), POLICIES, ids=[text for text, _ in POLICIES])
def test_learning_rate_policies_reproduce_caffes_numbers(make_solver, text, expected):
    solver = make_solver(ONE, "base_lr: 0.1 " + text)
    rates = []
    for _ in expected:
        rates.append(solver.lr)
        solver.apply_update()
    assert rates == pytest.approx(expected, abs=1e-7)


# a small net with its own data, dropout and a test net, for runs
RUN = """
layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 4 dim: 6 } shape { dim: 4 }
  data_filler { type: "gaussian" } data_filler { type: "constant" value: 2 } } }
layer { name: "ip1" type: "InnerProduct" bottom: "x" top: "h"
  inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "h" top: "h" }
layer { name: "ip2" type: "InnerProduct" bottom: "h" top: "s" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "s" bottom: "y" top: "loss" }
"""
TRAIN = (
    'base_lr: 0.05 lr_policy: "step" gamma: 0.5 stepsize: 4 momentum: 0.9 weight_decay: 0.001 random_seed: 3 '
)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdaDelta"])
def test_resume_is_exact_to_the_byte(make_solver, kind, tmp_path):
    """Train 10 = train 5, snapshot, restore, train 5: dropout and drawn data included."""
    text = TRAIN + f'type: "{kind}"'
    whole = make_solver(RUN, text)
    whole.step(10)
    first = make_solver(RUN, text)
    first.step(5)
    first.snapshot()
    state = str(next(tmp_path.glob("s1_iter_5.solverstate")))
    second = make_solver(RUN, text.replace("random_seed: 3", "random_seed: 99"))
    second.restore(state)
    assert second.iter == 5
    second.step(5)
    for name, blobs in whole.net.params.items():
        for a, b in zip(blobs, second.net.params[name], strict=True):
            assert a.data.tobytes() == b.data.tobytes()
    assert any(blob.data.any() for blob in second.history)


def test_a_snapshot_restores_layers_that_keep_a_position(make_solver, tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(
        """
import caffe, json
class Count(caffe.Layer):
    def setup(self, bottom, top): self.at = 0
    def reshape(self, bottom, top): top[0].reshape(1, 1)
    def forward(self, bottom, top):
        top[0].data[...] = self.at
        self.at += 1
    def get_state(self): return json.dumps(self.at)
    def set_state(self, state): self.at = json.loads(state)
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = ONE.replace(
        ONE.splitlines()[1],
        'layer { name: "in" type: "Python" top: "x" python_param { module: "counting" layer: "Count" } }',
    )
    solver = make_solver(text, BASE)
    solver.step(3)
    solver.snapshot()
    state = caffe_pb2.SolverState.FromString(next(tmp_path.glob("*.solverstate")).read_bytes())
    assert [json.loads(entry.state) for entry in state.resume.layer] == [3]
    other = make_solver(text, BASE)
    other.restore(str(next(tmp_path.glob("*.solverstate"))))
    other.net.forward()
    assert other.net.blobs["x"].data.item() == 3


def test_a_state_is_caffes_message(make_solver, tmp_path):
    solver = make_solver(RUN, TRAIN)
    solver.step(2)
    solver.snapshot()
    state = caffe_pb2.SolverState.FromString(next(tmp_path.glob("*.solverstate")).read_bytes())
    assert state.iter == 2 and state.learned_net.endswith("_iter_2.caffemodel")
    assert [list(blob.shape.dim) for blob in state.history] == [[8, 6], [8], [3, 8], [3]]
    assert np.array_equal(np.array(state.history[0].data, np.float32).reshape(8, 6), solver.history[0].data)


def test_restore_refuses_a_state_of_another_net_and_changes_nothing(make_solver, tmp_path):
    solver = make_solver(RUN, TRAIN)
    solver.step(1)
    solver.snapshot()
    state = str(next(tmp_path.glob("*.solverstate")))
    for text, words in [
        (ONE, "Incorrect length of history"),
        (RUN.replace("num_output: 8", "num_output: 7"), "history blob 0 has shape"),
    ]:
        other = make_solver(text, BASE)
        before = {name: blobs[0].data.copy() for name, blobs in other.net.params.items()}
        with pytest.raises(caffe.CaffeError, match=words):
            other.restore(state)
        assert other.iter == 0
        for name, blobs in other.net.params.items():
            assert np.array_equal(blobs[0].data, before[name])
    cut = tmp_path / "cut.solverstate"
    cut.write_bytes(open(state, "rb").read()[:-40])
    with pytest.raises(caffe.CaffeError, match="truncated"):
        make_solver(RUN, TRAIN).restore(str(cut))


def test_iter_size_sums_gradients_over_batches(make_solver):
    """Four batches by iter_size move the weights as one batch of their mean gradient does."""
    constant = RUN.replace('data_filler { type: "gaussian" }', 'data_filler { type: "constant" value: 1 }')
    constant = constant.replace('layer { name: "drop" type: "Dropout" bottom: "h" top: "h" }', "")
    a, b = make_solver(constant, TRAIN), make_solver(constant, TRAIN + "iter_size: 4")
    a.step(3)
    b.step(3)
    for name in a.net.params:
        assert np.allclose(a.net.params[name][0].data, b.net.params[name][0].data, atol=1e-6)


def test_solve_tests_displays_and_snapshots(make_solver, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("caffe"), "propagate", True)
    caplog.set_level(logging.INFO, "caffe")
    net = tmp_path / "test.prototxt"
    net.write_text(RUN + 'layer { name: "acc" type: "Accuracy" bottom: "s" bottom: "y" top: "acc" }')
    solver = make_solver(
        RUN, TRAIN + f'max_iter: 4 display: 2 snapshot: 2 test_net: "{net}" test_iter: 3 test_interval: 2'
    )
    solver.solve()
    lines = [record.getMessage() for record in caplog.records]
    text = "\n".join(lines)
    assert solver.iter == 4
    for line in (
        "Solving ",
        "Learning Rate Policy: step",
        "Iteration 0, Testing net (#0)",
        "Iteration 2, lr = 0.05",
        "Iteration 4, Testing net (#0)",
        "Optimization Done.",
    ):
        assert any(found.startswith(line) for found in lines), line
    assert "    Train net output #0: loss = " in text and "(* 1 = " in text
    assert "    Test net output #0: acc = " in text
    assert any(line.startswith("Iteration 2 (") and ", loss = " in line for line in lines)
    assert sorted(path.name for path in tmp_path.glob("*_iter_*")) == [
        f"s0_iter_{n}.{kind}" for n in (2, 4) for kind in ("caffemodel", "solverstate")
    ]
    assert not list(tmp_path.glob(".*part"))


def test_smoothed_loss_is_over_average_loss_iterations(make_solver):
    solver = make_solver(ONE, BASE + "average_loss: 2")
    seen = []
    solver._smooth, smooth = (
        lambda loss, start: seen.append((loss, smooth(loss, start))) or seen[-1][1],
        solver._smooth,
    )
    solver.net.blobs["x"].data[...] = 1
    solver.step(3)
    losses = [loss for loss, _ in seen]
    assert [mean for _, mean in seen] == pytest.approx(
        [losses[0], (losses[0] + losses[1]) / 2, (losses[1] + losses[2]) / 2]
    )


def test_fixed_parameters_never_move(make_solver):
    text = RUN.replace("param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }", "param { lr_mult: 0 }")
    solver = make_solver(text, TRAIN)
    before = solver.net.params["ip2"][0].data.copy()
    bias = solver.net.params["ip2"][1].data.copy()
    solver.step(3)
    assert np.array_equal(solver.net.params["ip2"][0].data, before)
    assert not np.array_equal(solver.net.params["ip2"][1].data, bias)


BAD = [
    ('type: "Wrong"', "Unknown solver type: Wrong"),
    ('type: "SGD" solver_type: ADAM', "both old 'solver_type' and 'type'"),
    ('type: "AdaGrad" momentum: 0.9', "Momentum cannot be used with AdaGrad"),
    ("test_iter: 1", "test_iter must be specified for each test network"),
    ('net: "again.prototxt"', "must not contain more than one"),
    ("average_loss: 0", "average_loss should be"),
    ('regularization_type: "L3"', "Unknown regularization type"),
    ("base_rate: 1", "did you mean base_lr"),
]


@pytest.mark.parametrize(("text", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_solvers_say_so(make_solver, text, words):
    with pytest.raises(caffe.CaffeError, match=words):
        make_solver(ONE, text)


def test_an_unwritable_snapshot_prefix_fails_at_construction(tmp_path):
    (tmp_path / "net.prototxt").write_text(ONE)
    path = tmp_path / "s.prototxt"
    path.write_text(f'train_net: "{tmp_path}/net.prototxt" snapshot: 1 snapshot_prefix: "{tmp_path}/none/s"')
    with pytest.raises(caffe.CaffeError, match=r"Cannot write to snapshot prefix.*mkdir -p"):
        caffe.get_solver(str(path))


def test_unknown_policy_fails_at_the_first_update(make_solver):
    solver = make_solver(ONE, 'base_lr: 1 lr_policy: "sometimes"')
    with pytest.raises(caffe.CaffeError, match="Unknown learning rate policy: sometimes"):
        solver.step(1)


def test_legacy_solver_type_and_explicit_class(make_solver):
    assert isinstance(make_solver(ONE, "solver_type: ADAM"), caffe.AdamSolver)
    assert isinstance(make_solver(ONE, 'type: "Adam"', cls=caffe.SGDSolver), caffe.SGDSolver)


def test_missing_train_net(tmp_path):
    path = tmp_path / "s.prototxt"
    path.write_text("base_lr: 1")
    with pytest.raises(caffe.CaffeError, match="must specify a train net"):
        caffe.get_solver(str(path))
    with pytest.raises(RuntimeError, match="Could not open file"):
        caffe.get_solver(str(tmp_path / "none.prototxt"))


def test_callbacks_and_param(make_solver):
    solver = make_solver(ONE, BASE + "max_iter: 7 display: 3")
    calls = []
    solver.add_callback(lambda: calls.append("start"), lambda: calls.append("ready"))
    solver.step(2)
    assert calls == ["start", "ready"] * 2
    assert solver.param.max_iter == 7 and solver.param.display == 3
    solver.param.base_lr = 0.5
    assert solver.lr == 0.5
