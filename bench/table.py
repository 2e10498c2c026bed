"""The rows of a run: a CSV that holds what is measured so far, and lines to read."""

from __future__ import annotations

import csv
from pathlib import Path

from files import replacing

# what tells rows apart; then what was measured
KEY = ("job", "net", "size", "variant", "precision", "engine")
MEASURED = (
    "seconds",
    "seconds_min",
    "seconds_max",
    "rounds",
    "ratio",
    "ratio_min",
    "ratio_max",
    "peak_mib",
    "peak_ratio",
    "difference",
    "equal_labels",
    "reference",
    "gigamacs",
    "gflops",
    "share_of_ceiling",
    "paper",
    "note",
)


class Table:
    """The CSV ``path``: rows that are there stay, but for those measured anew. ``about``: columns of all new rows.

    It is written after every addition, whole or not at all.
    """

    def __init__(self, path: Path, about: dict[str, str]):
        self.path, self.about = path, about
        self.rows = read(path) if path.is_file() else []
        self.new: list[dict[str, str]] = []

    def add(self, *rows: dict[str, str]) -> None:
        """Enter ``rows``, columns by name, in the place of older ones of the same job."""
        for row in rows:
            full = {name: str(row.get(name, "")) for name in (*KEY, *MEASURED)} | self.about
            self.rows = [each for each in self.rows if _key(each) != _key(full)] + [full]
            self.new.append(full)
        self.write()

    def update(self, limits: dict[str, str]) -> None:
        """Another ceiling for all that this run measured: its rates by name, and the rows' share of them."""
        self.about |= limits
        for row in self.new:
            row |= limits
            ceiling = limits.get(f"{row['precision']}_gflops")
            if row["gflops"] and ceiling:
                row["share_of_ceiling"] = f"{float(row['gflops']) / float(ceiling):.3f}"
        if self.new:
            self.write()

    def write(self) -> None:
        """Write the file anew."""
        columns = [*KEY, *MEASURED, *self.about]
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _key(row: dict[str, str]) -> tuple:
    return tuple(row.get(name) for name in KEY)


def line(row: dict[str, str]) -> str:
    """A row as people read it."""
    what = " ".join(filter(None, (row["job"], row["net"], row["size"], row["variant"])))
    text = f"{what:<34} {row['engine']:<15}"
    if row["seconds"]:
        text += f"{float(row['seconds']):9.3f} s"
    if row["ratio"]:
        text += f"  ratio {row['ratio']} ({row['ratio_min']}-{row['ratio_max']})"
    if row["peak_mib"]:
        text += f"  {row['peak_mib']} MiB" + (f" ({row['peak_ratio']})" if row["peak_ratio"] else "")
    if row["share_of_ceiling"]:
        text += f"  {float(row['gflops']):.0f} GFLOP/s, {float(row['share_of_ceiling']):.0%} of the ceiling"
    if row["difference"]:
        text += f"  difference {row['difference']}"
    if row["equal_labels"]:
        text += f"  {float(row['equal_labels']):.4%} of labels equal"
    return text + "".join(f"  {row[name]}" for name in ("paper", "note") if row[name])
