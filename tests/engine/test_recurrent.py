"""RNN, LSTM and LSTMUnit."""

import logging

import caffe
import numpy as np
import pytest
from caffe import fillers
from caffe.errors import CaffeError
from layer_check import TEST, Rig, check_gradient, noise, output, outputs, refuses

TEXT = 'type: "%s" recurrent_param { num_output: %d %s }'
KINDS = pytest.mark.parametrize("kind", ["LSTM", "RNN"])
STATES = {"LSTM": 2, "RNN": 1}
D = 3


def text(kind, options="", size=D):
    return TEXT % (kind, size, options)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def unit(cell, gates, cont):
    i, f, o, g = np.split(gates, 4, -1)
    cell = cont * sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return cell, sigmoid(o) * np.tanh(cell)


def reference(kind, params, x, cont, static=None, start=None):
    """Outputs and hidden states after the last timestep, in float64."""
    params = [np.asarray(param, float) for param in params]
    weight, bias = params[:2]
    inputs = x.reshape(*x.shape[:2], -1) @ weight.T + bias
    if static is not None:
        inputs = inputs + static.reshape(len(static), -1) @ params[2].T
    states = start or [np.zeros((x.shape[1], weight.shape[0] // (4 if kind == "LSTM" else 1)))] * STATES[kind]
    top = []
    for now, going_on in zip(inputs, cont[:, :, None], strict=True):
        if kind == "LSTM":
            cell, hidden = unit(states[1], now + going_on * states[0] @ params[-1].T, going_on)
            states = [hidden, cell]
            top.append(hidden)
        else:
            states = [np.tanh(now + going_on * states[0] @ params[-3].T)]
            top.append(np.tanh(states[0] @ params[-2].T + params[-1]))
    return np.array(top), states


def filled(rig, seed=50):
    """The same rig, its blobs of noise."""
    for i, blob in enumerate(rig.layer.blobs):
        blob.data[...] = noise(*blob.shape, seed=seed + i)
    return rig


def values(rig):
    return [blob.data for blob in rig.layer.blobs]


def bits(*shape, seed=3):
    return np.random.RandomState(seed).randint(0, 2, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "expected"), [("LSTM", (0.53672779, 0.23139924)), ("RNN", (0.50859618, 0.24548064))]
)
def test_vectors(kind, expected):
    """What BVLC Caffe printed: all weights 0.5, biases 0.1."""
    fill = "weight_filler { value: 0.5 } bias_filler { value: 0.1 }"
    top = output(text(kind, fill, 1), [[[1, 2]], [[-1, 0.5]]], [[0], [1]])
    assert top.shape == (2, 1, 1)
    np.testing.assert_allclose(top.ravel(), expected, rtol=1e-6)


@KINDS
@pytest.mark.parametrize("image", [(5,), (2, 1, 2)])
@pytest.mark.parametrize("static", [None, (4, 2), (4, 2, 3)])
@pytest.mark.parametrize("fractions", [False, True])
def test_values_and_gradients(kind, image, static, fractions):
    x, cont = noise(3, 4, *image), bits(3, 4)
    if fractions:
        cont *= 0.75
    bottoms = [x, cont] + ([] if static is None else [noise(*static, seed=2)])
    propagate = [True, False, True][: len(bottoms)]
    rig = filled(Rig(text(kind), *bottoms, propagate=propagate))
    np.testing.assert_allclose(
        rig.forward()[0], reference(kind, values(rig), *bottoms)[0], rtol=1e-4, atol=1e-6
    )
    check_gradient(text(kind), *bottoms, propagate=propagate)


@KINDS
def test_blobs(kind):
    """Order and shapes are those of Caffe's weight files."""
    x, cont = np.zeros((2, 4, 5, 2)), np.zeros((2, 4))
    wanted = {
        "LSTM": [(12, 10), (12,), (12, 6), (12, 3)],
        "RNN": [(3, 10), (3,), (3, 6), (3, 3), (3, 3), (3,)],
    }[kind]
    rig = Rig(text(kind, "bias_filler { value: 2 } weight_filler { value: 3 }"), x, cont, np.zeros((4, 6)))
    assert [tuple(blob.shape) for blob in rig.layer.blobs] == wanted
    assert all((blob.data == (2 if len(blob.shape) == 1 else 3)).all() for blob in rig.layer.blobs)
    del wanted[2]
    rig = Rig(text(kind), x, cont)
    assert [tuple(blob.shape) for blob in rig.layer.blobs] == wanted
    assert not any(blob.data.any() for blob in rig.layer.blobs)


@KINDS
def test_fillers_draw_as_often_as_caffe(kind):
    """It fills the blobs of a step once for each of the 3 timesteps, and keeps the first ones."""
    uniform = 'weight_filler { type: "uniform" } bias_filler { type: "uniform" }'
    caffe.set_random_seed(9)
    rig = Rig(text(kind, uniform), np.zeros((3, 4, 5)), np.zeros((3, 4)))
    after = fillers.uniform(0, 1, 2)
    caffe.set_random_seed(9)
    once = [fillers.uniform(0, 1, blob.count).reshape(blob.shape) for blob in rig.layer.blobs]
    for blob, wanted in zip(rig.layer.blobs, once, strict=True):
        assert np.array_equal(blob.data, wanted)
    for _ in range(2):
        for blob in rig.layer.blobs[2:]:
            fillers.uniform(0, 1, blob.count)
    assert np.array_equal(after, fillers.uniform(0, 1, 2))


# -- the hidden state ----------------------------------------------------------------------------------


@KINDS
def test_the_state_goes_on_from_forward_to_forward(kind):
    x, cont = noise(6, 4, 5), np.ones((6, 4), np.float32)
    cont[4, 2] = 0
    rig = filled(Rig(text(kind), x[:2], cont[:2], propagate=[True, False]))
    whole, _ = reference(kind, values(rig), x, cont)
    for at in (0, 2, 4):
        rig.bottom[0].data[...], rig.bottom[1].data[...] = x[at : at + 2], cont[at : at + 2]
        np.testing.assert_allclose(rig.forward()[0], whole[at : at + 2], rtol=1e-4, atol=1e-6)
        rig.backward(1)


@KINDS
def test_reading_or_writing_the_top_leaves_the_state_alone(kind):
    x, cont = noise(1, 4, 5), np.ones((1, 4), np.float32)
    rig = filled(Rig(text(kind), x, cont))
    whole, _ = reference(kind, values(rig), np.concatenate([x, x]), np.ones((2, 4)))
    rig.forward()
    rig.top[0].data[...] = 9
    np.testing.assert_allclose(rig.forward()[0][0], whole[1], rtol=1e-4, atol=1e-6)


@KINDS
def test_fewer_streams_keep_their_state_and_more_begin_anew(kind):
    x, cont = noise(2, 4, 5), np.ones((2, 4), np.float32)
    rig = filled(Rig(text(kind), x, cont))
    rig.forward()
    _, states = reference(kind, values(rig), x, cont)
    for streams in (3, 6):
        now, ones = noise(2, streams, 5, seed=streams), np.ones((2, streams), np.float32)
        for blob, array in zip(rig.bottom, (now, ones), strict=True):
            blob.reshape(*array.shape)
            blob.data[...] = array
        start = [state[:3] for state in states] if streams == 3 else None
        wanted, _ = reference(kind, values(rig), now, ones, start=start)
        np.testing.assert_allclose(rig.forward()[0], wanted, rtol=1e-4, atol=1e-6)


@KINDS
@pytest.mark.parametrize("static", [False, True])
def test_exposed_states(kind, static):
    x, cont = noise(3, 4, 5), bits(3, 4)
    inputs = [x, cont] + [noise(4, 2, seed=2)] * static
    start = [noise(1, 4, D, seed=7 + i) for i in range(STATES[kind])]
    options = {"tops": 1 + STATES[kind], "propagate": [True, False, *[True] * (static + STATES[kind])]}
    rig = filled(Rig(text(kind, "expose_hidden: true"), *inputs, *start, **options))
    top, states = reference(
        kind, values(rig), *inputs, **({} if static else {"static": None}), start=[h[0] for h in start]
    )
    for _ in range(2):  # nothing is carried over
        for ours, wanted in zip(rig.forward(), [top, *[state[None] for state in states]], strict=True):
            assert ours.shape == wanted.shape
            np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-6)


@KINDS
def test_no_gradient_through_exposed_states(kind):
    """Caffe neither reads the diffs of the states after nor writes those of the states before."""
    x, cont = noise(3, 4, 5), bits(3, 4)
    zeros = [np.zeros((1, 4, D))] * STATES[kind]
    options = {"tops": 1 + STATES[kind], "propagate": [True, False, *[True] * STATES[kind]]}
    rig = filled(Rig(text(kind, "expose_hidden: true"), x, cont, *zeros, **options))
    plain = filled(Rig(text(kind), x, cont, propagate=[True, False]))
    rig.forward(), plain.forward()
    diffs = rig.backward(noise(3, 4, D), *[5] * STATES[kind])
    wanted = plain.backward(noise(3, 4, D))
    np.testing.assert_allclose(diffs[0], wanted[0], rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(rig.layer.blobs, plain.layer.blobs, strict=True):
        np.testing.assert_allclose(ours.diff, theirs.diff, rtol=1e-5, atol=1e-6)
    assert not any(diff.any() for diff in diffs[2:])


@KINDS
def test_writing_an_exposed_state_does_not_change_the_gradient(kind):
    options = {"tops": 1 + STATES[kind], "propagate": [True, False, *[False] * STATES[kind]]}
    bottoms = [noise(2, 4, 5), bits(2, 4), *[noise(1, 4, D)] * STATES[kind]]
    rigs = [filled(Rig(text(kind, "expose_hidden: true"), *bottoms, **options)) for _ in range(2)]
    for rig, factor in zip(rigs, (1, 0), strict=True):
        rig.forward()
        for top in rig.top:
            top.data[...] *= factor
        rig.backward(1, *[0] * STATES[kind])
    for one, other in zip(rigs[0].layer.blobs, rigs[1].layer.blobs, strict=True):
        assert np.array_equal(one.diff, other.diff)


# -- in nets ---------------------------------------------------------------------------------------------


def net_text(kind, shapes, tops=("h",), options="", more=""):
    net = "force_backward: true "
    for name, shape in shapes.items():
        dims = " ".join(f"dim: {size}" for size in shape)
        net += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }} '
    names = " ".join(f'bottom: "{name}"' for name in shapes) + " ".join(f' top: "{name}"' for name in tops)
    inside = f"recurrent_param {{ num_output: {D} {options} }}" if kind != "LSTMUnit" else ""
    return net + f'layer {{ name: "r" type: "{kind}" {names} {inside} {more} }} '


X = {"x": (2, 4, 5), "cont": (2, 4)}


@KINDS
@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
@pytest.mark.parametrize("force", [True, False])
def test_the_state_of_a_net_goes_on(make_net, kind, phase, force):
    """However a net is run: looking at a blob afterwards is no timestep."""
    net = net_text(kind, X) + (
        'layer { name: "ip" type: "InnerProduct" bottom: "h" top: "y" inner_product_param { num_output: 1 axis: 2 } }'
    )
    net = make_net(net if force else net.replace("force_backward: true", ""), phase)
    for i, blob in enumerate(net.params["r"]):
        blob.data[...] = noise(*blob.shape, seed=i)
    x = noise(6, 4, 5)
    whole, _ = reference(kind, [blob.data for blob in net.params["r"]], x, np.ones((6, 4)))
    net.blobs["cont"].data[...] = 1
    for at in (0, 2, 4):
        net.blobs["x"].data[...] = x[at : at + 2]
        net.forward()
        for _ in range(2):
            np.testing.assert_allclose(net.blobs["h"].data, whole[at : at + 2], rtol=1e-4, atol=1e-6)


@KINDS
def test_force_backward(make_net, kind):
    """Every bottom but cont."""
    net = make_net(net_text(kind, {**X, "static": (4, 2)}))
    for i, blob in enumerate(net.params["r"]):
        blob.data[...] = noise(*blob.shape, seed=i)
    for name in X:
        net.blobs[name].data[...] = 1
    net.blobs["cont"].diff[...] = 7
    net.forward()
    net.backward(h=np.ones((2, 4, D)))
    assert (
        net.blobs["x"].diff.any() and net.blobs["static"].diff.any() and (net.blobs["cont"].diff == 7).all()
    )


@KINDS
def test_training(make_solver, kind):
    """A layer learns to give the first bit of a sequence at its end."""
    dims = "shape { dim: 5 dim: 32 dim: 1 }", "shape { dim: 5 dim: 32 }"
    net = f"""
        layer {{ name: "in" type: "Input" top: "x" input_param {{ {dims[0]} }} }}
        layer {{ name: "c" type: "Input" top: "cont" top: "t" input_param {{ {dims[1]} }} }}
        layer {{ name: "r" type: "{kind}" bottom: "x" bottom: "cont" top: "h" recurrent_param {{ num_output: 8
            weight_filler {{ type: "uniform" min: -0.5 max: 0.5 }} }} }}
        layer {{ name: "ip" type: "InnerProduct" bottom: "h" top: "y" inner_product_param {{ num_output: 1 axis: 2
            weight_filler {{ type: "uniform" min: -0.5 max: 0.5 }} }} }}
        layer {{ name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }}
    """
    caffe.set_random_seed(1)
    solver = make_solver(net, 'type: "Adam" base_lr: 0.02 lr_policy: "fixed" random_seed: 1')
    blobs = solver.net.blobs
    blobs["cont"].data[1:] = 1
    losses = []
    for i in range(150):
        x = bits(5, 32, 1, seed=i)
        blobs["x"].data[...], blobs["t"].data[...] = x, x[0, :, 0]
        solver.step(1)
        losses.append(float(blobs["loss"].data))
    assert np.mean(losses[-10:]) < 0.2 * np.mean(losses[:10])


def test_debug_info(caplog):
    rig = filled(Rig(text("LSTM", "debug_info: true"), noise(2, 4, 5), bits(2, 4)))
    with caplog.at_level(logging.INFO, "caffe"):
        (top,) = rig.forward()
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == f"    [Forward] Layer probe, top blob h_1 data: {abs(top[0]).mean():g}"
    assert [line.split(" data")[0].split()[-1] for line in said] == ["h_1", "c_1", "h_2", "c_2"]
    caplog.clear()
    rig = filled(Rig(text("RNN", "debug_info: true"), noise(1, 4, 5), bits(1, 4)))
    with caplog.at_level(logging.INFO, "caffe"):
        rig.forward()
    assert [record.getMessage().split(" data")[0].split()[-1] for record in caplog.records] == ["h_1", "o_1"]


@pytest.mark.parametrize(
    ("kind", "shapes", "tops", "options", "message"),
    [
        ("LSTM", {"x": (2, 4, 5)}, ("h",), "", "LSTM Layer takes at least 2 bottom blob(s)"),
        ("RNN", {**X, "s": (4, 1), "e": (4, 1)}, ("h",), "", "RNN Layer takes at most 3 bottom blob(s)"),
        ("LSTM", {**X, "h0": (1, 4, D)}, ("h", "a", "b"), "expose_hidden: true", "takes at least 4 bottom"),
        ("RNN", X, ("h", "a"), "expose_hidden: true", "takes at least 3 bottom"),
        ("LSTM", X, ("h", "a"), "", "LSTM Layer produces 1 top blob(s)"),
        ("RNN", {**X, "h0": (1, 4, D)}, ("h",), "expose_hidden: true", "RNN Layer produces 2 top blob(s)"),
        ("LSTMUnit", X, ("c", "h"), "", "LSTMUnit Layer takes 3 bottom blob(s)"),
    ],
)
def test_counts(make_net, kind, shapes, tops, options, message):
    with pytest.raises(CaffeError) as caught:
        make_net(net_text(kind, shapes, tops, options))
    assert message in str(caught.value)


@KINDS
def test_too_many_params(make_net, kind):
    most = {"LSTM": 3, "RNN": 5}[kind]
    make_net(net_text(kind, X, more="param { lr_mult: 0 } " * most))
    with pytest.raises(CaffeError, match="Too many params specified for layer r"):
        make_net(net_text(kind, X, more="param { lr_mult: 0 } " * (most + 1)))


# -- refusals ----------------------------------------------------------------------------------------------


@KINDS
def test_refusals(kind):
    plain = text(kind)
    refuses("num_output must be positive", text(kind, size=0), (2, 4, 5), (2, 4))
    axes = "bottom[0] must have at least 2 axes -- (#timesteps, #streams, ...); it is 2"
    refuses(axes, plain, (2,), (2, 4))
    refuses("axis 2 out of range for 2-D Blob with shape 2x4", plain, (2, 4), (2, 4))
    refuses(
        "bottom[1] must have exactly 2 axes -- (#timesteps, #streams); it is 2x4x1",
        plain,
        (2, 4, 5),
        (2, 4, 1),
    )
    refuses("a number for each timestep and stream, 2x4; it is 2x3", plain, (2, 4, 5), (2, 3))
    refuses("at least one timestep, bottom[0] is 0x4x5", plain, (0, 4, 5), (0, 4))
    refuses("an item for each of 4 streams; it is 3x2", plain, (2, 4, 5), (2, 4), (3, 2))
    refuses("an item for each of 4 streams; it is ()", plain, (2, 4, 5), (2, 4), ())
    refuses("axis 1 out of range for 1-D Blob with shape 4", plain, (2, 4, 5), (2, 4), (4,))
    refuses("Unknown filler name: nope", text(kind, 'weight_filler { type: "nope" }'), (2, 4, 5), (2, 4))
    states = [(1, 4, D)] * STATES[kind]
    states[-1] = (4, D)
    refuses(
        f"bottom[{1 + STATES[kind]}] shape must match hidden state input shape: 1x4x3; it is 4x3",
        text(kind, "expose_hidden: true"),
        (2, 4, 5),
        (2, 4),
        *states,
        tops=1 + STATES[kind],
    )


@KINDS
@pytest.mark.parametrize(
    ("x", "cont", "message"),
    [
        ((3, 4, 5), (3, 4), "input number of timesteps changed: 2 at setup, now 3"),
        (
            (2, 4, 6),
            (2, 4),
            "Input size incompatible with inner product parameters. A stream in a timestep has 6",
        ),
        ((2, 5, 5), (2, 4), "a number for each timestep and stream, 2x5; it is 2x4"),
    ],
)
def test_sizes_that_changed(kind, x, cont, message):
    rig = Rig(text(kind), np.zeros((2, 4, 5)), np.zeros((2, 4)))
    rig.bottom[0].reshape(*x), rig.bottom[1].reshape(*cont)
    with pytest.raises(CaffeError) as caught:
        rig.forward()
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "LSTMUnit"])
def test_sequence_indicators_get_no_gradient(kind):
    if kind == "LSTMUnit":
        rig = Rig('type: "LSTMUnit"', noise(1, 4, 2), noise(1, 4, 8), bits(1, 4), tops=2)
    else:
        rig = Rig(text(kind), noise(2, 4, 5), bits(2, 4))
    rig.forward()
    with pytest.raises(CaffeError, match="Cannot backpropagate to sequence indicators"):
        rig.backward(*[1] * len(rig.top))


# -- LSTMUnit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("propagate", [[True, True, False], [True, False, False], [False, True, False]])
@pytest.mark.parametrize("scale", [1, 0.5])
def test_unit(propagate, scale):
    cell, gates, cont = noise(1, 4, D), noise(1, 4, 4 * D, seed=1), scale * bits(1, 4)
    options = {"tops": 2, "propagate": propagate}
    tops = outputs('type: "LSTMUnit"', cell, gates, cont, **options)
    for ours, wanted in zip(tops, unit(cell.astype(float), gates, cont[:, :, None]), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-7)
    check_gradient('type: "LSTMUnit"', cell, gates, cont, **options)


def test_units_make_an_lstm():
    """With zero recurrent weights a timestep is a unit of the inputs."""
    rig = Rig(text("LSTM"), noise(2, 4, 5), np.ones((2, 4)), phase=TEST)
    rig.layer.blobs[0].data[...] = noise(4 * D, 5, seed=1)
    gates = rig.bottom[0].data @ rig.layer.blobs[0].data.T
    cell, hidden = np.zeros((1, 4, D)), []
    for step in range(2):
        cell, top = outputs('type: "LSTMUnit"', cell, gates[step : step + 1], np.ones((1, 4)), tops=2)
        hidden.append(top[0])
    np.testing.assert_allclose(rig.forward()[0], hidden, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "shapes",
    [
        [(4, 3), (1, 4, 12), (1, 4)],
        [(2, 4, 3), (2, 4, 12), (2, 4)],
        [(1, 4, 3), (1, 4, 9), (1, 4)],
        [(1, 4, 3), (1, 5, 12), (1, 4)],
        [(1, 4, 3), (1, 4, 12), (4,)],
        [(1, 4, 3), (1, 4, 12), (1, 5)],
    ],
)
def test_unit_refusals(shapes):
    message = "bottoms are the cell (1, N, D), the gates' inputs (1, N, 4 D) and cont (1, N); they are "
    refuses(message, 'type: "LSTMUnit"', *shapes, tops=2)
