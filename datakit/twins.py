"""Synthetic twins of the data sets: ids and splits, content, which is drawn when it is asked for, and facts.

A twin is as its original is: laid out alike, its splits related alike, its labels numbered alike. Only what is to be
seen is made up, and there is less of it. The twins of VOC, SBD and PASCAL-Context: :mod:`datakit.twin_pascal`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import images
from datakit import layouts, outdoors, rooms
from files import DataError

ROOT = Path(__file__).resolve().parents[1]
LEAST = 12  # images of a split; fewer would not show every class
# SIFT Flow's two without labels, and which views they are
NOT_ANNOTATED = {"highway_bost181": 200_003, "street_urb506": 200_006}


@dataclass(frozen=True)
class Twins:
    """What the twins are made of: ``seed``; ``images`` in each of VOC 2011's train and val, and about as many in the
    splits of the others; ``size``, the longer side of VOC's photographs; ``classes`` of VOC that occur, with
    background. DataError for what makes no data set."""

    seed: int = 0
    images: int = LEAST
    size: int = 160
    classes: int = 21

    def __post_init__(self):
        limits = {"seed": (0, 2**32), "images": (LEAST, 2000), "size": (48, 2000), "classes": (3, 21)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise DataError(f"--{name} is {getattr(self, name)}; it must be from {low} to {high}")


class Drawn(Mapping):
    """{id: what ``draw`` makes of it}, made anew each time; shows how far a pass over it is."""

    def __init__(self, ids: Sequence[str], draw: Callable[[str], Any], what: str):
        self.ids, self.draw, self.what = list(ids), draw, what

    def __getitem__(self, name: str) -> Any:
        return self.draw(name)

    def __iter__(self) -> Iterator[str]:
        return iter(tqdm(self.ids, self.what, unit="image", leave=False, disable=None))

    def __len__(self) -> int:
        return len(self.ids)


class Nyud:
    """NYUDv2: rooms, packed as the FCN authors did, or as first published."""

    def __init__(self, twins: Twins):
        self.twins = twins
        self.ids = [str(5001 + i) for i in range(twins.images)]
        self.trainval = [name for i, name in enumerate(self.ids) if i % 9 < 5]  # of 1449, 795
        self.test = [name for name in self.ids if name not in set(self.trainval)]

    def room(self, name: str) -> rooms.Room:
        """What the camera saw."""
        return rooms.room(self.twins.seed, int(name) - 5001)

    def pack_tree(self, folder: Path) -> tuple[Path, dict[str, Any]]:
        """The authors' pack; returns its path, and the means of trainval as facts."""
        sums = []

        def item(name: str) -> dict[str, np.ndarray]:
            drawn = self.room(name)
            made = {"color": drawn.image, "depth": drawn.depth, "rawdepth": drawn.raw, "label": drawn.label}
            made = {key: np.ascontiguousarray(values[rooms.CROP]) for key, values in made.items()}
            made["hha"] = hha()(made["depth"], made["rawdepth"], "cropped")
            if name in set(self.trainval):
                color, above = (made[key].mean((0, 1)) for key in ("color", "hha"))
                sums.append([*color, np.log(made["depth"]).mean(), *above])
            return made

        mats = {"train": self.trainval, "test": self.test}
        path = layouts.nyud_tree(folder, Drawn(self.ids, item, "NYUDv2"), {}, mats)
        mean = [round(float(value), 3) for value in np.mean(sums, 0)]
        return path, {"mean color": mean[:3], "mean depth": mean[3], "mean hha": mean[4:]}

    def raw(self, folder: Path) -> Path:
        """The three files that were published first."""
        numbers = layouts.nyud_classes()

        def item(name: str) -> dict[str, np.ndarray]:
            drawn = self.room(name)
            return {
                "color": drawn.image,
                "depth": (drawn.depth / 1000).astype(np.float32),
                "rawdepth": (drawn.raw / 1000).astype(np.float32),
                "label": self._raw_classes(numbers, int(name))[drawn.label],
            }

        return layouts.nyud_raw(folder, Drawn(self.ids, item, "NYUDv2, raw"), self.trainval, self.test)

    @staticmethod
    def _raw_classes(numbers: np.ndarray, choice: int) -> np.ndarray:
        """For each of the classes 0 to 40 one of the 894 that it was made of."""
        of = [np.flatnonzero(numbers == k) for k in range(41)]
        return np.array([each[choice % len(each)] for each in of], np.uint16)

    def facts(self) -> dict[str, Any]:
        """What is true of it, means excepted."""
        ids = {"first id": int(self.ids[0]), "last id": int(self.ids[-1])}
        return {"trainval": len(self.trainval), "test": len(self.test), **ids, "width": 560, "height": 425}


@cache
def hha() -> Callable:
    """The function of data/nyud/hha.py, which no package holds."""
    spec = importlib.util.spec_from_file_location("nyud_hha", ROOT / "data" / "nyud" / "hha.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.hha


class SiftFlow:
    """SIFT Flow: views of eight kinds of places. Its test split lacks three classes, two views are not annotated."""

    def __init__(self, twins: Twins):
        self.twins = twins
        self.index: dict[str, int] = {}
        self.trainval = [self._named(i, 1000 + i) for i in range(twins.images)]
        # eight views from a multiple of eight on show all classes
        self.test = [self._named(100_000 + i, 5000 + i) for i in range(max(8, twins.images // 3))]

    def _named(self, index: int, number: int) -> str:
        kind = list(outdoors.PLACES)[index % len(outdoors.PLACES)]
        name = f"{kind}_{outdoors.PLACES[kind][0]}{number}"
        self.index[name] = index
        return name

    def tree(self, folder: Path) -> tuple[Path, dict[str, Any]]:
        """The data set; returns its path, and as facts what was found in it."""
        tested, seen = set(self.test), np.zeros(34, int)

        def item(name: str) -> tuple:
            if name in NOT_ANNOTATED:
                return outdoors.view(self.twins.seed, NOT_ANNOTATED[name]).image, None, None
            drawn = outdoors.view(self.twins.seed, self.index[name], rare=name not in tested)
            if name in tested:
                seen[:] += np.bincount(drawn.semantic.ravel(), minlength=34)
            return drawn.image, drawn.semantic, drawn.geometric

        ids = [*self.index, *NOT_ANNOTATED]
        path = layouts.siftflow_tree(folder, Drawn(sorted(ids), item, "SIFT Flow"), {}, test=self.test)
        absent = [name for k, name in enumerate(outdoors.CLASSES, 1) if not seen[k]]
        photographs = (path / "Images" / layouts.SIFT_FOLDER / f"{name}.jpg" for name in self.trainval)
        mean = np.mean([images.load_image(photograph).mean((0, 1)) for photograph in photographs], 0)[::-1]
        return path, {"absent from test": absent, "mean": [round(float(value), 3) for value in mean]}

    def facts(self) -> dict[str, Any]:
        """What is true of it, but for what :meth:`tree` finds."""
        counts = {"trainval": len(self.trainval), "test": len(self.test)}
        return {**counts, "width": 256, "height": 256, "not annotated": list(NOT_ANNOTATED)}
