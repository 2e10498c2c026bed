"""What all engines get: the nets of the paper with one set of random weights, in each engine's own format.

Made once, under build/bench/, and again when a net's prototxt has changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import caffe
import numpy as np
from about import multiply_adds
from caffe.proto import caffe_pb2
from engines import EngineError
from google.protobuf import text_format

import nets
from datakit import layouts, scenes
from files import replacing, write
from reproduction import timing

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build/bench"
RATES = (1e-14, 0.99, 5e-4)  # learning rate, momentum, decay of the heavy recipe
MINIBATCH = 20  # images, as the paper's
SPLIT = "bench"
# of 20 images so many are of this size (height, width), as VOC's are, most 500 wide
SHAPES = {(375, 500): 11, (500, 375): 3, (333, 500): 3, (500, 333): 1, (334, 500): 1, (400, 500): 1}


@dataclass(frozen=True)
class Material:
    """The net of a model directory, with random weights or those of a file."""

    net: str  # as torchfcn calls it: fcn8s, fcn32s
    directory: Path
    trained: Path | None = None

    @property
    def deploy(self) -> Path:
        return self.directory / "deploy.prototxt"

    @cached_property
    def home(self) -> Path:
        """A folder that is another one when the net or its weights are."""
        stamp = self.deploy.read_bytes()
        if self.trained:
            stamp += f"{self.trained.resolve()} {self.trained.stat().st_mtime_ns}".encode()
        return WORK / f"{self.directory.name}-{hashlib.sha256(stamp).hexdigest()[:8]}"

    @cached_property
    def weights(self) -> Path:
        """The weights as a caffemodel."""
        path = self.trained or self.home / "random.caffemodel"
        if not path.exists():
            net = timing.fill(caffe.Net(str(self.deploy), caffe.TEST))
            with replacing(path) as temporary:
                net.save(str(temporary))
        return path

    @cached_property
    def state(self) -> Path:
        """The same as PyTorch's users have them: a state dict, called as the layers are."""
        import torch

        path = self.home / "weights.pth"
        if not path.exists():
            net = caffe.Net(str(self.deploy), caffe.TEST, weights=str(self.weights))
            state = {
                f"{name}.{kind}": torch.from_numpy(blob.data.copy())
                for name, blobs in net.params.items()
                for kind, blob in zip(("weight", "bias"), blobs, strict=False)
            }
            with replacing(path) as temporary:
                torch.save(state, temporary)
        return path

    @cached_property
    def onnx(self) -> Path:
        """The same net with its weights as our exporter writes it, for images of any size."""
        from caffe.export import to_onnx

        path = self.home / "net.onnx"
        if not path.exists():
            try:
                with replacing(path) as temporary:
                    to_onnx(str(self.deploy), str(self.weights), temporary, check=False)
            except caffe.CaffeError as error:  # such as one without the package onnx
                raise EngineError(str(error)) from None
        return path

    def load(self, kind: str) -> dict[str, str]:
        """The arguments of the job ``load`` for an engine of this ``kind``: what it needs, and nothing else made."""
        if kind in ("ours", "original"):
            return {"prototxt": str(self.deploy), "weights": str(self.weights)}
        if kind in ("onnxruntime", "openvino"):
            return {"onnx": str(self.onnx)}
        return {"state": str(self.state), "net": self.net}

    def train(self, kind: str, images: int = 1) -> dict:
        """The arguments of the job ``train``, but for the image's size."""
        if kind in ("ours", "original"):
            return {"solver": str(self.solver(images)), "weights": str(self.weights)}
        return {"state": str(self.state), "net": self.net, "rates": RATES, "images": images}

    def training_param(self) -> caffe_pb2.NetParameter:
        """The training net of the heavy recipe, with inputs in the place of the data, and nothing left to chance."""
        param = nets.read_prototxt(self.directory / "train-heavy.prototxt", caffe_pb2.NetParameter())
        inputs = caffe_pb2.LayerParameter(name="data", type="Input", top=["data", "label"])
        for channels in (3, 1):
            inputs.input_param.shape.add().dim.extend((1, channels, 64, 64))
        param.layer[0].CopyFrom(inputs)
        for layer in param.layer:
            if layer.type == "Dropout":
                layer.dropout_param.dropout_ratio = 0
        return param

    def solver(self, images: int = 1) -> Path:
        """A solver that updates after so many ``images``."""
        train, path = self.home / "train.prototxt", self.home / f"solver-{images}.prototxt"
        write(train, text_format.MessageToString(self.training_param()).encode())
        rate, momentum, decay = RATES
        write(
            path,
            f'train_net: "{train}"\nsnapshot_prefix: "{self.home / "train"}"\nbase_lr: {rate}\nlr_policy: "fixed"\n'
            f"momentum: {momentum}\nweight_decay: {decay}\niter_size: {images}\n".encode(),
        )
        return path

    def costs(self, sizes, backward: bool = False) -> dict[tuple[int, int], int]:
        """The multiply-adds of an image of each of ``sizes`` (height, width)."""
        param = (
            self.training_param() if backward else nets.read_prototxt(self.deploy, caffe_pb2.NetParameter())
        )
        net, found = timing.build(param, caffe.TRAIN if backward else caffe.TEST), {}
        for size in sizes:
            net.blobs["data"].reshape(1, 3, *size)
            if backward:
                net.blobs["label"].reshape(1, 1, *size)
            net.reshape()
            found[size] = multiply_adds(net, backward)
        return found


def fcn(stride: int) -> Material:
    """The paper's FCN at this last stride, on PASCAL VOC."""
    return Material(f"fcn{stride}s", ROOT / f"voc-fcn{stride}s")


def classes_net(classes: int) -> Path:
    """FCN-8s with another number of classes: its deploy prototxt."""
    n = caffe.NetSpec()
    nets.VOC.input(n)
    nets.fcn(n, nets.RELEASE, classes, skips=["pool4", "pool3"])
    path = WORK / f"classes-{classes}.prototxt"
    write(path, text_format.MessageToString(n.to_proto()).encode())
    return path


def photographs(count: int) -> tuple[Path, list[str]]:
    """Synthetic scenes of VOC's sizes, as JPEG and PNG in VOC's layout: (folder, the ids of ``count`` of them)."""
    folder, content = WORK / "VOC", {}
    shapes = [shape for shape, many in SHAPES.items() for _ in range(many)]
    np.random.default_rng(0).shuffle(shapes)
    ids = [f"2011_{number:06d}" for number in range(count)]
    missing = [i for i, name in enumerate(ids) if not (folder / f"SegmentationClass/{name}.png").exists()]
    for i in missing:
        drawn = scenes.scene(0, i, tuple(int(length) for length in shapes[i % len(shapes)]))
        content[ids[i]] = (drawn.image, drawn.label)
        if len(content) == 32 or i == missing[-1]:
            layouts.voc_tree(folder, content, {})
            content = {}
    write(folder / f"ImageSets/Segmentation/{SPLIT}.txt", "\n".join(ids).encode())
    return folder, ids


def val_net(model: Material, voc: Path) -> Path:
    """The net that ``model`` is scored with, on :func:`photographs`."""
    param = nets.read_prototxt(model.directory / "val.prototxt", caffe_pb2.NetParameter())
    layer = param.layer[0].python_param
    layer.param_str = str({"voc_dir": str(voc), "split": SPLIT, "mean": nets.MEAN, "seed": 1337})
    path = model.home / "val.prototxt"
    write(path, text_format.MessageToString(param).encode())
    return path


def seen(photograph: Path) -> np.ndarray:
    """What a VOC net sees of a photograph: 1 x 3 x H x W, blue first, without the mean."""
    import images

    values = images.load_image(photograph)[:, :, ::-1].astype(np.float32) - np.float32(nets.MEAN)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])
