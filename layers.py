"""Data layers: what feeds the nets, one image of its own size at a time.

Each is a Caffe ``Python`` layer on :class:`feed.SegDataLayer`; a net names it in its prototxt:

    python_param { module: "layers"  layer: "VOCSegDataLayer"
                   param_str: "{'voc_dir': '../data/pascal/VOC2011', 'split': 'train', 'mean': (104.00699, ...)}" }
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from feed import ROOT, SegDataLayer
from files import DataError
from images import load_label

SAMPLE = f"`python data/pascal/prepare.py sample` (in {ROOT})"


class VOCSegDataLayer(SegDataLayer):
    """PASCAL VOC segmentation: ``voc_dir`` holds JPEGImages, SegmentationClass, ImageSets/Segmentation."""

    dataset = "pascal"
    directory = "voc_dir"

    def split_file(self) -> Path:
        return self.root / "ImageSets" / "Segmentation" / f"{self.params['split']}.txt"

    def load(self, name: str) -> tuple[np.ndarray, ...]:
        image = self.photo(self.root / "JPEGImages" / f"{name}.jpg")
        path = self.root / "SegmentationClass" / f"{name}.png"
        return image, self.label(load_label, path, image.shape[1:])

    def get_it(self) -> str:
        if self.root.parent.name == "sample":
            return f"Get it with {SAMPLE}"
        return (
            "To get PASCAL VOC 2011, download VOCtrainval_25-May-2011.tar from "
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2011/ and unpack it so that its "
            f"TrainVal/VOCdevkit/VOC2011 becomes {self.root}; then `python data/pascal/prepare.py seg11valid` "
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
    directory = "sbdd_dir"

    def split_file(self) -> Path:
        return self.root / f"{self.params['split']}.txt"

    def load(self, name: str) -> tuple[np.ndarray, ...]:
        image = self.photo(self.root / "img" / f"{name}.jpg")
        png, mat = (self.root / "cls" / f"{name}.{suffix}" for suffix in ("png", "mat"))
        if png.exists():
            return image, self.label(load_label, png, image.shape[1:])
        return image, self.label(_load_mat, mat, image.shape[1:])

    def get_it(self) -> str:
        return (
            "To get SBD, download benchmark.tgz (1.3 GB) from "
            "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/ "
            f"and unpack it so that its benchmark_RELEASE/dataset becomes {self.root}. To try with three "
            f"photographs instead, {SAMPLE} makes data/pascal/sample/VOC2011, on which mini-fcn8s trains"
        )


def _load_mat(path: Path) -> np.ndarray:
    """The class indices (H x W, uint8) of SBD's MATLAB struct GTcls."""
    from scipy.io import loadmat  # takes half a second, and only SBD's own files need it

    try:
        return loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0].astype(np.uint8)
    except Exception as error:  # scipy raises anything at all on a damaged file
        raise DataError(
            f"label {path} is no MATLAB file with GTcls.Segmentation ({type(error).__name__}: {error}): "
            "copy or download it again"
        ) from None
