"""Segment images with a trained net:

    python infer.py photo.jpg folder/ --model voc-fcn8s

For each image it writes an indexed PNG of class numbers (VOC's palette) and an overlay with a legend,
and lists the classes with their share of the pixels.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # before Caffe is imported: no line per layer

import caffe
import numpy as np
from caffe.proto import caffe_pb2

import images
import layers
import nets
import surgery
import training
import vis
from feed import ROOT, SegDataLayer, class_names
from files import DataError, read_lines

# the authors' weights, by the model directory that they fit
RELEASED = {
    "voc-fcn32s": "fcn32s-heavy-pascal.caffemodel",
    "voc-fcn16s": "fcn16s-heavy-pascal.caffemodel",
    "voc-fcn8s": "fcn8s-heavy-pascal.caffemodel",
}
HOST = "http://dl.caffe.berkeleyvision.org/"


def find_model(name: str) -> Path:
    """The directory of a model, given its name or a path; :class:`DataError` lists what there is."""
    for directory in (Path(name), ROOT / name):
        if directory.is_dir():
            return directory
    known = sorted(path.parent.name for path in ROOT.glob("*/deploy.prototxt"))
    raise DataError(f"there is no model {name}; there are {', '.join(known) or 'none'}. Choose with --model")


def find_weights(model: Path) -> Path:
    """The weights of a model: its own name's file, else its newest snapshot, else the authors' file."""
    name = model.resolve().name
    snapshots = model.glob("snapshot/*.caffemodel")
    newest = sorted(snapshots, key=lambda p: (training.iteration_of(p), p.stat().st_mtime), reverse=True)[:1]
    candidates = [model / f"{name}.caffemodel", *newest]
    candidates += [model / RELEASED[name]] if name in RELEASED else []
    for path in candidates:
        if path.is_file():
            return path
    ways = [f"train it: python {name}/solve.py"]
    if name in RELEASED:
        ways.insert(0, f"download the authors' {HOST}{RELEASED[name]} (540 MB) into {model}")
    if not name.startswith("mini-"):
        ways.append("use a small net that trains in minutes: make demo, then --model mini-fcn8s")
    looked = [model / f"{name}.caffemodel", model / "snapshot" / "*.caffemodel", *candidates[1:]]
    raise DataError(
        f"no weights for {name}; looked for {', '.join(map(str, looked))}. Either\n  "
        + "\n  ".join(ways)
        + "\nor name a file with --weights"
    )


def data_layer(model: Path) -> SegDataLayer | None:
    """The data layer of the model's ``val.prototxt``, outside its net: it knows the mean and the data set."""
    path = model / "val.prototxt"
    for layer in nets.read_prototxt(path, caffe_pb2.NetParameter()).layer if path.is_file() else ():
        cls = getattr(layers, layer.python_param.layer, None)
        if layer.type == "Python" and cls:
            return cls.outside(layer.python_param.param_str)
    return None


@dataclass
class Segmenter:
    """A deploy net with its weights, mean and class names, ready to segment images."""

    net: caffe.Net
    mean: np.ndarray  # B, G, R
    names: list[str]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The class of every pixel (H x W) of a photograph (H x W x 3, uint8 RGB)."""
        blob = self.net.blobs["data"]
        values = image[:, :, ::-1].astype(np.float32)
        values -= self.mean
        blob.reshape(1, 3, *image.shape[:2])
        blob.data[...] = values.transpose(2, 0, 1)
        self.net.forward()
        return self.net.blobs["score"].data[0].argmax(0)


def load(args: argparse.Namespace) -> Segmenter:
    """Find all that the command line names or implies, and build the net."""
    model = find_model(args.model) if args.model or not args.deploy else Path(args.deploy).parent
    deploy = Path(args.deploy) if args.deploy else model / "deploy.prototxt"
    proto = nets.read_prototxt(deploy, caffe_pb2.NetParameter())
    weights = Path(args.weights) if args.weights else find_weights(model)
    data = data_layer(model)
    if not (args.mean or data):
        raise DataError(f"{model} has no val.prototxt that says which mean to subtract: give --mean B G R")
    mean = args.mean or data.params["mean"]
    if args.classes:
        names = read_lines(args.classes, "class list")
    else:
        names = class_names(data.dataset) if data else []
    device = training.choose_device(args.gpu, args.cpu)
    net = caffe.Net(str(deploy), caffe.TEST)
    for blob in ("data", "score"):
        if blob not in net.blobs:
            raise DataError(f"{deploy} has no blob {blob!r}; it has {', '.join(net.blobs)}")
    channels, classes = net.blobs["data"].shape[1], net.blobs["score"].shape[1]
    if channels != 3:
        raise DataError(f"{deploy} takes {channels} channels; infer.py feeds it photographs, which have 3")
    if names and len(names) != classes:
        raise DataError(
            f"there are {len(names)} class names for the {classes} classes of {deploy}: give --classes"
        )
    _load_weights(net, proto, weights)
    print(f"{model.resolve().name} on {device}, weights {_short(weights)}", flush=True)
    return Segmenter(net, np.array(mean, dtype=np.float64), names)


def _load_weights(net, proto, weights: Path) -> None:
    """Load by name, fill upsampling that the file leaves out, and warn of any other layer left out."""
    report = surgery.load_parent(net, str(weights))
    upsampling = {layer.name for layer in proto.layer if layer.type == "Deconvolution"}
    surgery.interp(net, [name for name in report.zero if name in upsampling])
    zero = [name for name in report.zero if name not in upsampling]
    if zero:
        print(
            f"warning: these layers of the net are exactly zero with {_short(weights)}: {', '.join(zero)}. "
            "The result will mean little: are these the weights of this very net?",
            file=sys.stderr,
        )


class Names:
    """Output names that neither repeat nor fall on an input: ``cat``, then ``cat_2``, ..."""

    def __init__(self, out: Path, inputs: Iterable[str]):
        self.out = out
        self.taken = {os.path.realpath(path).casefold() for path in inputs}

    def choose(self, path: str) -> tuple[Path, Path]:
        """Where the indexed PNG and the overlay of the image ``path`` go."""
        stem, number = Path(path).stem, 1
        while True:
            name = stem if number == 1 else f"{stem}_{number}"
            pair = self.out / f"{name}.png", self.out / f"{name}_overlay.png"
            keys = {os.path.realpath(p).casefold() for p in pair}
            if not keys & self.taken:
                self.taken |= keys
                return pair
            number += 1


def _short(path: str | os.PathLike) -> str:
    """A path as one would type it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else os.fspath(path)


def segment_file(segmenter: Segmenter, path: str, names: Names) -> float:
    """Segment one image, write its two pictures, print what is in it; returns the seconds the net took."""
    image = images.load_image(path)
    start = time.perf_counter()
    seg = segmenter(image)
    seconds = time.perf_counter() - start
    indexed, overlay = names.choose(path)
    palette = vis.make_palette(256)
    vis.save_indexed(indexed, seg, palette)
    vis.save(overlay, vis.overlay(image, seg, segmenter.names, palette))
    height, width = seg.shape
    print(f"{path}  {width} x {height}, {1000 * seconds:.0f} ms")
    found = [f"{vis.class_name(segmenter.names, i)} {vis.percent(share)}" for i, share in vis.shares(seg)]
    print(f"  {', '.join(found)}")
    print(f"  {_short(indexed)}  {_short(overlay)}", flush=True)
    return seconds


def segment(segmenter: Segmenter, paths: list[str], out: Path) -> int:
    """Segment all, going on past bad files; returns the exit status, 1 if any failed."""
    names, seconds, failed = Names(out, paths), [], []
    for path in paths:
        try:
            seconds.append(segment_file(segmenter, path, names))
        except (RuntimeError, MemoryError, OSError) as error:  # DataError and Caffe's are RuntimeErrors
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            failed.append(reason if path in reason else f"{path}: {reason}")
            print(f"error: {failed[-1]}", file=sys.stderr, flush=True)
    if len(seconds) > 1:
        print(f"{len(seconds)} images, {1000 * sum(seconds) / len(seconds):.0f} ms each in the net")
    if failed and len(paths) > 1:
        print(f"{len(failed)} of {len(paths)} failed:", *failed, sep="\n  ", file=sys.stderr)
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """Read the command line, load the net, segment; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--model", help="model directory (default: voc-fcn8s)")
    parser.add_argument("--deploy", metavar="FILE", help="default: deploy.prototxt of the model")
    parser.add_argument("--weights", metavar="FILE", help="default: the model's own, or its newest snapshot")
    parser.add_argument(
        "--classes", metavar="FILE", help="class names, a line each (default: of the model's data)"
    )
    parser.add_argument(
        "--mean", nargs=3, type=float, metavar=("B", "G", "R"), help="default: of the model's val.prototxt"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="default: %(default)s")
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--gpu", type=int, metavar="N", help="use GPU N (default: the first one, if there is one)"
    )
    device.add_argument("--cpu", action="store_true", help="use the CPU")
    args = parser.parse_intermixed_args(argv)
    args.model = args.model or (None if args.deploy else "voc-fcn8s")
    with training.one_message():
        paths = list({os.path.realpath(path): path for path in images.find(args.images)}.values())
        return segment(load(args), paths, args.out)


if __name__ == "__main__":
    sys.exit(main())
