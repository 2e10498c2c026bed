import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import small_sets
from PIL import Image
from scipy.io import loadmat
from small_sets import SIFT, SIZE, TEST, failed, run

import layers
import vis
from datakit.layouts import SIFT_FOLDER
from images import load_label

NAME = "sift-flow"
TRAINVAL = [name for name in SIFT[:-2] if name not in TEST]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data root with SIFT Flow prepared."""
    return small_sets.prepared(tmp_path_factory.mktemp("siftflow"), NAME)


@pytest.fixture
def root(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "root"))


def test_the_prepared_set_holds_every_fact(made):
    status, said = run(NAME, made, "check")
    assert status == 0 and not failed(said) and "all 23 facts hold" in said, said


def test_splits_are_the_published_test_and_all_others_that_are_annotated(made):
    assert (made / "sift-flow/test.txt").read_text().split() == TEST  # in the archive's order
    assert (made / "sift-flow/trainval.txt").read_text().split() == sorted(TRAINVAL)


def test_label_images_are_classes_from_0_and_void(made):
    for kind, void in (("SemanticLabels", 0), ("GeoLabels", -1)):
        for name in TRAINVAL:
            path = made / "sift-flow" / kind / SIFT_FOLDER / f"{name}.mat"
            published = loadmat(path)["S"].astype(int)
            assert (
                load_label(path.with_suffix(".png")) == np.where(published == void, 255, published - 1)
            ).all()


def test_the_layer_reads_what_was_prepared(made):
    params = {"siftflow_dir": str(made / "sift-flow"), "split": "trainval", "tops": ["data", "sem", "geo"]}
    assert layers.SIFTFlowSegDataLayer.source_ids(str(params)) == sorted(TRAINVAL)


@pytest.mark.parametrize("around", ["", "SiftFlowDataset/", "Another Folder/"])
def test_the_zip_may_have_a_folder_around_all_or_none(tmp_path, around):
    small_sets.siftflow(tmp_path, around)
    with zipfile.ZipFile(tmp_path / "SiftFlowDataset.zip", "a") as zip_:
        zip_.writestr("__MACOSX/Images/._junk", b"junk")
        zip_.writestr(f"{around}readme.txt", b"read me")
    (tmp_path / "sources.json").write_text('{"archives": {"SiftFlowDataset.zip": {"unpacked": 1000}}}')
    arguments = ("--from", tmp_path / "SiftFlowDataset.zip", "--sources", tmp_path / "sources.json")
    status, said = run(NAME, tmp_path / "root", "get", *arguments)
    assert status == 0, said
    found = sorted(path.name for path in (tmp_path / "root/sift-flow").iterdir())
    assert found == ["GeoLabels", "Images", "SemanticLabels", "TestSet1.txt"]
    assert len(list((tmp_path / "root/sift-flow/Images" / SIFT_FOLDER).iterdir())) == len(SIFT)


def test_lists_of_the_same_names_in_another_order_are_kept(root):
    path = root / "sift-flow/trainval.txt"
    theirs = "\n".join(reversed(TRAINVAL))
    path.write_text(theirs)
    status, said = run(NAME, root, "all")
    assert status == 0 and path.read_text() == theirs, said


def test_another_number_of_photographs_is_refused(root):
    (root / "sift-flow/Images" / SIFT_FOLDER / f"{TRAINVAL[0]}.jpg").unlink()
    (root / "sift-flow/trainval.txt").unlink()
    status, said = run(NAME, root, "prepare")
    assert status == 1 and "trainval comes to 6 photographs, not 7" in said and "Remove" in said
    assert not (root / "sift-flow/trainval.txt").exists()


def test_all_again_mends_lists_and_labels(root):
    (root / "sift-flow/test.txt").write_text("\n".join(TRAINVAL[:3]))
    (root / "sift-flow/GeoLabels" / SIFT_FOLDER / f"{TEST[0]}.png").unlink()
    status, said = run(NAME, root, "check")
    assert status == 1, said
    status, said = run(NAME, root, "all")
    assert status == 0, said


# ------------------------------------------------------------------ faults


def label_with(value, where=(5, 5)):
    def plant(path):
        label = load_label(path)
        label[where] = value
        vis.save_indexed(path, label, vis.make_palette(256))

    return plant


def names(change):
    def plant(path):
        ids = path.read_text().split()
        change(ids)
        path.write_text("\n".join(ids))

    return plant


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def resized(path):
    image = Image.open(path)
    image.resize((SIZE[1] + 1, SIZE[0])).save(path)


def darkened(path):
    """All photographs of the folder at half their brightness."""
    for each in path.parent.glob("*.jpg"):
        Image.fromarray(np.array(Image.open(each)) // 2).save(each)


IMAGE = f"Images/{SIFT_FOLDER}/{TRAINVAL[1]}.jpg"
SEMANTIC, GEOMETRIC = (f"{kind}/{SIFT_FOLDER}/{TRAINVAL[1]}.png" for kind in ("SemanticLabels", "GeoLabels"))
TESTED = f"SemanticLabels/{SIFT_FOLDER}/{TEST[1]}.png"
FAULTS = {
    "other photographs": (IMAGE, darkened, {"mean B, G, R"}),
    "an image missing": (IMAGE, Path.unlink, {"photographs there"}),
    "an image cut off": (IMAGE, truncate, {"photographs decode"}),
    "an image of another size": (IMAGE, resized, {"sizes"}),
    "a semantic label missing": (SEMANTIC, Path.unlink, {"semantic labels there"}),
    "a geometric label missing": (GEOMETRIC, Path.unlink, {"geometric labels there"}),
    "a geometric label cut off": (GEOMETRIC, truncate, {"geometric labels decode"}),
    "a label in grey": (
        SEMANTIC,
        lambda path: Image.fromarray(load_label(path)).save(path),
        {"semantic labels are palette PNGs"},
    ),
    "a semantic class 33": (
        SEMANTIC,
        label_with(33),
        {"semantic label values", "semantic labels equal their .mat"},
    ),
    "a geometric class 3": (
        GEOMETRIC,
        label_with(3),
        {"geometric label values", "geometric labels equal their .mat"},
    ),
    "a cow in test": (TESTED, label_with(8), {"absent from test", "semantic labels equal their .mat"}),
    "no bus in test": (
        f"SemanticLabels/{SIFT_FOLDER}",
        lambda folder: [
            label_with(0, load_label(path) == 6)(path)
            for path in map(folder.joinpath, (f"{n}.png" for n in TEST))
        ],
        {"absent from test", "semantic labels equal their .mat"},
    ),
    "labels of another scene": (
        GEOMETRIC,
        lambda path: shutil.copy(path.with_name(f"{TRAINVAL[2]}.png"), path),
        {"geometric labels equal their .mat"},
    ),
    "a .mat damaged": (
        GEOMETRIC.replace(".png", ".mat"),
        truncate,
        {"geometric labels equal their .mat"},
    ),
    "one that is not annotated in a list": (
        "trainval.txt",
        names(lambda ids: ids.append("street_urb506")),
        {"trainval list", "not annotated", "semantic labels there", "geometric labels there"},
    ),
    "a name of trainval in test": (
        "trainval.txt",
        names(lambda ids: ids.__setitem__(0, TEST[0])),
        {"trainval and test are disjoint"},
    ),
    "a name too few": ("test.txt", names(lambda ids: ids.pop()), {"test list"}),
    "a name of nothing": (
        "trainval.txt",
        names(lambda ids: ids.append("coast_nat99")),
        {"trainval list", "photographs there", "semantic labels there", "geometric labels there"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_lines_and_no_others(root, fault):
    where, plant, lines = FAULTS[fault]
    plant(root / "sift-flow" / where)
    status, said = run(NAME, root, "check")
    assert status == 1 and failed(said) == lines, said


def test_nothing_there_is_one_line(tmp_path):
    status, said = run(NAME, tmp_path, "check")
    assert status == 1 and failed(said) == {"folder"} and "prepare.py all --data-root" in said
