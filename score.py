"""Scoring: one confusion matrix over the whole set, and the four metrics of the paper's section 5.

In every matrix here ``hist[i, j]`` is the number of pixels of true class i predicted as class j
(the paper's n_ij). Pixels whose truth is outside 0..n-1 (void, 255) are in none.

    python score.py PREDICTIONS TRUTHS --classes 21     any two folders of label images (see score_folders.py)
    python score.py PHOTOGRAPHS TRUTHS --model voc-fcn8s    what a net makes of photographs (score_photographs.py)
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from tqdm import tqdm

import vis


def fast_hist(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """The confusion matrix of truth ``a`` (rows) and prediction ``b`` (columns): n x n, int64.

    ``a`` and ``b`` are arrays of class indices, of one shape. Pixels with truth outside 0..n-1
    are ignored. Raises ValueError for different shapes, or another pixel predicted outside 0..n-1.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise ValueError(f"truth is of shape {a.shape}, prediction of shape {b.shape}; they must be equal")
    valid = (a >= 0) & (a < n)
    truth, predicted = a[valid].astype(np.int64), b[valid].astype(np.int64)
    if predicted.size and not 0 <= predicted.min() <= predicted.max() < n:
        raise ValueError(
            f"predictions go from {predicted.min()} to {predicted.max()}; valid are 0 to {n - 1}"
        )
    return np.bincount(n * truth + predicted, minlength=n * n).reshape(n, n)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, nan where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray, absent: str) -> float:
    if absent == "zero":
        return float(np.nan_to_num(values).mean())
    if absent != "skip":
        raise ValueError(f"absent is {absent!r}; it must be 'skip' or 'zero'")
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def class_accuracy(hist: np.ndarray) -> np.ndarray:
    """n_ii / t_i of each class (t_i its number of true pixels); nan where t_i = 0."""
    return _ratio(np.diag(hist), hist.sum(1))


def class_iu(hist: np.ndarray) -> np.ndarray:
    """n_ii / (t_i + sum_j n_ji - n_ii), intersection over union, of each class; nan where t_i = 0."""
    return np.where(hist.sum(1) > 0, _ratio(np.diag(hist), hist.sum(1) + hist.sum(0) - np.diag(hist)), np.nan)


def pixel_accuracy(hist: np.ndarray) -> float:
    """sum_i n_ii / sum_i t_i; nan for a matrix of zeros."""
    return float(_ratio(np.trace(hist), hist.sum()))


def mean_accuracy(hist: np.ndarray, absent: str = "skip") -> float:
    """The mean of :func:`class_accuracy`.

    Classes that do not occur in the truth are left out (``absent="skip"``, as the paper does for
    SIFT Flow), or counted as 0 (``absent="zero"``: divided by the number of all classes).
    """
    return _mean(class_accuracy(hist), absent)


def mean_iu(hist: np.ndarray, absent: str = "skip") -> float:
    """The mean of :func:`class_iu`; ``absent`` as in :func:`mean_accuracy`."""
    return _mean(class_iu(hist), absent)


def freq_weighted_iu(hist: np.ndarray) -> float:
    """sum_i t_i IU_i / sum_k t_k: the mean of :func:`class_iu` weighted by how frequent a class is."""
    return float(_ratio(np.nansum(hist.sum(1) * class_iu(hist)), hist.sum()))


@dataclass
class Scores:
    """What scoring a set gives: the matrix, and all that follows from it."""

    hist: np.ndarray = field(repr=False)
    loss: float | None = None  # mean of the net's loss blob, as its loss layer normalises it, if it has one
    loss_per_pixel: float | None = None  # mean over all pixels that are not void, whatever the loss layer
    iteration: int = 0

    def metrics(self, absent: str = "skip") -> dict[str, float]:
        """The paper's four by name; ``absent`` as in :func:`mean_accuracy`."""
        return {
            "pixel accuracy": pixel_accuracy(self.hist),
            "mean accuracy": mean_accuracy(self.hist, absent),
            "mean IU": mean_iu(self.hist, absent),
            "f.w. IU": freq_weighted_iu(self.hist),
        }

    def fingerprints(self) -> list[str]:
        """Signs of a collapsed net in plain sentences; see :func:`fingerprints`."""
        return fingerprints(self.hist, self.loss_per_pixel)


def metrics_table(hist: np.ndarray) -> str:
    """The paper's four metrics, a line each; where classes are absent from the truth, both means."""
    present, classes = np.count_nonzero(hist.sum(1)), len(hist)
    skip, zero = Scores(hist).metrics("skip"), Scores(hist).metrics("zero")
    lines = []
    for name, value in skip.items():
        note = (
            f"   over the {present} classes that occur; {zero[name]:.4f} over all {classes}, the absent as 0"
        )
        lines.append(f"{name:<16}{value:.4f}" + (note if zero[name] != value and present < classes else ""))
    return "\n".join(lines)


def class_table(hist: np.ndarray, names: Sequence[str] = ()) -> str:
    """A line per class that occurs in truth or prediction: IU, accuracy, share of true and predicted pixels."""
    total = max(int(hist.sum()), 1)
    lines = [f"{'class':<16}   IU   acc.    true  predicted"]
    for i, (iu, accuracy) in enumerate(zip(class_iu(hist), class_accuracy(hist), strict=True)):
        true, predicted = hist[i].sum() / total, hist[:, i].sum() / total
        if true or predicted:
            name = vis.class_name(names, i)
            lines.append(f"{name:<16}{iu:5.3f}  {accuracy:5.3f}  {true:6.1%}  {predicted:9.1%}")
    return "\n".join(lines)


def fingerprints(hist: np.ndarray, loss_per_pixel: float | None = None) -> list[str]:
    """What a log shows when a net has collapsed, each as a sentence with its likely cause.

    One class predicted everywhere (then mean accuracy = 1/C and mean IU = pixel accuracy / C, with
    C the classes that occur); uniform scores (loss per pixel = ln C, C the classes of the net);
    scores that are not finite; two classes taken for one another. An empty list is a good sign.
    """
    said = []
    classes, occurring, predicted = len(hist), np.count_nonzero(hist.sum(1)), np.flatnonzero(hist.sum(0))
    if loss_per_pixel is not None and not math.isfinite(loss_per_pixel):
        return [f"the loss per pixel is {loss_per_pixel}: training diverged; lower base_lr"]
    if len(predicted) == 1 and occurring > 1:
        said.append(
            f"the net predicts class {predicted[0]} for every pixel (mean accuracy {mean_accuracy(hist):.6f} = 1/"
            f"{occurring}, mean IU {mean_iu(hist):.6f} = pixel accuracy/{occurring}, over the classes that occur): "
            "look for layers left at zero, a parent that was not loaded, or too small a learning rate"
        )
    if loss_per_pixel is not None and math.isclose(loss_per_pixel, math.log(classes), rel_tol=1e-4):
        said.append(
            f"the loss per pixel is ln {classes} = {math.log(classes):.4f}: every class scores the same at every "
            "pixel, usually because the score layers are zero and learn nothing"
        )
    for i, j in swapped(hist):
        said.append(
            f"classes {i} and {j} are taken for one another ({hist[i, j] / hist[i].sum():.0%} of the one, "
            f"{hist[j, i] / hist[j].sum():.0%} of the other), while pixel accuracy is {pixel_accuracy(hist):.4f}: look "
            "whether the net and its data have the same order of classes, and the image its order of channels (BGR, "
            "not RGB) and its mean"
        )
    return said


def swapped(hist: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of classes of which most of either is predicted as the other, in a matrix that is right for most pixels.

    A class with less than a thousandth of the pixels is passed over: a few pixels say nothing.
    """
    true = hist.sum(1)
    if not hist.any() or pixel_accuracy(hist) <= 0.5:
        return []
    mostly = (hist > 0.5 * true[:, np.newaxis]) & (true >= 0.001 * true.sum())[:, np.newaxis]
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(mostly & mostly.T, 1)), strict=True)]


def log_loss(scores: np.ndarray, truth: np.ndarray) -> tuple[float, int]:
    """The sum over valid pixels of -log softmax(scores)[truth], and their number.

    ``scores`` is C x H x W, ``truth`` H x W; truth outside 0..C-1 is ignored. What SoftmaxWithLoss
    computes, before it normalises.
    """
    valid = (truth >= 0) & (truth < len(scores))
    top = scores.max(0)
    with np.errstate(invalid="ignore"):  # infinite scores give nan, which the caller reports
        log_sum = np.log(np.exp(scores - top).sum(0)) + top
        own = np.take_along_axis(scores, np.where(valid, truth, 0).astype(np.intp)[np.newaxis], 0)[0]
        return float((log_sum - own)[valid].sum(dtype=np.float64)), int(np.count_nonzero(valid))


@dataclass(frozen=True)
class Head:
    """What a net predicts and with what it is compared: the names of the blobs of scores, truth and loss."""

    layer: str = "score"
    gt: str = "label"
    loss: str = "loss"


def score_net(
    net,
    save_dir: str | os.PathLike | None,
    dataset: Sequence[str] | int,
    layer: str = "score",
    gt: str = "label",
) -> Scores:
    """:func:`score_heads` for one head, whose loss is called as ``layer`` is, with "loss" for "score"."""
    return score_heads(net, save_dir, dataset, [Head(layer, gt, layer.replace("score", "loss"))])[0]


def score_heads(
    net, save_dir: str | os.PathLike | None, dataset: Sequence[str] | int, heads: Sequence[Head], seen=None
) -> list[Scores]:
    """Run ``net`` over a set and compare the predictions of each of ``heads`` with the truth.

    ``dataset`` is the ids of the items in the order in which the net's data layer gives them, or the
    number of forward passes. Every item of a batch counts; of the last batch, as many as there
    are ids left. Scores are N x C x H x W (their argmax is the prediction), the truth N x 1 x H x W; the
    loss blob may be missing. With ``save_dir``, predictions are written there as palette PNG, named by id (or
    000000, 000001, ... where only a count is given); of several heads, into a folder each, called as its scores.
    ``seen(name, head, truth, prediction, classes)`` is called for every item and head, with H x W indices.

    Raises ValueError for an empty set or blobs that do not fit or are not there.
    """
    forwards = dataset if isinstance(dataset, int) else None
    ids = None if forwards is not None else list(dataset)
    if not (forwards if ids is None else ids):
        raise ValueError("there is nothing to score: the data set is empty")
    missing = [name for head in heads for name in (head.layer, head.gt) if name not in net.blobs]
    if missing:
        raise ValueError(f"the net has no blob {missing[0]!r}; it has {', '.join(net.blobs)}")
    tallies = [_Tally(net, head) for head in heads]
    # what is not asked for by name, the embedded engine need not keep: it is faster then
    wanted = [name for head in heads for name in (head.layer, head.gt, head.loss) if name in net.blobs]
    items = passes = 0
    with tqdm(total=forwards or len(ids), desc="scoring", unit="image", leave=False, disable=None) as bar:
        while items < len(ids) if ids is not None else passes < forwards:
            net.forward(blobs=wanted)
            passes += 1
            batch = len(net.blobs[heads[0].layer].data)
            names = [f"{items + i:06d}" for i in range(batch)] if ids is None else ids[items : items + batch]
            for tally in tallies:
                predictions = tally.add(len(names))
                folder = save_dir and (
                    save_dir if len(heads) == 1 else os.path.join(save_dir, tally.head.layer)
                )
                for name, (truth, prediction, classes) in zip(names, predictions, strict=True):
                    if folder:
                        path = os.path.join(folder, f"{name}.png")
                        vis.save_indexed(path, prediction, vis.make_palette(classes))
                    if seen:
                        seen(name, tally.head, truth, prediction, classes)
            items += len(names)
            bar.update(len(names) if ids is not None else 1)
    return [tally.scores() for tally in tallies]


class _Tally:
    """The confusion matrix and losses of one head, forward by forward."""

    def __init__(self, net, head: Head):
        self.net, self.head = net, head
        self.loss_blob = net.blobs.get(head.loss)
        self.hist, self.losses, self.nll, self.pixels = 0, [], 0.0, 0

    def add(self, count: int) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """Enter the first ``count`` items of the batch; returns their truths, predictions and numbers of classes."""
        if self.loss_blob is not None:
            self.losses.append(float(self.loss_blob.data.flat[0]))
        layer, gt = self.head.layer, self.head.gt
        scores, labels = self.net.blobs[layer].data, self.net.blobs[gt].data
        if labels.size * scores.shape[1] != scores.size:
            raise ValueError(f"blob {gt!r} is {labels.shape}, blob {layer!r} {scores.shape}: sizes differ")
        predictions = []
        truths = labels.reshape(-1, *scores.shape[2:])
        for score, label in zip(scores[:count], truths[:count], strict=True):
            prediction = score.argmax(0)
            self.hist = self.hist + fast_hist(label, prediction, len(score))
            loss, valid = log_loss(score, label)
            self.nll, self.pixels = self.nll + loss, self.pixels + valid
            # a copy: an engine need not keep a blob's memory for whoever still looks at the last image
            predictions.append((label.copy(), prediction, len(score)))
        return predictions

    def scores(self) -> Scores:
        """What it came to."""
        return Scores(
            self.hist,
            loss=float(np.mean(self.losses)) if self.losses else None,
            loss_per_pixel=self.nll / self.pixels if self.pixels else None,
        )


def compute_hist(
    net, save_dir, dataset, layer: str = "score", gt: str = "label"
) -> tuple[np.ndarray, float | None]:
    """The confusion matrix and the mean loss of ``net`` over a set; arguments as in :func:`score_net`."""
    scores = score_net(net, save_dir, dataset, layer, gt)
    return scores.hist, scores.loss


def seg_tests(solver, save_format, dataset, layer="score", gt="label", names: Sequence[str] = ()) -> Scores:
    """Score a solver's test net with the weights of its training net; see :func:`do_seg_tests`.

    Data layers of the test net start at their first item, so that ``dataset``'s ids fit.
    """
    return do_seg_tests(_test_net(solver), solver.iter, save_format, dataset, layer, gt, names)


def seg_tests_of(solver, save_format, dataset, heads: Sequence[Head], names=None, seen=None) -> list[Scores]:
    """:func:`seg_tests` for each of ``heads`` in one pass; ``names`` are those of each head's classes.

    ``seen`` as in :func:`score_heads`.
    """
    save_dir = save_format.format(solver.iter) if save_format else None
    results = score_heads(_test_net(solver), save_dir, dataset, heads, seen)
    for head, scores, classes in zip(heads, results, names or [()] * len(heads), strict=True):
        _tell(scores, solver.iter, classes, head.layer if len(heads) > 1 else "")
    return results


def _test_net(solver):
    if not len(solver.test_nets):
        raise ValueError("the solver has no test net: name one (test_net) in solver.prototxt")
    net = solver.test_nets[0]
    net.share_with(solver.net)
    for data_layer in net.layers:
        if hasattr(data_layer, "skip_to"):
            data_layer.skip_to(0)
    return net


def do_seg_tests(
    net, iter, save_format, dataset, layer="score", gt="label", names: Sequence[str] = ()
) -> Scores:
    """Score ``net`` over ``dataset``, print the four metrics, and return the scores.

    ``save_format`` is a folder for the predictions, in which ``{}`` becomes the iteration, or
    False. With the classes' ``names``, a table by class is printed. The other arguments are those of
    :func:`score_net`. Signs of collapse are printed too.
    """
    scores = score_net(net, save_format.format(iter) if save_format else None, dataset, layer, gt)
    _tell(scores, iter, names)
    return scores


def _tell(scores: Scores, iteration: int, names: Sequence[str], head: str = "") -> None:
    """Print what scoring gave at ``iteration``, of ``head`` where there are several."""
    scores.iteration = iteration
    results = scores.metrics()
    results |= {"loss": scores.loss, "loss per pixel": scores.loss_per_pixel}
    of = f"{head} " if head else ""
    for name, value in results.items():
        if value is not None:
            print(
                f">>> {datetime.now():%Y-%m-%d %H:%M:%S} Iteration {iteration} {of}{name} {value:.6g}",
                flush=True,
            )
    if names:
        print(class_table(scores.hist, names), flush=True)
    for sentence in scores.fingerprints():
        print(f">>> Iteration {iteration} {of}warning: {sentence}", flush=True)


if __name__ == "__main__":
    from score_folders import main

    sys.exit(main())
