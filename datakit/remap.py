"""Masks made over into class indices, in a new folder that has the layout that the layers read."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import files
import images
import vis
from datakit import checks
from datakit.locks import alone
from datakit.masks import classes_of, codes_of, packed, written
from datakit.meaning import Meaning
from datakit.own import Folder
from files import DataError, replacing
from images import IGNORE

NOTE, JOURNAL = "remap.json", "done.jsonl"  # what was asked for; a line for each image that is done


def parse(words: str, colors: bool = False) -> dict[int, int]:
    """``0=0 255=1``, or with ``colors`` ``0,0,0=0 255,255,255=1``, as code → class. DataError for anything else."""
    classes: dict[int, int] = {}
    what, example = ("a colour", "'0,0,0=0 255,255,255=1'") if colors else ("a value", "'0=0 255=1'")
    for word in words.split():
        left, _, right = word.partition("=")
        try:
            parts, number = [int(part) for part in left.split(",")], int(right)
        except ValueError:
            parts, number = [], -1
        sizes = len(parts) == 3 and max(parts) < 256 if colors else len(parts) == 1 and parts[0] < 65536
        if not sizes or min(parts) < 0 or not 0 <= number <= IGNORE:
            raise DataError(
                f"{word!r} is not {what}, '=' and a class (0 to 254, or 255 for void), as they are in {example}"
            )
        code = int(packed(np.array(parts))) if colors else parts[0]
        if code in classes:
            raise DataError(f"{left} comes twice: each value has one class")
        classes[code] = number
    if not classes:
        raise DataError(f"no value is given a class: write them as in {example}")
    return classes


def spelled(found: Meaning) -> list[str]:
    """The options of ``prepare.py remap`` that a meaning stands for."""
    pairs = " ".join(
        f"{written(code, found.space)}={number}" for code, number in sorted(found.classes.items())
    )
    options = ["--colors" if found.space == "colors" else "--map", pairs]
    options += ["--alpha"] if found.space == "alpha" else []
    return options + (["--snap", str(found.snap)] if found.snap else [])


@dataclass(frozen=True)
class Remapping:
    """The masks of ``folder`` as classes, by their ``meaning``, in the new folder ``out``; ``names`` of the classes."""

    folder: Folder
    meaning: Meaning
    names: Sequence[str]
    out: Path

    @property
    def note(self) -> str:
        """What tells this remapping from others, as JSON."""
        sources = [os.path.abspath(path) for path in (self.folder.images, self.folder.masks)]
        return json.dumps([*sources, spelled(self.meaning), list(self.names)])

    def is_made(self) -> bool:
        """Whether it was done before. DataError when there is anything else in its place."""
        if self._has_note(self.out):
            return True
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise DataError(
                f"{self.out} is there already and is not this remapping: give another --out, or remove it"
            )
        return False

    def _has_note(self, folder: Path) -> bool:
        note = folder / NOTE
        return note.is_file() and note.read_text(encoding="utf-8", errors="replace") == self.note

    def run(self) -> tuple[int, int]:
        """Write the new folder, which appears when it is whole: (pixels snapped, pixels that became void).

        Images are copied byte for byte, lists too. What an interrupted run has done is kept. Raises DataError for
        a mask that holds other values than the meaning knows.
        """
        if not self.folder.pairs:
            raise DataError(
                f"no mask in {self.folder.masks} is called as an image in {self.folder.images} is"
            )
        self.out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with alone(self.out.with_name(f".{self.out.name}.lock"), f"making {self.out}"):
            part = self.out.with_name(f".{self.out.name}.part")
            if not self._has_note(part):
                shutil.rmtree(part, ignore_errors=True)  # of another remapping: nobody else writes there
                files.write(part / NOTE, self.note.encode())
            done = self._all_pairs(part)
            files.write(part / "classes.txt", "".join(f"{name}\n" for name in self.names).encode())
            for path in sorted(self.folder.data.glob("*.txt")) if self.folder.data else ():
                if path.name != "classes.txt":
                    files.write(part / path.name, path.read_bytes())
            for left in [*part.glob("*/.*"), part / JOURNAL]:  # hidden: of a run that was killed
                left.unlink()
            if self.out.is_dir():
                self.out.rmdir()  # an empty one
            os.replace(part, self.out)
        return sum(snapped for snapped, _ in done.values()), sum(void for _, void in done.values())

    def _all_pairs(self, part: Path) -> dict[str, list[int]]:
        done, lock = _read_journal(part / JOURNAL), threading.Lock()
        palette = vis.make_palette(256)
        with open(part / JOURNAL, "a", encoding="utf-8") as journal:

            def make(name: str) -> None:
                counts = self._one_pair(part, name, palette)
                with lock:
                    done[name] = counts
                    journal.write(json.dumps([name, counts]) + "\n")
                    journal.flush()

            left = [name for name in self.folder.pairs if name not in done]
            _, wrong = checks.over(left, make, "remapping")
        if wrong:
            more = f"\nand {len(wrong) - 1} others" if len(wrong) > 1 else ""
            raise DataError(wrong[0] + more)
        return done

    def _one_pair(self, part: Path, name: str, palette) -> list[int]:
        image, path = self.folder.pairs[name]
        found = self.meaning
        codes = codes_of(images.open_image(path, "mask"), found.space, path)
        try:
            classes, snapped, void = classes_of(codes, found.space, found.classes, found.snap)
        except ValueError as error:
            unknown = [written(code, found.space) for code in error.args[0]]
            raise DataError(
                f"mask {path} holds {len(unknown)} values that are given no class: {' '.join(unknown[:8])}. Give them "
                "one (255: void), or add --snap N: what is within N of a given value counts as that, all else as void"
            ) from None
        vis.save_indexed(part / "masks" / f"{name}.png", classes, palette)
        with replacing(part / "images" / image.name) as temporary:
            shutil.copy2(image, temporary)
        return [snapped, void]


def _read_journal(path: Path) -> dict[str, list[int]]:
    done = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            name, counts = json.loads(line)
        except ValueError:  # the run ended while it wrote this line
            continue
        done[name] = counts
    return done
