"""Small data sets of noise in the layout of the real ones, for tests."""

import caffe
import numpy as np

import feed
from datakit import layouts
from datakit.labels import CONTEXT_IDS
from datakit.layouts import SIFT_FOLDER  # noqa: F401  (for tests)

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
    return layouts.voc_tree(root, content, _all(splits, content))


def sbd_tree(root, content=None, splits=("train",)):
    """SBD's dataset directory, of the same kind of content; returns its path."""
    content = items() if content is None else content
    return layouts.sbd_tree(root, content, _all(splits, content))


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
    return layouts.nyud_tree(root, content, _all(splits, content))


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
    return layouts.siftflow_tree(root, content, _all(splits, content))


def context_tree(voc, context, content=None, splits=("train", "val")):
    """VOC2010 at ``voc`` and PASCAL-Context's labels at ``context``; returns both.

    ``content``: {id: (image, label in 0..59)}; the files hold the 459 classes' indices instead.
    """
    content = items(classes=60) if content is None else content
    to_459 = np.array([1, *CONTEXT_IDS])  # 1 is none of the 59
    labels = {name: to_459[np.where(label == 255, 0, label)] for name, (_, label) in content.items()}
    photographs = {name: (image, None) for name, (image, _) in content.items()}
    voc = layouts.voc_tree(voc, photographs, {}, main=_all(splits, content))
    return voc, layouts.context_tree(context, labels)


def _all(splits, content):
    """Every split of all that there is."""
    return {split: list(content) for split in splits}


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
