"""Data layers: what feeds the nets, one image of its own size at a time.

Each is a Caffe ``Python`` layer on :class:`feed.SegDataLayer`; a net names it in its prototxt:

    python_param { module: "layers"  layer: "VOCSegDataLayer"
                   param_str: "{'voc_dir': '../data/pascal/VOC2011', 'split': 'train', 'mean': (104.00699, ...)}" }
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np

from datakit import bands, labels, own
from feed import ROOT, SegDataLayer, bgr, locate, planes
from files import DataError
from images import SUFFIXES, load_depth, load_image, load_label
from param_str import REQUIRED, Key, are_numbers, integer, is_number, some_of, text


def command(script: str, arguments: str) -> str:
    """A command line for messages, and where to type it; the folder of data sets is named if it is not data/."""
    root = os.environ.get("FCN_DATA")
    return f"`python {script} {arguments}{f' --data-root {shlex.quote(root)}' if root else ''}` (in {ROOT})"


SAMPLE = command("data/pascal/prepare.py", "sample")


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
        return self.photo(path) if top == "data" else labels.read_voc(path)

    def get_it(self) -> str:
        if self.roots[0].parent.name == "sample":
            return f"Get it with {SAMPLE}"
        return (
            f"To get PASCAL VOC 2011 with its validation split: {command('data/pascal/prepare.py', 'all')}; "
            "VOCtrainval_25-May-2011.tar and SBD's benchmark.tgz got by hand: add --from FOLDER. "
            f"To try with three photographs instead, {SAMPLE} makes data/pascal/sample/VOC2011"
        )

    def get_split(self) -> str:
        if self.params["split"] == "seg11valid":
            return f"Make it with {command('data/pascal/prepare.py', 'seg11valid')}"
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
        return labels.made_or_mat(self.roots[0] / "cls" / name)

    def read(self, top: str, path: Path) -> np.ndarray:
        return self.photo(path) if top == "data" else labels.read_sbd(path)

    def get_it(self) -> str:
        return (
            f"To get SBD (benchmark.tgz, 1.3 GB): {command('data/pascal/prepare.py', 'all sbd')}; got by hand: add "
            f"--from FOLDER. To try with three photographs instead, {SAMPLE} makes data/pascal/sample/VOC2011, "
            "on which mini-fcn8s trains"
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
            return labels.made_or_mat(self.roots[0] / "segmentation" / f"img_{name}")
        return self.roots[0] / "data" / {"color": "images"}.get(top, top) / f"img_{name}.png"

    def read(self, top: str, path: Path) -> np.ndarray:
        if top == "color":
            return self.photo(path)
        if top == "depth":
            logarithm = np.log(load_depth(path).astype(np.float32))
            return planes(logarithm[:, :, np.newaxis], self.params["mean_depth"])
        if top == "hha":
            return planes(load_image(path), self.params["mean_hha"])
        return labels.read_nyud(path)

    def get_it(self) -> str:
        script = "data/nyud/prepare.py"
        return (
            f"To get NYUDv2 as the authors packed it (nyud.tar.gz): {command(script, 'all pack')}; made here of "
            f"nyu_depth_v2_labeled.mat (3 GB), HHA included: {command(script, 'all raw')}; got by hand: add --from "
            "FOLDER"
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
        stem = self.roots[0] / folder / "spatial_envelope_256x256_static_8outdoorcategories" / name
        return stem.with_name(f"{name}.jpg") if top == "data" else labels.made_or_mat(stem)

    def read(self, top: str, path: Path) -> np.ndarray:
        return self.photo(path) if top == "data" else labels.read_siftflow(path)

    def get_it(self) -> str:
        return (
            "To get SIFT Flow with both labelings (SiftFlowDataset.zip, 140 MB): "
            f"{command('data/sift-flow/prepare.py', 'all')}; got by hand: add --from FOLDER"
        )


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
        return labels.made_or_mat(self.roots[1] / "trainval" / name)

    def read(self, top: str, path: Path) -> np.ndarray:
        return self.photo(path) if top == "data" else labels.read_context(path)

    def get_it(self) -> str:
        return (
            "To get PASCAL-Context (VOCtrainval_03-May-2010.tar and the labels, trainval.tar.gz): "
            f"{command('data/pascal-context/prepare.py', 'all')}; got by hand: add --from FOLDER"
        )


class OwnSegDataLayer(SegDataLayer):
    """Your own data: ``own_dir`` holds images, masks (<id>.png), classes.txt, and the list <split>.txt of ids.

    Images are of any format, or NumPy arrays, H x W or H x W x C. The net sees ``channels`` (default 3: blue,
    green, red) of them, as :func:`datakit.bands.load_bands` gives them, minus ``mean``, a number for each
    channel, times ``scale`` (default 1), a number or one for each.
    """

    dataset = "own"
    directories = ("own_dir",)
    keys = {
        "own_dir": text(),
        **SegDataLayer.keys,
        "classes": integer(2, 254, REQUIRED),
        "channels": integer(1, None, 3),
        "mean": Key("a number for each channel", are_numbers),
        "scale": Key(
            "a number, or one for each channel", lambda value: is_number(value) or are_numbers(value), 1
        ),
    }

    def read_params(self):
        params = super().read_params()
        channels = params["channels"]
        for key in ("mean", "scale"):
            if not is_number(params[key]) and len(params[key]) != channels:
                raise DataError(
                    f"{self.who()}: param_str: {key} has {len(params[key])} numbers for {channels} channels; it needs "
                    "one for each"
                )
        return params

    def open(self) -> None:
        super().open()
        folder = self.roots[0] / "images"
        suffixes = {*SUFFIXES, bands.ARRAY}
        self._files: dict[str, Path] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix.lower() in suffixes and not path.name.startswith("."):
                self._files.setdefault(path.stem, path)

    def split_file(self) -> Path:
        return self.roots[0] / f"{self.params['split']}.txt"

    def path(self, top: str, name: str) -> Path:
        if top == "label":
            return self.roots[0] / "masks" / f"{name}.png"
        return self._files.get(name, self.roots[0] / "images" / f"{name}.*")

    def read(self, top: str, path: Path) -> np.ndarray:
        if top == "label":
            return load_label(path)
        values = planes(bands.load_bands(path, self.params["channels"]), self.params["mean"])
        scale = self.params["scale"]
        return values if scale == 1 else values * np.array(scale, np.float32).reshape(-1, 1, 1)

    def load(self, name: str) -> list[np.ndarray]:
        try:
            return super().load(name)
        except DataError as error:
            message, advice = str(error), self.get_it()
            raise DataError(message if advice in message else f"{message}. {advice}") from None

    def class_names(self, head: str = "label") -> list[str]:
        """Of classes.txt in the current folder, which is the model directory's in training, or in ``own_dir``."""
        path = Path("classes.txt")
        if not path.is_file():
            path = Path(locate(self.params["own_dir"])) / "classes.txt"
        names = own.read_names(path)
        if len(names) != self.params["classes"]:
            raise DataError(f"class list {path} has {len(names)} names for {self.params['classes']} classes")
        return names

    def origin(self) -> str:
        return str(self.roots[0])

    def get_it(self) -> str:
        return f"To look at all of this data: {own.typed(own.PREPARE, 'check', '--data', self.roots[0])}"

    def get_split(self) -> str:
        return f"To make train.txt and val.txt: {own.typed(own.PREPARE, 'split', '--data', self.roots[0])}"
