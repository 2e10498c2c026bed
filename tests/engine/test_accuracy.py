"""Accuracy against a count in plain Python."""

import numpy as np
import pytest
from layer_check import Rig, noise, output, outputs, refuses, spread

TEXT = 'type: "Accuracy" accuracy_param { %s }'


@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("ignore", [None, 3])
@pytest.mark.parametrize(
    ("axis", "scores", "labels"),
    [(1, (4, 5, 3, 2), (4, 1, 3, 2)), (1, (30, 5), (30,)), (2, (3, 4, 5), (3, 4))],
)
def test_against_a_count(top_k, ignore, axis, scores, labels):
    x = spread(*scores)
    truth = np.random.RandomState(1).randint(0, 5, labels)
    fields = f"top_k: {top_k} axis: {axis}" + ("" if ignore is None else f" ignore_label: {ignore}")
    accuracy, per_class = outputs(TEXT % fields, x, truth, tops=2)
    rows = np.moveaxis(x, axis, -1).reshape(-1, 5)
    hits, seen = np.zeros(5), np.zeros(5)
    for row, label in zip(rows, truth.ravel(), strict=True):
        if label != ignore:
            seen[label] += 1
            hits[label] += label in np.argsort(-row)[:top_k]
    assert float(accuracy) == pytest.approx(hits.sum() / seen.sum(), rel=1e-6)
    np.testing.assert_allclose(per_class, hits / np.maximum(seen, 1), rtol=1e-6)


def test_ties_count_against():
    assert float(output(TEXT % "", np.zeros((2, 3)), [0, 1])) == 0
    assert float(output(TEXT % "top_k: 2", [[5, 5, 1.0]], [0])) == 1


def test_a_nan_score_of_the_true_class_counts_as_right():
    assert float(output(TEXT % "", [[np.nan, 1, 2]], [0])) == 1


def test_all_ignored_is_0():
    accuracy, per_class = outputs(TEXT % "ignore_label: 255", noise(2, 3), [255, 255], tops=2)
    assert float(accuracy) == 0 and per_class.tolist() == [0, 0, 0]


def test_an_absent_class_is_0():
    _, per_class = outputs(TEXT % "", [[0, 1, 2.0]], [2], tops=2)
    assert per_class.tolist() == [0, 0, 1]


def test_no_gradient():
    rig = Rig(TEXT % "", noise(2, 3), [0, 1])
    rig.forward()
    with pytest.raises(RuntimeError, match=r"layer 'probe' \(Accuracy\): Not Implemented Yet"):
        rig.backward(1)


def test_refusals():
    refuses(
        "Number of labels must match number of predictions; e.g., if label axis == 1",
        TEXT % "",
        (2, 3, 4),
        (2, 3),
    )
    refuses("top_k must be less than or equal to the number of classes.", TEXT % "top_k: 4", (2, 3), (2,))
    rig = Rig(TEXT % "ignore_label: 255", noise(2, 3), [3, 0])
    with pytest.raises(RuntimeError, match=r"1 labels are out of range: 3 \(1 pixels\)"):
        rig.forward()
