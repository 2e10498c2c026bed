"""Softmax and SoftmaxWithLoss."""

import numpy as np
import pytest
from layer_check import Rig, check_gradient, noise, output, outputs, refuses

LOSS = 'type: "SoftmaxWithLoss" %s'
LABELS_ONLY = [True, False]  # no gradient for labels


def softmax(x, axis):
    e = np.exp(x.astype(float) - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("in_place", [False, True])
def test_softmax(axis, in_place):
    x = 3 * noise(2, 4, 3)
    text = f'type: "Softmax" softmax_param {{ axis: {axis} }}'
    np.testing.assert_allclose(output(text, x, in_place=in_place), softmax(x, axis), rtol=1e-5)
    check_gradient(text, x, in_place=in_place)


def test_softmax_of_large_scores():
    assert output('type: "Softmax"', [[1e4, 1e4, -1e4]]).tolist() == [[0.5, 0.5, 0]]


VECTOR_LABELS = np.array([0, 1, 2, 255, 255, 0, 255, 1])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("", 1),
        ("normalize: false", 2.5),
        ("normalize: true", 1),
        ("normalization: FULL", 0.625),
        ("normalization: NONE", 5),
        ("normalization: BATCH_SIZE", 2.5),
        ("normalization: VALID normalize: false", 1),
    ],
)
def test_zero_scores_cost_ln_c(fields, expected):
    """N=2, C=3, 2x2 predictions, 3 of 8 labels ignored; what BVLC Caffe printed, in units of ln 3."""
    text = LOSS % f"loss_param {{ ignore_label: 255 {fields} }}"
    rig = Rig(text, np.zeros((2, 3, 2, 2)), VECTOR_LABELS.reshape(2, 1, 2, 2), propagate=LABELS_ONLY)
    (loss,) = rig.forward()
    assert loss.shape == ()
    assert float(loss) / np.log(3) == pytest.approx(expected, rel=1e-6)
    # the gradient has the same denominator: softmax minus one-hot, times 5 / expected of it
    diff = rig.backward(1)[0].transpose(0, 2, 3, 1).reshape(8, 3)
    wanted = np.full((8, 3), 1 / 3)
    wanted[np.arange(8)[VECTOR_LABELS < 3], VECTOR_LABELS[VECTOR_LABELS < 3]] -= 1
    wanted[VECTOR_LABELS == 255] = 0
    np.testing.assert_allclose(diff, wanted * expected / 5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mode", ["", "normalize: false", "normalization: FULL", "normalization: NONE"])
def test_all_ignored_costs_nothing(mode):
    text = LOSS % f"loss_param {{ ignore_label: 255 {mode} }}"
    rig = Rig(text, noise(1, 3, 2, 2), np.full((1, 2, 2), 255), propagate=LABELS_ONLY)
    assert float(rig.forward()[0]) == 0
    assert (rig.backward(1)[0] == 0).all()


@pytest.mark.parametrize("fields", ["", "normalize: false", "normalization: NONE", "normalization: FULL"])
@pytest.mark.parametrize("ignore", ["", "ignore_label: 2"])
@pytest.mark.parametrize(
    ("axis", "scores", "labels"),
    [
        (1, (2, 3, 2, 3), (2, 1, 2, 3)),
        (1, (2, 3, 2, 3), (2, 2, 3)),
        (1, (2, 3, 2, 3), (2, 6)),
        (1, (4, 3), (4,)),
        (1, (4, 3), (4, 1, 1, 1)),
        (2, (2, 2, 3), (2, 2)),
        (-1, (2, 2, 3), (2, 2, 1)),
    ],
)
def test_values_and_gradients(fields, ignore, axis, scores, labels):
    x = noise(*scores)
    truth = np.random.RandomState(0).randint(0, 3, labels)
    text = LOSS % f"softmax_param {{ axis: {axis} }} loss_param {{ {fields} {ignore} }}"
    rig = check_gradient(text, x, truth, propagate=LABELS_ONLY)
    probability = np.moveaxis(softmax(x, axis), axis, -1).reshape(-1, 3)
    cost = -np.log(probability[np.arange(truth.size), truth.ravel()])
    kept = truth.ravel() != 2 if ignore else np.ones(truth.size, bool)
    outer = int(np.prod(scores[: axis % len(scores)]))
    denominator = {
        "": kept.sum(),
        "normalize: false": outer,
        "normalization: NONE": 1,
        "normalization: FULL": truth.size,
    }[fields]
    assert float(rig.top[0].data) == pytest.approx(cost[kept].sum() / denominator, rel=1e-5)


def test_the_cost_saturates_and_the_gradient_does_not():
    rig = Rig(LOSS % "", [[0.0, 1000, 0]], [0], propagate=LABELS_ONLY)
    assert float(rig.forward()[0]) == pytest.approx(87.33655, rel=1e-6)
    assert rig.backward(1)[0].tolist() == [[-1, 1, 0]]


def test_loss_weight_scales_the_gradient():
    rig = Rig(LOSS % "", noise(2, 3), [0, 2], propagate=LABELS_ONLY)
    rig.forward()
    (single, _), (triple, _) = rig.backward(1), rig.backward(3)
    np.testing.assert_allclose(triple, 3 * single, rtol=1e-6)


def test_labels_are_truncated_toward_zero():
    x = noise(4, 3)
    assert float(output(LOSS % "", x, [1.9, -0.9, 2.5, 0.1])) == float(output(LOSS % "", x, [1, 0, 2, 0]))


def test_a_second_top_has_the_probabilities_and_passes_no_gradient():
    x, labels = noise(2, 3, 2), np.array([[0, 2], [1, 1]])
    loss, probability = outputs(LOSS % "", x, labels, tops=2, propagate=LABELS_ONLY)
    np.testing.assert_allclose(probability, softmax(x, 1), rtol=1e-5)
    assert float(loss) == float(output(LOSS % "", x, labels, propagate=LABELS_ONLY))
    both = Rig(LOSS % "", x, labels, tops=2, propagate=LABELS_ONLY)
    one = Rig(LOSS % "", x, labels, propagate=LABELS_ONLY)
    both.forward(), one.forward()
    assert np.array_equal(both.backward(1, 99)[0], one.backward(1)[0])


def test_without_a_top_name_there_is_one_top():
    """A net then makes an unnamed top itself."""
    rig = Rig(LOSS % "", noise(2, 3), [0, 1], tops=1, propagate=LABELS_ONLY)
    del rig.layer.layer_param.top[:]
    assert rig.layer.auto_tops and rig.layer.is_loss
    assert rig.forward()[0].shape == ()


@pytest.mark.parametrize(
    ("labels", "ignore", "message"),
    [
        (
            [0, 3, 255, 255],
            "",
            "3 labels are out of range: 3 (1 pixels), 255 (2 pixels). The 3 classes are 0..2, and no ",
        ),
        (
            [0, 3, 255, 255],
            "ignore_label: 255",
            "1 labels are out of range: 3 (1 pixels). The 3 classes are 0..2, and the ignore_label is 255",
        ),
        ([0, -1, 0, 0], "", "1 labels are out of range: -1 (1 pixels)"),
        ([1e9, 0, 0, 0], "", "1e+09 (1 pixels)"),
        ([np.nan, 0, 0, 0], "", "nan (1 pixels)"),
    ],
)
def test_labels_out_of_range(labels, ignore, message):
    rig = Rig(LOSS % f"loss_param {{ {ignore} }}", noise(1, 3, 2, 2), np.reshape(labels, (1, 2, 2)))
    with pytest.raises(RuntimeError) as caught:
        rig.forward()
    assert message in str(caught.value)


def test_many_wrong_labels_are_summed_up():
    rig = Rig(LOSS % "", noise(1, 3, 20), np.arange(20).reshape(1, 20))
    with pytest.raises(RuntimeError, match=r"17 labels .* 7 \(1 pixels\), 12 more values"):
        rig.forward()


def test_ignore_label_may_be_negative_or_a_class():
    x = noise(1, 3, 2)
    for ignored in (-1, 1):
        text = LOSS % f"loss_param {{ ignore_label: {ignored} }}"
        assert float(output(text, x, [[ignored, 2]])) == pytest.approx(
            -np.log(softmax(x, 1)[0, 2, 1]), rel=1e-5
        )


def test_labels_get_no_gradient():
    rig = Rig(LOSS % "", noise(2, 3), [0, 1])
    rig.forward()
    with pytest.raises(RuntimeError, match="SoftmaxWithLoss Layer cannot backpropagate to label inputs"):
        rig.backward(1)


def test_backward_can_run_twice():
    rig = Rig(LOSS % "", noise(2, 3), [0, 1], propagate=LABELS_ONLY)
    rig.forward()
    first, second = rig.backward(1)[0], rig.backward(1)[0]
    assert np.array_equal(first, second)


def test_refusals():
    refuses(
        "Number of labels must match number of predictions; e.g., if softmax axis == 1 and prediction shape is "
        "(N, C, H, W), label count (number of labels) must be N*H*W, with integer values in {0, 1, ..., C-1}.",
        LOSS % "",
        (2, 3, 4, 4),
        (2, 1, 4, 5),
    )
    refuses("The data and label should have the same first dimension.", LOSS % "", (2, 3, 4), (4, 2))
    refuses("The data and label should have the same first dimension.", LOSS % "", (2, 3), ())
    refuses("axis 4 out of range", LOSS % "softmax_param { axis: 4 }", (2, 3), (2,))
    refuses("axis 2 out of range", 'type: "Softmax" softmax_param { axis: 2 }', (2, 3))


def test_what_is_kept_for_backward_is_the_probabilities_and_little_more():
    """No second array of the scores' size, so no one-hot labels: it matters at 21x500x500."""
    text = LOSS % "loss_param { ignore_label: 255 }"
    rig = Rig(text, np.zeros((1, 21, 8, 8)), np.zeros((1, 8, 8)), propagate=LABELS_ONLY)
    rig.forward()
    loss = rig.layer._recorded[2][0]
    assert sorted(kept.numel() for kept in loss.grad_fn.saved_tensors) == [64, 64, 21 * 64]


def test_the_bottoms_stay_as_they_were():
    scores, labels = noise(2, 3), np.array([0.0, 255])
    rig = Rig(LOSS % "loss_param { ignore_label: 255 }", scores, labels, propagate=LABELS_ONLY)
    rig.forward(), rig.backward(1)
    assert np.array_equal(rig.bottom[0].data, scores) and np.array_equal(rig.bottom[1].data, labels)
