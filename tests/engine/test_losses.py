"""The losses other than SoftmaxWithLoss, and losses in nets."""

import caffe
import numpy as np
import pytest
from caffe.errors import CaffeError
from caffe.proto import caffe_pb2
from layer_check import Rig, check_gradient, make_blob, noise, output, outputs, refuses

FIRST = [True, False]  # no gradient for labels
CONTRASTIVE = 'type: "ContrastiveLoss" contrastive_loss_param { %s }'
HINGE = 'type: "HingeLoss" hinge_loss_param { %s }'
LOGISTIC = 'type: "MultinomialLogisticLoss"'
SIGMOID = 'type: "SigmoidCrossEntropyLoss" loss_param { %s }'
INFOGAIN = 'type: "InfogainLoss" loss_param { %s } infogain_loss_param { %s }'
FIRST_AXIS = "The data and label should have the same first dimension."


def labels(*shape, classes, seed=4):
    return np.random.RandomState(seed).randint(0, classes, shape).astype(np.float32)


# -- EuclideanLoss ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [((4, 3), (4, 3)), ((2, 3, 2), (2, 2, 1, 3)), ((5,), (5, 1))])
def test_euclidean(a, b):
    x, y = noise(*a), noise(*b, seed=1)
    text = 'type: "EuclideanLoss"'
    loss = output(text, x, y)
    assert loss.shape == ()
    assert loss == pytest.approx(((x.ravel() - y.ravel()) ** 2).sum() / (2 * a[0]), rel=1e-5)
    check_gradient(text, x, y)
    check_gradient(text, x, y, propagate=[False, True])


def test_euclidean_gradient_is_the_difference_over_n():
    rig = Rig('type: "EuclideanLoss"', [[1.0, 5], [2, 2]], [[0.0, 0], [2, 3]])
    rig.forward()
    a, b = rig.backward(2)
    assert a.tolist() == [[1, 5], [0, -1]] and (b == -a).all()


def test_euclidean_refusals():
    refuses(FIRST_AXIS, 'type: "EuclideanLoss"', (2, 3), (3, 2))
    refuses(FIRST_AXIS, 'type: "EuclideanLoss"', (), ())
    message = "Inputs must have the same dimension. bottom[0] is 2x3, bottom[1] 2x2x3"
    refuses(message, 'type: "EuclideanLoss"', (2, 3), (2, 2, 3))


# -- ContrastiveLoss -------------------------------------------------------------------------------


def contrastive(a, b, similar, margin, legacy):
    a, b = a.reshape(len(a), -1).astype(float), b.reshape(len(b), -1)
    squared = ((a - b) ** 2).sum(1)
    unlike = np.maximum(margin - squared, 0) if legacy else np.maximum(margin - np.sqrt(squared), 0) ** 2
    return np.where(similar.ravel() != 0, squared, unlike).sum() / (2 * len(a))


PAIRS = np.float32([1, 0, 0, 1, 0, 0])


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("margin", [1, 4, 40])
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 1, 1)])
def test_contrastive(legacy, margin, shape):
    a, b = 3 * noise(*shape), noise(*shape, seed=1)
    similar = PAIRS.reshape(6, *[1] * (len(shape) - 2))
    text = CONTRASTIVE % f"margin: {margin} legacy_version: {str(legacy).lower()}"
    rig = Rig(text, a, b, similar, propagate=[True, True, False])
    assert rig.forward()[0] == pytest.approx(contrastive(a, b, similar, margin, legacy), rel=1e-5)
    difference = (a - b).reshape(6, 3).astype(float)
    distance = np.sqrt((difference**2).sum(1))
    if legacy:
        factor = np.where(margin > distance**2, -1, 0)
    else:  # the distance that is divided by is a little more
        factor = np.where(margin > distance, -(margin - distance) / (distance + 1e-4), 0)
    wanted = np.where(similar.ravel() != 0, 1, factor)[:, None] * difference / 6 * 0.5
    for diff, sign in zip(rig.backward(0.5), (1, -1), strict=False):
        assert diff.shape == shape
        np.testing.assert_allclose(diff.reshape(6, 3), sign * wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("legacy", ["false", "true"])
def test_contrastive_gradient_is_the_slope(legacy):
    """Far apart the 0.0001 that Caffe adds to distances is below the check's tolerance."""
    text = CONTRASTIVE % f"margin: 900 legacy_version: {legacy}"
    check_gradient(text, 10 * noise(6, 3), noise(6, 3, seed=1), PAIRS, propagate=[True, True, False])


def test_contrastive_of_equal_vectors():
    rig = Rig(CONTRASTIVE % "", [[2.0, 1]], [[2.0, 1]], [0], propagate=[True, True, False])
    assert rig.forward()[0] == 0.5
    assert [diff.tolist() for diff in rig.backward(1)[:2]] == [[[0, 0]], [[0, 0]]]


def test_contrastive_truncates_and_takes_numbers():
    a, b = noise(4), noise(4, 1, seed=1)
    pairs = np.float32([0.9, -0.9, 2.5, -1])
    assert output(CONTRASTIVE % "", a, b, pairs) == pytest.approx(
        contrastive(a, b, np.array([0, 0, 1, 1]), 1, False), rel=1e-5
    )


def test_contrastive_refusals():
    text = CONTRASTIVE % ""
    refuses(FIRST_AXIS, text, (2, 3), (3, 3), (2,))
    refuses("both of the same channels, in the shape NxC or NxCx1x1", text, (2, 3), (2, 4), (2,))
    refuses("but they are 2x3x2x1 and 2x3", text, (2, 3, 2, 1), (2, 3), (2,))
    refuses("but they are 2x3x1x1 and 2x3x2", text, (2, 3, 1, 1), (2, 3, 2), (2,))
    refuses(
        "bottom[2] holds one number a pair, in the shape N or Nx1x1x1, N = 2", text, (2, 3), (2, 3), (2, 2)
    )
    refuses("but it is 3", text, (2, 3), (2, 3), (3,))
    refuses("but it is ()", text, (2, 3), (2, 3), ())


# -- HingeLoss --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "power"), [("", 1), ("norm: L1", 1), ("norm: L2", 2)])
@pytest.mark.parametrize(("shape", "label_shape"), [((7, 5), (7,)), ((4, 2, 3, 1), (4, 1, 1, 1))])
def test_hinge(norm, power, shape, label_shape):
    x, truth = noise(*shape), labels(*label_shape, classes=5)
    signed = x.reshape(shape[0], -1).copy()
    signed[np.arange(shape[0]), truth.ravel().astype(int)] *= -1
    wanted = (np.maximum(0, 1 + signed) ** power).sum() / shape[0]
    assert output(HINGE % norm, x, truth, propagate=FIRST) == pytest.approx(wanted, rel=1e-5)
    check_gradient(HINGE % norm, x, truth, propagate=FIRST)


def test_hinge_gradient_at_the_margin_is_zero():
    rig = Rig(HINGE % "", [[-1.0, 1, 0]], [1], propagate=FIRST)
    assert rig.forward()[0] == 1
    assert rig.backward(1)[0].tolist() == [[0, 0, 1]]


# -- MultinomialLogisticLoss ------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "label_shape"), [((6, 4), (6, 1, 1, 1)), ((3, 2, 2), (3,))])
def test_multinomial_logistic(shape, label_shape):
    p, truth = np.abs(noise(*shape)) + 0.1, labels(*label_shape, classes=4)
    picked = p.reshape(shape[0], -1)[np.arange(shape[0]), truth.ravel().astype(int)]
    assert output(LOGISTIC, p, truth, propagate=FIRST) == pytest.approx(-np.log(picked).mean(), rel=1e-5)
    check_gradient(LOGISTIC, p, truth, propagate=FIRST, step=1e-6)


def test_multinomial_logistic_is_bounded():
    rig = Rig(LOGISTIC, [[1, 0.0], [-1, 0.5]], [1, 0], propagate=FIRST)
    assert rig.forward()[0] == pytest.approx(-np.log(1e-20), rel=1e-6)
    np.testing.assert_allclose(rig.backward(1)[0], [[0, -0.5e20], [-0.5e20, 0]], rtol=1e-5)


@pytest.mark.parametrize("text", [HINGE % "", LOGISTIC])
def test_one_label_an_item(text):
    refuses(FIRST_AXIS, text, (2, 3), (3,))
    refuses(
        "bottom[1] holds one number an item, in the shape N or Nx1x1x1, but it is 2x3", text, (2, 3), (2, 3)
    )
    for wrong in ([0, 3], [-1, 0], [np.nan, 0]):
        with pytest.raises(CaffeError, match=r"1 labels are out of range: .*\. The 3 classes are 0\.\.2"):
            output(text, noise(2, 3), wrong)
    x = np.abs(noise(2, 3))
    assert output(text, x, [1.9, -0.9]) == output(text, x, [1, 0])


# -- SigmoidCrossEntropyLoss ------------------------------------------------------------------------


def cross_entropy(x, t):
    p = 1 / (1 + np.exp(-x.astype(float)))
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


@pytest.mark.parametrize("ignore", ["", "ignore_label: 255", "ignore_label: 1"])
@pytest.mark.parametrize(
    "mode",
    [
        "",
        "normalize: true",
        "normalize: false",
        "normalization: FULL",
        "normalization: VALID",
        "normalization: BATCH_SIZE",
        "normalization: NONE",
        "normalization: VALID normalize: false",
    ],
)
def test_sigmoid_cross_entropy(ignore, mode):
    x = noise(3, 4, 2)
    targets = np.random.RandomState(0).choice([0, 1, 0.25, 1.75], (3, 4, 2)).astype(np.float32)
    kept = np.ones(targets.shape, bool)
    if ignore == "ignore_label: 255":
        targets[0, :3, 0] = 255
        kept = targets != 255
    elif ignore:
        kept = targets < 1  # compared after truncation
    denominator = {
        "": 3,
        "normalize: true": kept.sum(),
        "normalize: false": 3,
        "normalization: FULL": 24,
        "normalization: VALID": kept.sum(),
        "normalization: BATCH_SIZE": 3,
        "normalization: NONE": 1,
        "normalization: VALID normalize: false": kept.sum(),
    }[mode]
    text = SIGMOID % f"{ignore} {mode}"
    wanted = cross_entropy(x, targets)[kept].sum() / denominator
    assert output(text, x, targets, propagate=FIRST) == pytest.approx(wanted, rel=1e-5)
    rig = check_gradient(text, x, targets, propagate=FIRST)
    assert (rig.bottom[0].diff[~kept] == 0).all()


def test_sigmoid_cross_entropy_of_large_scores():
    rig = Rig(SIGMOID % "", [[1e4, -1e4, 1e4, -1e4]], [[1.0, 0, 0, 1]], propagate=FIRST)
    assert rig.forward()[0] == 2e4
    assert rig.backward(1)[0].tolist() == [[0, 0, 1, -1]]


def test_sigmoid_cross_entropy_takes_targets_of_another_shape():
    x, targets = noise(3, 4, 2), labels(3, 8, classes=2)
    assert output(SIGMOID % "", x, targets) == output(SIGMOID % "", x, targets.reshape(x.shape))


def test_all_targets_ignored_cost_nothing():
    for mode in ("VALID", "BATCH_SIZE", "FULL", "NONE"):
        text = SIGMOID % f"ignore_label: -1 normalization: {mode}"
        rig = Rig(text, noise(2, 3), -np.ones((2, 3)), propagate=FIRST)
        assert rig.forward()[0] == 0 and (rig.backward(1)[0] == 0).all()


def test_sigmoid_cross_entropy_refusals():
    refuses(FIRST_AXIS, SIGMOID % "", (2, 3), (3, 2))
    refuses(
        "layer inputs must have the same count. bottom[0] is 2x3, bottom[1] 2x4", SIGMOID % "", (2, 3), (2, 4)
    )


# -- InfogainLoss ------------------------------------------------------------------------------------


def infogain(x, truth, matrix, axis, ignored=None):
    """Cost of each prediction that counts."""
    x = np.moveaxis(x.astype(float), axis, -1).reshape(-1, x.shape[axis])
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    truth = truth.ravel().astype(int)
    kept = truth != ignored
    return -(matrix.reshape(p.shape[1], -1)[truth[kept]] * np.log(np.maximum(p[kept], 1e-20))).sum(1)


GAINS = np.float32([[1, 0.2, 0], [0.1, 2, -0.5], [0, 0, 3]])


@pytest.mark.parametrize("ignore", ["", "ignore_label: 2"])
@pytest.mark.parametrize(
    "mode", ["", *(f"normalization: {m}" for m in ("FULL", "VALID", "BATCH_SIZE", "NONE"))]
)
@pytest.mark.parametrize(
    ("axis", "scores", "truth"),
    [(1, (2, 3, 2, 2), (2, 1, 2, 2)), (1, (5, 3), (5,)), (-1, (2, 2, 3), (2, 2))],
)
def test_infogain(ignore, mode, axis, scores, truth):
    x, truth = noise(*scores), labels(*truth, classes=3)
    text = INFOGAIN % (f"{ignore} {mode}", f"axis: {axis}")
    costs = infogain(x, truth, GAINS, axis, 2 if ignore else None)
    outer = int(np.prod(scores[: axis % len(scores)]))
    denominator = {
        "": len(costs),
        "normalization: FULL": truth.size,
        "normalization: VALID": len(costs),
        "normalization: BATCH_SIZE": outer,
        "normalization: NONE": 1,
    }[mode]
    only_scores = [True, False, False]
    rig = check_gradient(text, x, truth, GAINS, propagate=only_scores)
    assert rig.top[0].data == pytest.approx(costs.sum() / denominator, rel=1e-5)


def test_infogain_matrix_of_a_file(tmp_path):
    path = tmp_path / "gains.binaryproto"
    proto = caffe_pb2.BlobProto(num=1, channels=1, height=3, width=3, data=GAINS.ravel())
    path.write_bytes(proto.SerializeToString())
    x, truth = noise(4, 3), labels(4, classes=3)
    text = INFOGAIN % ("", f'source: "{path}"')
    assert output(text, x, truth) == output(INFOGAIN % ("", ""), x, truth, GAINS.reshape(1, 1, 3, 3))
    check_gradient(text, x, truth, propagate=FIRST)
    refuses(f"for each of the 4 classes, but {path} is 1x1x3x3", text, (2, 4), (2,))


def test_infogain_with_the_identity_is_softmax_loss():
    x, truth = noise(2, 3, 4), labels(2, 4, classes=3)
    ours = Rig(INFOGAIN % ("", ""), x, truth, np.eye(3), propagate=[True, False, False])
    theirs = Rig('type: "SoftmaxWithLoss"', x, truth, propagate=FIRST)
    np.testing.assert_allclose(ours.forward(), theirs.forward(), rtol=1e-6)
    np.testing.assert_allclose(ours.backward(1)[0], theirs.backward(1)[0], rtol=1e-5, atol=1e-7)


def test_infogain_is_bounded_and_its_gradient_is_not():
    rig = Rig(INFOGAIN % ("", ""), [[0.0, 1000]], [0], np.eye(2), propagate=[True, False, False])
    assert rig.forward()[0] == pytest.approx(-np.log(1e-20), rel=1e-6)
    assert rig.backward(1)[0].tolist() == [[-1, 1]]


def test_infogain_gives_the_probabilities():
    x, truth = noise(2, 3, 2), labels(2, 2, classes=3)
    loss, p = outputs(INFOGAIN % ("", ""), x, truth, GAINS, tops=2)
    np.testing.assert_allclose(p, np.exp(x) / np.exp(x).sum(1, keepdims=True), rtol=1e-5)
    assert loss == output(INFOGAIN % ("", ""), x, truth, GAINS)


def test_infogain_refusals(tmp_path):
    shapes = (2, 3), (2,)
    refuses("Infogain matrix source must be specified.", INFOGAIN % ("", ""), *shapes)
    refuses('normalize is deprecated. use "normalization"', INFOGAIN % ("normalize: true", ""), *shapes)
    missing = tmp_path / "no.binaryproto"
    refuses(f"Could not open file {missing}", INFOGAIN % ("", f'source: "{missing}"'), *shapes)
    (tmp_path / "text").write_text("1 0 0 1")
    refuses("not a readable binaryproto", INFOGAIN % ("", f'source: "{tmp_path / "text"}"'), *shapes)
    text = INFOGAIN % ("", "")
    refuses("a row and a column for each of the 3 classes, but bottom[2] is 2x3", text, *shapes, (2, 3))
    refuses(
        "Number of labels must match number of predictions; e.g., if infogain axis == 1",
        text,
        (2, 3, 4),
        (2, 3),
        (9,),
    )
    refuses(FIRST_AXIS, text, (2, 3), (3,), (9,))
    refuses("axis 2 out of range", INFOGAIN % ("", "axis: 2"), *shapes, (9,))
    with pytest.raises(CaffeError, match="1 labels are out of range: 3"):
        output(text, noise(2, 3), [0, 3], GAINS)


def test_infogain_matrix_gets_no_gradient():
    rig = Rig(INFOGAIN % ("", ""), noise(2, 3), [0, 1], GAINS, propagate=[True, False, True])
    rig.forward()
    with pytest.raises(CaffeError, match="InfogainLoss Layer cannot backpropagate to infogain inputs"):
        rig.backward(1)


# -- all of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [HINGE % "", LOGISTIC, SIGMOID % "", INFOGAIN % ("", "")],
    ids=["hinge", "logistic", "sigmoid", "infogain"],
)
def test_labels_get_no_gradient(text):
    bottoms = [np.full((2, 3), 0.5), np.zeros((2, 3) if "Sigmoid" in text else 2)]
    if "Infogain" in text:
        bottoms.append(GAINS)
    rig = Rig(text, *bottoms, propagate=[True, True, False][: len(bottoms)])
    rig.forward()
    with pytest.raises(CaffeError, match=f"{rig.layer.type} Layer cannot backpropagate to label inputs"):
        rig.backward(1)


def net_text(kind, shapes, tops="", more=""):
    text = "force_backward: true "
    for i, shape in enumerate(shapes):
        dims = " ".join(f"dim: {size}" for size in shape)
        text += f'layer {{ name: "i{i}" type: "Input" top: "b{i}" input_param {{ shape {{ {dims} }} }} }} '
    bottoms = " ".join(f'bottom: "b{i}"' for i in range(len(shapes)))
    return text + f'layer {{ name: "l" type: "{kind}" {bottoms} {tops} {more} }}'


NETS = {
    "ContrastiveLoss": ([(4, 3), (4, 3), (4,)], [True, True, False]),
    "EuclideanLoss": ([(4, 3), (4, 3)], [True, True]),
    "HingeLoss": ([(4, 3), (4,)], [True, False]),
    "InfogainLoss": ([(4, 3), (4,), (3, 3)], [True, False, False]),
    "MultinomialLogisticLoss": ([(4, 3), (4,)], [True, False]),
    "SigmoidCrossEntropyLoss": ([(4, 3), (4, 3)], [True, False]),
    "SoftmaxWithLoss": ([(4, 3), (4,)], [True, False]),
}


@pytest.mark.parametrize("kind", NETS)
def test_in_a_net_with_force_backward(make_net, kind):
    """Weight 1 without being told, a top without being named, no gradient for labels."""
    shapes, wanted = NETS[kind]
    net = make_net(net_text(kind, shapes))
    for i, shape in enumerate(shapes):
        net.blobs[f"b{i}"].data[...] = np.abs(noise(*shape, seed=i)) if i == 0 else labels(*shape, classes=2)
        net.blobs[f"b{i}"].diff[...] = 7
    loss = net._forward(0, len(net.layers) - 1)
    assert loss > 0 and loss == pytest.approx(float(net.blobs["(automatic)"].data))
    net.backward()
    for i, want in enumerate(wanted):
        diff = net.blobs[f"b{i}"].diff
        assert (diff != 7).any() and (diff != 0).any() if want else (diff == 7).all()


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "InfogainLoss"])
@pytest.mark.parametrize(
    ("more", "weight"), [("", 1), ("loss_weight: 2", 2), ("loss_weight: 3 loss_weight: 0", 3)]
)
def test_two_tops_in_a_net(make_net, kind, more, weight):
    """BVLC Caffe cannot build SoftmaxWithLoss with two (its issue 2968); the second has the probabilities."""
    shapes, _ = NETS[kind]
    net = make_net(net_text(kind, shapes, 'top: "loss" top: "p"', more), caffe.TRAIN)
    arrays = [noise(4, 3), labels(4, classes=3), GAINS]
    for i in range(len(shapes)):
        net.blobs[f"b{i}"].data[...] = arrays[i]
    assert set(net.outputs) == {"loss", "p"}
    assert net.blob_loss_weights["loss"] == weight and net.blob_loss_weights["p"] == 0
    net.forward()
    np.testing.assert_allclose(net.blobs["p"].data.sum(1), 1, rtol=1e-5)
    net.backward()
    one = make_net(net_text(kind, shapes, 'top: "loss"', f"loss_weight: {weight}"), caffe.TRAIN)
    for i in range(len(shapes)):
        one.blobs[f"b{i}"].data[...] = arrays[i]
    one.forward(), one.backward()
    assert np.array_equal(net.blobs["b0"].diff, one.blobs["b0"].diff) and net.blobs["b0"].diff.any()
    assert net.blobs["loss"].data == one.blobs["loss"].data


@pytest.mark.parametrize(
    ("kind", "shapes", "message"),
    [
        ("ContrastiveLoss", [(4, 3), (4, 3)], "ContrastiveLoss Layer takes 3 bottom blob(s) as input."),
        ("EuclideanLoss", [(4, 3)], "EuclideanLoss Layer takes 2 bottom blob(s) as input."),
        ("InfogainLoss", [(4, 3)], "InfogainLoss Layer takes at least 2 bottom blob(s) as input."),
        (
            "InfogainLoss",
            [(4, 3), (4,), (9,), (9,)],
            "InfogainLoss Layer takes at most 3 bottom blob(s) as input.",
        ),
    ],
)
def test_bottom_counts(make_net, kind, shapes, message):
    with pytest.raises(CaffeError) as caught:
        make_net(net_text(kind, shapes))
    assert message in str(caught.value)


def test_top_counts(make_net):
    for kind, most in (("EuclideanLoss", 1), ("SigmoidCrossEntropyLoss", 1), ("InfogainLoss", 2)):
        tops = 'top: "a" top: "b" top: "c"'
        rule = "produces 1" if most == 1 else "produces at most 2"
        with pytest.raises(CaffeError, match=f"{kind} Layer {rule} top blob"):
            make_net(net_text(kind, NETS[kind][0], tops))


@pytest.mark.parametrize("kind", NETS)
def test_no_items_is_no_crash(kind):
    """The mean over no items is no number, or 0 where the denominator is at least 1."""
    shapes, propagate = NETS[kind]
    bottoms = [np.zeros([0 if size == 4 else size for size in shape]) for shape in shapes]
    rig = Rig(f'type: "{kind}"', *bottoms, propagate=propagate)
    (loss,) = rig.forward()
    assert np.isnan(loss) or loss == 0
    assert rig.backward(1)[0].shape == (0, 3)


@pytest.mark.parametrize("kind", NETS)
def test_the_batch_may_change_its_size(kind):
    shapes, propagate = NETS[kind]
    bottoms = [np.abs(noise(*shapes[0])), *(labels(*shape, classes=2) for shape in shapes[1:])]
    rig = Rig(f'type: "{kind}"', *bottoms, propagate=propagate)
    rig.forward()
    smaller = [array[:2] if len(array) == 4 else array for array in bottoms]
    for blob, array in zip(rig.bottom, smaller, strict=True):
        blob.reshape(*array.shape)
        blob.data[...] = array
    fresh = Rig(f'type: "{kind}"', *smaller, propagate=propagate)
    assert rig.forward()[0] == fresh.forward()[0]
    for ours, wanted in zip(rig.backward(1), fresh.backward(1), strict=True):
        assert np.array_equal(ours, wanted)


def test_what_the_layers_read_stays_as_it_was():
    x, truth = noise(4, 3), labels(4, classes=3)
    for text, others in (
        (HINGE % "", [truth]),
        (SIGMOID % "ignore_label: 1", [noise(4, 3, seed=2)]),
        (INFOGAIN % ("ignore_label: 1", ""), [truth, GAINS]),
        (CONTRASTIVE % "", [noise(4, 3, seed=2), truth]),
    ):
        rig = Rig(text, x, *others, propagate=[True] + [False] * len(others))
        rig.forward(), rig.backward(1)
        for blob, array in zip(rig.bottom, [x, *others], strict=True):
            assert np.array_equal(blob.data, make_blob(array).data)
