"""Small data sets in the layout of the real ones, for tests."""

from pathlib import Path

import caffe
import numpy as np
from PIL import Image

import feed
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


def data_net(path, layer, params, phase=caffe.TRAIN):
    """A net of one data layer, from a prototxt written to ``path``; returns (net, layer)."""
    text = str(params) if isinstance(params, dict) else params
    path.write_text(
        f"""layer {{ name: "data" type: "Python" top: "data" top: "label"
        python_param {{ module: "layers" layer: "{layer}" param_str: "{text}" }} }}"""
    )
    before = set(feed.live)
    net = caffe.Net(str(path), phase)
    (made,) = set(feed.live) - before
    return net, made
