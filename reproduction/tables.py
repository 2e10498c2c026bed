"""Tables of records beside the paper's numbers, for the terminal and in Markdown.

Scores of synthetic scenes are called "in miniature" wherever they stand: they are to be compared by the order of their
rows, not by their percentages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reproduction.paper import Column, Row, Table

MINIATURE = "in miniature, synthetic scenes"
NOTE = "In miniature: synthetic scenes. Compare the order with the paper's, not the percentages."


@dataclass(frozen=True)
class Grid:
    """What is printed: a header, rows of cells, and lines below them. ``align`` has l or r for each column."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str
    notes: Sequence[str] = ()

    def text(self) -> str:
        """For the terminal, in columns."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        out = ["  ".join(map(_pad, line, widths, self.align)).rstrip() for line in lines]
        return "\n".join([*out, *(["", *self.notes] if self.notes else [])])

    def markdown(self) -> str:
        """For the README."""
        marks = ["---:" if side == "r" else "---" for side in self.align]
        lines = [_line(self.header), f"|{'|'.join(marks)}|", *map(_line, self.rows)]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])


def _pad(cell: str, width: int, side: str) -> str:
    return cell.rjust(width) if side == "r" else cell.ljust(width)


def _line(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def spread(values: Sequence[float], form: str = "{:.1f}") -> str:
    """The mean of ``values``, and of several the smallest and largest: "41.2 (40.1–42.3)"; "" of none."""
    if not values:
        return ""
    mean = form.format(sum(values) / len(values))
    if len(values) == 1:
        return mean
    return f"{mean} ({form.format(min(values))}–{form.format(max(values))})"


def measured(rows: Sequence[Mapping], name: str, column: Column, absent: str = "skip") -> list[float]:
    """The values of a column in a record's rows of one net, one for each seed, in the paper's unit.

    ``absent``: classes that do not occur are left out (skip), or count as 0 (zero).
    """
    found = []
    for row in rows:
        if row["name"] == name and row["head"] == column.head:
            part = row[column.part]
            part = part.get(absent, {}) if column.part == "metrics" else part
            if part.get(column.key) is not None:
                found.append(part[column.key] * column.scale)
    return found


def miniature(record: Mapping) -> bool:
    """Whether a record has scores of synthetic scenes; times and architectures are of the nets as they are."""
    return record["data"] == "toy" and any(row["metrics"] for row in record["rows"])


def whose(record: Mapping) -> str:
    """Whose numbers a record has, in words."""
    said = "released, scored here" if record["weights"] == "released" else "ours"
    return f"{said}, {MINIATURE}" if miniature(record) else said


def beside(table: Table, records: Sequence[Mapping], others: bool = True) -> Grid:
    """The paper's table with ours beside it: for each net a line of the paper's, of the released net's, and of ours.

    Ours are one line for each record (mean over its seeds, smallest and largest), and one more where counting absent
    classes as 0 gives something else. Nets that are not in the paper follow. ``others``: with the other methods
    that the paper lists.
    """
    names = [row.name for row in table.rows]
    more = dict.fromkeys(
        row["name"] for record in records for row in record["rows"] if row["name"] not in names
    )
    lines = []
    for row in (*table.rows, *(Row(name, ()) for name in more)):
        if row.directory or row.name in more or others:
            own = [line for record in records for line in _ours(table, row.name, record)]
            if row.directory and not own:  # nothing was run
                own = [["ours", *("" for _ in table.columns), ""]]
            published = [("paper", row.values), ("released", row.released)]
            given = [[name, *_cells(table.columns, values), ""] for name, values in published if values]
            if not given and not own:
                continue
            lines += [[row.name if i == 0 else "", *line] for i, line in enumerate([*given, *own])]
    header = ["net", "whose", *(column.title for column in table.columns), "command"]
    notes = [f"Paper: {table.source}, {table.about}."]
    notes += seeds_note(records) + ([NOTE] if any(map(miniature, records)) else [])
    return Grid(header, lines, "ll" + "r" * len(table.columns) + "l", notes)


def seeds_note(records: Sequence[Mapping]) -> list[str]:
    """What a cell with brackets means, if there are some."""
    seeds = {row["seed"] for record in records for row in record["rows"]} - {None}
    several = (
        f"Mean over the seeds {', '.join(map(str, sorted(seeds)))}; in brackets the smallest and largest."
    )
    return [several] if len(seeds) > 1 else []


def _cells(columns: Sequence[Column], values: Sequence[float | None]) -> list[str]:
    pairs = zip(columns, values, strict=True)
    return ["" if value is None else column.form.format(value) for column, value in pairs]


def _ours(table: Table, name: str, record: Mapping) -> Iterator[list[str]]:
    rows = [row for row in record["rows"] if row["name"] == name]
    command = next((row["command"] for row in rows if row["command"]), record["run"]["command"])
    cells = {
        absent: [spread(measured(rows, name, column, absent), column.form) for column in table.columns]
        for absent in ("skip", "zero")
    }
    if not any(cells["skip"]):
        return
    said = whose(record)
    if any(row["times"] for row in rows):
        said += f"; {record['run']['machine']}"
    yield [said, *cells["skip"], f"`{command}`"]
    if cells["zero"] != cells["skip"]:
        only = [
            cell if column.part == "metrics" else ""
            for column, cell in zip(table.columns, cells["zero"], strict=True)
        ]
        yield [f"{said}; absent classes as 0", *only, ""]


def overview(table: Table, record: Mapping) -> Grid:
    """One line a net: the paper's mean IU, beside it that of ``record``, then the table's other columns.

    Nets that are not in the paper follow.
    """
    columns = sorted(table.columns, key=lambda column: column.title != "mean IU")
    at = table.columns.index(columns[0])
    said = "in miniature" if miniature(record) else "ours"
    paper = {row.name: columns[0].form.format(row.values[at]) for row in table.rows if row.directory}
    lines = [
        [
            name,
            paper.get(name, ""),
            *(spread(measured(record["rows"], name, each), each.form) for each in columns),
        ]
        for name in dict.fromkeys([*paper, *(row["name"] for row in record["rows"])])
    ]
    header = ["net", "mean IU, paper", *(f"{column.title}, {said}" for column in columns)]
    notes = [*seeds_note([record]), *([NOTE] if miniature(record) else [])]
    notes.append(f"Made by `{record['run']['command']}` on {record['run']['machine']}.")
    return Grid(header, lines, "l" + "r" * (len(header) - 1), [" ".join(notes)])


def plain(record: Mapping) -> Grid:
    """What a record has that is no table of the paper's: a line for each row, a column for whatever rows have."""
    columns = dict.fromkeys(
        (part, key)
        for row in record["rows"]
        for part, values in (
            ("metrics", row["metrics"].get("skip", {})),
            ("facts", row["facts"]),
            ("times", row["times"]),
        )
        for key in values
    )
    lines = []
    for row in record["rows"]:
        found = {"metrics": row["metrics"].get("skip", {}), "facts": row["facts"], "times": row["times"]}
        cells = [_number(found[part].get(key), part) for part, key in columns]
        lines.append([row["name"], "" if row["seed"] is None else str(row["seed"]), *cells])
    notes = [NOTE] if miniature(record) else []
    return Grid(["", "seed", *(key for _, key in columns)], lines, "l" + "r" * (1 + len(columns)), notes)


def _number(value, part: str) -> str:
    """A value in a cell; metrics in percent."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{100 * value:.1f}"
        if part == "metrics"
        else f"{value:.4g}"
        if isinstance(value, float)
        else f"{value:,}"
    )


def conclusions(records: Sequence[Mapping]) -> Grid:
    """The paper's conclusions, with their numbers on each seed, and whether they hold there."""
    found = [each for record in records for each in record["conclusions"]]
    # None: what has no seed, such as a measured time
    seeds = sorted(
        {case["seed"] for each in found for case in each["seeds"]}, key=lambda seed: (seed is None, seed or 0)
    )
    lines = []
    for each in found:
        cases = {case["seed"]: case for case in each["seeds"]}
        cells = [_case(cases[seed], each["unit"]) if seed in cases else "" for seed in seeds]
        lines.append([each["text"], each["paper"], *cells])
    notes = [NOTE] if any(record["data"] == "toy" for record in records) else []
    return Grid(
        ["conclusion", "paper", *("measured" if seed is None else f"seed {seed}" for seed in seeds)],
        lines,
        "l" * (2 + len(seeds)),
        notes,
    )


def _case(case: Mapping, unit: str) -> str:
    values = case.get("values", {}) | case.get("times", {})
    if unit == "%":
        said = [f"{name} {100 * value:.1f}" for name, value in values.items()]
    else:
        said = [f"{name} {value:.3g} {unit}".strip() for name, value in values.items()]
    return f"{', '.join(said)}: {'holds' if case['holds'] else 'DOES NOT HOLD'}"
