"""PASCALContextSegDataLayer: VOC 2010's photographs, and 59 classes out of 459."""

import numpy as np
import pytest
from scipy.io import savemat
from trees import context_tree, data_net, items

import feed
from datakit import labels
from files import DataError
from images import load_image


def context(tmp_path, **changes):
    directories = {"voc_dir": str(tmp_path / "VOC2010"), "context_dir": str(tmp_path / "context")}
    params = {**directories, "split": "val", **changes}
    return data_net(tmp_path / "net.prototxt", "PASCALContextSegDataLayer", params)


@pytest.fixture
def tree(tmp_path):
    content = items(classes=60)
    context_tree(tmp_path / "VOC2010", tmp_path / "context", content)
    return content


def test_photograph_and_labels_by_their_rules(tmp_path, tree):
    net, _ = context(tmp_path)
    for name, (_, label) in tree.items():
        net.forward()
        rgb = load_image(tmp_path / "VOC2010/JPEGImages" / f"{name}.jpg")
        expected = [rgb[..., 2 - c] - mean for c, mean in enumerate((104.007, 116.669, 122.679))]
        np.testing.assert_allclose(net.blobs["data"].data[0], expected, atol=1e-4)
        label = np.where(label == 255, 0, label)  # nothing is void
        np.testing.assert_array_equal(net.blobs["label"].data[0, 0], label)


def test_459_classes_become_59_and_background(tmp_path):
    raw = np.arange(460, dtype=np.uint16).reshape(20, 23)
    name, smaller = "2010_000001", tmp_path / "smaller"
    nothing = np.zeros((20, 23, 3), np.uint8), np.zeros((20, 23), np.uint8)
    context_tree(smaller / "VOC2010", smaller / "context", {name: nothing})
    savemat(smaller / "context/trainval" / f"{name}.mat", {"LabelMap": raw})
    net, _ = context(smaller)
    net.forward()
    classes = net.blobs["label"].data[0, 0].ravel().astype(int)
    names = feed.class_names("pascal-context")
    known = {"aeroplane": 2, "diningtable": 397, "person": 284, "clothes": 80, "bedcloth": 19, "wood": 458}
    assert {name: int(np.flatnonzero(classes == names.index(name))[0]) for name in known} == known
    assert sorted(classes[classes > 0]) == list(range(1, 60)) and (classes == 0).sum() == 401


@pytest.mark.parametrize("raw", [460, -1])
def test_a_class_that_there_is_not_is_told(tmp_path, tree, raw):
    savemat(tmp_path / "context/trainval/2011_000000.mat", {"LabelMap": np.full((12, 10), raw)})
    with pytest.raises(DataError, match=rf"LabelMap holds values from {raw} to {raw}; valid .* 0 to 459"):
        context(tmp_path)


def test_both_directories_are_looked_for(tmp_path, tree):
    said = r"VOCtrainval_03-May-2010\.tar .* trainval\.tar\.gz"
    with pytest.raises(DataError, match=r"data set directory .*/nowhere does not exist. To get .*" + said):
        context(tmp_path, voc_dir=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"data set directory .*/nowhere does not exist. To get .*" + said):
        context(tmp_path, context_dir=str(tmp_path / "nowhere"))
    (tmp_path / "context/trainval/2011_000000.mat").unlink()
    with pytest.raises(DataError, match=r"2011_000000\.mat does not exist, though .*Main/val\.txt lists it"):
        context(tmp_path)


def test_fcn_data_replaces_both_data_folders(tmp_path, tree, monkeypatch):
    (tmp_path / "elsewhere/pascal").mkdir(parents=True)
    (tmp_path / "VOC2010").rename(tmp_path / "elsewhere/pascal/VOC2010")
    (tmp_path / "context").rename(tmp_path / "elsewhere/pascal-context")
    monkeypatch.setenv("FCN_DATA", str(tmp_path / "elsewhere"))
    net, layer = context(tmp_path, voc_dir="../data/pascal/VOC2010", context_dir="../data/pascal-context")
    net.forward()
    assert layer.ids == list(tree)


def test_the_table_has_every_class_once():
    assert len(set(labels.CONTEXT_IDS)) == len(labels.CONTEXT_IDS) == 59
