import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_sets
from PIL import Image
from scipy.io import savemat
from small_sets import IDS, ROOT, SBD, SEG11VALID, VOC, failed, run

import vis
from datakit import labels

PARTS = ("voc2011", "sbd", "voc2012", "voc2010")
LISTS = "ImageSets/Segmentation"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data root in which all parts are prepared."""
    return small_sets.prepared(tmp_path_factory.mktemp("voc"), "pascal", *PARTS)


@pytest.fixture
def root(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "root"))


# ------------------------------------------------------------------ what is right


def test_prepared_parts_hold_every_fact(made):
    status, said = run("pascal", made, "check", *PARTS)
    assert status == 0 and not failed(said), said
    assert said.count("facts hold") == 4


def test_the_layout_is_the_one_that_layers_read(made):
    assert (made / "pascal/VOC2011" / LISTS / "seg11valid.txt").read_text().split() == SEG11VALID
    names = {path.name for path in (made / "sbdd/dataset").iterdir()}
    assert names == {"img", "cls", "train.txt", "val.txt"}
    assert sorted(path.name for path in (made / "pascal").iterdir()) == ["VOC2010", "VOC2011", "VOC2012"]


def test_sbd_masks_become_palette_pngs_of_the_same_classes(made):
    for name in SBD["train"] + SBD["val"]:
        path = made / "sbdd/dataset/cls" / f"{name}.png"
        mask = Image.open(path)
        assert mask.mode == "P" and mask.getpalette()[15 * 3 : 15 * 3 + 3] == [192, 128, 128]
        assert (np.array(mask) == labels.read_sbd(path.with_suffix(".mat"))).all()


def test_all_of_it_again_changes_nothing(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    status, said = run("pascal", root, "all", *PARTS)  # without archives, and without a network
    assert status == 0, said
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before


def test_prepare_goes_on_where_it_was_stopped(root):
    folder = root / "sbdd/dataset/cls"
    kept = folder / f"{SBD['train'][1]}.png"
    time = kept.stat().st_mtime_ns
    for name in SBD["train"][2:]:
        (folder / f"{name}.png").unlink()
    half = folder / f".{SBD['train'][2]}.4711.png"
    half.write_bytes(b"half")
    status, said = run("pascal", root, "all", "sbd")
    assert status == 0 and "10 label images made, 7 there already" in said, said
    assert kept.stat().st_mtime_ns == time and not half.exists()


def test_a_damaged_mat_is_named_and_the_others_are_made(root):
    folder = root / "sbdd/dataset/cls"
    for png in folder.glob("*.png"):
        png.unlink()
    bad, wrong = (folder / f"{name}.mat" for name in SBD["train"][:2])
    bad.write_bytes(bad.read_bytes()[:300])
    savemat(wrong, {"GTcls": {"Segmentation": np.full(small_sets.SIZE, 21, np.uint8)}})
    status, said = run("pascal", root, "prepare", "sbd")
    assert status == 1 and str(bad) in said and str(wrong) in said and "2 of 17" in said
    assert len(list(folder.glob("*.png"))) == 15


def test_the_order_of_the_parts_does_not_matter(made, tmp_path):
    published = made.parent / "published"
    root = tmp_path / "root"
    for part in ("sbd", "voc2011"):
        status, said = run(
            "pascal", root, "all", part, "--from", published, "--sources", published / "sources.json"
        )
        assert status == 0, said
        if part == "sbd":
            assert "seg11valid waits for voc2011" in said
    assert (root / "pascal/VOC2011" / LISTS / "seg11valid.txt").read_text().split() == SEG11VALID


def test_voc_2011_alone_is_checked_and_waits_for_sbd(made, tmp_path):
    published = made.parent / "published"
    arguments = ("--from", published, "--sources", published / "sources.json")
    status, said = run("pascal", tmp_path / "root", "all", "voc2011", *arguments)
    assert status == 0 and "seg11valid waits for sbd" in said and "not made yet" in said


# ------------------------------------------------------------------ VOC 2012 is not VOC 2011


def test_voc_2012_alone_is_refused_with_the_reason(root):
    shutil.rmtree(root / "pascal/VOC2011")
    for command in ("prepare", "seg11valid", "check"):
        status, said = run("pascal", root, *([command] if command == "seg11valid" else [command, "voc2011"]))
        assert status == 1 and "VOC 2012 cannot stand in" in said and "7 images, another benchmark" in said
    assert failed(said) == {"folder"}


def test_voc_2012_in_the_place_of_2011_is_refused_with_the_reason(root):
    shutil.rmtree(root / "pascal/VOC2011")
    shutil.copytree(root / "pascal/VOC2012", root / "pascal/VOC2011")
    status, said = run("pascal", root, "prepare", "voc2011")
    assert (
        status == 1
        and "is the list of VOC 2012 (11 images)" in said
        and "VOCtrainval_25-May-2011.tar" in said
    )
    assert not (root / "pascal/VOC2011" / LISTS / "seg11valid.txt").exists()
    status, said = run("pascal", root, "check", "voc2011")
    assert status == 1 and {"year", "train list", "val list", "seg11valid list"} <= failed(said)


# ------------------------------------------------------------------ faults


def edit(path, function):
    ids = path.read_text().split()
    function(ids)
    path.write_text("\n".join(ids))


def load(path):
    return np.array(Image.open(path))


def mask_with(value):
    def plant(path):
        label = load(path)
        label[5, 5] = value
        vis.save_indexed(path, label, vis.make_palette(256))

    return plant


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def as_mode(mode):
    return lambda path: Image.open(path).convert(mode).save(path)


def without_palette(path):
    Image.fromarray(load(path)).save(path)


def other_palette(path):
    image = Image.open(path)
    image.putpalette([i for i in range(256) for _ in range(3)])
    image.save(path)


def resized(path):
    image = Image.open(path)
    image.resize((image.width - 1, image.height)).save(path)


def without(value, to=0):
    def plant(folder):
        for path in folder.glob("*.png"):
            label = load(path)
            label[label == value] = to
            vis.save_indexed(path, label, vis.make_palette(256))

    return plant


def flipped(path):
    vis.save_indexed(path, load(path)[::-1], vis.make_palette(256))


def damaged_mat(path):
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))


V, S = "pascal/VOC2011", "sbdd/dataset"
VMASK, SMASK = f"{V}/SegmentationClass/{IDS[6]}.png", f"{S}/cls/{SBD['val'][1]}.png"
FAULTS = [
    # part, what, where, how, which lines fail
    ("voc2011", "an image missing", f"{V}/JPEGImages/{IDS[6]}.jpg", Path.unlink, {"photographs there"}),
    ("voc2011", "an image cut off", f"{V}/JPEGImages/{IDS[6]}.jpg", truncate, {"photographs decode"}),
    ("voc2011", "an image of another size", f"{V}/JPEGImages/{IDS[6]}.jpg", resized, {"sizes"}),
    ("voc2011", "a mask missing", VMASK, Path.unlink, {"masks there"}),
    ("voc2011", "a mask cut off", VMASK, truncate, {"masks decode"}),
    ("voc2011", "a mask of another size", VMASK, resized, {"sizes"}),
    ("voc2011", "a mask in colour", VMASK, as_mode("RGB"), {"masks are palette PNGs"}),
    ("voc2011", "a mask of bits", VMASK, as_mode("1"), {"masks are palette PNGs"}),
    ("voc2011", "a mask without a palette", VMASK, without_palette, {"masks are palette PNGs"}),
    ("voc2011", "a mask in other colours", VMASK, other_palette, {"masks are palette PNGs"}),
    ("voc2011", "a class 21", VMASK, mask_with(21), {"mask values"}),
    ("voc2011", "a class 254", VMASK, mask_with(254), {"mask values"}),
    ("voc2011", "no void at all", f"{V}/SegmentationClass", without(255), {"mask void"}),
    ("voc2011", "a class that is nowhere", f"{V}/SegmentationClass", without(7), {"mask classes that occur"}),
    (
        "voc2011",
        "a list with a foreign id",
        f"{V}/{LISTS}/train.txt",
        lambda path: edit(path, lambda ids: ids.append("2012_000001")),
        {"train list", "photographs there", "masks there"},
    ),
    (
        "voc2011",
        "a list with an id too few",
        f"{V}/{LISTS}/train.txt",
        lambda path: edit(path, lambda ids: ids.pop()),
        {"train list"},
    ),
    (
        "voc2011",
        "an id twice in place of another",
        f"{V}/{LISTS}/train.txt",
        lambda path: edit(path, lambda ids: ids.__setitem__(0, ids[1])),
        {"train list"},
    ),
    ("voc2011", "a list missing", f"{V}/{LISTS}/train.txt", Path.unlink, {"train list"}),
    (
        "voc2011",
        "an id of val in train, too",
        f"{V}/{LISTS}/train.txt",
        lambda path: edit(path, lambda ids: ids.__setitem__(0, SEG11VALID[0])),
        {"train and val are disjoint"},
    ),
    ("voc2011", "no seg11valid", f"{V}/{LISTS}/seg11valid.txt", Path.unlink, {"seg11valid list"}),
    (
        "voc2011",
        "an id of SBD's train in seg11valid",
        f"{V}/{LISTS}/seg11valid.txt",
        lambda path: edit(path, lambda ids: ids.__setitem__(0, VOC[2011]["val"][-1])),
        {"seg11valid sha256", "seg11valid and SBD train are disjoint"},
    ),
    (
        "voc2011",
        "an id of train in seg11valid",
        f"{V}/{LISTS}/seg11valid.txt",
        lambda path: edit(path, lambda ids: ids.__setitem__(0, VOC[2011]["train"][-1])),
        {"seg11valid sha256", "seg11valid is within val"},
    ),
    ("sbd", "an image missing", f"{S}/img/{SBD['val'][1]}.jpg", Path.unlink, {"photographs there"}),
    ("sbd", "an image cut off", f"{S}/img/{SBD['val'][1]}.jpg", truncate, {"photographs decode"}),
    (
        "sbd",
        "an image too many",
        f"{S}/img/{SBD['val'][1]}.jpg",
        lambda path: shutil.copy(path, path.with_name("2012_000001.jpg")),
        {"all photographs are listed"},
    ),
    ("sbd", "a mask that was not made", SMASK, Path.unlink, {"masks there"}),
    ("sbd", "void", SMASK, mask_with(255), {"mask values", "masks equal their .mat"}),
    ("sbd", "a class 21", SMASK, mask_with(21), {"mask values", "masks equal their .mat"}),
    ("sbd", "a mask other than its .mat", SMASK, flipped, {"masks equal their .mat"}),
    (
        "sbd",
        "a .mat damaged",
        SMASK.replace(".png", ".mat"),
        damaged_mat,
        {"masks equal their .mat"},
    ),
    (
        "sbd",
        "another train list",
        f"{S}/train.txt",
        lambda path: edit(path, lambda ids: ids.__setitem__(0, SBD["val"][0])),
        {"train sha256", "train and val are disjoint", "all photographs are listed"},
    ),
    (
        "sbd",
        "an id of val in train",
        f"{S}/val.txt",
        lambda path: edit(path, lambda ids: ids.__setitem__(0, SBD["train"][0])),
        {"train and val are disjoint", "all photographs are listed"},
    ),
    (
        "voc2012",
        "VOC 2011's val",
        f"pascal/VOC2012/{LISTS}/val.txt",
        lambda path: edit(path, lambda ids: ids.__delitem__(slice(8, None))),
        {"val list", "val minus SBD train"},
    ),
    (
        "voc2010",
        "an image missing",
        f"pascal/VOC2010/JPEGImages/{IDS[6]}.jpg",
        Path.unlink,
        {"photographs there"},
    ),
    (
        "voc2010",
        "a list with an id too few",
        "pascal/VOC2010/ImageSets/Main/val.txt",
        lambda path: edit(path, lambda ids: ids.pop()),
        {"val list"},
    ),
]


@pytest.mark.parametrize(
    ("part", "where", "how", "lines"),
    [(part, *rest) for part, _, *rest in FAULTS],
    ids=[f"{part}: {what}" for part, what, *_ in FAULTS],
)
def test_a_fault_fails_its_lines_and_no_others(root, part, where, how, lines):
    how(root / where)
    status, said = run("pascal", root, "check", part)
    assert status == 1 and failed(said) == lines, said
    assert all("fix: " in after for after in said.split("  FAIL  ")[1:])


def test_a_synthetic_set_may_lack_classes_that_it_names(root):
    path = root / "sources.json"
    sources = json.loads(path.read_text())
    sources["facts"]["pascal"]["absent classes"] = ["bus"]
    path.write_text(json.dumps(sources))
    assert failed(run("pascal", root, "check", "voc2011")[1]) == {"mask classes that occur"}
    bus = (ROOT / "data/pascal/classes.txt").read_text().split().index("bus")
    without(bus)(root / V / "SegmentationClass")
    status, said = run("pascal", root, "check", "voc2011")
    assert status == 0, said


def test_sbds_mats_may_be_removed_once_the_label_images_are_there(root):
    for mat in (root / S / "cls").glob("*.mat"):
        mat.unlink()
    status, said = run("pascal", root, "check", "sbd")
    assert status == 0 and "not compared" in said, said


@pytest.mark.parametrize("where", [VMASK, f"{V}/JPEGImages/{IDS[6]}.jpg"])
def test_whatever_is_wrong_with_a_file_the_check_goes_through(root, where):
    path, random = root / where, np.random.default_rng(0)
    whole = path.read_bytes()
    for _ in range(40):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)])
        damaged[random.integers(len(damaged))] = random.integers(256)
        path.write_bytes(damaged)
        status, said = run("pascal", root, "check", "voc2011")
        assert "all 17 facts hold" in said if status == 0 else "do not hold" in said


def test_a_missing_part_is_one_line(tmp_path):
    for part in PARTS:
        status, said = run("pascal", tmp_path, "check", part)
        assert (
            status == 1
            and failed(said) == {"folder"}
            and f"prepare.py all {part} --data-root {tmp_path}" in said
        )


def test_many_wrong_files_are_counted_and_three_named(root):
    for name in IDS[5:10]:
        (root / V / "JPEGImages" / f"{name}.jpg").unlink()
    _, said = run("pascal", root, "check", "voc2011")
    assert "5 of 13: " in said and "and 2 more" in said and said.count(".jpg is not") == 3


def test_an_archive_of_something_else_leaves_nothing(made, tmp_path):
    wrong = tmp_path / "archives"
    wrong.mkdir()
    shutil.copy(made.parent / "published/VOCtrainval_11-May-2012.tar", wrong / "VOCtrainval_25-May-2011.tar")
    (tmp_path / "sources.json").write_text(
        '{"archives": {"VOCtrainval_25-May-2011.tar": {"unpacked": 1000}}}'
    )
    root = tmp_path / "root"
    status, said = run(
        "pascal", root, "get", "voc2011", "--from", wrong, "--sources", tmp_path / "sources.json"
    )
    assert status == 1 and "another one" in said, said
    assert not list((root / "pascal").glob("*"))


def test_sbds_archive_may_come_unzipped(made, tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / "benchmark.tgz").write_bytes(
        gzip.decompress((made.parent / "published/benchmark.tgz").read_bytes())
    )
    (tmp_path / "sources.json").write_text('{"archives": {"benchmark.tgz": {"unpacked": 1000}}}')
    arguments = ("--from", folder, "--sources", tmp_path / "sources.json")
    status, said = run("pascal", tmp_path / "root", "get", "sbd", *arguments)
    assert status == 0 and len(list((tmp_path / "root/sbdd/dataset/img").iterdir())) == 17, said
