"""The numbers of the paper's tables, and those published of the nets that its authors released later.

A :class:`Table` is data: its columns say where a record's row has the same number and how it is printed, its rows
hold the paper's values in the units that are printed (percent, ms, millions). None: the paper has no number there.
Sources: Long, Shelhamer, Darrell, CVPR 2015, Tables 1 to 5 and section 3.1; what the release states of its nets.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column: its title, and where a record's row has its value: ``part`` (metrics, facts, times), ``key``, ``head``.

    A record's value times ``scale`` is in the paper's unit; ``form`` prints both.
    """

    title: str
    part: str
    key: str
    scale: float = 1
    form: str = "{:.1f}"
    head: str = "score"


@dataclass(frozen=True)
class Row:
    """A row: the net, its values in the order of the columns, its model directory ("" for others' methods).

    ``released``: the same numbers, published of the net that the authors released later.
    """

    name: str
    values: tuple[float | None, ...]
    directory: str = ""
    released: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of the paper: where it stands, what it was measured on, columns and rows."""

    source: str
    about: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def metrics(head: str = "score") -> tuple[Column, ...]:
    """The four metrics of section 5, of one head of the net, as the paper's columns call them."""
    titles = {
        "pixel acc.": "pixel accuracy",
        "mean acc.": "mean accuracy",
        "mean IU": "mean IU",
        "f.w. IU": "f.w. IU",
    }
    return tuple(Column(title, "metrics", key, 100, head=head) for title, key in titles.items())


TABLE1 = Table(
    "Table 1",
    "VOC 2011 val; forward time for 500×500 on an NVIDIA Tesla K40c",
    (
        Column("mean IU", "metrics", "mean IU", 100),
        Column("forward time", "times", "mean_ms", form="{:,.4g} ms"),
        Column("conv. layers", "facts", "conv layers", form="{:.0f}"),
        Column("parameters", "facts", "parameters", 1e-6, "{:.0f}M"),
        Column("rf size", "facts", "rf size", form="{:.0f}"),
        Column("max stride", "facts", "max stride", form="{:.0f}"),
    ),
    (
        Row("FCN-AlexNet", (39.8, 50, 8, 57, 355, 32), "voc-fcn-alexnet"),
        Row("FCN-VGG16", (56.0, 210, 16, 134, 404, 32), "voc-fcn32s"),
        Row("FCN-GoogLeNet", (42.5, 59, 22, 6, 907, 32), "voc-fcn-googlenet"),
    ),
)

# Of the released nets the authors state mean IU alone. All four numbers are of an independent scoring of the same
# weights, converted for another program, published with four decimals; they agree with the authors' to the last digit.
TABLE2 = Table(
    "Table 2",
    "736 images of VOC 2011 val that are not in SBD's training set (seg11valid)",
    metrics(),
    (
        Row("FCN-32s-fixed", (83.0, 59.7, 45.4, 72.0), "voc-fcn32s-fixed"),
        Row("FCN-32s", (89.1, 73.3, 59.4, 81.4), "voc-fcn32s", (90.4810, 76.4824, 63.6261, 83.4580)),
        Row("FCN-16s", (90.0, 75.7, 62.4, 83.0), "voc-fcn16s", (90.9971, 78.0710, 65.0050, 84.2614)),
        Row("FCN-8s", (90.3, 75.9, 62.7, 83.2), "voc-fcn8s", (91.2212, 77.6146, 65.5126, 84.5445)),
    ),
)

TABLE3 = Table(
    "Table 3",
    "VOC 2011 and 2012 test, scored by the evaluation server",
    (
        Column("mean IU VOC2011 test", "facts", "mean IU VOC2011 test"),
        Column("mean IU VOC2012 test", "facts", "mean IU VOC2012 test"),
        Column("inference time", "times", "inference_s", form="{:.3g} s"),
    ),
    (
        Row("R-CNN", (47.9, None, None)),
        Row("SDS", (52.6, 51.6, 50)),
        Row("FCN-8s", (62.7, 62.2, 0.175), "voc-fcn8s", (None, 67.2, None)),
    ),
)

TABLE4 = Table(
    "Table 4",
    "NYUDv2, 654 test images, 40 classes",
    metrics(),
    (
        Row("Gupta et al.", (60.3, None, 28.6, 47.0)),
        Row("FCN-32s RGB", (60.0, 42.2, 29.2, 43.9), "nyud-fcn32s-color"),
        Row("FCN-32s RGBD", (61.5, 42.4, 30.5, 45.5), "nyud-fcn32s-color-d"),
        Row("FCN-32s HHA", (57.1, 35.2, 24.2, 40.4), "nyud-fcn32s-hha"),
        Row("FCN-32s RGB-HHA", (64.3, 44.9, 32.8, 48.0), "nyud-fcn32s-color-hha"),
        Row("FCN-16s RGB-HHA", (65.4, 46.1, 34.0, 49.5), "nyud-fcn16s-color-hha"),
    ),
)

TABLE5 = Table(
    "Table 5",
    "SIFT Flow, 200 test images; means over the 30 of 33 classes that occur in them",
    (*metrics("score_sem"), Column("geom. acc.", "metrics", "pixel accuracy", 100, head="score_geo")),
    (
        Row("Liu et al.", (76.7, None, None, None, None)),
        Row("Tighe et al.", (None, None, None, None, 90.8)),
        Row("Tighe et al. 1", (75.6, 41.1, None, None, None)),
        Row("Tighe et al. 2", (78.6, 39.2, None, None, None)),
        Row("Farabet et al. 1", (72.3, 50.8, None, None, None)),
        Row("Farabet et al. 2", (78.5, 29.6, None, None, None)),
        Row("Pinheiro et al.", (77.7, 29.8, None, None, None)),
        Row("FCN-16s", (85.2, 51.7, 39.5, 76.1, 94.3), "siftflow-fcn16s"),
    ),
)

SECTION31 = Table(
    "section 3.1",
    "a grid of 10×10 outputs from 500×500, on a typical GPU; one pass is more than 5 times faster than 100 patches in "
    "batches, and nearly 25 times than patch by patch",
    (
        Column("a patch, in batches", "times", "patch_ms", form="{:,.4g} ms"),
        Column("a patch alone", "times", "alone_ms", form="{:,.4g} ms"),
        Column("one pass", "times", "image_ms", form="{:,.4g} ms"),
        Column("times faster than batches", "times", "ratio"),
        Column("times faster than alone", "times", "ratio_alone"),
    ),
    (
        Row("AlexNet, forward", (1.2, 5.4, 22, None, None)),
        Row("AlexNet, backward", (2.4, None, 37, None, None)),
    ),
)

TABLES = {
    "table1": TABLE1,
    "table2": TABLE2,
    "table3": TABLE3,
    "table4": TABLE4,
    "table5": TABLE5,
    "section31": SECTION31,
}

# Mean IU on seg11valid of FCN-AlexNet trained on SBD, too (section 4.1; its FCN-VGG16 is Table 2's FCN-32s).
WITH_SBD = {"voc-fcn-alexnet": 48.0}
# Mean IU on seg11valid that the authors state of the nets they released.
RELEASED = {
    "voc-fcn-alexnet": 48.0,
    "voc-fcn32s": 63.6,
    "voc-fcn16s": 65.0,
    "voc-fcn8s": 65.5,
    "voc-fcn8s-atonce": 65.4,
}


def mean_iu(directory: str) -> tuple[float | None, str]:
    """The paper's mean IU of a model directory's net, in percent, with the name of the table or section it is from.

    (None, "") where the paper has none. Where it has two, the one on seg11valid.
    """
    if directory in WITH_SBD:
        return WITH_SBD[directory], "section 4.1"
    for table in (TABLE2, TABLE4, TABLE5, TABLE1):
        at = [column.title for column in table.columns].index("mean IU")
        for row in table.rows:
            if row.directory == directory:
                return row.values[at], table.source
    return None, ""
