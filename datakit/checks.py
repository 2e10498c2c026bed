"""Checking a data set: a table with a line for each fact, and passes over many files that show how far they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from files import DataError


@dataclass(frozen=True)
class Line:
    """A fact: its name, what was found, what must be (None: whatever it is), whether it holds, and the fix."""

    name: str
    found: str
    expected: str | None
    holds: bool
    fix: str = ""


class Table:
    """What a check found, a line for each fact."""

    def __init__(self, title: str):
        self.title, self.lines = title, []

    def fact(
        self, name: str, found: Any, expected: Any = None, holds: bool | None = None, fix: str = ""
    ) -> bool:
        """Enter a fact; returns whether it holds: unless ``holds`` says so, whether found and expected are equal."""
        holds = (expected is None or found == expected) if holds is None else holds
        self.lines.append(
            Line(name, str(found), None if expected is None else str(expected), bool(holds), fix)
        )
        return bool(holds)

    def none(self, name: str, wrong: Sequence[str], of: int, what: str, fix: str = "") -> bool:
        """Enter that none of ``of`` things is wrong: ``wrong`` lists those that are, ``what`` says of what sort."""
        if not wrong:
            return self.fact(name, f"{of} {what}", holds=of > 0, fix=fix if of else f"there are no {what}")
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return self.fact(name, f"{len(wrong)} of {of}: {'; '.join(wrong[:3])}{more}", "0 wrong", False, fix)

    @property
    def failed(self) -> list[Line]:
        """The facts that do not hold."""
        return [line for line in self.lines if not line.holds]

    def __str__(self):
        rows = [self.title]
        width = max((len(line.name) for line in self.lines), default=0)
        for line in self.lines:
            wanted = f"   (must be {line.expected})" if line.expected is not None and not line.holds else ""
            rows.append(f"  {'ok  ' if line.holds else 'FAIL'}  {line.name:<{width}}  {line.found}{wanted}")
            if not line.holds and line.fix:
                rows.append(f"        {'':<{width}}  fix: {line.fix}")
        count = len(self.failed)
        rows.append(
            f"  {count} of {len(self.lines)} facts do not hold"
            if count
            else f"  all {len(self.lines)} facts hold"
        )
        return "\n".join(rows)


def numbers(values: Iterable[float]) -> str:
    """Means and the like, as tables show them."""
    return ", ".join(f"{value:.3f}" for value in values)


def over(
    items: Iterable[Any], function: Callable[[Any], Any], what: str, workers: int | None = None
) -> tuple[list, list[str]]:
    """``function`` of each of ``items``, in their order, with progress: (results, what went wrong).

    An item whose function raises DataError has no result; the error's text is in the second list. ``workers``
    threads share the work, by default one for each core up to eight. An interrupt ends it after the items at hand.
    """
    items, workers = list(items), workers or min(8, os.cpu_count() or 1)
    results, wrong = [], []

    def attempt(item):
        try:
            return function(item), None
        except DataError as error:
            return None, str(error)

    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(attempt, items)
        try:
            for result, error in tqdm(
                done, total=len(items), desc=what, unit="file", leave=False, disable=None
            ):
                if error is None:
                    results.append(result)
                else:
                    wrong.append(error)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results, wrong
