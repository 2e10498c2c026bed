"""Your own data: images and masks paired by name, class names, lists; and masks made over into class indices.

What layers read is a folder ``images``, a folder ``masks`` of a PNG of class indices for each image, called as it is,
``classes.txt``, a name a line in order of index, and a list of ids for each split, ``train.txt`` and ``val.txt``.
"""

from __future__ import annotations

import os
import random
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import images
from datakit import bands, checks, splits
from files import DataError, read_lines

ROOT = Path(__file__).resolve().parents[1]
LISTS = ("train", "val", "trainval", "test")
# what people add to an image's name for its mask, or to both
MASK_ENDINGS = tuple("mask masks label labels labelIds gt groundtruth seg segmentation L".split())
IMAGE_ENDINGS = tuple("image img sat rgb leftImg8bit".split())
PREPARE = "data/own/prepare.py"


def typed(script: str | os.PathLike, *words: str | os.PathLike) -> str:
    """The command line that runs ``script``, of this project, from the current folder with the Python of this run."""
    return shlex.join([sys.orig_argv[0] or "python", short(ROOT / script), *map(str, words)])


def say_next(why: str, command: str) -> None:
    """Say which command comes next: the last words of everything that works on one's own data."""
    print(f"\nNext: {why}\n  {command}", flush=True)


def short(path: str | os.PathLike) -> str:
    """A path as one would type it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else os.path.abspath(path)


@dataclass
class Folder:
    """What is in a folder of images and one of masks.

    ``data`` holds both, where they are called ``images`` and ``masks``; ``classes``: the list of names, if there is
    one. ``pairs``: id, an image's stem → image and mask. ``alone``: images without mask. ``strays``: masks without
    image. ``twice``: several files for one id. ``endings``: what masks' names have besides the id. ``others``:
    files that are no images.
    """

    images: Path
    masks: Path
    data: Path | None
    classes: Path | None
    pairs: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    alone: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)

    def names(self) -> list[str] | None:
        """The classes' names; None where there is no list of them."""
        return read_names(self.classes) if self.classes else None

    def lists(self) -> dict[str, list[str]]:
        """The splits that there are, train, val, trainval and test: name → ids."""
        paths = {name: self.data / f"{name}.txt" for name in LISTS} if self.data else {}
        return {name: read_lines(path, "list") for name, path in paths.items() if path.is_file()}


def read_names(path: Path) -> list[str]:
    """The names in a class list. DataError when one comes twice, or there are not 2 to 254."""
    names = read_lines(path, "class list", "Write the name of a class into each line, in order of index")
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise DataError(f"class list {path} names {twice[0]} twice: a line is a class")
    if not 2 <= len(names) <= 254:
        raise DataError(
            f"class list {path} has {len(names)} lines; there can be 2 to 254 classes (255 is void)"
        )
    return names


def names_for(folder: Folder, count: int) -> list[str]:
    """The names of ``count`` classes: those of the folder, else background, class1, ... DataError for too few."""
    names = folder.names() or ["background", *(f"class{number}" for number in range(1, max(count, 2)))]
    if len(names) < count:
        raise DataError(f"the masks have {count} classes, {folder.classes} names {len(names)}: name them all")
    return names


def read(
    data: Path | None = None,
    photos: Path | None = None,
    masks: Path | None = None,
    classes: Path | None = None,
) -> Folder:
    """Pair the files of ``photos`` and ``masks``, or of ``data``/images and ``data``/masks.

    ``classes``: the list of names, if it is not classes.txt in ``data``. Raises DataError for folders that are not
    there or empty.
    """
    photos, masks = photos or data / "images", masks or data / "masks"
    if (photos.name, masks.name) == ("images", "masks") and photos.resolve().parent == masks.resolve().parent:
        data = photos.parent
    if classes is None and data and (data / "classes.txt").is_file():
        classes = data / "classes.txt"
    folder = Folder(photos, masks, data, classes)
    found = _by_stem(photos, "images", {*images.SUFFIXES, bands.ARRAY}, folder.others)
    if photos.resolve() == masks.resolve():
        marks = {stem: paths for stem, paths in found.items() if bare(stem, MASK_ENDINGS) != stem}
        found = {stem: paths for stem, paths in found.items() if stem not in marks}
    else:
        marks = _by_stem(masks, "masks", images.SUFFIXES, folder.others)
    _pair(folder, found, marks)
    return folder


def _by_stem(path: Path, what: str, suffixes: Iterable[str], others: list[str]) -> dict[str, list[Path]]:
    if not path.is_dir():
        raise DataError(f"there is no folder {path}, where the {what} should be")
    stems: dict[str, list[Path]] = {}
    for each in sorted(path.iterdir()):
        if each.suffix.lower() in suffixes and not each.name.startswith(".") and each.is_file():
            stems.setdefault(each.stem, []).append(each)
        elif not each.name.startswith("."):
            others.append(each.name)
    if not stems:
        raise DataError(
            f"folder {path} holds no {what}: none of its files ends in {', '.join(sorted(suffixes))}"
        )
    return stems


def bare(stem: str, endings: Sequence[str]) -> str:
    """``stem`` without one of ``endings``, which a ``_`` or ``-`` sets off."""
    for end in endings:
        for mark in "_-":
            if stem.lower().endswith(mark + end.lower()) and len(stem) > len(end) + 1:
                return stem[: -len(end) - 1]
    return stem


def _pair(folder: Folder, found: Mapping[str, list[Path]], marks: Mapping[str, list[Path]]) -> None:
    called: dict[str, list[Path]] = {}
    for stem, paths in marks.items():
        for name in dict.fromkeys((stem, bare(stem, MASK_ENDINGS))):
            called.setdefault(name, []).extend(paths)
    used = set()
    for stem, paths in found.items():
        own = called.get(stem) or called.get(bare(stem, IMAGE_ENDINGS)) or []
        used.update(own)
        if len(paths) > 1 or len(own) > 1:
            folder.twice.append(" and ".join(path.name for path in (paths if len(paths) > 1 else own)))
        elif own:
            folder.pairs[stem] = paths[0], own[0]
            folder.endings[own[0].stem.removeprefix(bare(stem, IMAGE_ENDINGS))] += own[0].stem != stem
        else:
            folder.alone.append(paths[0].name)
    folder.strays = [path.name for paths in marks.values() for path in paths if path not in used]
    folder.endings = +folder.endings


def look_at_all(folder: Folder) -> dict[str, bands.Photo]:
    """Every image that has a mask. DataError when one cannot be read."""
    photos, wrong = checks.over([image for image, _ in folder.pairs.values()], bands.look, "reading images")
    if wrong:
        raise DataError(wrong[0] + (f"\nand {len(wrong) - 1} others" if len(wrong) > 1 else ""))
    return dict(zip(folder.pairs, photos, strict=True))


def split(photos: Mapping[str, bands.Photo], share: float, seed: int) -> dict[str, list[str]]:
    """Divide ids: ``share`` of them into val, the rest into train, drawn by ``seed``. Name → ids, in order.

    Images of the same bytes stay together. Both get at least one; DataError where that cannot be.
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(photos):
        alike.setdefault(photos[name].digest, []).append(name)
    groups = list(alike.values())
    if len(groups) < 2:
        raise DataError(f"there are {len(groups)} different images with masks; a split takes 2 at the least")
    random.Random(seed).shuffle(groups)
    val = groups.pop()
    while len(val) < round(share * len(photos)) and len(groups) > 1:
        val = val + groups.pop()
    return {"train": sorted(name for group in groups for name in group), "val": sorted(val)}


def write_split(folder: Folder, made: Mapping[str, Sequence[str]]) -> None:
    """Write lists that are not there yet. DataError when one is."""
    paths = {name: folder.data / f"{name}.txt" for name in made}
    if there := [str(path) for path in paths.values() if path.exists()]:
        raise DataError(f"{' and '.join(there)} is there already; remove it to draw another split")
    for name, path in paths.items():
        splits.write(path, made[name])


def new_net(folder: Folder, photos: Iterable[bands.Photo]) -> tuple[str, str]:
    """What comes next for data that a net can be trained on: why, and the command."""
    names = ("my-net", *(f"my-net{number}" for number in range(2, 1000)))
    name = next(name for name in names if not Path(name).exists())
    options = [] if bands.channels_of(photos) else ["--channels", "3"]
    why = (
        "make a small net for it, which trains in minutes (--base voc-fcn8s: the full one, which wants a GPU)"
    )
    return why, typed("nets.py", "new", name, "--data", folder.data, "--base", "mini-fcn8s", *options)
