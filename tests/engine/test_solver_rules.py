"""Every solver type against the formulas of facts 5.5 in NumPy, and what an update leaves behind."""

import caffe
import numpy as np
import pytest

# two parameters of 3 x 4 and 3 numbers; the second learns twice as fast and decays half as much
NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "s" param { lr_mult: %s } param { lr_mult: 2 decay_mult: 0.5 }
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" } bias_filler { type: "gaussian" } } }
layer { name: "loss" type: "Reduction" bottom: "s" top: "loss" loss_weight: 1 }
"""
RATES = 'base_lr: 0.1 lr_policy: "inv" gamma: 0.1 power: 0.75 random_seed: 5 '
TYPES = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "delta: 1e-4",
    "RMSProp": "rms_decay: 0.95",
    "AdaDelta": "momentum: 0.95 delta: 1e-6",
    "Adam": "momentum: 0.9 momentum2: 0.99",
}
OPTIONS = [
    "",
    "weight_decay: 0.1",
    'weight_decay: 0.1 regularization_type: "L1"',
    "clip_gradients: 0.5",
    "weight_decay: 0.1 clip_gradients: 0.5 iter_size: 3",
]


def step_of(kind, p, g, h, rate, t):
    """What ``kind`` subtracts for the gradient ``g``, and the new histories."""
    m = p.momentum
    if kind == "SGD":
        new = m * h[0] + rate * g
        return new, [new]
    if kind == "Nesterov":
        new = m * h[0] + rate * g
        return (1 + m) * new - m * h[0], [new]
    if kind in ("AdaGrad", "RMSProp"):
        new = h[0] + g**2 if kind == "AdaGrad" else p.rms_decay * h[0] + (1 - p.rms_decay) * g**2
        return rate * g / (np.sqrt(new) + p.delta), [new]
    if kind == "AdaDelta":
        first = m * h[0] + (1 - m) * g**2
        u = g * np.sqrt((h[1] + p.delta) / (first + p.delta))
        return rate * u, [first, m * h[1] + (1 - m) * u**2]
    first, second = m * h[0] + (1 - m) * g, p.momentum2 * h[1] + (1 - p.momentum2) * g**2
    correction = np.sqrt(1 - p.momentum2**t) / (1 - m**t)
    return rate * correction * first / (np.sqrt(second) + p.delta), [first, second]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", TYPES)
def test_updates_follow_the_formulas(make_solver, kind, options):
    solver = make_solver(NET % "1", f'{RATES} type: "{kind}" {TYPES[kind]} {options}')
    p, blobs = solver.proto, list(solver.net.params["ip"])
    random = np.random.RandomState(1)
    w = [blob.data.astype(np.float64) for blob in blobs]
    h = [[np.zeros_like(x)] * solver.histories for x in w]
    for t in range(1, 6):
        gradients = [random.standard_normal(x.shape) for x in w]
        for blob, g in zip(blobs, gradients, strict=True):
            blob.diff[...] = g
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        clip = min(1, p.clip_gradients / norm) if p.clip_gradients >= 0 else 1
        rate = 0.1 * (1 + 0.1 * (t - 1)) ** -0.75
        solver.apply_update()
        for i, (lr_mult, decay_mult) in enumerate([(1, 1), (2, 0.5)]):
            pull = w[i] if p.regularization_type == "L2" else np.sign(w[i])
            g = gradients[i] * clip / p.iter_size + p.weight_decay * decay_mult * pull
            step, h[i] = step_of(kind, p, g, h[i], rate * lr_mult, t)
            w[i] = w[i] - step
            assert np.allclose(blobs[i].data, w[i], rtol=1e-6, atol=1e-6)
            assert np.allclose(blobs[i].diff, step, rtol=1e-5, atol=1e-6)  # what was subtracted stays there
    for k in range(solver.histories):
        for i in range(2):
            assert np.allclose(solver.history[2 * k + i].data, h[i][k], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_a_fixed_parameter_keeps_its_value_and_caffes_history(make_solver, kind):
    """With lr_mult 0 the decay still goes through the rule: histories of squares fill, those of steps do not."""
    solver = make_solver(NET % "0", f'{RATES} type: "{kind}" {TYPES[kind]} weight_decay: 0.1')
    blob = solver.net.params["ip"][0]
    before = blob.data.copy()
    solver.net.clear_param_diffs()
    solver.apply_update()
    assert np.array_equal(blob.data, before)
    assert not blob.diff.any()
    g = 0.1 * before.astype(np.float64)
    _, expected = step_of(kind, solver.proto, g, [np.zeros_like(g)] * solver.histories, 0.0, 1)
    for k in range(solver.histories):
        assert np.allclose(solver.history[2 * k].data, expected[k], rtol=1e-5, atol=1e-9)


def test_a_fixed_parameter_of_sgd_takes_no_memory(make_solver):
    solver = make_solver(NET % "0", f"{RATES} momentum: 0.9 weight_decay: 0.1")
    solver.step(2)
    assert solver.history[0]._data.is_zero and solver.net.params["ip"][0]._diff.is_zero
    assert not solver.history[1]._data.is_zero


def test_a_restored_history_moves_even_without_a_gradient(make_solver):
    solver = make_solver(NET % "0", f"{RATES} momentum: 0.5")
    solver.history[0].data[...] = 1
    before = solver.net.params["ip"][0].data.copy()
    solver.apply_update()
    assert np.allclose(solver.net.params["ip"][0].data, before - 0.5)


def test_a_gradient_that_is_no_number_clips_nothing(make_solver):
    """The comparison with the limit is false, as in Caffe, so the other parameters' gradients stay numbers."""
    solver = make_solver(NET % "1", f"{RATES} clip_gradients: 0.1")
    weight, bias = solver.net.params["ip"]
    weight.diff[0, 0], bias.diff[...] = np.nan, 1
    solver.apply_update()
    assert np.isfinite(bias.data).all() and np.allclose(bias.diff, 0.2)


def test_a_limit_of_zero_stops_everything(make_solver):
    solver = make_solver(NET % "1", f"{RATES} clip_gradients: 0")
    before = solver.net.params["ip"][0].data.copy()
    solver.net.params["ip"][0].diff[...] = 1
    solver.apply_update()
    assert np.array_equal(solver.net.params["ip"][0].data, before)


BAD_RATES = [
    ('lr_policy: "poly" power: 0.9 max_iter: 4', 5, "poly ends at max_iter"),
    ('lr_policy: "poly" power: 0.9', 1, "the learning rate at iteration 0"),
    ('lr_policy: "exp" gamma: 1e30', 400, "the learning rate at iteration .* is inf"),
    ('lr_policy: "inv" gamma: -1 power: 1', 1, "gamma must be at least 0"),
    ('lr_policy: "step" gamma: 0.1', 1, "stepsize must be greater than 0"),
    ('lr_policy: "sigmoid" gamma: 0.1 stepsize: -3', 1, "stepsize must be greater than 0"),
    ("", 1, "Unknown learning rate policy:  "),
]


@pytest.mark.parametrize(("text", "updates", "words"), BAD_RATES, ids=[text for text, *_ in BAD_RATES])
def test_rates_that_make_no_sense_are_refused(make_solver, text, updates, words):
    solver = make_solver(NET % "1", "base_lr: 0.1 " + text)
    solver.iter = updates - 1 if updates == 400 else 0
    before = solver.net.params["ip"][0].data.copy()
    with pytest.raises(caffe.CaffeError, match=words):
        for _ in range(updates + 1):
            solver.apply_update()
    assert np.isfinite(before).all() and np.array_equal(solver.net.params["ip"][0].data, before)


def test_extreme_rates_that_are_numbers(make_solver):
    solver = make_solver(NET % "1", 'base_lr: 1 lr_policy: "poly" power: 0.9 max_iter: 3')
    solver.iter = 3
    assert solver.lr == 0
    solver = make_solver(NET % "1", 'base_lr: 1 lr_policy: "sigmoid" gamma: 10 stepsize: 1000')
    assert solver.lr == 0  # 1 / (1 + e^10000)
    solver.iter = 2000
    assert solver.lr == 1


def test_multistep_advances_one_step_a_call(make_solver):
    """As in Caffe: a rate asked for late catches up one stepvalue at a time."""
    solver = make_solver(
        NET % "1", 'base_lr: 1 lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 4 stepvalue: 6'
    )
    solver.iter = 10
    assert [solver.lr for _ in range(4)] == pytest.approx([0.1, 0.01, 0.001, 0.001])
    assert solver.learning_rate.current_step == 3
