"""Whether NYUDv2 on disk is as it should be: a line for each fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

import images
from datakit import checks, convert, labels, splits
from datakit.checks import Table
from datakit.command import DataSet
from datakit.nyud import KINDS, path, variant
from files import DataError, read_lines

MODES = {"images": ("RGB",), "hha": ("RGB",), "depth": ("I;16", "I"), "rawdepth": ("I;16", "I")}
HHA = "hha is of this depth"  # a line's name
# How far a mean may be from the published one. Nobody says over which images that went. If images' own means differ
# by some 30 levels (0.35 in ln mm), that of 795 strays by one or two (0.01 or 0.02), while two channels that changed
# places are off by 5 to 38, images with their white frame by about 6.
NEAR = {"color": 4.0, "depth": 0.05, "hha": 4.0}


@dataclass
class Seen:
    """What was found at an id: (line, what is wrong); the classes that occur; means of its colour, ln depth, HHA."""

    wrong: list[tuple[str, str]] = field(default_factory=list)
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    means: dict[str, np.ndarray] = field(default_factory=dict)


def look(folder: Path, name: str, kinds: Sequence[str], size: tuple[int, int], classes: int) -> Seen:
    """Read the images of ``name``, height and width ``size``; a file that is not there is passed over."""
    seen, read = Seen(), {}
    for kind in kinds:
        file = path(folder, kind, name)
        if file.exists():
            try:
                read[kind] = _load(file, kind)
            except DataError as error:
                seen.wrong.append((f"{kind} decode", str(error)))
    label = labels.made_or_mat(path(folder, "segmentation", name).with_suffix(""))
    if label.exists():
        try:
            read["label"] = labels.read_nyud(label)
        except DataError as error:
            seen.wrong.append(("labels decode", str(error)))
    seen.wrong += [
        ("sizes", f"{kind} of {name} is {values.shape[1]} x {values.shape[0]}")
        for kind, values in read.items()
        if values.shape[:2] != size
    ]
    if "label" in read:
        seen.classes = np.unique(read["label"])
        if len(beyond := seen.classes[(seen.classes >= classes) & (seen.classes != images.IGNORE)]):
            seen.wrong.append(("label values", f"{label} has {', '.join(map(str, beyond[:5]))}"))
    if "images" in read:
        seen.means["color"] = read["images"].mean((0, 1))
    if "hha" in read:
        seen.means["hha"] = read["hha"].mean((0, 1))
    if "depth" in read:
        _look_at_depth(seen, name, read["depth"], read.get("hha"))
    return seen


def _look_at_depth(seen: Seen, name: str, depth: np.ndarray, hha: np.ndarray | None) -> None:
    if holes := np.count_nonzero(depth == 0):
        seen.wrong.append(("depth without holes", f"img_{name} has {holes} pixels of 0"))
    seen.means["depth"] = np.log(np.maximum(depth, 1)).mean(keepdims=True).ravel()
    if hha is None or hha.shape[:2] != depth.shape:
        return
    disparity = np.minimum(31000 / np.maximum(depth / 10, 100), 255)
    off = np.mean(np.abs(hha[:, :, 0] - disparity) > 1)
    low, high = hha[:, :, 2].min(), hha[:, :, 2].max()
    if off > 0.01:
        seen.wrong.append((HHA, f"img_{name} has another disparity at {off:.0%} of its pixels"))
    elif low < 38 or high > 218:
        seen.wrong.append((HHA, f"img_{name} has angles {low} to {high}, beyond 38 to 218"))


def _load(file: Path, kind: str) -> np.ndarray:
    """The pixels of a PNG of this mode, as it is stored."""
    try:
        with Image.open(file) as image:
            if image.format != "PNG" or image.mode not in MODES[kind]:
                raise DataError(f"{file} is {image.format} of mode {image.mode}, not PNG of {MODES[kind][0]}")
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} is damaged ({error})") from None


def check(data_set: DataSet, part: str, classes: Sequence[str], table: Table) -> None:
    """Enter what is true of the folder of ``data_set``, whose variant ``part`` is."""
    folder, facts = data_set.folder, data_set.facts
    prepare = f"remove what is wrong, then `{data_set.again('prepare', part)}`"
    hha_fix = f"remove what is wrong, then `{data_set.again('hha')}`"
    remake = prepare
    if part == "pack":
        remake = (
            f"remove {folder / 'data'} and {folder / 'segmentation'}, then `{data_set.again('all', part)}`"
        )
    if not (folder / "data").is_dir():
        table.fact(
            "folder", f"{folder / 'data'} is not there", "there", False, f"`{data_set.again('all', part)}`"
        )
        return
    table.fact("variant", variant(folder) or "not known", part, fix=f"`{data_set.again('prepare', part)}`")
    lists = _check_lists(table, folder, facts, f"`{data_set.again('prepare', part)}`")
    ids = list(dict.fromkeys([*lists["trainval"], *lists["test"]]))
    kinds = [
        kind for kind in KINDS if kind != "rawdepth" or part == "raw" or (folder / "data" / kind).is_dir()
    ]
    for kind in (*kinds, "segmentation"):
        _check_pairing(table, folder, kind, ids, hha_fix if kind == "hha" else remake)

    size = facts["height"], facts["width"]
    seen, _ = checks.over(
        ids, lambda name: look(folder, name, kinds, size, len(classes)), f"checking {table.title}"
    )

    def line(name: str, what: str, fix: str = remake) -> None:
        table.none(
            name, [text for each in seen for line, text in each.wrong if line == name], len(ids), what, fix
        )

    for kind in kinds:
        line(f"{kind} decode", f"PNGs of mode {MODES[kind][0]}", hha_fix if kind == "hha" else remake)
    line("labels decode", "labels", prepare)
    line("sizes", f"images, all of {size[1]} x {size[0]}")
    line("depth without holes", "images of depth")
    line("label values", f"labels of 0 to {len(classes) - 1} and {images.IGNORE}", prepare)
    occur = np.unique(np.concatenate([each.classes for each in seen] or [np.zeros(0, np.uint8)]))
    missing = [name for k, name in enumerate(classes) if k not in occur]
    found = f"{len(classes) - len(missing)}" + (f", not {', '.join(missing[:5])}" if missing else "")
    table.fact("classes that occur", found, f"{len(classes)}", fix=remake)
    if part == "pack":
        pngs = [path(folder, "segmentation", name) for name in ids]
        convert.check_same(table, "label", pngs, labels.read_nyud, prepare)
    line(HHA, "disparities and angles", f"`{data_set.again('hha --again')}`")
    train = set(lists["trainval"])
    _check_means(table, facts, [each for name, each in zip(ids, seen, strict=True) if name in train])


def _check_lists(table: Table, folder: Path, facts: dict, fix: str) -> dict[str, list[str]]:
    """The lines on the lists; returns their ids."""
    lists = {
        name: splits.check_list(table, folder / f"{name}.txt", facts[name], fix)
        for name in ("trainval", "test")
    }
    splits.check_disjoint(table, "trainval and test are disjoint", lists["trainval"], lists["test"], fix)
    every = [str(n) for n in range(facts["first id"], facts["last id"] + 1)]
    times = Counter(lists["trainval"] + lists["test"])
    wrong = [name for name in every if times[name] != 1] + [name for name in times if name not in set(every)]
    table.none(f"{every[0]} to {every[-1]} once each", wrong, len(every), "ids", fix)
    parts = [folder / f"{name}.txt" for name in ("train", "val")]
    if any(part.exists() for part in parts):  # the release's; nothing here needs them
        both = [name for part in parts if part.exists() for name in read_lines(part, "list")]
        table.fact(
            "train and val make trainval",
            f"{len(both)} ids"
            + ("" if sorted(both) == sorted(lists["trainval"]) else ", others than trainval's"),
            f"the {len(lists['trainval'])} of trainval",
            sorted(both) == sorted(lists["trainval"]),
            f"get {' and '.join(map(str, parts))} again, or remove both",
        )
    return lists


def _check_pairing(table: Table, folder: Path, kind: str, ids: Sequence[str], fix: str) -> None:
    """Enter that ``kind`` has a file for each id, and none besides."""
    place = path(folder, kind, 0).parent
    suffixes = (".png", ".mat") if kind == "segmentation" else (".png",)
    there = {file.stem.removeprefix("img_") for file in place.glob("img_*") if file.suffix in suffixes}
    wrong = [f"{place / f'img_{name}'} is missing" for name in ids if name not in there]
    wrong += [f"{place / f'img_{name}'} is in no list" for name in sorted(there - set(ids))]
    table.none(f"{kind} there", wrong, len(ids), "files, one for each id", fix)


def _check_means(table: Table, facts: dict, seen: Sequence[Seen]) -> None:
    """Enter the means over trainval. The published ones are in the files' order (R, G, B)."""
    for kind, what in (
        ("color", "mean R, G, B"),
        ("depth", "mean ln mm"),
        ("hha", "mean disparity, height, angle"),
    ):
        means = [each.means[kind] for each in seen if kind in each.means]
        if not means:
            table.fact(what, "no images", facts[f"mean {kind}"], False)
            continue
        mean, published = np.mean(means, axis=0), np.atleast_1d(facts[f"mean {kind}"])
        table.fact(
            what,
            checks.numbers(mean),
            f"within {NEAR[kind]} of {checks.numbers(published)}",
            bool(np.all(np.abs(mean - published) <= NEAR[kind])),
            "see the lines above; if they hold, these are other images, another crop, or channels in another order",
        )
