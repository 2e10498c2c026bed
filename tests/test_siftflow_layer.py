"""SIFTFlowSegDataLayer: photographs with two labelings."""

import numpy as np
import pytest
from scipy.io import savemat
from trees import SIFT_FOLDER, data_net, siftflow_items, siftflow_tree

import feed
import layers
from files import DataError
from images import load_image


def sift_flow(tmp_path, tops=("data", "sem", "geo"), **changes):
    params = {"siftflow_dir": str(tmp_path / "sift"), "split": "test", "tops": list(tops), **changes}
    return data_net(tmp_path / "net.prototxt", "SIFTFlowSegDataLayer", params, tops=tops)


@pytest.fixture
def tree(tmp_path):
    content = siftflow_items()
    siftflow_tree(tmp_path / "sift", content)
    return content


def test_every_top_by_its_rule(tmp_path, tree):
    net, _ = sift_flow(tmp_path)
    for name, (_, semantic, geometric) in tree.items():
        net.forward()
        rgb = load_image(tmp_path / "sift/Images" / SIFT_FOLDER / f"{name}.jpg")
        expected = [rgb[..., 2 - c] - mean for c, mean in enumerate((114.578, 115.294, 108.353))]
        np.testing.assert_allclose(net.blobs["data"].data[0], expected, atol=1e-4)
        for top, label in (("sem", semantic), ("geo", geometric)):
            expected = [[value - 1 if value > 0 else 255 for value in row] for row in label.astype(int)]
            np.testing.assert_array_equal(net.blobs[top].data[0, 0], expected)
    assert {255, 0, 32} <= set(np.unique(net.blobs["sem"].data))
    assert set(np.unique(net.blobs["geo"].data)) == {255, 0, 1, 2}


@pytest.mark.parametrize("tops", [("data", "sem"), ("data", "geo"), ("geo", "data", "sem")])
def test_the_tops_that_are_asked_for(tmp_path, tree, tops):
    whole, _ = sift_flow(tmp_path)
    net, _ = sift_flow(tmp_path, tops=tops)
    for _ in tree:
        whole.forward()
        net.forward()
        assert list(net.blobs) == list(tops)
        for top in tops:
            np.testing.assert_array_equal(net.blobs[top].data, whole.blobs[top].data)


def test_each_labeling_has_its_own_classes(tmp_path, tree):
    path = tmp_path / "sift/GeoLabels" / SIFT_FOLDER / "coast_nat1.mat"
    savemat(path, {"S": np.full((12, 12), 4, np.int16)})
    with pytest.raises(
        DataError, match=r"GeoLabels.*coast_nat1\.mat holds 3 \(144 pixels\); valid are 0 to 2"
    ):
        sift_flow(tmp_path)
    sift_flow(tmp_path, tops=("data", "sem"))
    sift_flow(tmp_path, classes_geo=4)
    path = tmp_path / "sift/SemanticLabels" / SIFT_FOLDER / "coast_nat1.mat"
    savemat(path, {"S": np.full((12, 12), 34, np.uint8)})
    with pytest.raises(DataError, match=r"SemanticLabels.*holds 33 \(144 pixels\); valid are 0 to 32"):
        sift_flow(tmp_path)
    savemat(path, {"S": np.full((12, 12), -2, np.int16)})
    with pytest.raises(DataError, match=r"S holds values from -2 to -2; valid are the integers -1 to 255"):
        sift_flow(tmp_path)


def test_what_is_missing_is_told_with_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"SiftFlowDataset\.zip.*`python data/sift-flow/prepare\.py all`"):
        sift_flow(tmp_path)
    siftflow_tree(tmp_path / "sift", splits=())
    with pytest.raises(DataError, match=r"trainval\.txt does not exist\. To get SIFT Flow"):
        sift_flow(tmp_path, split="trainval")


def test_class_names_of_both_heads():
    dataset = layers.SIFTFlowSegDataLayer.dataset
    semantic = feed.class_names(dataset, "sem")
    assert (len(semantic), semantic[0], semantic[8], semantic[32]) == (33, "awning", "cow", "window")
    assert feed.class_names(dataset) == semantic
    assert feed.class_names(dataset, "geo") == ["sky", "horizontal", "vertical"]
