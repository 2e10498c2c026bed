import math

import caffe
import numpy as np
import pytest
from PIL import Image
from trees import MEAN, items, voc_tree

import score

# rows truth, columns prediction; class 2 does not occur in the truth
HIST = np.array([[6, 2, 0], [1, 3, 1], [0, 0, 0]])


def test_fast_hist_counts_truth_in_rows_and_ignores_void():
    truth = np.array([[0, 0, 1], [255, 2, -1]])
    prediction = np.array([[0, 1, 1], [0, 0, 2]])
    assert score.fast_hist(truth, prediction, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert score.fast_hist(truth.astype(np.float32), prediction, 3).sum() == 4  # as a blob holds labels


def test_fast_hist_equals_counting_one_by_one():
    random = np.random.default_rng(1)
    truth, prediction = random.integers(0, 9, (20, 30)), random.integers(0, 7, (20, 30))
    hist = score.fast_hist(truth, prediction, 7)
    for i in range(7):
        for j in range(7):
            assert hist[i, j] == np.count_nonzero((truth == i) & (prediction == j))


def test_fast_hist_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="from 3 to 3; valid are 0 to 2"):
        score.fast_hist(np.array([0]), np.array([3]), 3)
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        score.fast_hist(np.zeros(2), np.zeros(3), 3)
    assert score.fast_hist(np.array([255]), np.array([3]), 3).sum() == 0  # void may be predicted as anything


def test_the_four_metrics_by_hand():
    assert score.pixel_accuracy(HIST) == pytest.approx(9 / 13)
    assert score.mean_accuracy(HIST) == pytest.approx((6 / 8 + 3 / 5) / 2)
    assert score.mean_iu(HIST) == pytest.approx((6 / 9 + 3 / 7) / 2)
    assert score.freq_weighted_iu(HIST) == pytest.approx((8 * 6 / 9 + 5 * 3 / 7) / 13)


def test_both_conventions_for_absent_classes():
    assert score.mean_accuracy(HIST, "zero") == pytest.approx((6 / 8 + 3 / 5) / 3)
    assert score.mean_iu(HIST, "zero") == pytest.approx((6 / 9 + 3 / 7) / 3)
    np.testing.assert_allclose(score.class_iu(HIST), [6 / 9, 3 / 7, np.nan])
    np.testing.assert_allclose(score.class_accuracy(HIST), [6 / 8, 3 / 5, np.nan])
    with pytest.raises(ValueError, match="'skip' or 'zero'"):
        score.mean_iu(HIST, "nan")


def test_metrics_of_masks_one_by_one():
    random = np.random.default_rng(2)
    truth, prediction = random.integers(0, 5, 4000), random.integers(0, 5, 4000)
    hist = score.fast_hist(truth, prediction, 5)
    ius = [
        np.count_nonzero((truth == c) & (prediction == c))
        / np.count_nonzero((truth == c) | (prediction == c))
        for c in range(5)
    ]
    recalls = [np.mean(prediction[truth == c] == c) for c in range(5)]
    assert score.pixel_accuracy(hist) == pytest.approx(np.mean(truth == prediction))
    assert score.mean_accuracy(hist) == pytest.approx(np.mean(recalls))
    assert score.mean_iu(hist) == pytest.approx(np.mean(ius))
    assert score.freq_weighted_iu(hist) == pytest.approx(sum(np.mean(truth == c) * ius[c] for c in range(5)))


@pytest.mark.parametrize(
    ("hist", "skip", "zero"),
    [  # (pixel accuracy, mean accuracy, mean IU, f.w. IU), absent classes left out; the means with them as 0
        ([[3, 0], [0, 5]], (1, 1, 1, 1), (1, 1)),
        ([[0, 4], [4, 0]], (0, 0, 0, 0), (0, 0)),
        ([[6, 0], [2, 0]], (3 / 4, 1 / 2, 3 / 8, 9 / 16), (1 / 2, 3 / 8)),  # one class everywhere
        (
            [[7, 1], [0, 0]],
            (7 / 8, 7 / 8, 7 / 8, 7 / 8),
            (7 / 16, 7 / 16),
        ),  # one occurs, the other is predicted
        ([[7, 0, 0], [0, 0, 0], [1, 0, 2]], (9 / 10, 5 / 6, 37 / 48, 65 / 80), (5 / 9, 37 / 72)),  # neither
    ],
)
def test_metrics_of_small_matrices_by_hand(hist, skip, zero):
    hist = np.array(hist)
    assert tuple(score.Scores(hist).metrics().values()) == pytest.approx(skip)
    found = score.Scores(hist).metrics("zero")
    assert (found["mean accuracy"], found["mean IU"]) == pytest.approx(zero)
    assert (found["pixel accuracy"], found["f.w. IU"]) == pytest.approx((skip[0], skip[3]))


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_scikit_learns(seed):
    """Of 12 classes some do not occur, some are not predicted, some neither."""
    metrics = pytest.importorskip("sklearn.metrics")
    random, classes = np.random.default_rng(seed), np.arange(12)
    occur, guessed = (random.choice(classes, 7, replace=False) for _ in range(2))
    truth = random.choice(occur, 3000, p=random.dirichlet(np.ones(7)))
    right = np.isin(truth, guessed) & (random.random(3000) < 0.6)
    predicted = np.where(right, truth, random.choice(guessed, 3000))
    hist = score.fast_hist(truth, predicted, 12)
    np.testing.assert_array_equal(hist, metrics.confusion_matrix(truth, predicted, labels=classes))
    there = np.unique(truth)
    assert 2 < len(there) < 12 and len(np.union1d(there, guessed)) > len(there)
    expected = {"zero_division": 0, "average": "macro"}
    assert score.pixel_accuracy(hist) == pytest.approx(metrics.accuracy_score(truth, predicted))
    for absent, labels in (("skip", there), ("zero", classes)):
        recall = metrics.recall_score(truth, predicted, labels=labels, **expected)
        assert score.mean_accuracy(hist, absent) == pytest.approx(recall)
        jaccard = metrics.jaccard_score(truth, predicted, labels=labels, **expected)
        assert score.mean_iu(hist, absent) == pytest.approx(jaccard)
    weighted = metrics.jaccard_score(truth, predicted, labels=there, average="weighted")
    assert score.freq_weighted_iu(hist) == pytest.approx(weighted)


def test_metrics_of_nothing_are_nan():
    nothing = np.zeros((3, 3), int)
    for metric in (score.pixel_accuracy, score.mean_accuracy, score.mean_iu, score.freq_weighted_iu):
        assert math.isnan(metric(nothing))


def test_tables():
    text = score.metrics_table(HIST)
    assert (
        "pixel accuracy  0.6923" in text
        and "mean IU         0.5476   over the 2 classes that occur; 0.3651" in text
    )
    assert "over the" not in score.metrics_table(np.eye(3, dtype=int))
    lines = score.class_table(HIST, ["background", "cat", "dog"]).splitlines()
    assert lines[1].split() == ["background", "0.667", "0.750", "61.5%", "53.8%"]
    assert lines[3].split() == ["dog", "nan", "nan", "0.0%", "7.7%"]


def test_log_loss_is_softmax_with_loss(tmp_path):
    random = np.random.default_rng(3)
    scores = random.normal(0, 3, (1, 5, 6, 7)).astype(np.float32)
    labels = random.integers(0, 5, (1, 1, 6, 7))
    labels[0, 0, 0] = 255
    net = score_net(tmp_path, scores, labels, "normalize: false")
    net.forward()
    total, valid = score.log_loss(scores[0], labels[0, 0])
    assert valid == 35
    assert total == pytest.approx(float(net.blobs["loss"].data), rel=1e-5)


# collapse


def test_one_class_everywhere_is_named():
    hist = np.zeros((21, 21), int)
    hist[:, 0] = 10
    hist[0, 0] = 800
    (sentence,) = score.fingerprints(hist, 1.5)
    assert "predicts class 0 for every pixel" in sentence and "0.047619 = 1/21" in sentence
    assert score.mean_iu(hist) == pytest.approx(score.pixel_accuracy(hist) / 21)


def test_uniform_scores_are_named():
    sentences = score.fingerprints(np.eye(21, dtype=int), math.log(21))
    assert len(sentences) == 1 and "ln 21 = 3.0445" in sentences[0]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_divergence_is_named(loss):
    assert "diverged" in score.fingerprints(np.eye(21, dtype=int), loss)[0]


def test_a_healthy_net_and_a_set_of_one_class_are_left_in_peace():
    assert score.fingerprints(np.eye(21, dtype=int), 0.3) == []
    only = np.zeros((3, 3), int)
    only[0, 0] = 9
    assert score.fingerprints(only, 0.1) == []


# nets


def score_net(tmp_path, scores, labels, loss="", loss_name="loss"):
    """A net whose scores and labels are given, with the loss."""

    def layer(name, array):
        dims = " ".join(f"dim: {d}" for d in array.shape)
        return (
            f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
        )

    path = tmp_path / "score.prototxt"
    path.write_text(
        layer("score", scores)
        + layer("label", labels)
        + f'layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "{loss_name}" '
        f"loss_param {{ ignore_label: 255 {loss} }} }}\n"
    )
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["score"].data[...] = scores
    net.blobs["label"].data[...] = labels
    return net


@pytest.fixture
def batch():
    random = np.random.default_rng(4)
    scores = random.normal(size=(2, 4, 5, 6)).astype(np.float32)
    labels = random.integers(0, 4, (2, 1, 5, 6))
    labels[0, 0, 0] = 255
    return scores, labels


def test_every_item_of_a_batch_counts(tmp_path, batch):
    scores, labels = batch
    net = score_net(tmp_path, *batch)
    expected = sum(score.fast_hist(labels[i, 0], scores[i].argmax(0), 4) for i in range(2))
    hist, loss = score.compute_hist(net, None, 1)
    np.testing.assert_array_equal(hist, expected)
    assert loss == pytest.approx(float(net.blobs["loss"].data))
    np.testing.assert_array_equal(score.compute_hist(net, None, ["a", "b"])[0], expected)
    np.testing.assert_array_equal(score.compute_hist(net, None, 3)[0], 3 * expected)
    first = score.fast_hist(labels[0, 0], scores[0].argmax(0), 4)
    np.testing.assert_array_equal(score.compute_hist(net, None, ["a", "b", "c"])[0], expected + first)


def test_loss_per_pixel_does_not_depend_on_how_the_loss_is_normalised(tmp_path, batch):
    results = [
        score.score_net(score_net(tmp_path, *batch, loss), None, 1) for loss in ("", "normalize: false")
    ]
    assert results[0].loss_per_pixel == pytest.approx(results[0].loss, rel=1e-5)
    assert results[1].loss == pytest.approx(results[0].loss * 54 / 2, rel=1e-5)  # 54 valid pixels, batch of 2
    assert results[1].loss_per_pixel == pytest.approx(results[0].loss_per_pixel)


def test_a_net_without_a_loss_of_that_name_has_none(tmp_path, batch):
    result = score.score_net(score_net(tmp_path, *batch, loss_name="cost"), None, 1)
    assert result.loss is None and result.loss_per_pixel > 0


def test_predictions_are_saved_as_palette_png(tmp_path, batch):
    net = score_net(tmp_path, *batch)
    for _ in range(2):  # a second time, too
        score.compute_hist(net, tmp_path / "out", ["a", "b"])
    saved = Image.open(tmp_path / "out" / "b.png")
    assert saved.mode == "P" and saved.getpalette()[3:6] == [128, 0, 0]
    np.testing.assert_array_equal(np.array(saved), batch[0][1].argmax(0))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    score.compute_hist(net, tmp_path / "numbered", 1)
    assert sorted(path.name for path in (tmp_path / "numbered").iterdir()) == ["000000.png", "000001.png"]


def test_wrong_calls_are_told(tmp_path, batch):
    net = score_net(tmp_path, *batch)
    with pytest.raises(ValueError, match="no blob 'score_sem'; it has score, label, loss"):
        score.compute_hist(net, None, 1, layer="score_sem")
    with pytest.raises(ValueError, match="empty"):
        score.compute_hist(net, None, [])
    with pytest.raises(ValueError, match="sizes differ"):
        score.compute_hist(net, None, 1, gt="loss")


def test_do_seg_tests_prints_the_four_metrics_and_the_signs(tmp_path, capsys):
    net = score_net(tmp_path, np.zeros((1, 3, 2, 2)), np.array([[[[0, 1], [2, 0]]]]))
    result = score.do_seg_tests(net, 4000, str(tmp_path / "seg{}"), ["x"], names=["sky", "sea", "sand"])
    printed = capsys.readouterr().out
    for line in (
        "pixel accuracy 0.5",
        "mean accuracy 0.333333",
        "mean IU 0.166667",
        "f.w. IU 0.25",
        "loss 1.09861",
    ):
        assert f"Iteration 4000 {line}\n" in printed
    assert "sky " in printed and "sand " in printed
    assert "predicts class 0" in printed and "ln 3 = 1.0986" in printed
    assert (tmp_path / "seg4000" / "x.png").exists()
    assert result.iteration == 4000 and len(result.fingerprints()) == 2
    assert result.metrics()["pixel accuracy"] == 0.5


@pytest.fixture
def solver(tmp_path, monkeypatch):
    """A solver on synthetic VOC: scores are a 1x1 convolution of the pixels."""
    content = items()
    voc_tree(tmp_path / "VOC2011", content)
    for split in ("train", "val"):
        params = {"voc_dir": str(tmp_path / "VOC2011"), "split": split, "mean": MEAN}
        (tmp_path / f"{split}.prototxt").write_text(
            f"""layer {{ name: "data" type: "Python" top: "data" top: "label"
            python_param {{ module: "layers" layer: "VOCSegDataLayer" param_str: "{params}" }} }}
            layer {{ name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param
            {{ num_output: 21 kernel_size: 1 weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
            layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
            loss_param {{ ignore_label: 255 }} }}"""
        )
    (tmp_path / "solver.prototxt").write_text(
        f"""train_net: "{tmp_path}/train.prototxt" test_net: "{tmp_path}/val.prototxt" test_iter: 3
        test_interval: 1000 test_initialization: false base_lr: 0.001 lr_policy: "fixed"
        snapshot_prefix: "{tmp_path}/s" """
    )
    return caffe.SGDSolver(str(tmp_path / "solver.prototxt"))


def test_seg_tests_scores_the_trained_weights_from_the_first_item_on(tmp_path, solver, capsys):
    solver.step(2)
    solver.test_nets[0].forward()  # somewhere else than at the start
    result = score.seg_tests(solver, str(tmp_path / "seg"), sorted(items()))
    weights = solver.net.params["score"][0].data[:, :, 0, 0]
    bias = solver.net.params["score"][1].data
    hist = 0
    for name, (_, label) in items().items():
        pixels = np.array(Image.open(tmp_path / "VOC2011/JPEGImages" / f"{name}.jpg"))[..., ::-1] - MEAN
        prediction = (pixels @ weights.T + bias).argmax(-1)
        saved = np.array(Image.open(tmp_path / "seg" / f"{name}.png"))
        assert (saved == prediction).mean() > 0.99  # ties within rounding
        hist = hist + score.fast_hist(label, saved, 21)
    np.testing.assert_array_equal(result.hist, hist)
    assert result.iteration == 2 and "Iteration 2 mean IU" in capsys.readouterr().out


@pytest.mark.needs_embedded("the original keeps every blob of every forward")
def test_scoring_asks_for_its_blobs_by_name_so_the_net_need_not_keep_others(solver):
    result = score.seg_tests(solver, False, sorted(items()))
    assert result.hist.any() and result.loss > 0
    (net,) = solver.test_nets
    assert "score" not in net.outputs and not net.keeps_values


def test_an_item_that_is_seen_stays_as_it_was(solver):
    seen = []
    heads = [score.Head()]
    score.seg_tests_of(
        solver, False, sorted(items()), heads, seen=lambda name, head, truth, *_: seen.append((name, truth))
    )
    assert [name for name, _ in seen] == sorted(items())
    for name, truth in seen:
        np.testing.assert_array_equal(truth, items()[name][1])


def test_seg_tests_needs_a_test_net(solver):
    class Solver:
        test_nets = []

    with pytest.raises(ValueError, match="no test net"):
        score.seg_tests(Solver(), False, 1)


# several heads


@pytest.fixture
def two_heads(tmp_path):
    """A net with scores, labels and losses of a semantic and a geometric head, and those arrays."""
    random, text, given = np.random.default_rng(5), "", {}
    for head, classes, loss in (("sem", 4, "loss"), ("geo", 3, "loss_geo")):
        given[f"score_{head}"] = random.normal(size=(1, classes, 5, 6)).astype(np.float32)
        given[head] = random.integers(0, classes, (1, 1, 5, 6))
        given[head][0, 0, 0, :2] = 255
        for name in (f"score_{head}", head):
            dims = " ".join(f"dim: {size}" for size in given[name].shape)
            text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
        text += f"""layer {{ name: "{loss}" type: "SoftmaxWithLoss" bottom: "score_{head}" bottom: "{head}"
            top: "{loss}" loss_param {{ ignore_label: 255 }} }}\n"""
    path = tmp_path / "heads.prototxt"
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TEST)
    for name, values in given.items():
        net.blobs[name].data[...] = values
    return net, given


HEADS = [score.Head("score_sem", "sem", "loss"), score.Head("score_geo", "geo", "loss_geo")]


def test_several_heads_are_scored_in_one_pass_as_each_would_be_alone(tmp_path, two_heads):
    net, given = two_heads
    both = score.score_heads(net, tmp_path / "out", ["a"], HEADS)
    for head, scores in zip(HEADS, both, strict=True):
        predicted = given[head.layer][0].argmax(0)
        np.testing.assert_array_equal(
            scores.hist, score.fast_hist(given[head.gt][0, 0], predicted, len(given[head.layer][0]))
        )
        assert scores.loss == pytest.approx(float(net.blobs[head.loss].data))
        assert scores.loss_per_pixel == pytest.approx(scores.loss, rel=1e-5)
        (alone,) = score.score_heads(net, tmp_path / f"alone_{head.gt}", ["a"], [head])
        np.testing.assert_array_equal(alone.hist, scores.hist)
        assert (alone.loss, alone.loss_per_pixel) == (scores.loss, scores.loss_per_pixel)
        # a folder for each head; none where there is one
        for saved in (tmp_path / "out" / head.layer / "a.png", tmp_path / f"alone_{head.gt}" / "a.png"):
            np.testing.assert_array_equal(np.array(Image.open(saved)), predicted)


def test_of_several_heads_the_missing_one_is_named(two_heads):
    with pytest.raises(ValueError, match="no blob 'score_depth'"):
        score.score_heads(two_heads[0], None, 1, [*HEADS, score.Head("score_depth", "geo")])


def test_seg_tests_of_prints_each_head_by_name_with_its_classes(tmp_path, two_heads, capsys):
    class Net:
        """The net, as the solver's test net that shares weights."""

        def __init__(self, net):
            self.blobs, self.forward, self.layers = net.blobs, net.forward, ()

        def share_with(self, other):
            assert other == "the trained net"

    class Solver:
        iter, net, test_nets = 7, "the trained net", [Net(two_heads[0])]

    names = [["sky", "sea", "sand", "tree"], ["up", "flat", "high"]]
    results = score.seg_tests_of(Solver(), str(tmp_path / "seg{}"), 1, HEADS, names)
    printed = capsys.readouterr().out
    for head, scores, classes in zip(HEADS, results, names, strict=True):
        assert scores.iteration == 7
        assert f"Iteration 7 {head.layer} mean IU {scores.metrics()['mean IU']:.6g}\n" in printed
        assert f"Iteration 7 {head.layer} loss {scores.loss:.6g}\n" in printed
        assert all(f"\n{name} " in printed for name in classes)
        assert (tmp_path / "seg7" / head.layer / "000000.png").exists()
