"""Data layers: what feeds the nets, one image of its own size at a time.

Each is a Caffe ``Python`` layer on :class:`feed.SegDataLayer`; a net names it in its prototxt:

    python_param { module: "layers"  layer: "VOCSegDataLayer"
                   param_str: "{'voc_dir': '../data/pascal/VOC2011', 'split': 'train', 'mean': (104.00699, ...)}" }
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from feed import ROOT, SegDataLayer, bgr, planes
from images import IGNORE, load_depth, load_image, load_label, load_mat
from param_str import Key, are_numbers, integer, is_number, some_of, text

RELEASE = "https://github.com/shelhamer/fcn.berkeleyvision.org/tree/master/data"
SAMPLE = f"`python data/pascal/prepare.py sample` (in {ROOT})"


class VOCSegDataLayer(SegDataLayer):
    """PASCAL VOC segmentation: ``voc_dir`` holds JPEGImages, SegmentationClass, ImageSets/Segmentation."""

    dataset = "pascal"
    directories = ("voc_dir",)
    keys = {"voc_dir": text(), **SegDataLayer.keys}

    def split_file(self) -> Path:
        return self.roots[0] / "ImageSets" / "Segmentation" / f"{self.params['split']}.txt"

    def path(self, top: str, name: str) -> Path:
        if top == "data":
            return self.roots[0] / "JPEGImages" / f"{name}.jpg"
        return self.roots[0] / "SegmentationClass" / f"{name}.png"

    def read(self, top: str, path: Path) -> np.ndarray:
        return self.photo(path) if top == "data" else load_label(path)

    def get_it(self) -> str:
        if self.roots[0].parent.name == "sample":
            return f"Get it with {SAMPLE}"
        return (
            "To get PASCAL VOC 2011, download VOCtrainval_25-May-2011.tar from "
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2011/ and unpack it so that its "
            f"TrainVal/VOCdevkit/VOC2011 becomes {self.roots[0]}; then `python data/pascal/prepare.py seg11valid` "
            f"(in {ROOT}) makes the validation split. To try with three photographs instead, {SAMPLE} makes "
            "data/pascal/sample/VOC2011"
        )

    def get_split(self) -> str:
        if self.params["split"] == "seg11valid":
            return f"Make it with `python data/pascal/prepare.py seg11valid` (in {ROOT})"
        return super().get_split()


class SBDDSegDataLayer(SegDataLayer):
    """SBD, the extra labels for VOC 2011 (Hariharan et al.): ``sbdd_dir`` holds img, cls, train.txt, val.txt.

    A label is ``cls/<id>.png`` where there is one, else ``cls/<id>.mat``. SBD has no void label.
    """

    dataset = "pascal"
    directories = ("sbdd_dir",)
    keys = {"sbdd_dir": text(), **SegDataLayer.keys}

    def split_file(self) -> Path:
        return self.roots[0] / f"{self.params['split']}.txt"

    def path(self, top: str, name: str) -> Path:
        if top == "data":
            return self.roots[0] / "img" / f"{name}.jpg"
        png, mat = (self.roots[0] / "cls" / f"{name}.{suffix}" for suffix in ("png", "mat"))
        return png if png.exists() else mat

    def read(self, top: str, path: Path) -> np.ndarray:
        if top == "data":
            return self.photo(path)
        return load_label(path) if path.suffix == ".png" else load_mat(path, "GTcls.Segmentation", range(256))

    def get_it(self) -> str:
        return (
            "To get SBD, download benchmark.tgz (1.3 GB) from "
            "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/ "
            f"and unpack it so that its benchmark_RELEASE/dataset becomes {self.roots[0]}. To try with three "
            f"photographs instead, {SAMPLE} makes data/pascal/sample/VOC2011, on which mini-fcn8s trains"
        )


class NYUDSegDataLayer(SegDataLayer):
    """NYUDv2: ``nyud_dir`` holds data/images, data/depth, data/hha, segmentation and the lists of ids.

    ``tops`` names the layer's tops in their order: ``color`` (3 channels, BGR), ``depth`` (1: the natural
    logarithm of millimetres), ``hha`` (3: disparity, height, angle), ``label`` (classes 0 to 39). From each its
    mean is subtracted: ``mean``, ``mean_depth``, ``mean_hha``. The split ``trainval`` is ``train`` and
    ``val`` where it has no list of its own.
    """

    dataset = "nyud"
    directories = ("nyud_dir",)
    tops = ("color", "depth", "hha", "label")
    keys = {
        "nyud_dir": text(),
        "tops": some_of(tops),
        **SegDataLayer.keys,
        # the release's numbers in the release's order: they look like R, G, B, yet B, G, R is what they
        # were subtracted from when its weights were trained
        "mean": bgr((116.190, 97.203, 92.318)),
        "mean_depth": Key("a number", is_number, 7.844),
        "mean_hha": Key(
            "three numbers, of disparity, height and angle",
            lambda value: are_numbers(value, 3),
            (132.431, 94.076, 118.477),
        ),
        "classes": integer(1, 255, 40),
    }

    def split_file(self) -> Path:
        return self._list(self.params["split"])

    def _list(self, split: str) -> Path:
        return self.roots[0] / f"{split}.txt"

    def list_files(self) -> list[Path]:
        if self.params["split"] == "trainval" and not self.split_file().exists():
            return [self._list("train"), self._list("val")]
        return super().list_files()

    def path(self, top: str, name: str) -> Path:
        if top == "label":
            return self.roots[0] / "segmentation" / f"img_{name}.mat"
        return self.roots[0] / "data" / {"color": "images"}.get(top, top) / f"img_{name}.png"

    def read(self, top: str, path: Path) -> np.ndarray:
        if top == "color":
            return self.photo(path)
        if top == "depth":
            logarithm = np.log(load_depth(path).astype(np.float32))
            return planes(logarithm[:, :, np.newaxis], self.params["mean_depth"])
        if top == "hha":
            return planes(load_image(path), self.params["mean_hha"])
        return _from_zero(load_mat(path, "segmentation", range(256)))

    def get_it(self) -> str:
        return (
            "To get NYUDv2 as the authors packed it, download http://dl.caffe.berkeleyvision.org/nyud.tar.gz and "
            f"unpack it so that {self.roots[0]} holds the folders data/images, data/depth, data/hha and "
            f"segmentation; its lists train.txt, val.txt and test.txt are in {RELEASE}/nyud"
        )


class SIFTFlowSegDataLayer(SegDataLayer):
    """SIFT Flow: ``siftflow_dir`` holds Images, SemanticLabels, GeoLabels and the lists of names.

    ``tops`` names the layer's tops in their order: ``data`` (BGR), ``sem`` (33 classes), ``geo`` (3: sky,
    horizontal, vertical). ``classes`` counts those of ``sem``, ``classes_geo`` those of ``geo``.
    """

    dataset = "sift-flow"
    directories = ("siftflow_dir",)
    tops = ("data", "sem", "geo")
    labels = {"sem": "classes", "geo": "classes_geo"}
    keys = {
        "siftflow_dir": text(),
        "tops": some_of(tops),
        **SegDataLayer.keys,
        "mean": bgr((114.578, 115.294, 108.353)),
        "classes": integer(1, 255, 33),
        "classes_geo": integer(1, 255, 3),
    }

    def split_file(self) -> Path:
        return self.roots[0] / f"{self.params['split']}.txt"

    def path(self, top: str, name: str) -> Path:
        folder = {"data": "Images", "sem": "SemanticLabels", "geo": "GeoLabels"}[top]
        suffix = "jpg" if top == "data" else "mat"
        return (
            self.roots[0] / folder / "spatial_envelope_256x256_static_8outdoorcategories" / f"{name}.{suffix}"
        )

    def read(self, top: str, path: Path) -> np.ndarray:
        return self.photo(path) if top == "data" else _from_zero(load_mat(path, "S", range(-1, 256)))

    def get_it(self) -> str:
        return (
            "To get SIFT Flow with both labelings, download "
            "http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip (140 MB) and unpack it so "
            f"that {self.roots[0]} holds its folders Images, SemanticLabels and GeoLabels; the lists trainval.txt "
            f"and test.txt are in {RELEASE}/sift-flow"
        )


def _from_zero(label: np.ndarray) -> np.ndarray:
    """Labels from 1, with 0 and -1 for void, as classes from 0, with 255 for void."""
    return np.where(label > 0, label - 1, IGNORE)


# The classes 1 to 59 of PASCAL-Context's task among the 459 of its label files; all others are background.
CONTEXT_IDS = (
    *(
        2,
        23,
        25,
        31,
        34,
        45,
        59,
        65,
        72,
        98,
        397,
        113,
        207,
        258,
        284,
        308,
        347,
        368,
        416,
        427,
    ),  # those of VOC
    *(9, 18, 22, 33, 44, 46, 68, 80, 85, 104, 115, 144, 158, 159, 162, 187, 189, 220, 232, 259),
    *(260, 105, 296, 355, 295, 324, 326, 349, 354, 360, 366, 19, 415, 420, 424, 440, 445, 454, 458),
)
_CONTEXT_CLASSES = np.zeros(460, np.uint8)
_CONTEXT_CLASSES[list(CONTEXT_IDS)] = np.arange(1, 60)


class PASCALContextSegDataLayer(SegDataLayer):
    """PASCAL-Context: photographs of VOC 2010 in ``voc_dir``, labels in ``context_dir``, 59 classes and background.

    Lists are VOC's, ImageSets/Main. No pixel is void: whatever is none of the 59 classes is background.
    """

    dataset = "pascal-context"
    directories = ("voc_dir", "context_dir")
    keys = {
        "voc_dir": text(),
        "context_dir": text(),
        **SegDataLayer.keys,
        "mean": bgr((104.007, 116.669, 122.679)),
        "classes": integer(1, 255, 60),
    }

    def split_file(self) -> Path:
        return self.roots[0] / "ImageSets" / "Main" / f"{self.params['split']}.txt"

    def path(self, top: str, name: str) -> Path:
        if top == "data":
            return self.roots[0] / "JPEGImages" / f"{name}.jpg"
        return self.roots[1] / "trainval" / f"{name}.mat"

    def read(self, top: str, path: Path) -> np.ndarray:
        return self.photo(path) if top == "data" else _CONTEXT_CLASSES[load_mat(path, "LabelMap", range(460))]

    def get_it(self) -> str:
        return (
            "To get PASCAL-Context, download VOCtrainval_03-May-2010.tar from "
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/ and unpack it so that its VOCdevkit/VOC2010 becomes "
            f"{self.roots[0]}; and trainval.tar.gz from https://www.cs.stanford.edu/~roozbeh/pascal-context/, "
            f"so that its folder trainval, of a .mat for each photograph, becomes {self.roots[1] / 'trainval'}"
        )
