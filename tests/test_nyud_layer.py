"""NYUDSegDataLayer: what each top is, by the rules with which the released models were trained."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from trees import data_net, nyud_items, nyud_tree

import layers
from files import DataError


def nyud(tmp_path, tops=("color", "depth", "hha", "label"), **changes):
    params = {"nyud_dir": str(tmp_path / "nyud"), "split": "test", "tops": list(tops), **changes}
    return data_net(tmp_path / "net.prototxt", "NYUDSegDataLayer", params, tops=tops)


@pytest.fixture
def tree(tmp_path):
    content = nyud_items()
    nyud_tree(tmp_path / "nyud", content)
    return content


def test_every_top_by_its_rule(tmp_path, tree):
    net, _ = nyud(tmp_path)
    for item in tree.values():
        net.forward()
        colour = [item["color"][..., 2 - c] - mean for c, mean in enumerate((116.190, 97.203, 92.318))]
        hha = [item["hha"][..., c] - mean for c, mean in enumerate((132.431, 94.076, 118.477))]
        np.testing.assert_allclose(net.blobs["color"].data[0], colour, atol=1e-4)
        np.testing.assert_allclose(net.blobs["hha"].data[0], hha, atol=1e-4)
        depth = np.log(item["depth"].astype(np.float64)) - 7.844
        np.testing.assert_allclose(net.blobs["depth"].data[0, 0], depth, atol=2e-6)
        expected = [[255 if value == 0 else value - 1 for value in row] for row in item["label"]]
        np.testing.assert_array_equal(net.blobs["label"].data[0, 0], expected)
        assert {255, 0, 39} <= set(np.unique(net.blobs["label"].data))


def test_the_tops_come_in_the_order_that_is_asked_for(tmp_path, tree):
    net, _ = nyud(tmp_path, tops=("hha", "label", "color"))
    net.forward()
    first = tree["5001"]
    assert [tuple(net.blobs[top].data.shape) for top in ("hha", "label", "color")] == [
        (1, 3, 12, 10),
        (1, 1, 12, 10),
        (1, 3, 12, 10),
    ]
    np.testing.assert_allclose(net.blobs["hha"].data[0, 0], first["hha"][..., 0] - 132.431, atol=1e-4)


def test_a_missing_image_of_another_kind_is_not_missed(tmp_path, tree):
    (tmp_path / "nyud/data/hha/img_5001.png").unlink()
    nyud(tmp_path, tops=("color", "label"))
    with pytest.raises(DataError, match=r"hha .*img_5001\.png does not exist, though .*test\.txt lists it"):
        nyud(tmp_path, tops=("hha", "label"))


def test_means_are_defaults(tmp_path, tree):
    net, _ = nyud(tmp_path, mean=(1, 2, 3), mean_depth=0, mean_hha=(4, 5, 6))
    net.forward()
    first = tree["5001"]
    np.testing.assert_array_equal(net.blobs["color"].data[0, 0], first["color"][..., 2].astype(float) - 1)
    np.testing.assert_array_equal(net.blobs["hha"].data[0, 2], first["hha"][..., 2].astype(float) - 6)
    np.testing.assert_allclose(net.blobs["depth"].data[0, 0], np.log(first["depth"]), atol=2e-6)


def test_trainval_is_train_and_val_unless_it_has_a_list(tmp_path, tree):
    params = {"nyud_dir": str(tmp_path / "nyud"), "split": "trainval", "tops": ["color", "label"]}
    (tmp_path / "nyud/train.txt").write_text("5003\n5001")
    (tmp_path / "nyud/val.txt").write_text("5002\n")
    assert layers.NYUDSegDataLayer.source_ids(str(params)) == ["5003", "5001", "5002"]
    (tmp_path / "nyud/trainval.txt").write_text("5002\n5001\n")
    assert layers.NYUDSegDataLayer.source_ids(str(params)) == ["5002", "5001"]


def test_without_its_lists_it_says_what_to_get(tmp_path, tree):
    for split in ("train", "val", "test"):
        (tmp_path / f"nyud/{split}.txt").unlink()
    (tmp_path / "nyud/classes.txt").write_text("wall")
    with pytest.raises(DataError, match=r"train\.txt does not exist. To get NYUDv2 .*nyud\.tar\.gz"):
        nyud(tmp_path, split="trainval")
    (tmp_path / "nyud/test.txt").write_text("5001")
    with pytest.raises(DataError, match=r"train\.txt does not exist. There are the splits: test$"):
        nyud(tmp_path, split="train")


def test_a_hole_in_the_depth_has_no_logarithm(tmp_path, tree):
    path = tmp_path / "nyud/data/depth/img_5001.png"
    depth = tree["5001"]["depth"].copy()
    depth[2, 3] = depth[2, 4] = 0
    Image.fromarray(depth).save(path)
    with pytest.raises(DataError, match=r"img_5001\.png has 2 pixels of depth 0"):
        nyud(tmp_path)
    Image.fromarray(depth.astype(np.uint8)).save(path)
    with pytest.raises(
        DataError, match=r"img_5001\.png has mode L; depth is in millimetres, as a 16-bit PNG"
    ):
        nyud(tmp_path)


def test_deep_depth_is_not_cut(tmp_path, tree):
    Image.fromarray(np.full((12, 10), 65535, np.uint16)).save(tmp_path / "nyud/data/depth/img_5001.png")
    net, _ = nyud(tmp_path)
    net.forward()
    assert np.allclose(net.blobs["depth"].data, np.log(65535) - 7.844, atol=1e-5)


@pytest.mark.parametrize(
    "saved, said",
    [
        (
            {"segmentation": np.full((12, 10), 41)},
            r"img_5001\.mat holds 40 \(120 pixels\); valid are 0 to 39",
        ),
        (
            {"segmentation": np.full((12, 10), 894)},
            "holds values from 894 to 894; valid are the integers 0 to 255",
        ),
        ({"segmentation": np.full((12, 10), 1.5)}, r"from 1\.5 to 1\.5; valid are the integers"),
        ({"segmentation": np.ones((12, 11))}, r"img_5001\.mat is 11 x 12 pixels, its color 10 x 12"),
        (
            {"segmentation": np.ones((12, 10, 2))},
            r"no MATLAB file with segmentation \(ValueError: .*\(12, 10, 2\)",
        ),
        ({"other": 1}, r"no MATLAB file with segmentation \(KeyError"),
    ],
)
def test_a_wrong_label_file_is_told(tmp_path, tree, saved, said):
    savemat(tmp_path / "nyud/segmentation/img_5001.mat", saved)
    with pytest.raises(DataError, match=said):
        nyud(tmp_path)


@pytest.mark.parametrize(
    "tops, said",
    [
        ([], "a list of some of color, depth, hha, label"),
        (["color", "color"], "a list of some of"),
        (["colour"], "a list of some of"),
        ("label", "a list of some of"),
        ([["color"]], "a list of some of"),
    ],
)
def test_wrong_tops_are_told(tmp_path, tree, tops, said):
    params = {"nyud_dir": str(tmp_path / "nyud"), "split": "test", "tops": tops}
    with pytest.raises(DataError, match=f"tops is .*; it must be {said}"):
        layers.NYUDSegDataLayer.outside(str(params))
    with pytest.raises(DataError, match=r"lacks tops. It needs nyud_dir, tops, split"):
        layers.NYUDSegDataLayer.outside("{'nyud_dir': 'x', 'split': 'test'}")


def test_as_many_tops_as_asked_for(tmp_path, tree):
    params = {"nyud_dir": str(tmp_path / "nyud"), "split": "test", "tops": ["color", "label"]}
    with pytest.raises(
        DataError, match="has 0 bottoms and 3 tops; it takes no bottom, and the tops color, label"
    ):
        data_net(tmp_path / "n.prototxt", "NYUDSegDataLayer", params, tops=("a", "b", "c"))
