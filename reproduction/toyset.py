"""The data of the method in miniature: small synthetic sets in the layouts of the real ones, drawn when needed.

Each of :data:`SETS` is drawn once, into one data root, and is the same everywhere. Pictures are about a third as
large as the real ones along each axis.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import vis
from datakit import drawing, layouts, outdoors, rooms, scenes
from datakit.processes import in_processes
from datakit.twins import hha

CLASSES = 9  # of the scenes, with background
SIZE = (120, 160)  # of a scene: height, width
CROP = 100  # the side of a picture for the classifiers
TRAIN, VAL, TEST, CROPS, CROPS_VAL = 300, 100, 40, 2100, 300
# As small beside their picture as objects are in a scene. With the default they would be twice as large there
REACH = (0.2, 0.45)
ROOMS, ROOMS_TEST, VIEWS, VIEWS_TEST = 100, 48, 120, 48
TRAIN_SEED, VAL_SEED, TEST_SEED, CROP_SEED = 2, 3, 4, 1


def class_names() -> list[str]:
    """The names of the scenes' classes, in order of index."""
    return scenes.class_names(CLASSES)


def _scene(seed: int, index: int) -> scenes.Scene:
    return scenes.scene(seed, index, SIZE, CLASSES)


def _pascal(root: Path) -> None:
    """VOC 2011's val as seg11valid, VOC 2012's test, and SBD's train, whose labels have no void."""
    for year, split, seed, count in ((2011, "seg11valid", VAL_SEED, VAL), (2012, "test", TEST_SEED, TEST)):
        drawn = {f"{year}_{i:06d}": _scene(seed, i) for i in range(count)}
        content = {name: (each.image, each.label) for name, each in drawn.items()}
        layouts.voc_tree(root / f"pascal/VOC{year}", content, {split: list(drawn)})
    drawn = {f"2008_{i:06d}": _scene(TRAIN_SEED, i) for i in range(TRAIN)}
    content = {name: (each.image, each.bare) for name, each in drawn.items()}
    layouts.sbd_tree(root / "sbdd/dataset", content, {"train": list(drawn)})


def _crops(root: Path) -> None:
    """Pictures of one object each, and lists as Caffe's ImageData takes them: file, class (from 0)."""
    folder, lines = root / "crops", []
    for i in range(CROPS + CROPS_VAL):
        image, label = scenes.crop(CROP_SEED, i, (CROP, CROP), CLASSES, reach=REACH)
        vis.save(folder / f"{i:05d}.png", image)
        lines.append(f"{i:05d}.png {label - 1}\n")
    (folder / "train.txt").write_text("".join(lines[:CROPS]))
    (folder / "val.txt").write_text("".join(lines[CROPS:]))


def _room(name: str) -> dict[str, np.ndarray]:
    """A room a quarter as large as NYUDv2's pack has it."""
    drawn = rooms.room(0, int(name) - 5001)
    made = {"color": drawn.image, "depth": drawn.depth, "label": drawn.label}
    depth, raw = (np.ascontiguousarray(each[rooms.CROP]) for each in (drawn.depth, drawn.raw))
    made = {key: values[rooms.CROP] for key, values in made.items()} | {"hha": hha()(depth, raw, "cropped")}
    return {key: np.ascontiguousarray(values[::4, ::4]) for key, values in made.items()}


def _nyud(root: Path) -> None:
    names = [str(5001 + i) for i in range(ROOMS + ROOMS_TEST)]
    content = {name: _room(name) for name in names}
    layouts.nyud_tree(root / "nyud", content, {"trainval": names[:ROOMS], "test": names[ROOMS:]})


def _siftflow(root: Path) -> None:
    """Views half as large as SIFT Flow's; its test views lack three classes, as its test split does."""
    splits = {
        split: {f"{split}_{i:04d}": outdoors.view(0, first + i, rare=split == "trainval") for i in range(n)}
        for split, first, n in (("trainval", 0, VIEWS), ("test", 100_000, VIEWS_TEST))
    }
    content = {
        name: tuple(
            np.ascontiguousarray(each[::2, ::2]) for each in (seen.image, seen.semantic, seen.geometric)
        )
        for drawn in splits.values()
        for name, seen in drawn.items()
    }
    layouts.siftflow_tree(
        root / "sift-flow", content, {split: list(drawn) for split, drawn in splits.items()}
    )


# set: what draws it, and the folders in the data root that are its own
SETS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "nyud": (_nyud, ("nyud",)),
    "pascal": (_pascal, ("pascal", "sbdd")),
    "crops": (_crops, ("crops",)),
    "sift-flow": (_siftflow, ("sift-flow",)),
}


def version() -> str:
    """Eight hexadecimal digits that differ when the pictures would: of the code that draws them."""
    code = [Path(each.__file__) for each in (scenes, drawing, rooms, outdoors, layouts)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in [*code, Path(__file__)])).hexdigest()[:8]


def draw(root: Path, sets: Sequence[str]) -> None:
    """Draw those of ``sets`` that are not in the data root yet, each whole or not at all, on all cores."""
    missing = [(name, root) for name in SETS if name in sets and not is_there(name, root)]
    in_processes(make, missing, "drawing scenes", "set")


def is_there(name: str, root: Path) -> bool:
    """Whether a set was drawn."""
    return (root / f".{name}").is_file()


def make(name: str, root: Path) -> None:
    """Draw a set."""
    function, folders = SETS[name]
    making = root / f".making-{name}"
    for path in (making, *(root / each for each in folders)):  # what a run that was stopped has left
        shutil.rmtree(path, ignore_errors=True)
    making.mkdir(parents=True)
    function(making)
    for each in folders:
        os.replace(making / each, root / each)
    making.rmdir()
    (root / f".{name}").touch()
