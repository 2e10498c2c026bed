"""Splits: lists of ids, an id a line."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import files
from datakit.checks import Table
from files import DataError, read_lines


def write(path: Path, ids: Sequence[str]) -> None:
    """Write a list."""
    files.write(path, _text(ids).encode())


def write_unless_same(path: Path, ids: Sequence[str]) -> None:
    """Write a list, unless there is one of the same ids, in whatever order; tell which."""
    if path.is_file() and sorted(path.read_text(encoding="utf-8", errors="replace").split()) == sorted(ids):
        print(f"{path}: there already, {len(ids)} ids", flush=True)
        return
    write(path, ids)
    print(f"wrote {path}: {len(ids)} ids", flush=True)


def sha256(ids: Sequence[str]) -> str:
    """The checksum of the list that :func:`write` writes of ``ids``."""
    return hashlib.sha256(_text(ids).encode()).hexdigest()


def _text(ids: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in ids)


def has_sha256(path: Path, digest: str) -> bool:
    """Whether a list is the one of this checksum, be it sorted or not, with or without a newline at its end."""
    ids = path.read_text(encoding="utf-8", errors="replace").split()
    spellings = [path.read_bytes()]
    for text in (_text(ids), _text(sorted(ids))):
        spellings += [text.encode(), text.rstrip("\n").encode()]
    return digest in {hashlib.sha256(spelling).hexdigest() for spelling in spellings}


def check_list(table: Table, path: Path, count: int | None, fix: str) -> list[str]:
    """Enter that the list ``path`` has ``count`` ids, each once; returns them, none if it cannot be read."""
    name = f"{path.stem} list"
    try:
        ids = read_lines(path, "list")
    except DataError as error:
        table.fact(name, str(error), None if count is None else f"{count} ids", False, fix)
        return []
    twice = [each for each, times in Counter(ids).items() if times > 1]
    found = f"{len(ids)} ids" + (
        f", of which {twice[0]} and {len(twice) - 1} others come again" if twice else ""
    )
    table.fact(name, found, f"{len(ids) if count is None else count} ids", fix=fix)
    return ids


def check_sha256(table: Table, path: Path, digest: str, fix: str) -> None:
    """Enter that the list ``path`` is the one of this checksum."""
    if path.is_file():
        right = has_sha256(path, digest)
        found = (
            "as published" if right else f"another list ({len(path.read_text(errors='replace').split())} ids)"
        )
        table.fact(f"{path.stem} sha256", found, f"{digest[:12]}...", right, fix)


def check_disjoint(table: Table, name: str, one: Sequence[str], other: Collection[str], fix: str) -> None:
    """Enter that no id is in both lists, if there is one to look at: an empty list has failed already."""
    if one:
        table.none(name, sorted(set(one) & set(other)), len(set(one)), "ids", fix)


def check_within(table: Table, name: str, ids: Sequence[str], whole: Collection[str], fix: str) -> None:
    """Enter that all of ``ids`` are in ``whole``, if there are any: an empty list has failed already."""
    if ids:
        table.none(name, sorted(set(ids) - set(whole)), len(set(ids)), "ids", fix)
