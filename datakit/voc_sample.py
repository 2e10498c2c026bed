"""Three photographs of VOC 2011 with masks, at once: a VOC tree made of another package's example."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import images
import vis
from datakit.archives import digest
from datakit.command import ROOT
from files import DataError, read_lines, write

# Three VOC 2011 photographs with masks in VOC's classes are an example of the annotation tool
# labelme, in its source distribution.
PACKAGE, VERSION = "labelme", "6.3.1"
ARCHIVE = f"{PACKAGE}-{VERSION}.tar.gz"
ARCHIVE_SHA256 = "2947e0d8341a92faa7b3ee50cf4b672f838051c6bf24892526e95b64fd3a707e"
FOLDER = f"{PACKAGE}-{VERSION}/examples/semantic_segmentation/data_dataset_voc"
IDS = ("2011_000003", "2011_000006", "2011_000025")
LARGEST = 4 << 20  # bytes; no member that is read comes near


def sample(data_root: Path, archive: Path | None = None) -> Path:
    """Lay out the sample as ``<data_root>/pascal/sample/VOC2011`` and return that path.

    Does nothing when it is there and whole. ``archive`` is the source distribution if it was got
    by hand; otherwise pip gets it. The folder appears complete or not at all.
    """
    target = data_root / "pascal" / "sample" / "VOC2011"
    if _intact(target):
        print(f"{target} is there and whole: nothing to do")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as temporary:
        made = Path(temporary) / "VOC2011"
        archive = archive or _pip_download(Path(temporary))
        _check_archive(archive)
        try:
            _lay_out(archive, made)
        except tarfile.TarError as error:
            raise DataError(f"archive {archive} cannot be read: {error}") from None
        if target.exists():
            os.replace(target, Path(temporary) / "old")
        os.replace(made, target)
    print(f"wrote {target}: {len(IDS)} photographs with masks ({', '.join(IDS)})")
    return target


def _pip_download(folder: Path) -> Path:
    """Let pip fetch the source distribution, and check it against the hash before touching it."""
    by_hand = (
        f"To do it by hand: get {ARCHIVE} (the source distribution of {PACKAGE} {VERSION} on the Python package "
        f"index), then `python data/pascal/prepare.py sample --from {ARCHIVE}`"
    )
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{ARCHIVE_SHA256}\n")
    options = [
        "--no-deps",
        "--no-binary",
        PACKAGE,
        "--require-hashes",
        "--disable-pip-version-check",
        "--quiet",
    ]
    print(f"getting {ARCHIVE} (14 MB) with pip ...", flush=True)
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), "-r", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not (folder / ARCHIVE).is_file():
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["(it said nothing)"]
        raise DataError("pip could not get it; its last words:\n  " + "\n  ".join(said[-3:]) + f"\n{by_hand}")
    return folder / ARCHIVE


def _check_archive(archive: Path) -> None:
    if not archive.is_file():
        raise DataError(f"archive {archive} does not exist")
    found = digest(archive, "sha256")
    if found != ARCHIVE_SHA256:
        raise DataError(
            f"archive {archive} has sha256 {found}, {ARCHIVE} has {ARCHIVE_SHA256}: "
            "it is damaged or another file; get it again"
        )


def _lay_out(archive: Path, made: Path) -> None:
    """Read the members that are needed, by name, and write the VOC tree ``made``."""
    classes = read_lines(ROOT / "data" / "pascal" / "classes.txt", "class list")
    palette = vis.make_palette(len(classes))
    with tarfile.open(archive) as tar:
        theirs = _member(tar, "class_names.txt").decode().split("\n")
        number = np.full(256, images.IGNORE, np.uint8)
        for index, name in enumerate(theirs):
            number[index] = _index(name, classes, archive)
        for name in IDS:
            write(made / "JPEGImages" / f"{name}.jpg", _member(tar, f"JPEGImages/{name}.jpg"))
            mask = Image.open(io.BytesIO(_member(tar, f"SegmentationClass/{name}.png")))
            path = made / "SegmentationClass" / f"{name}.png"
            vis.save_indexed(path, number[np.asarray(mask)], palette)
            if images.load_image(made / "JPEGImages" / f"{name}.jpg").shape[:2] != (mask.height, mask.width):
                raise DataError(f"archive {archive}: photograph and mask of {name} differ in size")
    for split in ("train", "val", "trainval"):
        write(made / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{i}\n" for i in IDS).encode())
    sums = [
        f"{digest(path, 'sha256')}  {path.relative_to(made)}\n"
        for path in sorted(made.rglob("*"))
        if path.is_file()
    ]
    write(made / "SHA256SUMS", "".join(sums).encode())


def _index(name: str, classes: list[str], archive: Path) -> int:
    """The VOC index of a class that the archive spells its own way (``tv/monitor``, ``_background_``)."""
    plain = "".join(filter(str.isalpha, name))
    if plain not in classes:
        raise DataError(f"archive {archive} has the class {name!r}, which VOC does not have")
    return classes.index(plain)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """The bytes of a member, which must be a plain file of ordinary size."""
    try:
        member = tar.getmember(f"{FOLDER}/{name}")
    except KeyError:
        raise DataError(f"archive {tar.name} lacks {FOLDER}/{name}") from None
    if not member.isreg() or member.size > LARGEST:
        raise DataError(f"archive {tar.name}: {member.name} is not a plain file of at most {LARGEST} bytes")
    return tar.extractfile(member).read()


def _intact(tree: Path) -> bool:
    """Whether every file of ``tree`` is as it was written."""
    try:
        lines = (tree / "SHA256SUMS").read_text().splitlines()
        return bool(lines) and all(digest(tree / line[66:], "sha256") == line[:64] for line in lines)
    except (OSError, UnicodeDecodeError):
        return False
