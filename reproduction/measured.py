"""Rows of what is measured, not trained: Table 1's times and architecture, sections 3.1 and 3.2."""

from __future__ import annotations

from functools import cache

import training
from reproduction import architecture, patchwise, records, stitching, timing
from reproduction.order import Order
from reproduction.workshop import ROOT

NAMES = {"caffenet": "AlexNet", "vgg16": "VGG16"}
FACTS = ("conv layers", "parameters", "rf size", "rf size with pooling", "max stride")


@cache
def columns() -> dict[str, dict]:
    """Table 1's columns that follow from the nets' prototxts, by the paper's names of the nets."""
    return {
        name: {key: value for key, value in found.items() if key in FACTS}
        for name, found in architecture.table_1().items()
    }


def table1(order: Order) -> dict[str, dict[str, float]]:
    """The forward times at 500x500 of Table 1's nets, in ms: of 20 trials, of fewer where all is shortened."""
    _on_device(order)
    trials = max(1, 20 // order.shorten)
    models = {name: ROOT / directory for name, directory in architecture.TABLE_1.items()}
    return timing.forward(models, trials=trials)["nets"]


def _on_device(order: Order) -> None:
    training.choose_device(order.gpu, order.gpu is None)


@cache
def _section31(gpu: int | None, rounds: int) -> list[dict]:
    if rounds == 0:  # a look at whether it works
        return [patchwise.compare("caffenet", sample=2, rounds=1)]
    return patchwise.section_31(rounds)


def section31(order: Order) -> list[dict]:
    """A row for each net and direction: a patch in a batch, alone, the whole image, and how many times faster it is."""
    _on_device(order)
    rows = []
    for each in _section31(order.gpu, 3 if order.shorten == 1 else 0):
        for direction in ("forward", "backward"):
            found, patches = each[direction], each["patches"]
            times = {
                "patch_ms": found["batched"]["median_ms"] / patches,
                "alone_ms": found["one by one"]["median_ms"] / patches,
                "image_ms": found["whole"]["median_ms"],
                "ratio": found["ratio"]["batched"]["median"],
                "ratio_alone": found["ratio"]["one by one"]["median"],
                "ratio_smallest": found["ratio"]["batched"]["min"],
                "ratio_largest": found["ratio"]["batched"]["max"],
            }
            facts = {key: each[key] for key in ("patch", "stride", "patches", "timed")}
            different = each["differences"]["fields" if direction == "forward" else "gradients"]
            facts |= {"cells compared": different["cells"], "largest difference": different["difference"]}
            facts |= {"equal": different["equal"]}
            name = f"{NAMES[each['net']]}, {direction}"
            rows.append(records.row(name, command="python reproduce.py section31", facts=facts, times=times))
    return rows


def section31_conclusions(order: Order, rows: list[dict]) -> list[dict]:
    """One pass is several times faster, in training about as much as in inference, and gives the same."""
    ratios = {row["name"]: row["times"]["ratio"] for row in rows}
    forward = {name: ratio for name, ratio in ratios.items() if name.endswith(", forward")}
    pairs = [(ratio, ratios[name.replace(", forward", ", backward")]) for name, ratio in forward.items()]
    different = {"": max(row["facts"]["largest difference"] for row in rows)}
    return [
        records.conclusion(
            "one pass is more than 5 times faster than all its patches, in batches (of 20; VGG16: of 3)",
            {None: (forward, all(ratio > 5 for ratio in forward.values()))},
            paper="5.5 by its times of AlexNet (section 3.1)",
            unit="times",
            timed=True,
        ),
        records.conclusion(
            "backward the speedup is similar, within a factor of two",
            {None: (ratios, all(0.5 < one / other < 2 for one, other in pairs))},
            paper="6.5 by its times of AlexNet (section 3.1)",
            unit="times",
            timed=True,
        ),
        records.conclusion(
            "it gives the same scores and gradients (largest difference over largest value)",
            {None: (different, all(row["facts"]["equal"] for row in rows))},
            paper="equivalent (section 3.1)",
            unit="",
        ),
    ]


WAYS = ("shift and stitch", "rarefied", "dilated")


def section32(order: Order) -> list[dict]:
    """A row for each net, factor and way: multiply-adds, time, and both over the plain net's."""
    _on_device(order)
    found = (
        stitching.section_32(3)
        if order.shorten == 1
        else [stitching.compare(stitching.vgg16((128, 128), top="pool5", border=1), "pool5", 2, 1)]
    )
    rows = []
    for each in found:
        for way in ("plain", *WAYS):
            name = f"{each['net']}, factor {each['factor']}: {way}"
            work = each["multiply_adds"]
            facts = {"multiply-adds": work[way], "over plain": work[way] / work["plain"]}
            if way in each["differences"]:
                facts |= {key: each["differences"][way][key] for key in ("cells", "difference", "equal")}
            times = {"median_ms": each["times"][way]["median_ms"]}
            if way != "plain":
                times["over plain"] = each["over plain"][way]["median"]
            rows.append(records.row(name, command="python reproduce.py section32", facts=facts, times=times))
    return rows


def section32_conclusions(order: Order, rows: list[dict]) -> list[dict]:
    """The ways agree, and the rarefied net, its zeros left out, is the cheaper one."""
    compared = [row["facts"] for row in rows if "equal" in row["facts"]]
    by_net: dict[str, dict[str, float]] = {}
    for row in rows:
        net, _, way = row["name"].rpartition(": ")
        by_net.setdefault(net, {})[way] = row["times"].get("over plain", 1.0)
    saved = [times["shift and stitch"] / times["dilated"] for times in by_net.values()]
    return [
        records.conclusion(
            f"rarefied filters give what shift-and-stitch gives, in {len(by_net)} cases (largest difference over "
            "largest value)",
            {
                None: (
                    {"": max(each["difference"] for each in compared)},
                    all(each["equal"] for each in compared),
                )
            },
            paper="identical results (section 3.2)",
            unit="",
        ),
        records.conclusion(
            "and, the zeros left out, are faster than the shifted images",
            {None: ({"at least": min(saved), "at most": max(saved)}, min(saved) > 1)},
            paper="done efficiently (section 3.2)",
            unit="times",
            timed=True,
        ),
    ]
