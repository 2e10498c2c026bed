"""Loss sampling and the class-weighted loss, as layers of a net."""

import ast
import json
from types import SimpleNamespace

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

import feed
import nets
import sampling
from files import DataError


def net_of(path, text, phase=caffe.TRAIN):
    path.write_text(text)
    return caffe.Net(str(path), phase)


def python(name, layer, bottoms, params, more=""):
    bottoms = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f"""layer {{ name: "{name}" type: "Python" {bottoms} top: "{name}" {more}
        python_param {{ module: "sampling" layer: "{layer}" param_str: "{params}" }} }}\n"""


def given(name, *shape):
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


# sampling


def sampler(tmp_path, shape=(1, 1, 70, 100), **params):
    before = set(feed.live)
    text = given("label", *shape) + python("sampled", "LossSamplingLayer", ["label"], {"p": 0.5, **params})
    net = net_of(tmp_path / "net.prototxt", text)
    (layer,) = set(feed.live) - before
    net.blobs["label"].data[...] = np.random.default_rng(0).integers(0, 21, shape)
    return net, layer


def kept_cells(net, cell=32):
    """Which cells the next forward keeps, after a look that each is whole or void."""
    net.forward()
    labels, sampled = net.blobs["label"].data, net.blobs["sampled"].data
    rows, columns = (-(-size // cell) for size in labels.shape[2:])
    kept = np.zeros((len(labels), rows, columns), bool)
    for i, row, column in np.ndindex(kept.shape):
        here = (i, 0, slice(row * cell, (row + 1) * cell), slice(column * cell, (column + 1) * cell))
        kept[i, row, column] = (sampled[here] == labels[here]).all()
        assert kept[i, row, column] or (sampled[here] == 255).all()
    return kept


def test_cells_are_kept_whole_or_void(tmp_path):
    net, _ = sampler(tmp_path)
    kept = kept_cells(net)
    assert kept.shape == (1, 3, 4) and 0 < kept.sum() < 12


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_each_cell_is_kept_with_probability_p_on_its_own(tmp_path, p):
    net, _ = sampler(tmp_path, (2, 1, 20, 30), p=p, cell=2)
    kept = np.array([kept_cells(net, 2) for _ in range(40)])
    deviation = (p * (1 - p) / kept.size) ** 0.5
    assert abs(kept.mean() - p) < 4 * deviation
    for one, other in (  # forwards, items, rows, columns
        (kept[1:], kept[:-1]),
        (kept[:, 0], kept[:, 1]),
        (kept[:, :, 1:], kept[:, :, :-1]),
        (kept[..., 1:], kept[..., :-1]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / one.size**0.5


def test_all_are_kept_with_certainty(tmp_path):
    assert kept_cells(sampler(tmp_path, p=1)[0]).all()


def test_one_seed_one_sequence_and_void_stays_void(tmp_path):
    def sequence(**params):
        net, _ = sampler(tmp_path, **params)
        net.blobs["label"].data[0, 0, 3] = 255
        return [kept_cells(net).tolist() for _ in range(5)]

    assert sequence() == sequence(seed=1337) != sequence(seed=7)
    assert len({str(kept) for kept in sequence()}) == 5


def test_each_image_may_be_of_another_size(tmp_path):
    net, _ = sampler(tmp_path)
    net.blobs["label"].reshape(1, 1, 33, 10)
    net.blobs["label"].data[...] = 3
    assert kept_cells(net).shape == (1, 2, 1)
    assert net.blobs["sampled"].data.shape == (1, 1, 33, 10)


@pytest.mark.parametrize("seed", [4, None])
def test_resuming_is_exact(tmp_path, seed):
    net, layer = sampler(tmp_path, seed=seed)
    for _ in range(3):
        net.forward()
    state = layer.get_state()
    rest = [kept_cells(net).tolist() for _ in range(4)]
    other, other_layer = sampler(tmp_path, seed=99)
    other_layer.set_state(state)
    assert [kept_cells(other).tolist() for _ in range(4)] == rest
    assert json.loads(state)["position"] == 3
    fresh, fresh_layer = sampler(tmp_path, seed=json.loads(state)["seed"])
    feed.resume(4)
    assert fresh_layer.position == 4
    assert [kept_cells(fresh).tolist() for _ in range(3)] == rest[1:]
    with pytest.raises(DataError, match="no state of"):
        layer.set_state("{}")


@pytest.mark.parametrize(
    "params, said",
    [
        ({"p": 0}, "p is 0; it must be a probability above 0, up to 1"),
        ({"p": 1.5}, r"p is 1\.5"),
        ({"p": True}, "p is True"),
        ({"cell": 0}, "cell is 0; it must be an integer of 1 or more"),
        ({"seed": 0.5}, r"seed is 0\.5; it must be an integer or None"),
        ({"q": 0.5}, "unknown key 'q'"),
    ],
)
def test_wrong_parameters_of_sampling_are_told(tmp_path, params, said):
    with pytest.raises(DataError, match=said) as error:
        sampler(tmp_path, **params)
    assert "LossSamplingLayer" in str(error.value)


def test_sampling_takes_one_bottom_of_labels(tmp_path):
    two = given("a", 1, 1, 4, 4) + given("b", 1, 1, 4, 4)
    with pytest.raises(DataError, match="has 2 bottoms and 1 tops; it takes labels, and gives labels"):
        net_of(tmp_path / "n.prototxt", two + python("s", "LossSamplingLayer", ["a", "b"], {"p": 0.5}))
    with pytest.raises(DataError, match="it takes labels, N x 1 x H x W"):
        net_of(tmp_path / "n.prototxt", given("a", 5) + python("s", "LossSamplingLayer", ["a"], {"p": 0.5}))


# the weighted loss

CLASSES = 4


def blobs_for_loss(shape=(2, CLASSES, 5, 6), seed=0, void=True):
    random = np.random.default_rng(seed)
    labels = random.integers(0, shape[1], (shape[0], 1, *shape[2:])).astype(float)
    if void:
        labels[:, 0, 1, ::2] = 255
    return 3 * random.standard_normal(shape), labels


def evaluate(tmp_path, loss_layer, scores, labels):
    """(loss, gradient of the scores) of a net that ends in the layer of this prototxt text."""
    text = (
        "force_backward: true\n" + given("score", *scores.shape) + given("label", *labels.shape) + loss_layer
    )
    net = net_of(tmp_path / "loss.prototxt", text)
    net.blobs["score"].data[...], net.blobs["label"].data[...] = scores, labels
    loss = float(net.forward()["loss"].ravel()[0])
    net.backward()
    return loss, net.blobs["score"].diff.copy()


def weighted(loss_weight=1, **params):
    return python("loss", "ClassWeightedLossLayer", ["score", "label"], params, f"loss_weight: {loss_weight}")


def by_formula(scores, labels, weights, normalize, void=255):
    """The loss, pixel by pixel."""
    total, weight_sum = 0.0, 0.0
    for i, y, x in np.ndindex(labels[:, 0].shape):
        label = int(labels[i, 0, y, x])
        if label != void:
            pixel = scores[i, :, y, x]
            total += weights[label] * (np.log(np.exp(pixel).sum()) - pixel[label])
            weight_sum += weights[label]
    return total / (weight_sum if normalize else len(scores))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("loss_weight", [1, 2.5])
def test_all_weights_one_is_softmax_with_loss(tmp_path, normalize, loss_weight):
    scores, labels = blobs_for_loss()
    scores[0, 0, 0, 0] = 200  # the others' probabilities are 0 in single precision
    caffes = f"""layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
        loss_weight: {loss_weight} loss_param {{ ignore_label: 255 normalize: {str(normalize).lower()} }} }}"""
    theirs = evaluate(tmp_path, caffes, scores, labels)
    ours = evaluate(
        tmp_path, weighted(loss_weight, weights=[1] * CLASSES, normalize=normalize), scores, labels
    )
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6)
    assert np.abs(theirs[1]).max() > 1e-3


@pytest.mark.parametrize("normalize", [True, False])
def test_weights_count_as_in_the_formula(tmp_path, normalize):
    weights = [0.5, 2, 0, 1.25]
    scores, labels = blobs_for_loss()
    loss, _ = evaluate(tmp_path, weighted(weights=weights, normalize=normalize), scores, labels)
    assert loss == pytest.approx(by_formula(scores, labels, weights, normalize), rel=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_gradient_is_that_of_finite_differences(normalize):
    """In double precision, which only blobs outside a net have."""
    layer = sampling.ClassWeightedLossLayer.outside(
        str({"weights": [0.5, 2, 0, 1.25], "normalize": normalize})
    )
    scores, labels = blobs_for_loss((2, CLASSES, 3, 4))
    bottom = [SimpleNamespace(data=scores, diff=np.zeros_like(scores)), SimpleNamespace(data=labels)]
    top = [SimpleNamespace(data=np.zeros(1), diff=np.array([1.5]))]

    def loss():
        layer.forward(bottom, top)
        return 1.5 * top[0].data[0]

    loss()
    layer.backward(top, [True, False], bottom)
    numeric, step = np.zeros_like(scores), 1e-5
    for where in np.ndindex(scores.shape):
        value = scores[where]
        scores[where] = value + step
        above = loss()
        scores[where] = value - step
        numeric[where] = (above - loss()) / (2 * step)
        scores[where] = value
    np.testing.assert_allclose(bottom[0].diff, numeric, atol=1e-8)
    assert np.abs(numeric).max() > 1e-3


def test_nothing_labelled_is_no_loss(tmp_path):
    scores, labels = blobs_for_loss()
    loss, gradient = evaluate(tmp_path, weighted(weights=[1] * CLASSES), scores, np.full_like(labels, 255))
    assert loss == 0 and not gradient.any()
    loss, gradient = evaluate(tmp_path, weighted(weights=[0, 1, 1, 1]), scores, np.zeros_like(labels))
    assert loss == 0 and not gradient.any()


def test_another_label_can_be_ignored(tmp_path):
    scores, labels = blobs_for_loss(void=False)
    loss, gradient = evaluate(tmp_path, weighted(weights=[1] * CLASSES, ignore_label=2), scores, labels)
    assert loss == pytest.approx(by_formula(scores, labels, [1] * CLASSES, True, void=2), rel=1e-5)
    assert not np.where(labels == 2, gradient, 0).any()


@pytest.mark.parametrize("label", [4, -1, 1.5, 254])
def test_a_label_that_is_no_class_is_told(tmp_path, label):
    scores, labels = blobs_for_loss()
    labels[0, 0, 0, :3] = label
    with pytest.raises(DataError, match=rf"3 labels are none of the classes 0 to 3 .*, such as {label}"):
        evaluate(tmp_path, weighted(weights=[1] * CLASSES), scores, labels)


@pytest.mark.parametrize(
    "params, said",
    [
        ({}, "lacks weights"),
        ({"weights": []}, "a list of numbers of 0 or more, one a class"),
        ({"weights": [1, -1, 1, 1]}, "a list of numbers of 0 or more"),
        ({"weights": 3}, "a list of numbers"),
        ({"weights": [1, 1]}, "there are 2 weights for scores of 4 classes"),
        ({"weights": [1] * 4, "normalize": 1}, "normalize is 1; it must be True or False"),
        ({"weights": [1] * 4, "ignore_label": -1}, "ignore_label is -1; it must be an integer from 0 to 255"),
    ],
)
def test_wrong_parameters_of_the_loss_are_told(tmp_path, params, said):
    with pytest.raises(DataError, match=said):
        evaluate(tmp_path, weighted(**params), *blobs_for_loss())


def test_the_loss_takes_scores_and_labels_of_one_size(tmp_path):
    scores, labels = blobs_for_loss()
    with pytest.raises(DataError, match="they must be N x C x H x W and N x 1 x H x W"):
        evaluate(tmp_path, weighted(weights=[1] * CLASSES), scores, labels[:, :, 1:])
    only = python("loss", "ClassWeightedLossLayer", ["score"], {"weights": [1]}, "loss_weight: 1")
    with pytest.raises(DataError, match="has 1 bottoms and 1 tops; it takes scores and labels"):
        net_of(tmp_path / "n.prototxt", given("score", 1, 1, 2, 2) + only)


# in training

TRAINED = """
layer { name: "in" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 1 dim: 2 dim: 9 dim: 9 } shape { dim: 1 dim: 1 dim: 9 dim: 9 }
  data_filler { type: "constant" value: 1 } data_filler { type: "constant" value: 2 } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 3 kernel_size: 1 } }
"""


def solver_of(tmp_path):
    layers = (
        TRAINED
        + python("sampled", "LossSamplingLayer", ["label"], {"p": 0.5, "cell": 4})
        + python(
            "loss", "ClassWeightedLossLayer", ["score", "sampled"], {"weights": [1, 1, 3]}, "loss_weight: 1"
        )
    )
    (tmp_path / "train.prototxt").write_text(layers)
    param = caffe_pb2.SolverParameter(
        net=str(tmp_path / "train.prototxt"),
        base_lr=0.1,
        lr_policy="fixed",
        snapshot_prefix=str(tmp_path / "at"),
        solver_mode=caffe_pb2.SolverParameter.CPU,
    )
    (tmp_path / "solver.prototxt").write_text(text_format.MessageToString(param))
    return caffe.get_solver(str(tmp_path / "solver.prototxt"))


def test_a_net_learns_from_sampled_weighted_labels(tmp_path):
    solver = solver_of(tmp_path)
    solver.step(1)
    assert float(solver.net.blobs["loss"].data.ravel()[0]) == pytest.approx(np.log(3), rel=1e-5)
    solver.step(20)
    assert float(solver.net.blobs["loss"].data.ravel()[0]) < 0.5
    assert solver.net.blobs["score"].data[0, :, 0, 0].argmax() == 2


@pytest.mark.needs_embedded("its snapshots do not hold where the layers are")
def test_a_snapshot_resumes_the_sampling(tmp_path):
    solver = solver_of(tmp_path)
    solver.step(3)
    solver.snapshot()
    solver.step(2)
    resumed = solver_of(tmp_path)
    resumed.restore(str(tmp_path / "at_iter_3.solverstate"))
    resumed.step(2)
    for blob in ("sampled", "score"):
        np.testing.assert_array_equal(resumed.net.blobs[blob].data, solver.net.blobs[blob].data)


def test_a_recipe_asks_for_all_of_it():
    """nets.Recipe's switches become layers and parameters of the training net, and of no other."""
    weights = [1.0] * 20 + [3.0]
    model = nets.Model(
        lambda n, recipe: nets.fcn(n, recipe, 21),
        nets.VOC,
        {"train": nets.Recipe(sampling=0.25, class_weights={"loss": weights}, mirror=True, jitter=32)},
    )
    made = model.prototxts(divide=32)
    layers = {layer.name: layer for layer in made["train"].layer}
    data, sampled, loss = (
        ast.literal_eval(layers[name].python_param.param_str) for name in ("data", "sampled_label", "loss")
    )
    assert (data["mirror"], data["jitter"]) == (True, 32)
    assert (sampled["p"], list(layers["loss"].bottom)) == (0.25, ["score", "sampled_label"])
    assert (loss["weights"], loss["normalize"]) == (weights, True)
    assert list(layers["loss"].loss_weight) == [1]
    plain = nets.Model(model.build, nets.VOC).prototxts(divide=32)
    assert (made["val"], made["deploy"]) == (plain["val"], plain["deploy"])
