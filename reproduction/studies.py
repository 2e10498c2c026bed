"""What section 4.3 tries on training: loss sampling (Figure 5), augmentation, class balancing."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

import images
import training
import watching
from reproduction import figures, miniature, records, toyset
from reproduction.miniature import LESSONS
from reproduction.order import Order
from reproduction.workshop import Net, model_of

FULL = "full images"
# label → the probability with which a cell counts; as many times more images are in an update
SAMPLINGS = {FULL: 1.0, "50% sampling": 0.5, "25% sampling": 0.25}
ROUNDS = 10  # how often each run is scored
BATCH = 20  # images of an update on whole images, as in the paper
UPDATES = 50  # in the miniature; each costs 1/p times as much


def sampling_nets(order: Order) -> list[Net]:
    """FCN-32s with each sampling: the minibatch of the paper, and as many more images as fewer of their cells count.

    With fewer images an update, chance says which is ahead.
    """
    longer, batch = 1.0, 1.0
    if order.toy:
        longer, batch = UPDATES * miniature.BATCH / LESSONS["voc-fcn32s"].images, BATCH / miniature.BATCH
    return [
        Net(
            f"sampling-{round(100 * p)}",
            "voc-fcn32s",
            longer=longer,
            batch=round(batch / p),
            rounds=ROUNDS,
            changes={"sampling": p},
        )
        for p in SAMPLINGS.values()
    ]


def _runs(order: Order):
    """(label, seed, folder of what its run left)."""
    for label, net in zip(SAMPLINGS, sampling_nets(order), strict=True):
        for seed in order.seeds:
            yield label, seed, order.directory(net, seed) / "snapshot"


def sampling_rows(order: Order) -> list[dict]:
    """For each sampling and seed the validation loss per pixel after so many iterations, and how long they took."""
    rows = []
    for label, seed, folder in _runs(order):
        scored = watching.read_scores(folder)
        hist = np.array(watching.read_record(folder)["heads"]["score"]["confusion"], np.int64)
        facts = {f"loss per pixel at {row['iteration']}": row["loss_per_pixel"] for row in scored}
        times = {f"seconds at {row['iteration']}": row["seconds"] for row in scored}
        command = order.command("figure5", order.seeds)
        row = records.row(label, hist, seed=seed, command=command, facts=facts, times=times)
        rows.append(row)
    return rows


def sampling_conclusions(order: Order, rows: list[dict]) -> list[dict]:
    """By wall time whole images are ahead: on each seed, of the losses at the time that their run ends."""
    by_seed: dict = {}
    for label, seed, folder in _runs(order):
        by_seed.setdefault(seed, {})[label] = watching.read_scores(folder)
    by_time = {}
    for seed, runs in by_seed.items():
        end = runs[FULL][-1]["seconds"]
        losses = {}
        for label, scored in runs.items():
            before = [row for row in scored if row["seconds"] <= end]
            # one that was not even scored once by then had a higher loss than when it first was
            losses[label] = (before[-1] if before else scored[0])["loss_per_pixel"]
        by_time[seed] = losses, all(losses[FULL] <= loss for loss in losses.values())
    return [
        records.conclusion(
            "sampling does not beat whole images by wall time (validation loss when the latter's run ends)",
            by_time,
            paper="more time, no better (Figure 5)",
            unit="",
            timed=True,
        )
    ]


def sampling_figure(order: Order, rows: list[dict]) -> list[Path]:
    """Figure 5, of the validation losses in the tables that the runs left: the training loss is one image's."""
    curves: dict[str, list] = {}
    for label, _, folder in _runs(order):
        table = watching.read_scores(folder)
        columns = ("iteration", "seconds", "loss_per_pixel")
        curves.setdefault(label, []).append(tuple([row[each] for row in table] for each in columns))
    return figures.convergence(order.results / "figure5", curves, "validation loss per pixel")


PLAIN = "FCN-32s"


def augmentation_nets(order: Order) -> dict[str, Net]:
    """FCN-32s as it is, and on images mirrored and shifted by up to 32 pixels."""
    changes = {"mirror": True, "jitter": 32}
    return {
        PLAIN: Net("voc-fcn32s", "voc-fcn32s"),
        "FCN-32s, mirrored and jittered": Net("augmented", "voc-fcn32s", changes=changes),
    }


def balancing_nets(order: Order) -> dict[str, Net]:
    """FCN-32s as it is, and with a loss in which rare classes count more."""
    weights = {"loss": class_weights(order)}
    return {
        PLAIN: Net("voc-fcn32s", "voc-fcn32s"),
        "FCN-32s, classes balanced": Net("balanced", "voc-fcn32s", changes={"class_weights": weights}),
    }


def class_weights(order: Order) -> list[float]:
    """For each class the median share of pixels over its own, of the training labels; 0 where it does not occur."""
    return list(_class_weights(order.data_root, toyset.CLASSES if order.toy else 21))


@cache
def _class_weights(data_root: Path, classes: int) -> tuple[float, ...]:
    source = training.source_of(model_of("voc-fcn32s").prototxts()["train"])
    counts = np.zeros(classes, np.int64)
    for name in tqdm(source.ids, "counting pixels", unit="image", leave=False, disable=None):
        label = np.asarray(source.read("label", source.path("label", name)))
        counts += np.bincount(label[label != images.IGNORE], minlength=classes)[:classes]
    median = np.median(counts[counts > 0])
    return tuple(round(float(median / count), 4) if count else 0.0 for count in counts)


def rows(order: Order, nets: dict[str, Net], target: str) -> list[dict]:
    """A row for each of ``nets``."""
    return [row for name, net in nets.items() for row in order.rows(name, net, target, order.seeds[:1])]
