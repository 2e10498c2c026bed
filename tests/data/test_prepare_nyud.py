"""data/nyud/prepare.py: the authors' pack and the published file, end to end, whole, broken, and interrupted."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path, PurePosixPath

import h5py
import numpy as np
import psutil
import pytest
from PIL import Image
from scipy.io import savemat

from datakit import fetch, layouts, processes
from datakit.nyud_mat import Labeled, millimetres
from files import DataError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "data" / "nyud" / "prepare.py"
spec = importlib.util.spec_from_file_location("prepare_nyud", SCRIPT)
prepare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prepare)
hha = prepare.hha

IDS = [str(5001 + n) for n in range(6)]
TRAINVAL, TEST = IDS[:4], IDS[4:]
RAW_TRAINVAL, RAW_TEST = IDS[1:4], [*IDS[4:], IDS[0]]
SIZE = (48, 64)
CROP = np.s_[45:470, 40:600]


def run(root, *arguments):
    return prepare.main([*map(str, arguments), "--data-root", str(root)])


def failed(said):
    """The names of the lines that do not hold."""
    return {
        re.split(r"  +", line.strip())[1] for line in said.splitlines() if line.strip().startswith("FAIL")
    }


def small(name):
    """An image in small, in the pack's form: a wall with a box before it, reddish."""
    rng = np.random.default_rng(int(name))
    depth = 2700 + 4 * np.arange(SIZE[1]) + np.zeros(SIZE, int)
    depth[10:30, 20:40] -= 400 + 10 * (int(name) % 10)
    depth = (depth + rng.integers(0, 9, SIZE)).astype(np.uint16)
    raw = np.where(rng.random(SIZE) < 0.1, 0, depth).astype(np.uint16)
    color = rng.integers(0, [200, 160, 120], (*SIZE, 3)).astype(np.uint8)
    label = rng.permutation(np.resize(np.arange(41), SIZE[0] * SIZE[1])).reshape(SIZE).astype(np.uint8)
    return {"color": color, "depth": depth, "rawdepth": raw, "hha": hha.hha(depth, raw), "label": label}


def facts_of(items, trainval, test):
    """What is true of these items, in the words of a sources.json."""
    train = [items[name] for name in trainval]
    height, width = train[0]["depth"].shape
    return {
        "trainval": len(trainval), "test": len(test), "first id": 5001, "last id": 5000 + len(items),
        "width": width, "height": height,
        "mean color": np.mean([item["color"] for item in train], (0, 1, 2)).tolist(),
        "mean depth": float(np.mean([np.log(item["depth"]) for item in train])),
        "mean hha": np.mean([item["hha"] for item in train], (0, 1, 2)).tolist(),
    }  # fmt: skip


def sources(folder, facts):
    """A sources.json in ``folder`` for the archives that lie there."""
    names = ("nyud.tar.gz", "nyu_depth_v2_labeled.mat", "splits.mat", "classMapping40.mat")
    archives = {
        name: {
            "urls": [f"http://127.0.0.1:9/{name}"],
            "size": (folder / name).stat().st_size if (folder / name).exists() else None,
            "unpacked": 1_000_000,
        }
        for name in names
    }
    (folder / "sources.json").write_text(json.dumps({"archives": archives, "facts": {"nyud": facts}}))


def new_root(folder, published):
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(published / "sources.json", folder)
    return folder


@pytest.fixture(scope="module")
def items():
    return {name: small(name) for name in IDS}


@pytest.fixture(scope="module")
def packed(tmp_path_factory, items):
    """A folder with nyud.tar.gz as the authors made it, and splits.mat."""
    folder = tmp_path_factory.mktemp("packed")
    tree = layouts.nyud_tree(folder / "tree", items, {}, {"train": TRAINVAL, "test": TEST})
    truth = folder / "tree/benchmarkData/groundTruth"
    truth.mkdir(parents=True)
    savemat(truth / "img_5001.mat", {"groundTruth": 1})
    layouts.pack(folder / "nyud.tar.gz", {"nyud": tree})
    numbers = {
        key: np.array([[int(n) - 5000] for n in ids], np.uint16)
        for key, ids in (("trainNdxs", TRAINVAL), ("testNdxs", TEST))
    }
    savemat(folder / "splits.mat", numbers)
    sources(folder, facts_of(items, TRAINVAL, TEST))
    return folder


@pytest.fixture(scope="module")
def pack_made(tmp_path_factory, packed):
    root = new_root(tmp_path_factory.mktemp("pack"), packed)
    assert run(root, "all", "--from", packed) == 0
    return root


@pytest.fixture
def pack_root(pack_made, tmp_path):
    return Path(shutil.copytree(pack_made, tmp_path / "root", symlinks=True))


def full_size(name):
    """An image as published: metres, 894 classes; a wall, with a floor in the lower half."""
    rng = np.random.default_rng(int(name))
    depth = np.full((480, 640), 3.0, np.float32)
    depth[300:] = (1.4 / ((np.arange(301, 481) - 253.736) / 519.47)).astype(np.float32)[:, None]
    depth = np.minimum(depth, 3 + 0.1 * (int(name) % 7)).astype(np.float32)
    depth[200, 100:104] = 2.0625, 1.0625, 2.0314999, 70.0  # 2062.5 mm, 1062.5 mm, 2031.4999 mm, too far
    raw = depth.copy()
    raw[100:130, 200:260] = 0
    color = np.kron(rng.integers(60, 200, (30, 40, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    label = np.kron(rng.integers(0, 895, (30, 40)), np.ones((16, 16))).astype(np.uint16)
    return {"color": color, "depth": depth, "rawdepth": raw, "label": label}


@pytest.fixture(scope="module")
def raw_items():
    return {name: full_size(name) for name in IDS}


@pytest.fixture(scope="module")
def published(tmp_path_factory, raw_items):
    """A folder with the three published files."""
    folder = layouts.nyud_raw(tmp_path_factory.mktemp("published"), raw_items, RAW_TRAINVAL, RAW_TEST)
    cropped = {}
    for name, item in raw_items.items():
        depth, raw = (
            np.floor(item[key][CROP] * np.float32(1000) + np.float32(0.5)) for key in ("depth", "rawdepth")
        )
        depth, raw = (np.minimum(each, 65535).astype(np.uint16) for each in (depth, raw))
        cropped[name] = {"color": item["color"][CROP], "depth": depth, "hha": hha.hha(depth, raw)}
    sources(folder, facts_of(cropped, RAW_TRAINVAL, RAW_TEST))
    return folder


@pytest.fixture(scope="module")
def raw_made(tmp_path_factory, published):
    root = new_root(tmp_path_factory.mktemp("raw"), published)
    assert run(root, "all", "raw", "--from", published) == 0
    return root


@pytest.fixture
def raw_root(raw_made, tmp_path):
    return Path(shutil.copytree(raw_made, tmp_path / "raw", symlinks=True))


def pixels(path):
    with Image.open(path) as image:
        return image.mode, np.array(image)


def state(root):
    return {path: path.stat().st_mtime_ns for path in (root / "nyud").rglob("*") if path.is_file()}


# ------------------------------------------------------------------ the published file


def test_the_published_file_becomes_what_the_layers_read(raw_made, raw_items, capsys):
    folder = raw_made / "nyud"
    classes = layouts.nyud_classes()
    for name, item in raw_items.items():
        mode, color = pixels(folder / f"data/images/img_{name}.png")
        assert mode == "RGB" and (color == item["color"][CROP]).all()
        mode, depth = pixels(folder / f"data/depth/img_{name}.png")
        assert mode == "I;16" and depth.shape == (425, 560)
        assert np.abs(depth - np.minimum(item["depth"][CROP] * 1000.0, 65535)).max() <= 0.5001
        assert depth[155, 60:64].tolist() == [2063, 1063, 2031, 65535], (
            "halves away from zero, as MATLAB rounds"
        )
        raw = pixels(folder / f"data/rawdepth/img_{name}.png")[1]
        assert (raw[55:85, 160:220] == 0).all() and np.count_nonzero(raw == 0) == 30 * 60
        mode, label = pixels(folder / f"segmentation/img_{name}.png")
        assert mode == "P"
        expected = classes[item["label"][CROP]]
        assert (label == np.where(expected == 0, 255, expected.astype(int) - 1)).all()
        mode, encoded = pixels(folder / f"data/hha/img_{name}.png")
        assert mode == "RGB" and (encoded == hha.hha(depth, raw, "cropped")).all()
    assert (folder / "trainval.txt").read_text().split() == RAW_TRAINVAL
    assert (folder / "test.txt").read_text().split() == RAW_TEST
    assert json.loads((folder / "variant.json").read_text()) == {"variant": "raw"}
    assert not list(folder.rglob(".*")) and not (folder / "prepare.lock").exists()
    assert run(raw_made, "check", "raw") == 0
    assert not failed(capsys.readouterr().out)


def test_run_again_it_changes_nothing(raw_root):
    before = state(raw_root)
    assert run(raw_root, "prepare", "raw") == 0
    assert {path for path, time in state(raw_root).items() if before.get(path) != time} == {
        raw_root / "nyud/variant.json"
    }


def test_what_is_missing_of_an_image_is_made_again(raw_root, raw_made):
    lost = ["data/depth/img_5003.png", "data/hha/img_5004.png", "segmentation/img_5005.png"]
    for name in lost:
        (raw_root / "nyud" / name).unlink()
    (raw_root / "nyud/data/hha/.img_5004.77.png").write_bytes(b"half")
    before = state(raw_root)
    assert run(raw_root, "prepare", "raw") == 0
    for name in lost:
        assert (raw_root / "nyud" / name).read_bytes() == (raw_made / "nyud" / name).read_bytes()
    changed = {path for path, when in state(raw_root).items() if before.get(path) != when}
    assert changed == {raw_root / "nyud" / name for name in (*lost, "variant.json")}
    assert not list((raw_root / "nyud").rglob(".img*"))


def test_files_got_by_hand_stay_where_they_are(raw_made, published):
    for name in ("nyu_depth_v2_labeled.mat", "splits.mat", "classMapping40.mat"):
        link = raw_made / "nyud/downloads" / name
        assert link.is_symlink() and link.samefile(published / name)


def test_millimetres_in_the_precision_of_the_file():
    metres = np.float32([0.00049, 0.00051, 1.0625, 2.0625, 70, np.nan, -1])
    assert millimetres(metres).tolist() == [0, 1, 1063, 2063, 65535, 0, 0]
    near = np.float32(0.0025)  # 1000 times it is 2.5 in single precision, less in double
    assert near * np.float32(1000) == 2.5 > float(near) * 1000
    assert millimetres(np.array([near])) == [3]


def damage(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def replaced(name, **how):
    def change(file):
        del file[name]
        if how:
            file.create_dataset(name, **how)

    return change


def label_895(file):
    file["labels"][2, 300, 200] = 895


@pytest.mark.parametrize(
    "change, told",
    [
        (replaced("depths"), "has no array depths"),
        (
            replaced("labels", shape=(6, 480, 640), dtype="u2"),
            "has an array of uint16 of shape (6, 480, 640) labels",
        ),
        (replaced("images", shape=(6, 3, 640, 480), dtype="f4"), "has an array of float32"),
        (replaced("rawDepths", shape=(5, 640, 480), dtype="f4"), "has arrays of different numbers of images"),
        (label_895, "has label 895 in image 3, beyond 894"),
        (
            replaced("depths", shape=(300, 640, 480), dtype="f4", chunks=(300, 640, 480)),
            "stores depths in pieces of 351 MiB; each must be held in memory at once, and at most 256 are",
        ),
    ],
)
def test_a_published_file_that_is_not_what_it_should_be(tmp_path, published, capsys, change, told):
    root = new_root(tmp_path / "root", published)
    downloads = root / "nyud/downloads"
    downloads.mkdir(parents=True)
    for name in ("nyu_depth_v2_labeled.mat", "splits.mat", "classMapping40.mat"):
        shutil.copy(published / name, downloads)
    damage(downloads / "nyu_depth_v2_labeled.mat", change)
    assert run(root, "prepare", "raw") == 1
    said = capsys.readouterr().err
    assert told in said and "nyu_depth_v2_labeled.mat" in said and "Traceback" not in said
    assert not list((root / "nyud").glob("data/hha/*")) and not (root / "nyud/trainval.txt").exists()


def test_other_files_than_the_published_ones(tmp_path, published, capsys):
    root = new_root(tmp_path / "root", published)
    downloads = root / "nyud/downloads"
    get = "`python data/nyud/prepare.py get raw"
    assert run(root, "prepare", "raw") == 1
    assert f"{root / 'nyud'} has nothing that tells its splits. {get}" in capsys.readouterr().err
    downloads.mkdir()
    savemat(downloads / "splits.mat", {"trainNdxs": [[1], [7]], "testNdxs": [[2]]})
    assert run(root, "prepare", "raw") == 1
    assert "trainNdxs holds values from 1 to 7; valid are the integers 1 to 6" in capsys.readouterr().err
    shutil.copy(published / "splits.mat", downloads)
    assert run(root, "prepare", "raw") == 1
    assert f"{downloads / 'classMapping40.mat'} does not exist. Get it with {get}" in capsys.readouterr().err
    shutil.copy(published / "classMapping40.mat", downloads)
    (downloads / "nyu_depth_v2_labeled.mat").write_bytes(b"<html>not here</html>")
    assert run(root, "prepare", "raw") == 1
    assert "nyu_depth_v2_labeled.mat cannot be opened" in capsys.readouterr().err
    savemat(downloads / "classMapping40.mat", {"mapClass": np.uint8([[1, 41]])})
    assert run(root, "prepare", "raw") == 1
    assert "mapClass holds values from 1 to 41; valid are the integers 1 to 40" in capsys.readouterr().err


def zeros(path, images, each):
    """A published file of full size and of zeros, in pieces of ``each`` images, of which few bytes are on the disk."""
    with h5py.File(path, "w") as file:
        for name, inner, kind in (
            ("images", (3, 640, 480), "u1"),
            ("depths", (640, 480), "f4"),
            ("rawDepths", (640, 480), "f4"),
            ("labels", (640, 480), "u2"),
        ):
            chunks = (each, *inner)
            array = file.create_dataset(name, (images, *inner), kind, chunks=chunks, compression=1)
            piece = zlib.compress(bytes(int(np.prod(chunks)) * array.dtype.itemsize))
            for start in range(0, images, each):
                array.id.write_direct_chunk((start, *(0 for _ in inner)), piece)


MEASURE = """
import re, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print("status", end.code)
print("peak", re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="where Linux tells the peak of memory")
@pytest.mark.parametrize("each", [1, 16])
def test_memory_does_not_grow_with_the_file(tmp_path, published, each):
    root = tmp_path / "root"
    downloads = root / "nyud/downloads"
    downloads.mkdir(parents=True)
    zeros(downloads / "nyu_depth_v2_labeled.mat", 1449, each)  # 5.8 GB, if it were not packed
    shutil.copy(published / "classMapping40.mat", downloads)
    savemat(downloads / "splits.mat", {"trainNdxs": [[1]], "testNdxs": [[2]]})
    todo = {5001, 5400, 5401, 5999, 6449}
    for kind in ("data/images", "data/depth", "data/rawdepth", "data/hha", "segmentation"):
        (root / "nyud" / kind).mkdir(parents=True)
        for name in set(range(5001, 6450)) - (todo if kind != "data/hha" else set()):
            (root / "nyud" / kind / f"img_{name}.png").touch()
    (root / "nyud/variant.json").write_text('{"variant": "raw"}')
    command = [sys.executable, "-c", MEASURE, str(SCRIPT), "prepare", "raw", "--data-root", str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "status 0" in done.stdout, done.stdout + done.stderr
    assert all((root / f"nyud/data/depth/img_{name}.png").stat().st_size for name in todo)
    peak = int(re.search(r"peak (\d+)", done.stdout)[1]) / 1024
    print(f"peak {peak:.0f} MiB")
    assert peak < 600  # 2 GiB were allowed


# ------------------------------------------------------------------ the pack


def test_the_pack_becomes_what_the_layers_read(pack_made, items, capsys):
    folder = pack_made / "nyud"
    for name, item in items.items():
        for kind, key in (("images", "color"), ("depth", "depth"), ("rawdepth", "rawdepth"), ("hha", "hha")):
            assert (pixels(folder / f"data/{kind}/img_{name}.png")[1] == item[key]).all()
        mode, label = pixels(folder / f"segmentation/img_{name}.png")
        assert (
            mode == "P" and (label == np.where(item["label"] == 0, 255, item["label"].astype(int) - 1)).all()
        )
    assert (folder / "trainval.txt").read_text().split() == TRAINVAL
    assert (folder / "test.txt").read_text().split() == TEST
    assert not (folder / "train.txt").exists(), "the pack's train is all of trainval"
    assert not (folder / "benchmarkData").exists()
    assert run(pack_made, "check") == 0
    said = capsys.readouterr().out
    assert "all 24 facts hold" in said, said


def test_splits_come_of_whatever_tells_them(pack_root, packed, capsys):
    folder = pack_root / "nyud"

    def lists():
        return {path.stem: path.read_text().split() for path in sorted(folder.glob("*.txt"))}

    def forget(*names):
        for name in names:
            (folder / name).unlink()

    forget("data/train.mat", "data/test.mat", "trainval.txt", "test.txt")
    assert run(pack_root, "prepare") == 1
    assert (
        f"{folder} has nothing that tells its splits. `python data/nyud/prepare.py get pack"
        in capsys.readouterr().err
    )

    assert run(pack_root, "get", "--from", packed) == 0
    assert (folder / "downloads/splits.mat").is_file()
    assert run(pack_root, "prepare") == 0
    assert lists() == {"trainval": TRAINVAL, "test": TEST}

    forget("downloads/splits.mat", "trainval.txt", "test.txt")
    for split, ids in (("train", TRAINVAL[:2]), ("val", TRAINVAL[2:]), ("test", TEST)):
        (folder / f"{split}.txt").write_text("\n".join(ids))  # the release's end so
    assert run(pack_root, "prepare") == 0
    assert lists() == {"train": TRAINVAL[:2], "val": TRAINVAL[2:], "trainval": TRAINVAL, "test": TEST}
    assert run(pack_root, "check") == 0
    assert "train and val make trainval" in capsys.readouterr().out

    forget("trainval.txt", "train.txt")
    assert run(pack_root, "prepare") == 1
    assert "has the splits test, val here, but no trainval" in capsys.readouterr().err


@pytest.mark.parametrize("outside", [False, True])
def test_a_pack_with_train_and_val_of_its_own(pack_root, outside):
    folder = pack_root / "nyud"
    for name in ("trainval.txt", "test.txt", "data/train.mat", "data/test.mat"):
        (folder / name).unlink()
    place = folder if outside else folder / "data"
    for split, ids in (("train", TRAINVAL[:3]), ("val", TRAINVAL[3:]), ("test", TEST)):
        names = np.array([f"img_{n}" for n in ids], object).reshape(1, -1)
        savemat(place / f"{split}.mat", {"split_ids": names})
    assert run(pack_root, "prepare") == 0
    for split, ids in (
        ("train", TRAINVAL[:3]),
        ("val", TRAINVAL[3:]),
        ("trainval", TRAINVAL),
        ("test", TEST),
    ):
        assert (folder / f"{split}.txt").read_text().split() == ids


def test_a_list_of_names_that_are_none(pack_root, capsys):
    path = pack_root / "nyud/data/test.mat"
    savemat(path, {"split_ids": np.array([["img_5005"], ["../5006"]], object)})
    assert run(pack_root, "prepare") == 1
    assert (
        f"{path}: split_ids holds '../5006'; it must hold names such as img_5001" in capsys.readouterr().err
    )
    path.write_bytes(b"no")
    assert run(pack_root, "prepare") == 1
    assert f"{path} is no MATLAB file with split_ids" in capsys.readouterr().err


def test_only_labels_that_are_missing_are_made(pack_root):
    path = pack_root / "nyud/segmentation/img_5002.png"
    content = path.read_bytes()
    path.unlink()
    before = state(pack_root)
    assert run(pack_root, "prepare") == 0
    assert path.read_bytes() == content
    changed = {each for each, t in state(pack_root).items() if before.get(each) != t}
    assert changed == {path, pack_root / "nyud/variant.json"}


def test_when_the_server_does_not_answer_the_other_way_is_told(tmp_path, packed, monkeypatch, capsys):
    monkeypatch.setattr(fetch, "PAUSE", 0.001)
    root = new_root(tmp_path / "root", packed)
    assert run(root, "get") == 1
    said = capsys.readouterr().err.strip()
    assert "nyud.tar.gz is not to be had now" in said
    assert "`python data/nyud/prepare.py get raw" in said.splitlines()[-1]
    assert not (root / "nyud/variant.json").exists(), "so that the other way is open"


@pytest.mark.parametrize(
    "member, place",
    [
        ("data/images/img_5001.png", "data/images/img_5001.png"),
        ("nyud/data/hha/img_5001.png", "data/hha/img_5001.png"),
        ("nyud/segmentation/img_5001.mat", "segmentation/img_5001.mat"),
        ("train.mat", "data/train.mat"),
        ("nyud/test.mat", "data/test.mat"),
        ("nyud/data/images/._img_5001.png", None),
        ("benchmarkData/groundTruth/img_5001.mat", None),
        ("benchmarkData/metadata/train.mat", None),
        ("data/pointcloud/img_5001.png", None),
        ("images/img_5001.png", None),
        ("README", None),
    ],
)
def test_what_is_unpacked(member, place):
    assert prepare._pick(PurePosixPath(member)) == (place and PurePosixPath(place))


# ------------------------------------------------------------------ faults


def edit(kind, change, name="5002"):
    """A fault: the pixels of an image, changed."""

    def fault(folder):
        path = folder / ("segmentation" if kind == "segmentation" else f"data/{kind}") / f"img_{name}.png"
        with Image.open(path) as image:
            palette, values = image.getpalette(), np.array(image)
        made = Image.fromarray(np.ascontiguousarray(change(values)))
        if palette:
            made.putpalette(palette)
        made.save(path)

    return fault


def one_pixel(value):
    def change(values):
        values[5, 6] = value
        return values

    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


def rewrite(name, change):
    def fault(folder):
        path = folder / name
        path.write_text("\n".join(change(path.read_text().split())))

    return fault


def copy(source, target):
    return lambda folder: shutil.copy(folder / source, folder / target)


def cut(name):
    def fault(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return fault


def as_jpeg(folder):
    path = folder / "data/images/img_5002.png"
    Image.open(path).save(path, format="JPEG")


def all_images(kind, change):
    def fault(folder):
        for name in IDS:
            edit(kind, change, name)(folder)

    return fault


def without_class(folder):
    for name in IDS:
        (folder / f"segmentation/img_{name}.mat").unlink()
        edit("segmentation", lambda values: np.where(values == 7, 255, values).astype(np.uint8), name)(folder)


def train_and_val(folder):
    (folder / "train.txt").write_text("\n".join(TRAINVAL[:2]))
    (folder / "val.txt").write_text("\n".join(TEST))


FAULTS = {
    "depth missing": (remove("data/depth/img_5002.png"), "depth there"),
    "hha missing": (remove("data/hha/img_5005.png"), "hha there"),
    "rawdepth missing": (remove("data/rawdepth/img_5005.png"), "rawdepth there"),
    "a file that no list names": (
        copy("data/images/img_5001.png", "data/images/img_5011.png"),
        "images there",
    ),
    "zero in depth": (edit("depth", one_pixel(0)), "depth without holes"),
    "8-bit depth": (edit("depth", lambda v: (v // 16).astype(np.uint8)), "depth decode"),
    "grey photograph": (edit("images", lambda v: v[:, :, 0]), "images decode"),
    "photograph is a JPEG": (as_jpeg, "images decode"),
    "PNG cut off": (cut("data/hha/img_5003.png"), "hha decode"),
    "label PNG cut off": (cut("segmentation/img_5003.png"), "labels decode"),
    "label 40": (edit("segmentation", one_pixel(40)), "label values"),
    "label of another image": (
        copy("segmentation/img_5001.png", "segmentation/img_5002.png"),
        "labels equal their .mat",
    ),
    "a class that never occurs": (without_class, "classes that occur"),
    "photograph of another size": (edit("images", lambda v: v[:-1]), "sizes"),
    "label of another size": (edit("segmentation", lambda v: v[:, 1:]), "sizes"),
    "id in both lists": (rewrite("test.txt", lambda ids: [*ids, "5001"]), "trainval and test are disjoint"),
    "id twice": (rewrite("trainval.txt", lambda ids: [*ids, ids[0]]), "trainval list"),
    "id beyond the last": (rewrite("test.txt", lambda ids: [ids[0], "6450"]), "5001 to 5006 once each"),
    "list too short": (rewrite("trainval.txt", lambda ids: ids[1:]), "trainval list"),
    "list missing": (remove("test.txt"), "test list"),
    "train and val are others": (train_and_val, "train and val make trainval"),
    "hha: disparity and angle swapped": (edit("hha", lambda v: v[:, :, ::-1]), "hha is of this depth"),
    "hha: height and angle swapped": (
        all_images("hha", lambda v: v[:, :, [0, 2, 1]]),
        "hha is of this depth",
    ),
    "hha of another image": (copy("data/hha/img_5001.png", "data/hha/img_5002.png"), "hha is of this depth"),
    "hha: all angles too large": (
        all_images("hha", lambda v: v + np.where(v < 200, [0, 0, 9], 0).astype(np.uint8)),
        "mean disparity, height, angle",
    ),
    "photographs are B, G, R": (all_images("images", lambda v: v[:, :, ::-1]), "mean R, G, B"),
    "depth in tenths of millimetres": (all_images("depth", lambda v: v * 10), "mean ln mm"),
    "the other variant": (
        lambda folder: (folder / "variant.json").write_text('{"variant": "raw"}'),
        "variant",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_told_by_its_line(pack_root, capsys, fault):
    plant, line = FAULTS[fault]
    plant(pack_root / "nyud")
    assert run(pack_root, "check") == 1
    said = capsys.readouterr().out
    assert line in failed(said), said
    assert "fix: " in said


@pytest.mark.parametrize(
    "plant, line",
    [
        (remove("data/rawdepth/img_5002.png"), "rawdepth there"),
        (remove("segmentation/img_5002.png"), "segmentation there"),
        (lambda folder: shutil.rmtree(folder / "data/rawdepth"), "rawdepth there"),
    ],
)
def test_a_planted_fault_in_what_was_made_here(raw_root, capsys, plant, line):
    plant(raw_root / "nyud")
    assert run(raw_root, "check", "raw") == 1
    said = capsys.readouterr().out
    assert failed(said) == {line}, said


def test_check_where_nothing_is(tmp_path, packed, capsys):
    assert run(new_root(tmp_path / "root", packed), "check") == 1
    said = capsys.readouterr().out
    assert failed(said) == {"folder"} and "fix: `python data/nyud/prepare.py all pack" in said


# ------------------------------------------------------------------ HHA alone, two variants, interruptions


def test_the_command_hha(pack_root, items, capsys):
    folder = pack_root / "nyud/data"
    swapped, missing = folder / "hha/img_5001.png", folder / "hha/img_5002.png"
    Image.fromarray(items["5001"]["hha"][:, :, ::-1].copy()).save(swapped)
    missing.unlink()
    assert run(pack_root, "hha") == 0
    assert "1 made, 5 there already" in capsys.readouterr().out
    assert (pixels(missing)[1] == items["5002"]["hha"]).all()
    assert (pixels(swapped)[1] == items["5001"]["hha"][:, :, ::-1]).all()
    assert run(pack_root, "hha", "--again") == 0
    assert (pixels(swapped)[1] == items["5001"]["hha"]).all()
    assert run(pack_root, "check") == 0
    shutil.rmtree(folder / "rawdepth")
    assert run(pack_root, "hha", "--again") == 0
    assert "6 have no data/rawdepth" in capsys.readouterr().out
    assert (pixels(swapped)[1] == hha.hha(items["5001"]["depth"])).all()
    edit("depth", lambda v: (v // 16).astype(np.uint8))(pack_root / "nyud")
    assert run(pack_root, "hha", "--again") == 1
    assert f"{folder / 'depth/img_5002.png'} has mode L" in capsys.readouterr().err
    shutil.rmtree(folder / "depth")
    assert run(pack_root, "hha") == 1
    assert f"{folder / 'depth'} holds no images" in capsys.readouterr().err


def test_the_variants_are_not_mixed(pack_root, raw_root, published, packed, capsys):
    for root, part, there, archives in (
        (pack_root, "raw", "pack", published),
        (raw_root, "pack", "raw", packed),
    ):
        before = state(root)
        for arguments in (
            ("get", part, "--from", archives),
            ("prepare", part),
            ("all", part, "--from", archives),
        ):
            assert run(root, *arguments) == 1
            said = capsys.readouterr().err
            assert f"{root / 'nyud'} holds the variant {there}, not {part}" in said and "--data-root" in said
        assert state(root) == before


def test_a_pack_that_was_unpacked_by_hand_is_one(pack_root, capsys):
    record = pack_root / "nyud/variant.json"
    record.unlink()
    assert run(pack_root, "prepare", "raw") == 1
    assert "holds the variant pack, not raw" in capsys.readouterr().err
    assert run(pack_root, "prepare") == 0
    assert json.loads(record.read_text()) == {"variant": "pack"}
    record.write_text("what")
    assert run(pack_root, "prepare") == 1
    assert f"{record} cannot be read" in capsys.readouterr().err


def two_cores():
    """Have at most two, so that not everything is done at the same moment."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def started(root):
    """``prepare raw`` in a process group of its own, once its first HHA is there."""
    command = [sys.executable, str(SCRIPT), "prepare", "raw", "--data-root", str(root)]
    run_ = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=two_cores,
    )
    while not list((root / "nyud/data/hha").glob("img_*.png")):
        assert run_.poll() is None, run_.communicate()
        time.sleep(0.002)
    return run_, psutil.Process(run_.pid).children(recursive=True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_it_goes_on_from_there(raw_root, raw_made, capsys, how):
    folder = raw_root / "nyud"
    for kind in ("hha", "depth"):
        shutil.rmtree(folder / "data" / kind)
    process, children = started(raw_root)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does, all of them at once
    else:
        process.kill()
    said = process.communicate(timeout=20)[1]
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "its processes end with it"
    if how == signal.SIGINT:
        assert process.returncode == 130 and "stopped; run the same command again" in said
        assert "Traceback" not in said
    left = list((folder / "data/hha").glob("img_*.png"))
    assert 0 < len(left) < len(IDS)
    for path in left:
        assert path.read_bytes() == (raw_made / "nyud/data/hha" / path.name).read_bytes()
    before = state(raw_root)
    assert run(raw_root, "prepare", "raw") == 0
    assert f"{len(IDS) - len(left)} made, {len(left)} there already" in capsys.readouterr().out
    assert run(raw_root, "check", "raw") == 0
    assert all(state(raw_root)[path] == before[path] for path in left)
    assert not list(folder.rglob(".img*"))


def test_a_process_that_is_killed_ends_the_work_with_a_message(tmp_path):
    pid = tmp_path / "pid"
    jobs = [(f"import os; open({str(pid)!r}, 'w').write(str(os.getpid())); os.kill(os.getpid(), 9)",)]
    with pytest.raises(DataError) as error:
        processes.in_processes(exec, jobs, "HHA")
    assert "HHA: one of the processes was ended from outside" in str(error.value)
    assert not psutil.pid_exists(int(pid.read_text()))


def test_the_processes_have_one_thread_each_and_whatever_else_is_started_as_many_as_before(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for number in range(2):
        seen = tmp_path / f"threads{number}"
        job = f"import os; open({str(seen)!r}, 'w').write(os.environ.get('OMP_NUM_THREADS', 'none'))"
        processes.in_processes(exec, [(job,)], "HHA")
        assert seen.read_text() == "1"
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    processes.in_processes(exec, [(job,)], "HHA")
    assert seen.read_text() == "3" and os.environ["OMP_NUM_THREADS"] == "3"


def test_an_open_file_is_closed(published):
    with Labeled(published / "nyu_depth_v2_labeled.mat") as file:
        assert len(file) == len(IDS)
    with pytest.raises((ValueError, DataError)):
        file.depth(0)
