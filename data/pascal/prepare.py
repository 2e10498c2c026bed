"""PASCAL VOC: three sample photographs at once, and the paper's validation split.

python data/pascal/prepare.py sample         three photographs with masks, as data/pascal/sample/VOC2011
python data/pascal/prepare.py seg11valid     VOC2011 val minus SBD train, the paper's 736 validation images
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the shared modules, whether or not the project is installed

import images  # noqa: E402
import vis  # noqa: E402
from files import DataError, replacing  # noqa: E402

# Three VOC 2011 photographs with masks in VOC's classes are an example of the annotation tool
# labelme, in its source distribution.
PACKAGE, VERSION = "labelme", "6.3.1"
ARCHIVE = f"{PACKAGE}-{VERSION}.tar.gz"
ARCHIVE_SHA256 = "2947e0d8341a92faa7b3ee50cf4b672f838051c6bf24892526e95b64fd3a707e"
FOLDER = f"{PACKAGE}-{VERSION}/examples/semantic_segmentation/data_dataset_voc"
IDS = ("2011_000003", "2011_000006", "2011_000025")
LARGEST = 4 << 20  # bytes; no member that is read comes near

SEG11VALID_COUNT = 736
SEG11VALID_SHA256 = "4ca991bd72c251fd2485eaa9e29536502ea3800d1b1c17c151fd6a04bcfbc2cc"
VOC2011_VAL_COUNT, VOC2012_VAL_COUNT, SBD_TRAIN_COUNT = 1111, 1449, 8498


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
        _lay_out(archive, made)
        if target.exists():
            os.replace(target, Path(temporary) / "old")
        os.replace(made, target)
    print(f"wrote {target}: {len(IDS)} photographs with masks ({', '.join(IDS)})")
    return target


def seg11valid(voc_dir: Path, sbdd_dir: Path) -> Path:
    """Write the split seg11valid: the ids of VOC 2011's val that SBD's train does not hold, sorted."""
    lists = voc_dir / "ImageSets" / "Segmentation"
    reason = (
        "VOC 2012 cannot stand in for it: its val minus SBD train has 904 images, another benchmark. "
        "Download VOCtrainval_25-May-2011.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2011/ "
        f"and unpack it so that its TrainVal/VOCdevkit/VOC2011 becomes {voc_dir}"
    )
    if not (lists / "val.txt").is_file():
        raise DataError(f"{lists / 'val.txt'} does not exist; seg11valid needs VOC 2011. {reason}")
    if not (sbdd_dir / "train.txt").is_file():
        raise DataError(
            f"{sbdd_dir / 'train.txt'} does not exist; seg11valid needs SBD. Download benchmark.tgz from "
            "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/ "
            f"and unpack it so that its benchmark_RELEASE/dataset becomes {sbdd_dir}"
        )
    val, train = (set(path.read_text().split()) for path in (lists / "val.txt", sbdd_dir / "train.txt"))
    if len(val) == VOC2012_VAL_COUNT:
        raise DataError(f"{lists / 'val.txt'} is the list of VOC 2012 ({len(val)} images). {reason}")
    ids = sorted(val - train)
    text = "".join(f"{name}\n" for name in ids)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if len(ids) != SEG11VALID_COUNT or digest != SEG11VALID_SHA256:
        raise DataError(
            f"val minus SBD train gives {len(ids)} images (sha256 {digest[:12]}...), not the paper's "
            f"{SEG11VALID_COUNT} ({SEG11VALID_SHA256[:12]}...). {lists / 'val.txt'} has {len(val)} ids, VOC 2011's "
            f"has {VOC2011_VAL_COUNT}; {sbdd_dir / 'train.txt'} has {len(train)}, SBD's has {SBD_TRAIN_COUNT}: "
            "get the one that differs again"
        )
    path = lists / "seg11valid.txt"
    _write(path, text.encode())
    print(f"wrote {path}: {len(ids)} images, sha256 as published")
    return path


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
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != ARCHIVE_SHA256:
        raise DataError(
            f"archive {archive} has sha256 {digest}, {ARCHIVE} has {ARCHIVE_SHA256}: "
            "it is damaged or another file; get it again"
        )


def _lay_out(archive: Path, made: Path) -> None:
    """Read the members that are needed, by name, and write the VOC tree ``made``."""
    classes = (Path(__file__).parent / "classes.txt").read_text().split()
    palette = vis.make_palette(len(classes))
    with tarfile.open(archive) as tar:
        theirs = _member(tar, "class_names.txt").decode().split("\n")
        number = np.full(256, images.IGNORE, np.uint8)
        for index, name in enumerate(theirs):
            number[index] = _index(name, classes, archive)
        for name in IDS:
            _write(made / "JPEGImages" / f"{name}.jpg", _member(tar, f"JPEGImages/{name}.jpg"))
            mask = Image.open(io.BytesIO(_member(tar, f"SegmentationClass/{name}.png")))
            path = made / "SegmentationClass" / f"{name}.png"
            vis.save_indexed(path, number[np.asarray(mask)], palette)
            if images.load_image(made / "JPEGImages" / f"{name}.jpg").shape[:2] != (mask.height, mask.width):
                raise DataError(f"archive {archive}: photograph and mask of {name} differ in size")
    for split in ("train", "val", "trainval"):
        _write(made / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{i}\n" for i in IDS).encode())
    sums = [
        f"{_sha256(path)}  {path.relative_to(made)}\n" for path in sorted(made.rglob("*")) if path.is_file()
    ]
    _write(made / "SHA256SUMS", "".join(sums).encode())


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


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _intact(tree: Path) -> bool:
    """Whether every file of ``tree`` is as it was written."""
    try:
        lines = (tree / "SHA256SUMS").read_text().splitlines()
        return bool(lines) and all(_sha256(tree / line[66:]) == line[:64] for line in lines)
    except (OSError, UnicodeDecodeError):
        return False


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; the exit status is 1 after an error, which is told in one message."""
    common = argparse.ArgumentParser(add_help=False)
    default = Path(os.environ.get("FCN_DATA") or ROOT / "data")
    common.add_argument(
        "--data-root",
        type=Path,
        default=default,
        help="folder of all data sets (default: $FCN_DATA, else data/)",
    )
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("sample", parents=[common], help="get three photographs with masks")
    command.add_argument("--from", dest="archive", type=Path, metavar="FILE", help=f"{ARCHIVE}, got by hand")
    command = commands.add_parser("seg11valid", parents=[common], help="make the paper's validation split")
    command.add_argument("--voc-dir", type=Path, help="default: pascal/VOC2011 under the data root")
    command.add_argument("--sbdd-dir", type=Path, help="default: sbdd/dataset under the data root")
    args = parser.parse_args(argv)
    try:
        if args.command == "sample":
            sample(args.data_root, args.archive)
        else:
            seg11valid(
                args.voc_dir or args.data_root / "pascal" / "VOC2011",
                args.sbdd_dir or args.data_root / "sbdd" / "dataset",
            )
    except (DataError, OSError, tarfile.TarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
