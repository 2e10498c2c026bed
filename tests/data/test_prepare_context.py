import shutil
from pathlib import Path

import numpy as np
import pytest
import small_sets
from PIL import Image
from scipy.io import loadmat, savemat
from small_sets import IDS, MAIN, ROOT, failed, run

import vis
from datakit.labels import CONTEXT_IDS
from images import load_label

NAME = "pascal-context"
ALL = MAIN["train"] + MAIN["val"]
# the numbers of the 59 among the 459, by name, as published
NUMBERS = """aeroplane 2, bicycle 23, bird 25, boat 31, bottle 34, bus 45, car 59, cat 65, chair 72, cow 98, table 397,
dog 113, horse 207, motorbike 258, person 284, pottedplant 308, sheep 347, sofa 368, train 416, tvmonitor 427, bag 9,
bed 18, bench 22, book 33, building 44, cabinet 46, ceiling 68, cloth 80, computer 85, cup 104, door 115, fence 144,
floor 158, flower 159, food 162, grass 187, ground 189, keyboard 220, light 232, mountain 259, mouse 260, curtain 105,
platform 296, sign 355, plate 295, road 324, rock 326, shelves 349, sidewalk 354, sky 360, snow 366, bedclothes 19,
track 415, tree 420, truck 424, wall 440, water 445, window 454, wood 458"""
NUMBERS = dict(each.split() for each in NUMBERS.replace("\n", " ").split(","))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data root with PASCAL-Context prepared."""
    return small_sets.prepared(tmp_path_factory.mktemp("context"), NAME)


@pytest.fixture
def root(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "root"))


def test_the_prepared_set_holds_every_fact(made):
    status, said = run(NAME, made, "check")
    assert status == 0 and not failed(said) and said.count("facts hold") == 2, said


def test_voc_2010_is_got_once_for_both(made, tmp_path):
    assert (made / "pascal/VOC2010").is_dir() and not (made / NAME / "VOC2010").exists()
    status, said = run("pascal", made, "all", "voc2010")
    assert status == 0 and "there already" in said, said


def test_labels_are_the_59_classes_in_order_and_background(made):
    names = (ROOT / "data/pascal-context/classes.txt").read_text().split("\n")[1:60]
    renamed = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
    table = np.zeros(460, int)
    for k, name in enumerate(names, 1):
        table[int(NUMBERS[renamed.get(name, name)])] = k
    assert np.count_nonzero(table) == 59 and table[list(CONTEXT_IDS)].tolist() == list(range(1, 60))
    for name in ALL:
        mat = made / NAME / "trainval" / f"{name}.mat"
        assert (load_label(mat.with_suffix(".png")) == table[loadmat(mat)["LabelMap"]]).all()


def test_every_other_class_becomes_background(root):
    mat = root / NAME / "trainval" / f"{ALL[0]}.mat"
    others = np.setdiff1d(np.arange(1, 460), CONTEXT_IDS)
    savemat(mat, {"LabelMap": others.reshape(20, 20).astype(np.uint16)})
    mat.with_suffix(".png").unlink()
    assert run(NAME, root, "prepare")[0] == 0
    assert (load_label(mat.with_suffix(".png")) == 0).all()


def test_an_id_beyond_459_is_refused(root):
    mat = root / NAME / "trainval" / f"{ALL[0]}.mat"
    savemat(mat, {"LabelMap": np.full((20, 24), 460, np.uint16)})
    mat.with_suffix(".png").unlink()
    status, said = run(NAME, root, "prepare", "labels")
    assert status == 1 and str(mat) in said and "460" in said


# ------------------------------------------------------------------ faults


def label_with(value):
    def plant(path):
        label = load_label(path)
        label[5, 5] = value
        vis.save_indexed(path, label, vis.make_palette(256))

    return plant


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def names(change):
    def plant(path):
        ids = path.read_text().split()
        change(ids)
        path.write_text("\n".join(ids))

    return plant


def resized(path):
    image = Image.open(path)
    image.resize((image.width, image.height - 1)).save(path)


def list_of_all(*but):
    """A labels.txt of 459 names, wrong for some."""
    known = {int(number): name for name, number in NUMBERS.items()}
    lines = [f"{n}: {dict(but).get(n, known.get(n, f'other{n}'))}" for n in range(1, 460)]
    return lambda folder: (folder / "labels.txt").write_text("\n".join(lines))


PNG, MAT = (f"{NAME}/trainval/{ALL[3]}.{suffix}" for suffix in ("png", "mat"))
LISTS = "pascal/VOC2010/ImageSets/Main"
FAULTS = {
    "labels: an image missing": (
        f"pascal/VOC2010/JPEGImages/{ALL[3]}.jpg",
        Path.unlink,
        {"photographs there"},
    ),
    "labels: an image cut off": (
        f"pascal/VOC2010/JPEGImages/{ALL[3]}.jpg",
        truncate,
        {"photographs decode"},
    ),
    "labels: one not made": (PNG, Path.unlink, {"labels there"}),
    "labels: one cut off": (PNG, truncate, {"labels decode"}),
    "labels: one of another size": (PNG, resized, {"sizes", "labels equal their .mat"}),
    "labels: 255": (PNG, label_with(255), {"label values", "labels equal their .mat"}),
    "labels: a class 60": (PNG, label_with(60), {"label values", "labels equal their .mat"}),
    "labels: one in grey": (
        PNG,
        lambda path: Image.fromarray(load_label(path)).save(path),
        {"labels are palette PNGs"},
    ),
    "labels: a .mat missing": (MAT, Path.unlink, {".mat files"}),
    "labels: a .mat damaged": (MAT, truncate, {"labels equal their .mat"}),
    "labels: a .mat too many": (
        MAT,
        lambda path: shutil.copy(path, path.with_name("2012_000001.mat")),
        {".mat files", "all labels are listed"},
    ),
    "labels: classes in the order of the alphabet": (
        f"{NAME}/trainval",
        lambda folder: [
            vis.save_indexed(path, np.r_[0, 59:0:-1][load_label(path)], vis.make_palette(256))
            for path in folder.glob("*.png")
        ],
        {"labels equal their .mat"},
    ),
    "labels: other numbers": (NAME, list_of_all((397, "diner"), (19, "sheet")), {"class ids"}),
    "voc2010: a list with an id too few": (f"{LISTS}/val.txt", names(lambda ids: ids.pop()), {"val list"}),
    "voc2010: train and val overlap": (
        f"{LISTS}/val.txt",
        names(lambda ids: ids.__setitem__(0, MAIN["train"][0])),
        {"train and val are disjoint"},
    ),
    "voc2010: a foreign id": (
        f"{LISTS}/val.txt",
        names(lambda ids: ids.__setitem__(0, IDS[20])),
        {"photographs there"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_lines_and_no_others(root, fault):
    where, plant, lines = FAULTS[fault]
    plant(root / where)
    status, said = run(NAME, root, "check", fault.partition(":")[0])
    assert status == 1 and failed(said) == lines, said


def test_a_right_labels_txt_is_held_against_the_table(root):
    list_of_all()(root / NAME)
    status, said = run(NAME, root, "check", "labels")
    assert status == 0 and "59 classes, as labels.txt has them" in said, said


def test_nothing_there_is_a_line_each(tmp_path):
    status, said = run(NAME, tmp_path, "check")
    assert status == 1 and said.count("FAIL") == 2 and failed(said) == {"folder"}
    status, said = run(NAME, tmp_path, "prepare", "labels")
    assert status == 1 and "prepare.py get labels" in said
