"""Writers of each data set's layout on disk, and of the archives in which it was published.

A writer lays out what it is given and judges none of it: tests and synthetic twins (data/toy) hold content of any
size and any values. Content is a mapping of ids to items, each taken once, so that one which draws its items as
they are asked for costs no memory. The same content gives the same bytes: nothing tells when it was written.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vis
from files import read_lines

QUALITY = 95  # of JPEG
SIFT_FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"
PALETTE = vis.make_palette(256)
_HEADER = 116  # bytes of text at the start of a MATLAB file, where scipy writes the time

Splits = Mapping[str, Sequence[str]]


def voc_tree(folder, content: Mapping[str, tuple], splits: Splits, main: Splits | None = None) -> Path:
    """VOC, a year of it: JPEGImages, SegmentationClass, ImageSets; returns its path.

    ``content``: {id: (image, label or None)} or {id: (image, label, instances)}: RGB, classes with 255 for void,
    and numbers of objects with 255 for void. ``splits`` are those of segmentation, ``main`` those of ImageSets/Main.
    """
    folder = _folders(folder, "JPEGImages")
    for name, (image, label, *instances) in content.items():
        _jpeg(folder / "JPEGImages" / f"{name}.jpg", image)
        if label is not None:
            vis.save_indexed(folder / "SegmentationClass" / f"{name}.png", label, PALETTE)
        for objects in instances:
            vis.save_indexed(folder / "SegmentationObject" / f"{name}.png", objects, PALETTE)
    for kind, lists in (("Segmentation", splits), ("Main", main or {})):
        if lists:
            _lists(_folders(folder / "ImageSets" / kind), lists, end="\n")
    return folder


def sbd_tree(folder, content: Mapping[str, tuple], splits: Splits) -> Path:
    """SBD's folder ``dataset``: img, cls, inst, lists; returns its path.

    ``content``: {id: (image, label)} or {id: (image, label, instances)}: RGB, classes 0 to 20, numbers of objects
    from 1, 0 where there is none.
    """
    folder = _folders(folder, "img", "cls")
    for name, (image, label, *instances) in content.items():
        _jpeg(folder / "img" / f"{name}.jpg", image)
        present = np.setdiff1d(label, [0, 255]).astype(np.uint8)
        struct = {
            "Boundaries": _boundaries(label, range(1, 21)),
            "Segmentation": label,
            "CategoriesPresent": present[:, None],
        }
        savemat(folder / "cls" / f"{name}.mat", {"GTcls": struct})
        for objects in instances:
            numbers = np.setdiff1d(objects, [0])
            struct = {
                "Segmentation": objects,
                "Boundaries": _boundaries(objects, numbers),
                "Categories": np.array([[label[objects == n][0]] for n in numbers], np.uint8).reshape(-1, 1),
            }
            savemat(_folders(folder, "inst") / "inst" / f"{name}.mat", {"GTinst": struct})
    _lists(folder, splits, end="\n")
    return folder


def nyud_tree(folder, content: Mapping[str, Mapping], splits: Splits, mats: Splits | None = None) -> Path:
    """NYUDv2 as the FCN authors packed it: data, segmentation, lists; returns its path.

    ``content``: {id: {"color": RGB, "depth": uint16 mm, "hha": uint8, "label": 0 for void, 1 to 40}}, with "rawdepth"
    or without. ``splits`` are written as lists of ids, ``mats`` as MATLAB files of names, as in the published pack.
    """
    kinds = {"color": "images", "depth": "depth", "rawdepth": "rawdepth", "hha": "hha"}
    folder = _folders(folder, "segmentation")
    for name, item in content.items():
        for key, kind in kinds.items():
            if key in item:
                vis.save(_folders(folder, f"data/{kind}") / "data" / kind / f"img_{name}.png", item[key])
        savemat(folder / "segmentation" / f"img_{name}.mat", {"segmentation": item["label"]})
    _lists(folder, splits)
    for split, names in (mats or {}).items():
        savemat(folder / f"{split}.mat", {"split_ids": _cells([f"img_{name}" for name in names])})
    return folder


def siftflow_tree(
    folder, content: Mapping[str, tuple], splits: Splits, test: Sequence[str] | None = None
) -> Path:
    """SIFT Flow: Images, SemanticLabels, GeoLabels, lists; returns its path.

    ``content``: {name: (image, semantic, geometric)}: RGB, classes from 1 with 0 for void, classes from 1 with -1 for
    void; None for both where nobody annotated. ``splits`` are written as lists of names, ``test`` as the
    published TestSet1.txt.
    """
    folder = _folders(
        folder, *(f"{kind}/{SIFT_FOLDER}" for kind in ("Images", "SemanticLabels", "GeoLabels"))
    )
    for name, (image, semantic, geometric) in content.items():
        _jpeg(folder / "Images" / SIFT_FOLDER / f"{name}.jpg", image)
        for kind, label in (("SemanticLabels", semantic), ("GeoLabels", geometric)):
            if label is not None:
                names = _cells(["a class"])
                savemat(folder / kind / SIFT_FOLDER / f"{name}.mat", {"S": label, "names": names})
    _lists(folder, splits)
    if test is not None:
        (folder / "TestSet1.txt").write_bytes(
            "".join(f"{SIFT_FOLDER}\\{name}.jpg\r\n" for name in test).encode()
        )
    return folder


def context_tree(folder, content: Mapping[str, np.ndarray]) -> Path:
    """PASCAL-Context's labels: trainval; returns its path. ``content``: {id: label of 1 to 459}."""
    folder = _folders(folder, "trainval")
    for name, label in content.items():
        savemat(folder / "trainval" / f"{name}.mat", {"LabelMap": label.astype(np.uint16)})
    return folder


def nyud_raw(folder, content: Mapping[str, Mapping], trainval: Sequence[str], test: Sequence[str]) -> Path:
    """NYUDv2 as first published: nyu_depth_v2_labeled.mat, splits.mat, classMapping40.mat; returns the folder.

    ``content``: {id: {"color": 480 x 640 RGB, "depth" and "rawdepth": metres, 0 where nothing was measured,
    "label": one of 894}}, the ids from 5001 in order. The 40 classes of the 894 are those of :func:`nyud_classes`.
    """
    from h5py import File  # takes a tenth of a second, and only this file needs it

    folder, count = _folders(folder), len(content)
    path = folder / "nyu_depth_v2_labeled.mat"
    with File(path, "w", userblock_size=512) as file:
        stored = {}
        for key, name, planes, kind in (
            ("color", "images", (3,), "uint8"),
            ("depth", "depths", (), "float32"),
            ("rawdepth", "rawDepths", (), "float32"),
            ("label", "labels", (), "uint16"),
        ):
            shape = (*planes, 640, 480)  # MATLAB's axes, seen from C: the other way round
            stored[key] = file.create_dataset(name, (count, *shape), kind, chunks=(1, *shape), compression=4)
            stored[key].attrs["MATLAB_class"] = np.bytes_({"float32": "single"}.get(kind, kind))
        for n, item in enumerate(content.values()):
            for key, values in stored.items():
                values[n] = item[key].T
    text = b"MATLAB 7.3 MAT-file, written by datakit/layouts.py, HDF5 schema 1.00 .".ljust(_HEADER)
    with open(path, "r+b") as file:
        file.write(text + bytes(8) + b"\x00\x02IM")
    numbers = {"trainNdxs": trainval, "testNdxs": test}
    savemat(
        folder / "splits.mat",
        {key: np.array([[int(name) - 5000] for name in names], np.uint16) for key, names in numbers.items()},
    )
    names = read_lines(Path(__file__).parents[1] / "data" / "nyud" / "classes.txt", "classes")
    classes = {"mapClass": nyud_classes()[None, 1:], "className": _cells(names).T}
    savemat(folder / "classMapping40.mat", classes)
    return folder


def nyud_classes() -> np.ndarray:
    """The class, 1 to 40, of each of NYUDv2's 894 raw classes, uint8; [0] is 0, for void.

    Not the published table, but one like it: 37 classes come of one raw class, the last three of 68, 82 and 707.
    """
    classes = np.repeat(np.uint8([38, 39, 40]), (68, 82, 707))
    singles = 1 + np.arange(37) * 7 % 37
    return np.insert(np.insert(classes, np.arange(37) * 23, singles), 0, 0).astype(np.uint8)


def pack(path: Path, tree: Mapping[str, Path]) -> Path:
    """Write an archive of {path in it: file or folder}; tar, gzipped tar or zip by its suffix. Returns its path."""
    entries = [
        (f"{inner}/{each.relative_to(source).as_posix()}".removesuffix("/."), each)
        for inner, source in tree.items()
        for each in [source, *sorted(source.rglob("*"))]
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zip_:
            for name, each in entries:
                info = zipfile.ZipInfo(name + "/" * each.is_dir(), (1980, 1, 1, 0, 0, 0))
                info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
                info.external_attr = (0o40755 if each.is_dir() else 0o100644) << 16
                zip_.writestr(info, b"" if each.is_dir() else each.read_bytes())
        return path
    with open(path, "wb") as raw, ExitStack() as stack:
        if path.suffix in (".gz", ".tgz"):
            file = stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0))
        else:
            file = raw
        tar = stack.enter_context(tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT))
        for name, each in entries:
            info = tarfile.TarInfo(name)
            if each.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            else:
                info.size = each.stat().st_size
                tar.addfile(info, io.BytesIO(each.read_bytes()))
    return path


def savemat(path: Path, variables: Mapping[str, Any]) -> None:
    """Write a MATLAB 5 file, compressed, which does not tell when it was written."""
    from scipy.io import savemat as write  # takes half a second, and only MATLAB's files need it

    file = io.BytesIO()
    write(file, dict(variables), do_compression=True)
    text = b"MATLAB 5.0 MAT-file, written by datakit/layouts.py".ljust(_HEADER)
    path.write_bytes(text + file.getvalue()[_HEADER:])


def _jpeg(path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(path, quality=QUALITY)


def _folders(folder, *names: str) -> Path:
    for path in (Path(folder), *(Path(folder) / name for name in names)):
        path.mkdir(parents=True, exist_ok=True)
    return Path(folder)


def _lists(folder: Path, splits: Splits, end: str = "") -> None:
    """A list a split, an id a line; those of NYUDv2 and SIFT Flow end without a newline, as published."""
    for split, names in splits.items():
        (folder / f"{split}.txt").write_bytes(("\n".join(names) + end).encode())


def _cells(values: Sequence) -> np.ndarray:
    """A MATLAB cell array, a column."""
    cells = np.empty((len(values), 1), object)
    cells[:, 0] = values
    return cells


def _boundaries(label: np.ndarray, values: Iterable[int]) -> np.ndarray:
    """A cell array: for each of ``values`` the pixels that have it beside one that has not, sparse logical."""
    from scipy.sparse import csc_matrix

    edge = np.zeros(label.shape, bool)
    down, right = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    values = list(values)
    cells = np.empty((len(values), 1), object)
    for n, value in enumerate(values):
        cells[n, 0] = csc_matrix(edge & (label == value))
    return cells
