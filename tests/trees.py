"""Small data sets in the layout of the real ones, for tests."""

from pathlib import Path

import caffe
import numpy as np
from PIL import Image
from scipy.io import savemat

import feed
import layers
import vis

MEAN = (104.00699, 116.66877, 122.67892)


def items(sizes=((12, 10), (9, 16), (11, 11)), classes=21, seed=0):
    """{id: (image H x W x 3, label H x W)}, every label with a few void pixels."""
    random = np.random.default_rng(seed)
    made = {}
    for i, size in enumerate(sizes):
        label = random.integers(0, classes, size).astype(np.uint8)
        label[0, :2] = 255
        made[f"2011_{i:06d}"] = random.integers(0, 256, (*size, 3)).astype(np.uint8), label
    return made


def voc_tree(root, content=None, splits=("train", "val")):
    """A VOC2011 directory; returns its path."""
    content = items() if content is None else content
    root = Path(root)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for name, (image, label) in content.items():
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        vis.save_indexed(root / "SegmentationClass" / f"{name}.png", label, vis.make_palette(21))
    for split in splits:
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in content))
    return root


def sbd_tree(root, content=None, splits=("train",)):
    """SBD's dataset directory, of the same kind of content; returns its path."""
    content = items() if content is None else content
    root = _folders(root, "img", "cls")
    for name, (image, label) in content.items():
        Image.fromarray(image).save(root / "img" / f"{name}.jpg")
        struct = {"Segmentation": label, "CategoriesPresent": np.unique(label)}
        savemat(root / "cls" / f"{name}.mat", {"GTcls": struct})
    _lists(root, splits, content)
    return root


def nyud_items(sizes=((12, 10), (9, 16), (11, 11)), seed=0):
    """{id: {"color", "depth", "hha", "label"}}: as the files hold them, depth in mm, label 0 to 40 (0: void)."""
    random = np.random.default_rng(seed)
    made = {}
    for i, size in enumerate(sizes):
        label = random.integers(0, 41, size).astype(np.uint8)
        label[0, :3] = 0, 1, 40
        made[str(5001 + i)] = {
            "color": random.integers(0, 256, (*size, 3)).astype(np.uint8),
            "depth": random.integers(700, 10000, size).astype(np.uint16),
            "hha": random.integers(0, 256, (*size, 3)).astype(np.uint8),
            "label": label,
        }
    return made


def nyud_tree(root, content=None, splits=("train", "val", "test")):
    """NYUDv2 as the authors packed it, beside the lists; returns its path."""
    content = nyud_items() if content is None else content
    root = _folders(root, "data/images", "data/depth", "data/hha", "segmentation")
    for name, item in content.items():
        Image.fromarray(item["color"]).save(root / "data/images" / f"img_{name}.png")
        Image.fromarray(item["depth"]).save(root / "data/depth" / f"img_{name}.png")
        Image.fromarray(item["hha"]).save(root / "data/hha" / f"img_{name}.png")
        savemat(root / "segmentation" / f"img_{name}.mat", {"segmentation": item["label"]})
    _lists(root, splits, content)
    return root


SIFT_FOLDER = "spatial_envelope_256x256_static_8outdoorcategories"


def siftflow_items(sizes=((12, 12), (12, 12), (12, 12)), seed=0):
    """{name: (image, semantic labels 0 to 33, geometric labels -1 to 3)}, as the files hold them."""
    random = np.random.default_rng(seed)
    made = {}
    for i, size in enumerate(sizes):
        semantic = random.integers(0, 34, size).astype(np.uint8)
        geometric = random.choice([-1, 1, 2, 3], size).astype(np.int16)
        semantic[0, :3], geometric[0, :3] = (0, 1, 33), (-1, 1, 3)
        image = random.integers(0, 256, (*size, 3)).astype(np.uint8)
        made[f"coast_nat{i + 1}"] = image, semantic, geometric
    return made


def siftflow_tree(root, content=None, splits=("trainval", "test")):
    """SIFT Flow with both labelings, beside the lists; returns its path."""
    content = siftflow_items() if content is None else content
    root = _folders(root, *(f"{kind}/{SIFT_FOLDER}" for kind in ("Images", "SemanticLabels", "GeoLabels")))
    for name, (image, semantic, geometric) in content.items():
        Image.fromarray(image).save(root / "Images" / SIFT_FOLDER / f"{name}.jpg")
        names = np.array([["a class"]], dtype=object)
        for kind, label in (("SemanticLabels", semantic), ("GeoLabels", geometric)):
            savemat(root / kind / SIFT_FOLDER / f"{name}.mat", {"S": label, "names": names})
    _lists(root, splits, content)
    return root


def context_tree(voc, context, content=None, splits=("train", "val")):
    """VOC2010 at ``voc`` and PASCAL-Context's labels at ``context``; returns both.

    ``content``: {id: (image, label in 0..59)}; the files hold the 459 classes' indices instead.
    """
    content = items(classes=60) if content is None else content
    voc = _folders(voc, "JPEGImages", "ImageSets/Main")
    context = _folders(context, "trainval")
    to_459 = np.array([1, *layers.CONTEXT_IDS], np.uint16)  # 1 is none of the 59
    for name, (image, label) in content.items():
        Image.fromarray(image).save(voc / "JPEGImages" / f"{name}.jpg")
        labels = {"LabelMap": to_459[np.where(label == 255, 0, label)]}
        savemat(context / "trainval" / f"{name}.mat", labels)
    _lists(voc / "ImageSets/Main", splits, content)
    return voc, context


def _folders(root, *names):
    for name in names:
        (Path(root) / name).mkdir(parents=True)
    return Path(root)


def _lists(folder, splits, content):
    for split in splits:
        (folder / f"{split}.txt").write_text("\n".join(content))  # the real ones end so, too


def data_net(path, layer, params, phase=caffe.TRAIN, tops=("data", "label")):
    """A net of one data layer, from a prototxt written to ``path``; returns (net, layer)."""
    text = str(params) if isinstance(params, dict) else params
    named = " ".join(f'top: "{top}"' for top in tops)
    path.write_text(
        f"""layer {{ name: "data" type: "Python" {named}
        python_param {{ module: "layers" layer: "{layer}" param_str: "{text}" }} }}"""
    )
    before = set(feed.live)
    net = caffe.Net(str(path), phase)
    (made,) = set(feed.live) - before
    return net, made
