"""The archive that PASCAL VOC's evaluation server takes: making it, and checking it before it is sent.

The truth of the test images is the server's alone. It takes a gzipped tar of label images, one for each test image,
``results/VOC2012/Segmentation/comp6_test_cls/<id>.png``, and answers with their mean IU.
"""

from __future__ import annotations

import io
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm import tqdm

from datakit import kinds, layouts
from datakit.checks import Table
from datakit.members import Member, members, reading
from files import DataError, replacing
from images import IGNORE

COMPETITIONS = {
    5: "nets that saw VOC's own training data alone",
    6: "nets that saw any other data, such as ImageNet or SBD, but no test image",
}
TEST_IMAGES = {2012: 1456}  # how many the published list has
LEVELS = ("top folder", "year folder", "task folder", "competition folder")
OTHER_TASKS = ("Action", "Layout", "Main")  # of VOC's development kit: may be there, empty
PIXELS = 1 << 26  # of one label image at most
GREY, INDEXED = (8, 0), (8, 3)  # a PNG's bits a pixel and colour type
COLOR_TYPES = {0: "grey", 2: "RGB", 3: "indexed", 4: "grey with alpha", 6: "RGB with alpha"}

Sizes = Mapping[str, tuple[int, int]] | Callable[[str], tuple[int, int] | None]


def folder(year: int, competition: int = 6, testset: str = "test") -> PurePosixPath:
    """The folder of the label images in the archive. Raises DataError for another competition than 5 or 6."""
    if competition not in COMPETITIONS:
        rules = "; ".join(f"{number}, {what}" for number, what in COMPETITIONS.items())
        raise DataError(f"there is no segmentation competition {competition}: {rules}")
    return PurePosixPath("results", f"VOC{year}", "Segmentation", f"comp{competition}_{testset}_cls")


def pack(
    predictions: Path,
    ids: Sequence[str],
    archive: Path,
    year: int,
    competition: int = 6,
    testset: str = "test",
) -> Path:
    """Write ``archive`` (.tgz or .tar.gz) of the label images ``<id>.png`` in ``predictions``; returns its path.

    They are taken as they are: :func:`check` tells whether they are as they must be. The same images give the same
    bytes. Raises DataError for another suffix, and for ids without image.
    """
    inner = folder(year, competition, testset)
    if not _named(archive):
        raise DataError(f"archive {archive}: the server takes a gzipped tar; name it .tgz or .tar.gz")
    ids = sorted(set(ids))
    if not ids:
        raise DataError("there is nothing to pack: the list of test images is empty")
    if missing := [name for name in ids if not (predictions / f"{name}.png").is_file()]:
        found = f"lacks {len(missing)} of {len(ids)} images, such as {missing[0]}.png"
        raise DataError(
            f"folder of predictions {predictions} {found if predictions.is_dir() else 'does not exist'}: it must hold "
            "<id>.png for every test image"
        )
    with replacing(archive) as temporary:
        layouts.pack(temporary, {str(inner / f"{name}.png"): predictions / f"{name}.png" for name in ids})
    return archive


def photograph_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a photograph, of its header alone; None where there is none. DataError if it is damaged."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        return None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"photograph {path} is damaged ({error}): copy it again") from None


@dataclass
class Picture:
    """What is in a PNG: (bits, colour type), (height, width), the pixels of each of 256 values.

    ``fault`` says in words why it cannot be read, "" if it can. ``counts`` is None for colours, which hold no values.
    """

    fault: str = ""
    kind: tuple[int, int] = INDEXED
    size: tuple[int, int] = (0, 0)
    counts: np.ndarray | None = None


@dataclass
class Entry:
    """A member of the archive: its name there, what it is, its folders, its file name, and what is in a PNG."""

    name: str
    what: str
    folders: tuple[str, ...]
    file: str
    picture: Picture | None = None

    @property
    def id(self) -> str:
        """What image it is a prediction of; "" for what is none."""
        named = self.file.lower().endswith(".png") and not self.file.startswith(".")
        return self.file[: -len(".png")] if named else ""


def check(
    archive: Path,
    ids: Sequence[str],
    sizes: Sizes | None,
    year: int,
    competition: int = 6,
    testset: str = "test",
    classes: int = 21,
    published: int | None = None,
) -> Table:
    """Hold an archive against what the server takes: a table with a line for each rule.

    ``ids`` are those of the test images, ``published`` how many there must be, if that is known; ``sizes`` gives
    the (height, width) of a test image, None where it is not there; values must be 0 to ``classes`` - 1.
    """
    wanted = folder(year, competition, testset)
    table = Table(f"{wanted} in {archive}")
    again = "pack the predictions again: python data/pascal/submission.py pack PREDICTIONS"
    if not archive.is_file():
        table.fact("archive", f"{archive} is not there", "there", False, again)
        return table
    found = kinds.kind(kinds.head_of(archive)) or "no archive"
    table.fact("archive", found, "gzip", fix=f"the server takes a gzipped tar alone; {again}")
    table.fact("name", archive.name, ".tgz or .tar.gz", _named(archive), "rename it")
    if found not in kinds.ARCHIVES:
        return table
    entries, damage = _read(archive, len(ids))
    table.fact("whole", damage or f"{len(entries)} members to its end", "readable", not damage, again)
    if not damage:
        _check_tree(table, entries, wanted, again)
        predictions = [entry for entry in entries if entry.id and entry.what != "folder"]
        _check_ids(table, [entry.id for entry in predictions], ids, published, again)
        _check_pictures(table, [entry for entry in predictions if entry.picture], sizes, classes)
    return table


def _named(archive: Path) -> bool:
    return archive.name.endswith((".tgz", ".tar.gz"))


def _read(archive: Path, count: int) -> tuple[list[Entry], str]:
    """All that is in the archive, and why it cannot be read to its end, "" if it can."""
    entries = []
    try:
        with reading(archive):  # what goes wrong with a member's content, too
            for member in tqdm(members(archive), "reading", count, unit="file", leave=False, disable=None):
                entries.append(_entry(member))
    except DataError as error:
        return entries, str(error)
    return entries, ""


def _entry(member: Member) -> Entry:
    # where it would lie if its path were a decent one; that it is not is for a line of its own
    path = posixpath.normpath(member.name.replace("\\", "/"))
    parts = [part for part in path.split("/") if part not in ("", ".", "..") and part[1:] != ":"]
    if member.what == "folder":
        return Entry(member.name, member.what, tuple(parts), "")
    entry = Entry(member.name, member.what, tuple(parts[:-1]), parts[-1] if parts else "")
    if entry.id and member.what == "file":
        if member.size > PIXELS:
            entry.picture = Picture(f"has {member.size} bytes, more than any label image")
        else:
            with member.open() as file:
                entry.picture = look(file.read())
    return entry


def look(data: bytes) -> Picture:
    """What is in the PNG of these bytes."""
    if kinds.kind(data[: kinds.HEAD]) != "PNG" or data[12:16] != b"IHDR" or len(data) < 33:
        return Picture(f"is no PNG but {kinds.kind(data[: kinds.HEAD]) or 'something else'}")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if width * height > PIXELS:
        return Picture(f"is {width} x {height} pixels, more than any test image")
    picture = Picture(kind=(data[24], data[25]), size=(height, width))
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if image.mode == "P" or picture.kind == GREY:
                picture.counts = np.bincount(np.asarray(image).ravel(), minlength=256)
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises on damaged files
        picture.fault = f"is damaged ({error})"
    return picture


def _check_tree(table: Table, entries: Sequence[Entry], wanted: PurePosixPath, again: str) -> None:
    """The lines on where things lie, and what they are."""

    def line(name: str, wrong: Sequence[str], what: str) -> None:
        table.none(name, wrong, len(entries), what, again)

    outside = [
        e.name
        for e in entries
        if e.name.startswith("/") or ".." in e.name.split("/") or "\\" in e.name or e.name[1:2] == ":"
    ]
    line("paths", outside, "paths, none absolute or with .. or \\")
    special = [f"{e.name} is a {e.what}" for e in entries if e.what not in ("file", "folder")]
    line("kinds", special, "files and folders, no links")
    wrong = {level: [] for level in (*LEVELS, "subfolders")}
    for entry in entries:
        for level, found, must in zip(LEVELS, (*entry.folders, *[""] * 4), wanted.parts, strict=False):
            if found != must and (found or entry.file):
                if entry.file or level != "task folder" or found not in OTHER_TASKS:
                    wrong[level].append(f"{entry.name} is not in a folder {must}")
                break
        else:
            if len(entry.folders) > len(LEVELS):
                wrong["subfolders"].append(entry.name)
    for level, must in zip(LEVELS, wanted.parts, strict=True):
        line(level, wrong[level], f"members, all in {must}")
    line("subfolders", wrong["subfolders"], f"members, none below {wanted.name}")
    strange = [e.name for e in entries if e.what == "file" and not (e.id and e.file.endswith(".png"))]
    line("nothing else", strange, "members, no files but <id>.png")


def _check_ids(
    table: Table, found: Sequence[str], ids: Sequence[str], published: int | None, again: str
) -> None:
    """The lines on which predictions are there."""
    listed, there = set(ids), Counter(found)
    fix = "take the list of test images as it was published"
    table.fact("test images listed", len(listed), published, fix=fix)
    table.none("predictions there", sorted(listed - {*there}), len(listed), "predictions", again)
    table.none("no others", sorted({*there} - listed), len(there), "predictions, all of listed ids", again)
    twice = sorted(name for name, times in there.items() if times > 1)
    table.none("each once", twice, len(there), "predictions", again)


def _check_pictures(table: Table, entries: Sequence[Entry], sizes: Sizes | None, classes: int) -> None:
    """The lines on what the label images hold; only those of whose files something could be read at all."""
    wrong = [f"{e.file} {e.picture.fault}" for e in entries if e.picture.fault]
    table.none("PNGs decode", wrong, len(entries), "label images", "write them again")
    read = [e for e in entries if not e.picture.fault]
    index = "write class indices as 8-bit PNG with a palette: vis.save_indexed, score.py, infer.py do"
    kinds_of = [(e.file, e.picture.kind) for e in read]
    others = [
        f"{file} is {COLOR_TYPES.get(color, f'of colour type {color}')} of {bits} bits"
        for file, (bits, color) in kinds_of
        if (bits, color) not in (GREY, INDEXED)
    ]
    table.none("PNGs are indexed", others, len(read), "label images, 8 bits a pixel", index)
    if grey := [file for file, kind in kinds_of if kind == GREY]:
        remark = (
            f"{len(grey)} have no palette, such as {grey[0]}: read as the same indices, as far as is known"
        )
        table.fact("grey", remark)
    valued = [e for e in read if e.picture.counts is not None]
    beyond, void = [], []
    for entry in valued:
        values = [int(v) for v in np.flatnonzero(entry.picture.counts) if v >= classes]
        void += [f"{entry.file} ({entry.picture.counts[IGNORE]} pixels)"] if IGNORE in values else []
        if more := [v for v in values if v != IGNORE]:
            beyond.append(f"{entry.file} has {', '.join(map(str, more[:5]))}")
    if valued:
        table.none(
            "values", beyond, len(valued), f"label images of 0 to {classes - 1}", "they are no classes"
        )
        fix = "void is for truths: predict a class for every pixel"
        table.none("no void", void, len(valued), f"label images without {IGNORE}", fix)
    _check_sizes(table, read, sizes)


def _check_sizes(table: Table, read: Sequence[Entry], sizes: Sizes | None) -> None:
    size_of = sizes.get if isinstance(sizes, Mapping) else sizes or (lambda name: None)
    known, wrong = 0, []
    for entry in read:
        size = size_of(entry.id)
        known += size is not None
        if size is not None and tuple(size) != entry.picture.size:
            (height, width), (rows, columns) = entry.picture.size, size
            wrong.append(f"{entry.file} is {width} x {height} pixels, its test image {columns} x {rows}")
    if known:
        rest = (
            f"; {len(read) - known} not compared, their test images are absent" if known < len(read) else ""
        )
        what = f"label images, as large as their test images{rest}"
        table.none("sizes", wrong, known, what, "predict at the size of the test image")
    else:
        table.fact("sizes", "not compared: the test images are absent")
