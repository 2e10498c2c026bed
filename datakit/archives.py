"""Published files: their names, where they are to be had, and by what one knows them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from datakit import kinds
from files import DataError

ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")


@dataclass(frozen=True)
class Archive:
    """A published file.

    ``name``: what it is called on disk. ``urls``: where it is to be had, in the order in which they are tried.
    ``size``: its bytes, where they are known; ``at_least``: what it has at the least, where they are known
    about. ``digests``: checksums such as ``"md5:82b4..."``, by hashlib's names; a file with any of them is right.
    ``unpacked``: about how many bytes its content takes. ``page``: where people can read about it and get it
    by hand.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    at_least: int = 0
    digests: tuple[str, ...] = ()
    unpacked: int = 0
    page: str = ""

    def __post_init__(self):
        for each in self.digests:
            if each.partition(":")[0] not in ALGORITHMS:
                raise DataError(
                    f"checksum {each!r} of {self.name} must be written ALGORITHM:HEX, with one of "
                    f"{', '.join(ALGORITHMS)}"
                )

    def fault(self, path: Path) -> str:
        """What shows that the file ``path`` is not this one, in words; "" if nothing does.

        Its size is looked at first, then its checksum; where no checksum is known, whether it begins as a file
        of its kind does.
        """
        if wrong := self.misfit(path.stat().st_size, kinds.head_of(path)):
            return wrong
        found = {}
        for algorithm, _, wanted in (each.partition(":") for each in self.digests):
            found[algorithm] = found.get(algorithm) or digest(path, algorithm)
            if found[algorithm] == wanted.lower():
                return ""
        if not found:
            return ""
        sums = " and ".join(f"{algorithm} {value}" for algorithm, value in found.items())
        strange = kinds.unlike(self.name, kinds.head_of(path))
        wanted = " or ".join(self.digests).replace(":", " ")
        return f"its checksum is {sums}, not {wanted}" + (f"; {strange}" if strange else "")

    def misfit(self, size: int | None, head: bytes) -> str:
        """:meth:`fault`, by no more than its size in bytes (None: not known yet) and first bytes (b"": not yet)."""
        strange = kinds.unlike(self.name, head) if head else ""
        wrong = ""
        if size is not None and self.size is not None and size != self.size:
            wrong = f"it has {size} bytes, not {self.size}"
        elif size is not None and size < max(self.at_least, 1):
            wrong = f"it has {size} bytes, and must have {max(self.at_least, 1)} at least"
        elif self.digests:
            return ""  # they will tell
        return "; ".join(filter(None, (wrong, strange)))

    def by_hand(self) -> str:
        """How to get it without this program, in words: the addresses, and what to check."""
        known = [f"{self.size} bytes"] if self.size else []
        known += [d.replace(":", " ") for d in self.digests]
        where = f" from {' or '.join(self.urls)}" if self.urls else ""
        about = f" ({', '.join(known)})" if known else ""
        return f"{self.name}{about}{where}" + (f"; see {self.page}" if self.page else "")


def amount(size: int) -> str:
    """A number of bytes for people: "134 bytes", "2.0 GB"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def digest(path: str | os.PathLike, algorithm: str) -> str:
    """The checksum of a file, in hexadecimal."""
    sum_ = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            sum_.update(piece)
    return sum_.hexdigest()


@dataclass(frozen=True)
class Sources:
    """Where archives come from and what the data sets hold, where that is not what was published.

    Read from a JSON file: mirrors of one's own, or synthetic twins of the sets (data/toy). ``archives`` maps an
    archive's name to fields of :class:`Archive`, ``facts`` a data set's name to facts of ``datakit/facts.py``.
    """

    path: Path | None = None
    archives: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Sources:
        """The sources in the JSON file ``path``; DataError that tells what is wrong with it."""
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"sources file {path} cannot be read: {error}") from None
        if not isinstance(given, dict) or not set(given) <= {"archives", "facts"}:
            raise DataError(f"sources file {path} must be an object with the keys archives and facts")
        known = {each.name for each in fields(Archive)} - {"name"}
        for key, value in given.items():
            if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
                raise DataError(f"sources file {path}: {key} must hold an object of objects")
        for name, changes in given.get("archives", {}).items():
            if unknown := set(changes) - known:
                raise DataError(
                    f"sources file {path}: {name} has the unknown field {min(unknown)}; known: "
                    f"{', '.join(sorted(known))}"
                )
            for key, value in changes.items():
                if not _suits(key, value):
                    must = {"urls": "a list of texts", "digests": "a list of texts", "page": "a text"}
                    raise DataError(
                        f"sources file {path}: {key} of {name} is {value!r}; it must be "
                        f"{must.get(key, 'a number of bytes')}"
                    )
        return cls(path, given.get("archives", {}), given.get("facts", {}))

    def archive(self, published: Archive) -> Archive:
        """``published`` as these sources have it."""
        changes = dict(self.archives.get(published.name, {}))
        for key in ("urls", "digests"):
            if key in changes:
                changes[key] = tuple(changes[key])
        if "urls" in changes and not {"size", "digests"} & set(changes):
            return replace(published, **changes)  # a mirror of the published file
        # another file altogether: nothing that is known of the published one holds
        return (
            replace(published, **{"size": None, "at_least": 0, "digests": (), **changes})
            if changes
            else published
        )

    def facts_of(self, dataset: str, published: Mapping[str, Any]) -> dict[str, Any]:
        """What is true of ``dataset``: what is ``published``, with what these sources say instead.

        Raises DataError for a fact of another kind than the published one.
        """
        facts = self.facts.get(dataset, {})
        for name, value in facts.items():
            kind = (int, float) if type(published.get(name)) is float else type(published.get(name))
            if name in published and (not isinstance(value, kind) or isinstance(value, bool)):
                raise DataError(
                    f"sources file {self.path}: fact {name!r} of {dataset} is {value!r}; it must be of the kind of "
                    f"{published[name]!r}"
                )
        return {**published, **facts}


def _suits(key: str, value: Any) -> bool:
    """Whether ``value`` is of the kind that the field ``key`` of an :class:`Archive` has."""
    if key in ("urls", "digests"):
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if key == "size" and value is None:  # not known
        return True
    return isinstance(value, str) if key == "page" else type(value) is int and value >= 0
