"""The tables and figures that ``reproduce.py`` makes: which nets each wants, and what becomes of their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from reproduction import measured, paper, pictures, records, studies
from reproduction.order import Order
from reproduction.workshop import Net, Stage

Seed = int | None


@dataclass(frozen=True)
class Target:
    """A table, figure or section of the paper.

    ``nets(order)``: what to train; on each seed, or on the first alone where not ``every_seed``. ``rows(order)``: a
    record's, when that is done. ``conclusions(order, rows)`` of the paper, where they can be drawn. ``table``: the
    paper's. ``data``: the folders of the data root that must be there for real data. ``draw(order, rows)`` writes
    figures and other files into the folder of results, and returns their paths. ``trains``: it is about training, so
    that weights from elsewhere are no use. ``check(order)`` raises DataError for what lacks, before anything is done.
    """

    name: str
    about: str
    nets: Callable[[Order], Sequence[Net]] = lambda order: ()
    rows: Callable[[Order], list[dict]] = lambda order: []
    conclusions: Callable[[Order, list[dict]], list[dict]] = lambda order, rows: []
    draw: Callable[[Order, list[dict]], list] = lambda order, rows: []
    table: paper.Table | None = None
    data: tuple[str, ...] = ("pascal/VOC2011", "sbdd/dataset")
    check: Callable[[Order], object] = lambda order: None
    toy: tuple[str, ...] = ("pascal", "crops")
    every_seed: bool = False
    trains: bool = False

    def seeds(self, order: Order) -> Sequence[Seed]:
        """The seeds that it is made on."""
        return order.seeds if self.every_seed else order.seeds[:1]

    def stages(self, order: Order) -> list[Stage]:
        """All that has to be done before it can be made."""
        return [
            stage
            for seed in self.seeds(order)
            for net in self.nets(order)
            for stage in order.stages(net, seed)
        ]


def of_table(table: paper.Table) -> Callable[[Order], list[Net]]:
    """The nets of a table's rows."""
    return lambda order: [
        net for row in table.rows if row.directory and order.has(net := Net(row.directory, row.directory))
    ]


def rows_of_table(table: paper.Table, target: str) -> Callable[[Order], list[dict]]:
    """A record's rows of the nets of a table, by the paper's names."""

    def rows(order: Order) -> list[dict]:
        made = []
        for row in table.rows:
            net = Net(row.directory, row.directory)
            if row.directory and order.has(net):
                made += order.rows(row.name, net, target, TARGETS[target].seeds(order))
        return made

    return rows


# What section 4 compares FCN-32s, 16s and 8s with, in the miniature: at full width each would take days
BESIDE = {
    "FCN-32s from random weights": Net("voc-fcn32s-scratch", "voc-fcn32s", "nothing"),
    "FCN-32s, trained as long as FCN-8s": Net(
        "voc-fcn32s-longer", "voc-fcn32s", "voc-fcn32s", like="voc-fcn16s", longer=2
    ),
    "FCN-16s without its parent": Net("voc-fcn16s-alone", "voc-fcn16s", "classifier"),
}


def _table2_nets(order: Order) -> list[Net]:
    nets = of_table(paper.TABLE2)(order)
    return nets + list(BESIDE.values()) if order.toy else nets


def _table2_rows(order: Order) -> list[dict]:
    rows = rows_of_table(paper.TABLE2, "table2")(order)
    for name, net in BESIDE.items() if order.toy else ():
        rows += order.rows(name, net, "table2", TARGETS["table2"].seeds(order))
    return rows


def _mean_iu(rows: list[dict]) -> dict[str, dict[Seed, float]]:
    """Name → seed → mean IU."""
    found: dict[str, dict[Seed, float]] = {}
    for row in rows:
        found.setdefault(row["name"], {})[row["seed"]] = row["metrics"]["skip"]["mean IU"] or 0.0
    return found


def in_order(
    rows: list[dict], text: str, names: Sequence[str], said: str = "", last_may_tie: bool = False
) -> list[dict]:
    """The conclusion that the nets ``names`` are each better than the one before, by mean IU; none where one lacks."""
    found = _mean_iu(rows)
    if any(name not in found for name in names):
        return []
    cases = {}
    for seed in found[names[0]]:
        values = [found[name][seed] for name in names]
        pairs = list(pairwise(values))
        holds = all(a < b for a, b in pairs[:-1]) and (
            pairs[-1][0] <= pairs[-1][1] if last_may_tie else pairs[-1][0] < pairs[-1][1]
        )
        cases[seed] = (dict(zip(names, values, strict=True)), holds)
    return [records.conclusion(text, cases, paper=said)]


def _table2_conclusions(order: Order, rows: list[dict]) -> list[dict]:
    scratch, longer, alone = BESIDE
    return [
        *in_order(
            rows,
            "FCN-32s-fixed < FCN-32s < FCN-16s ≤ FCN-8s",
            ["FCN-32s-fixed", "FCN-32s", "FCN-16s", "FCN-8s"],
            "45.4 < 59.4 < 62.4 ≤ 62.7 (Table 2)",
            last_may_tie=True,
        ),
        *in_order(
            rows, "pretraining beats none", [scratch, "FCN-32s"], "not feasible from scratch (section 4.3)"
        ),
        *in_order(
            rows,
            "a skip without its parent is worse",
            [alone, "FCN-16s"],
            "it starts from FCN-32s (section 4.2)",
        ),
        *in_order(
            rows,
            "training FCN-32s on does not do what the skips do",
            [longer, "FCN-8s"],
            "a lower rate without the skip: insignificant (section 4.2)",
        ),
    ]


def _table1_rows(order: Order) -> list[dict]:
    """The scores of the three nets, with what is exact of them, and their times at 500x500, at full width."""
    times, rows = measured.table1(order), []
    for row in paper.TABLE1.rows:
        net = Net(row.directory, row.directory)
        about = measured.columns()[row.name]
        if order.has(net):
            rows += order.rows(
                row.name, net, "table1", TARGETS["table1"].seeds(order), facts=about, times=times[row.name]
            )
        else:
            rows.append(
                records.row(
                    row.name, command="python reproduce.py table1", facts=about, times=times[row.name]
                )
            )
    return rows


def _own(directory: str) -> Net:
    return Net(directory, directory)


def comparison(name: str, about: str, *directories: str) -> Target:
    """A figure of photographs as these nets see them, and as they are."""

    def models(order: Order) -> tuple[str, ...]:
        return tuple(each for each in directories if order.has(_own(each)))

    return Target(
        name,
        about,
        lambda order: [_own(each) for each in models(order)],
        lambda order: pictures.rows(order, models(order), name),
        draw=lambda order, rows: pictures.draw(order, models(order), name),
    )


TARGETS = {
    target.name: target
    for target in (
        Target(
            "table1",
            "three classifiers as FCNs: mean IU, forward time, architecture",
            of_table(paper.TABLE1),
            _table1_rows,
            table=paper.TABLE1,
        ),
        Target(
            "table2",
            "FCN-32s-fixed, 32s, 16s, 8s on VOC 2011 val",
            _table2_nets,
            _table2_rows,
            _table2_conclusions,
            table=paper.TABLE2,
            every_seed=True,
        ),
        Target(
            "table3",
            "FCN-8s on VOC 2012 test: the evaluation server's archive, and the time an image takes",
            lambda order: [_own("voc-fcn8s")],
            pictures.table3,
            draw=pictures.archive,
            table=paper.TABLE3,
            data=("pascal/VOC2011", "sbdd/dataset"),
            check=lambda order: order.toy or pictures.years(order),
        ),
        Target(
            "table4",
            "five nets on NYUDv2: color, depth, HHA",
            of_table(paper.TABLE4),
            rows_of_table(paper.TABLE4, "table4"),
            table=paper.TABLE4,
            data=("nyud/data",),
            toy=("nyud", "crops"),
        ),
        Target(
            "table5",
            "FCN-16s on SIFT Flow: semantic and geometric",
            of_table(paper.TABLE5),
            rows_of_table(paper.TABLE5, "table5"),
            table=paper.TABLE5,
            data=("sift-flow/Images",),
            toy=("sift-flow", "crops"),
        ),
        comparison(
            "figure4",
            "photographs as FCN-32s, 16s and 8s see them, and as they are",
            "voc-fcn32s",
            "voc-fcn16s",
            "voc-fcn8s",
        ),
        Target(
            "figure5",
            "convergence of training on whole images, and on half and a quarter of their cells",
            studies.sampling_nets,
            studies.sampling_rows,
            studies.sampling_conclusions,
            studies.sampling_figure,
            every_seed=True,
            trains=True,
        ),
        comparison("figure6", "photographs as FCN-8s sees them, and as they are", "voc-fcn8s"),
        Target(
            "section31",
            "every patch on its own, against one pass over the whole image",
            rows=measured.section31,
            conclusions=measured.section31_conclusions,
            table=paper.SECTION31,
            data=(),
            toy=(),
        ),
        Target(
            "section32",
            "shift-and-stitch against filter rarefaction",
            rows=measured.section32,
            conclusions=measured.section32_conclusions,
            data=(),
            toy=(),
        ),
        Target(
            "augmentation",
            "FCN-32s, mirrored and jittered",
            lambda order: list(studies.augmentation_nets(order).values()),
            lambda order: studies.rows(order, studies.augmentation_nets(order), "augmentation"),
            trains=True,
        ),
        Target(
            "balancing",
            "FCN-32s, its loss weighted by class",
            lambda order: list(studies.balancing_nets(order).values()),
            lambda order: studies.rows(order, studies.balancing_nets(order), "balancing"),
            trains=True,
        ),
    )
}
