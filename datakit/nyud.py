"""NYUDv2 on disk: where its files are, which variant of the set they are, and what tells its splits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from datakit import locks
from datakit.command import DataSet
from files import DataError, replacing

KINDS = ("images", "depth", "rawdepth", "hha")  # the folders of data
ENTRIES = ("data", "segmentation")
SPLITS = ("train", "val", "trainval", "test")


def path(folder: Path, kind: str, name: str | int) -> Path:
    """The PNG of an image: ``kind`` is a folder of data, or segmentation."""
    return folder / ("" if kind == "segmentation" else "data") / kind / f"img_{name}.png"


def variant(folder: Path) -> str | None:
    """Which of "pack" and "raw" the files in ``folder`` are; None if there are none."""
    if not any((folder / entry).exists() for entry in ENTRIES):
        return None
    record = folder / "variant.json"
    if not record.exists():
        return "pack"  # unpacked by hand: what is made here of the raw file is never without its record
    try:
        return json.loads(record.read_text(encoding="utf-8"))["variant"]
    except (OSError, ValueError, TypeError, KeyError):
        raise DataError(f'{record} cannot be read: it must hold {{"variant": "pack"}}, or "raw"') from None


def refuse_other(data_set: DataSet, part: str) -> None:
    """Raise DataError if the folder holds the other variant: one set of labels must not be mixed with the other."""
    folder, found = data_set.folder, variant(data_set.folder)
    if found not in (None, part):
        raise DataError(
            f"{folder} holds the variant {found}, not {part}. Their labels are not pixel for pixel the same (the "
            "pack's had double contours removed): do not mix them. Keep them apart with --data-root DIR, or first "
            f"remove {', '.join(str(folder / each) for each in ENTRIES)}"
        )


def claim(data_set: DataSet, part: str) -> None:
    """Remember in variant.json that the folder holds this variant; DataError if it holds the other."""
    refuse_other(data_set, part)
    with replacing(data_set.folder / "variant.json") as temporary:
        temporary.write_text(json.dumps({"variant": part}) + "\n", encoding="utf-8")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Have ``folder`` for this run, without what killed ones left half written."""
    folder.mkdir(parents=True, exist_ok=True)
    with locks.alone(folder / "prepare.lock", f"preparing {folder}"):
        for kind in (*KINDS, "segmentation"):
            for left in path(folder, kind, 0).parent.glob(".img_*"):
                left.unlink(missing_ok=True)
        yield


def split_files(folder: Path, suffix: str) -> dict[str, Path]:
    """The files of this suffix that tell splits; those of the pack are put into data, or lie beside it."""
    places = [each / f"{split}.{suffix}" for split in SPLITS for each in (folder, folder / "data")]
    return {place.stem: place for place in places if place.is_file()}


def read_split_ids(path: Path) -> list[str]:
    """The ids in a MATLAB file of the pack: its cell array ``split_ids`` holds names such as img_5001."""
    from scipy.io import loadmat  # takes half a second, and only MATLAB's files need it

    try:
        cells = np.ravel(loadmat(path, variable_names=["split_ids"])["split_ids"])
        names = [str(np.ravel(cell)[0]).strip() for cell in cells]
    except Exception as error:  # scipy raises anything at all on a damaged file
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is no MATLAB file with split_ids ({reason}): get the pack again") from None
    if strange := [name for name in names if not re.fullmatch(r"img_\d+", name)]:
        raise DataError(f"{path}: split_ids holds {strange[0]!r}; it must hold names such as img_5001")
    return [name.removeprefix("img_") for name in names]


def standard(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Splits with trainval, which is train and val; where there is no val, what is called train is all of it."""
    if "trainval" not in found and "train" in found:
        val = found.get("val")
        found = {**found, "trainval": found["train"] + (val or [])}
        if val is None:
            del found["train"]
    if missing := {"trainval", "test"} - set(found):
        there, lacking = ", ".join(sorted(found)), " and no ".join(sorted(missing))
        raise DataError(
            f"NYUDv2 has the splits {there} here, but no {lacking}: add what is missing, or remove the files of these"
        )
    return found
