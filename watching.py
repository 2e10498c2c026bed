"""What a training run leaves behind to be watched by: tables of numbers, its last scores, TensorBoard's files.

All lie in the folder of the solver's snapshots. ``train.csv`` has a row every ``display`` iterations, ``scores.csv``
one for each scoring and head, ``scores.json`` all of the last scoring, with the confusion matrices. ``tensorboard/``
has the same numbers, and pictures, where the package tensorboard is installed. Imports no engine.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import files
import score
import score_folders
from board import Board
from files import DataError

TRAIN = ("iteration", "seconds", "loss", "loss_per_pixel", "learning_rate", "waiting")
METRICS = ("pixel_accuracy", "mean_accuracy", "mean_iu", "fw_iu", "mean_accuracy_zero", "mean_iu_zero")
SCORES = ("iteration", "seconds", "head", *METRICS, "loss", "loss_per_pixel")
TEXTS = ("head",)  # the columns that hold no number


def read_train(folder: str | os.PathLike) -> list[dict]:
    """The rows of ``train.csv``, oldest first: column → number.

    ``iteration``: how many are done (int); ``seconds`` of training up to then, scoring and snapshots not counted;
    ``loss`` as Caffe has it and ``loss_per_pixel``, both means over the iterations since the row before, of the
    last image of each; ``learning_rate`` of the last of them; ``waiting``: the share (0..1) of the time since that
    row that was spent waiting for data. What is not known is nan (the original engine does not tell its rate).
    Raises DataError when the file is missing or damaged; a last line that was cut short is passed over.
    """
    return read_table(Path(folder) / "train.csv", TRAIN)


def read_scores(folder: str | os.PathLike) -> list[dict]:
    """The rows of ``scores.csv``, oldest first: column → number; ``head`` is a text, ``score`` for an only one.

    ``pixel_accuracy``, ``mean_accuracy``, ``mean_iu`` and ``fw_iu`` are the paper's four, from 0 to 1, over the
    classes that occur; those in ``_zero`` count absent classes as 0. Otherwise as :func:`read_train`.
    """
    return read_table(Path(folder) / "scores.csv", SCORES)


def read_record(folder: str | os.PathLike) -> dict:
    """``scores.json``: ``iteration``, ``split``, ``images`` (their number), and ``heads``, each as
    :func:`score_folders.record` gives it. Raises DataError when the file is missing or damaged."""
    path = Path(folder) / "scores.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not {"iteration", "split", "images", "heads"} <= found.keys():
            raise ValueError("an entry is missing")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: solve.py writes it when it scores its net") from None
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({error}): remove it, and `python solve.py --resume` scores again"
        ) from None
    return found


def read_table(path: Path, columns: Sequence[str]) -> list[dict]:
    """The rows of a table with these ``columns``; see :func:`read_train`."""
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: solve.py writes it while it trains") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove it to go on without its rows") from None
    whole = text[: text.rfind("\n") + 1]  # what follows is a line that was cut short
    lines = list(csv.reader(io.StringIO(whole)))
    rule = f"its columns must be {','.join(columns)}; remove the file to go on without its rows"
    if not lines or tuple(lines[0]) != tuple(columns):
        raise DataError(f"{path} begins with {','.join(lines[0]) if lines else 'no whole line'!r}; {rule}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        try:
            rows.append({name: _value(name, text) for name, text in zip(columns, line, strict=True)})
        except ValueError:
            raise DataError(f"{path}, line {number}, is {','.join(line)!r}; {rule}") from None
    return rows


def _value(column: str, text: str):
    if column in TEXTS:
        return text
    return int(text) if column == "iteration" else float(text or "nan")


def _text(value) -> str:
    if isinstance(value, (str, int)):
        return str(value)
    return "" if value is None or math.isnan(value) else repr(float(value))


class Table:
    """A CSV file that grows by rows, each on the disk as soon as it is added."""

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path, self.columns = path, columns
        self.rows: list[dict] = []

    def load(self) -> None:
        """Take the rows that are there; none if the file is not there."""
        self.rows = read_table(self.path, self.columns) if self.path.is_file() else []

    def keep(self, iteration: int) -> None:
        """Drop the rows after ``iteration``; the file is written whole."""
        self.rows = [row for row in self.rows if row["iteration"] <= iteration]
        files.write(self.path, self._lines([dict(zip(self.columns, self.columns, strict=True)), *self.rows]))

    def add(self, rows: list[dict]) -> None:
        """Append ``rows``."""
        self.rows += rows
        try:
            with open(self.path, "ab") as out:
                out.write(self._lines(rows))
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _lines(self, rows) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            [_text(row[column]) for column in self.columns] for row in rows
        )
        return text.getvalue().encode()


class Watch:
    """The writer of all these files, in the folder of the solver's ``snapshot_prefix``.

    ``iteration``: where the run goes on; what earlier ones wrote up to there stays, all else goes. ``seconds`` of
    training so far are whoever trains to count up. ``heads``: the names of what is scored. ``waited``: the seconds
    that this process has waited for data before.
    """

    def __init__(self, prefix: str | os.PathLike, iteration: int, heads: Sequence[str], waited: float = 0.0):
        self.folder, self.heads = Path(prefix).parent, heads
        self.train, self.scores = (
            Table(self.folder / f"{name}.csv", columns)
            for name, columns in (("train", TRAIN), ("scores", SCORES))
        )
        for table in (self.train, self.scores):
            if iteration:
                table.load()
            table.keep(iteration)
        record = self.folder / "scores.json"
        if not iteration or last_scored(self.folder) > iteration:
            record.unlink(missing_ok=True)
        self.seconds = self.train.rows[-1]["seconds"] if self.train.rows else 0.0
        self._mark = self.seconds, waited
        self.board = Board.open(self.folder / "tensorboard", iteration + 1 if iteration else 0)

    @property
    def iteration(self) -> int:
        """That of the last row of ``train.csv``; 0 if it has none."""
        return self.train.rows[-1]["iteration"] if self.train.rows else 0

    def trained(self, iteration: int, seconds: float, loss, per_pixel, rate, waited: float) -> None:
        """Add a row to ``train.csv``; ``waited``: all seconds that this process has waited for data."""
        since, before = self._mark
        waiting = (waited - before) / (seconds - since) if seconds > since else 0.0
        self._mark = seconds, waited
        values = (iteration, seconds, loss, per_pixel, rate, max(0.0, min(waiting, 1.0)))
        row = dict(zip(TRAIN, values, strict=True))
        self.train.add([row])
        if self.board:
            self.board.numbers("train", row, iteration)

    def has_scores(self, iteration: int) -> bool:
        """Whether ``scores.csv`` has a row of every head at ``iteration``."""
        found = {row["head"] for row in self.scores.rows if row["iteration"] == iteration}
        return found == set(self.heads)

    def scored(self, iteration: int, results: Sequence[score.Scores], names, split: str, count: int) -> None:
        """Add rows to ``scores.csv`` and write ``scores.json``.

        ``results`` and ``names`` (of classes) are in the order of the heads; ``count`` images of ``split`` were scored.
        """
        rows = []
        for head, result in zip(self.heads, results, strict=True):
            skip, zero = (list(result.metrics(absent).values()) for absent in ("skip", "zero"))
            values = (iteration, self.seconds, head, *skip, *zero[1:3], result.loss, result.loss_per_pixel)
            rows.append(dict(zip(SCORES, values, strict=True)))
        if self.scores.rows and self.scores.rows[-1]["iteration"] == iteration:  # it was cut short there
            self.scores.keep(iteration - 1)
        self.scores.add(rows)
        records = [score_folders.record(r.hist, own) for r, own in zip(results, names, strict=True)]
        about = {"iteration": iteration, "split": split, "images": count}
        about["heads"] = dict(zip(self.heads, records, strict=True))
        files.write(self.folder / "scores.json", (json.dumps(about, allow_nan=False) + "\n").encode())
        for row in rows if self.board else ():
            one = len(self.heads) == 1
            self.board.numbers(split if one else f"{split}/{row['head']}", row, iteration)

    def worse_than(self, weights: Sequence[str]) -> list[str]:
        """A sentence for each parent whose last scores, on the same images and classes, were better by 0.001 mean IU.

        ``weights``: the files that the run started from. Their scores lie beside them where they were trained here.
        """
        said, own = [], read_record(self.folder)
        for path in map(Path, weights):
            try:
                parent = read_record(path.parent)
            except DataError:
                continue
            if f"_iter_{parent['iteration']}." not in path.name or parent["split"] != own["split"]:
                continue
            for head, record in own["heads"].items():
                before = parent["heads"].get(head)
                if before is None or _truth(before) != _truth(record):
                    continue
                had, has = (each["metrics"]["skip"]["mean IU"] for each in (before, record))
                if has is not None and had is not None and has < had - 0.001:
                    of = f" of {head}" if len(self.heads) > 1 else ""
                    said.append(
                        f"the mean IU{of}, {has:.4f}, is worse than its parent {path}, which had mean IU {had:.4f} on "
                        "these images. New score layers start at zero and should not make it worse: the learning rate "
                        "is too high for this stage, or the layers were not all taken from this parent (see what was "
                        "copied at the start), or it was trained for too short a time"
                    )
        return said


def _truth(record: dict) -> list:
    """The classes with their numbers of true pixels: equal for the same images of the same data."""
    return [(each["name"], each["true"]) for each in record["classes"]]


def last_scored(folder: Path) -> int:
    """The iteration of ``scores.json``; -1 when there is none that can be read."""
    try:
        return read_record(folder)["iteration"]
    except DataError:
        return -1
