"""Taking turns: every engine once a round, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from engines import EngineError

from reproduction.timing import ratio

Turn = Callable[[str], dict]


@dataclass
class Turns:
    """Answers of engines that took turns, by their names: what was measured stays when one fails or all is stopped.

    ``groups``: those that took turns with one another; an answer for each round. ``lost``: why one is not there,
    or stopped. ``peaks``: the most memory each had, bytes. ``tell`` is given what goes on, in words.
    """

    tell: Callable[[str], None] = print
    groups: list[dict[str, list[dict]]] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)

    def attempt(self, name: str, turn: Turn) -> dict | None:
        """One turn of ``name``; None, and a word, when it fails."""
        try:
            answer = turn(name)
        except EngineError as error:
            self.lost[name] = str(error)
            self.tell(f"  {name}: left out: {error}")
            return None
        self.peaks[name] = max(self.peaks.get(name, 0), answer.get("peak", 0))
        return answer

    def alternate(self, names: Iterable[str], rounds: int, turn: Turn) -> None:
        """``rounds`` turns of each of ``names``; who fails is left out from then on."""
        group: dict[str, list[dict]] = {name: [] for name in names if name not in self.lost}
        self.groups.append(group)
        for number in range(rounds):
            for name in [name for name in group if name not in self.lost]:
                if answer := self.attempt(name, turn):
                    group[name].append(answer)
                    last = [answers[-1]["seconds"] for answers in group.values() if answers]
                    left = (rounds - number) * sum(last) - sum(last[: list(group).index(name) + 1])
                    self.tell(
                        f"  round {number + 1} of {rounds}: {name} {answer['seconds']:.3f} s"
                        + (f"; about {left:.0f} s left" if left >= 10 else "")
                    )

    def seconds(self, name: str) -> list[float]:
        """All times of ``name``."""
        return [answer["seconds"] for group in self.groups for answer in group.get(name, ())]

    def ratio(self, above: str, below: str) -> dict | None:
        """Time of ``above`` over that of ``below``, in the rounds that both had: median, min, max."""
        for group in self.groups:
            pairs = list(zip(group.get(above, ()), group.get(below, ()), strict=False))
            if pairs and above != below:
                return ratio([a["seconds"] for a, _ in pairs], [b["seconds"] for _, b in pairs])
        return None

    def row(self, name: str, base: str) -> dict[str, str]:
        """The columns of a table's row that time and memory fill: of ``name``, and of ``base`` over it."""
        times = self.seconds(name)
        row = {"rounds": str(len(times)), "note": self.lost.get(name, "")}
        if times:
            middle = statistics.median(times)
            row |= {
                "seconds": f"{middle:.4f}",
                "seconds_min": f"{min(times):.4f}",
                "seconds_max": f"{max(times):.4f}",
            }
        if peak := self.peaks.get(name):
            row["peak_mib"] = f"{peak / 2**20:.0f}"
            if name != base and self.peaks.get(base):
                row["peak_ratio"] = f"{self.peaks[base] / peak:.3f}"
        if found := self.ratio(base, name):
            row |= ratio_columns(found)
        return row


def ratio_columns(found: dict) -> dict[str, str]:
    """The columns of a table's row that a ratio fills: its median, smallest and largest."""
    return {"ratio": f"{found['median']:.3f}"} | {
        f"ratio_{end}": f"{found[end]:.3f}" for end in ("min", "max")
    }


def difference(found: str | Path, reference: str | Path) -> dict[str, str]:
    """How far the arrays of the file ``found`` are from those of ``reference``: .npy of scores, .npz of updates.

    ``difference``: the largest, relative to the reference's largest absolute value; of several arrays, the
    largest of these. ``equal_labels``: of scores, N x C x H x W, the share of pixels with the same class.
    """
    ours, theirs = np.load(found), np.load(reference)
    if isinstance(theirs, np.ndarray):
        equal = (ours.argmax(1) == theirs.argmax(1)).mean()
        return {"difference": f"{_relative(ours, theirs):.1e}", "equal_labels": f"{equal:.6f}"}
    return {"difference": f"{max(_relative(ours[name], theirs[name]) for name in theirs.files):.1e}"}


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(np.float32).tiny))
