"""The README's tables, made of what was recorded and of what the project's files say: ``python reproduce.py readme``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``, and NAME is one of :data:`TABLES`. None is written
by hand: change its record, or its function here and in :mod:`reproduction.sources`, then run the command. A table
without numbers is called ``none`` and stays as it is.

The README takes the records of the folders named in :data:`RECORDED` alone; what anybody else's runs write, to
``results/mine/`` or elsewhere, changes nothing in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import files
from files import DataError
from reproduction import paper, records, sources, tables
from reproduction.tables import Grid

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "results"
# The runs that the README is made of: a folder of results/ for each machine. Where one will do, the first counts
RECORDED = ("2-cores", "h100")

# a name and all lines up to the end; no other mark stands between the two
_MARK = re.compile(r"<!-- table: ([\w-]+) -->\n((?:(?!<!-- ).*\n)*)<!-- end -->")
_TABLE = re.compile(r" {0,3}(\||:?-+:?\s*\||<table)")


def recorded(target: str = "*", data: str = "") -> list[dict]:
    """The records of :data:`RECORDED`, folder by folder: of one target or of all, on real data, toy data, or both.

    Raises DataError for a record that is not whole, or was edited.
    """
    paths = [
        path
        for name in RECORDED
        for path in sorted((RESULTS / name).glob(f"{target}.json"))
        if path.name[0] != "."
    ]
    return [record for record in map(records.read, paths) if data in ("", record["data"])]


def _missing(command: str) -> str:
    return f"Not recorded yet: `{command}`."


def _table2_toy() -> str:
    found = recorded("table2", "toy")
    if not found:
        return _missing("python reproduce.py table2 --data toy")
    return tables.overview(paper.TABLE2, found[0]).markdown()


def _table1() -> str:
    found = recorded("table1")
    if not found:
        return _missing("python reproduce.py table1")
    return tables.beside(paper.TABLE1, found).markdown()


def _conclusions_toy() -> str:
    found = [each for each in recorded(data="toy") if each["conclusions"]]
    found.sort(
        key=lambda each: not each["target"].startswith("table")
    )  # what was trained for, before what was measured
    return tables.conclusions(found).markdown() if found else _missing("python reproduce.py all --data toy")


# directories, as the cell has them; what the cell says of the net
NETS = {
    "`voc-fcn-alexnet`": "FCN-AlexNet (CaffeNet)",
    "`voc-fcn-googlenet`": "FCN-GoogLeNet, final loss only",
    "`voc-fcn32s-fixed`": "only the scores learn",
    "`voc-fcn32s`": "FCN-VGG16",
    "`voc-fcn16s`": "with pool4",
    "`voc-fcn8s`": "with pool4 and pool3",
    "`voc-fcn8s-atonce`": "all skips trained together",
    "`voc-fcn-pool4`": "pool4 alone (section 4.2)",
    "`voc-fcn32s-pool5s1`": "pool5 at stride 1, fc6 14×14 (section 4.2)",
    "`nyud-fcn32s-color`": "RGB",
    "`nyud-fcn32s-color-d`": "RGBD, early fusion",
    "`nyud-fcn32s-hha`": "HHA",
    "`nyud-fcn32s-color-hha`": "RGB-HHA, late fusion",
    "`nyud-fcn16s-color-hha`": "the same with pool4",
    "`siftflow-fcn32s`, `-fcn8s`": "semantic and geometric heads",
    "`siftflow-fcn16s`": "the same with pool4",
    "`siftflow-fcn16s-semantic`, `-geometric`": "one head each",
    "`pascalcontext-fcn32s`, `-fcn16s`, `-fcn8s`": "59 classes and background",
    "`mini-fcn32s`, `-fcn16s`, `-fcn8s`": "an eighth as wide, for a laptop",
}


def directories(cell: str) -> list[str]:
    """The model directories that a cell of :data:`NETS` names: of all but the first the end alone."""
    first, *rest = re.findall(r"`([^`]+)`", cell)
    return [first, *(first.rpartition("-")[0] + end for end in rest)]


def _nets() -> str:
    real, lines = recorded(data="real"), []
    for cell, about in NETS.items():
        named = directories(cell)
        value, source = paper.mean_iu(named[0])
        said = "" if value is None else f"{value:.1f}"
        said += " (on VOC 2011's val)" if source == paper.TABLE1.source else ""
        if source == paper.TABLE5.source:
            said += f" (geometric accuracy {paper.TABLE5.rows[-1].values[-1]:.1f})"
        scored, ours = (
            " / ".join(filter(None, (_mean_iu(real, each, released) for each in named)))
            for released in (True, False)
        )
        released = [f"{paper.RELEASED[named[0]]:.1f}"] if named[0] in paper.RELEASED else []
        released += [f"(scored here: {scored})"] if scored else []
        lines.append([cell, about, said, " ".join(released), ours])
    return Grid(["directory", "net", "paper", "released", "ours"], lines, "llrrr").markdown()


def _mean_iu(found: list[dict], directory: str, released: bool) -> str:
    """What the first record that has the net says, of released weights or of our own."""
    for record in found:
        rows = [row for row in record["rows"] if row["directory"] == directory]
        for head in ("score", "score_sem") if (record["weights"] == "released") == released else ():
            column = paper.Column("", "metrics", "mean IU", 100, head=head)
            values = [value for row in rows for value in tables.measured([row], row["name"], column)]
            if values:
                return tables.spread(values)
    return ""


TABLES: dict[str, Callable[[], str]] = {
    "recipes": sources.recipes,
    "nets": _nets,
    "table1": _table1,
    "table2-toy": _table2_toy,
    "conclusions-toy": _conclusions_toy,
    "parity": sources.parity,
    "bench": sources.bench,
}


def blocks(text: str) -> list[tuple[str, str]]:
    """(name, content) of every marked table in a README's ``text``."""
    return [(found[1], found[2]) for found in _MARK.finditer(text)]


def made(text: str) -> str:
    """``text`` with every marked table made anew. Raises DataError for a name that is no table's."""

    def block(found: re.Match) -> str:
        name = found[1]
        if name == "none":
            return found[0]
        if name not in TABLES:
            raise DataError(f"README.md marks a table {name!r}; there are {', '.join(TABLES)}, and none")
        return f"<!-- table: {name} -->\n{TABLES[name]()}\n<!-- end -->"

    return _MARK.sub(block, text)


def unmarked(text: str) -> list[str]:
    """The lines of tables that stand outside of any marked block of a README's ``text``, code aside."""
    rest = re.sub(r"(?ms)^```.*?^```", "", _MARK.sub("", text))
    return [line for line in rest.splitlines() if _TABLE.match(line)]


def check(path: str | os.PathLike = README) -> list[str]:
    """What is wrong with the tables of the README ``path``, in words: an empty list is good."""
    text = Path(path).read_text(encoding="utf-8")
    wrong = [f"a table has no marker: {line}" for line in unmarked(text)]
    for name, content in blocks(text):
        if name == "none":
            # code and names may have digits
            if re.search(r"\d", re.sub(r"`[^`]*`|\b[A-Za-z][\w-]*", "", content)):
                wrong.append("a table marked none has numbers: every number must come from a record")
        elif name not in TABLES:
            wrong.append(f"a table is marked {name}; there are {', '.join(TABLES)}, and none")
        elif content != f"{TABLES[name]()}\n":
            wrong.append(f"table {name} is not what its records give: python reproduce.py readme")
    missing = TABLES.keys() - {name for name, _ in blocks(text)}
    return wrong + [f"there is no table {name}" for name in sorted(missing)]


def main(path: str | os.PathLike = README) -> int:
    """Make the tables of the README anew; returns the exit status."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    new = made(text)
    if new != text:
        files.write(path, new.encode())
    print(f"{path.name}: {'written' if new != text else 'up to date'}")
    return 0
