"""Segment images with a trained net:

    python infer.py photo.jpg folder/ --model voc-fcn8s
    python infer.py photo.png --hha hha.png --model nyud-fcn32s-color-hha

For each image it writes an indexed PNG of class numbers (VOC's palette) and an overlay with a legend,
and lists the classes with their share of the pixels; of a net with several heads, for each head. Images are
what the net sees first: photographs, or HHA images for a net that sees nothing else. What it sees
besides is given by --depth (16-bit PNG, millimetres) or --hha (three channels: disparity, height,
angle): a file, or a folder with one for each image, called as the image is.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # before Caffe is imported: no line per layer

import caffe
import numpy as np
from caffe.proto import caffe_pb2

import images
import layers
import nets
import options
import surgery
import training
import vis
from ahead import in_turn
from datakit import bands
from datakit.weights import RELEASED, megabytes
from feed import ROOT, SegDataLayer, planes
from files import DataError, read_lines


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
    released = RELEASED.get(name)
    candidates += [model / released.name] if released else []
    for path in candidates:
        if path.is_file():
            return path
    ways = [f"train it: python {name}/solve.py"]
    if released:
        ways = [
            f"get the authors' ({megabytes(released)} MB): python data/released/prepare.py get {name}",
            f"put {released.urls[0]} into {model}",
            *ways,
        ]
    if not name.startswith("mini-"):
        ways.append("use a small net that trains in minutes: make demo, then --model mini-fcn8s")
    looked = [model / f"{name}.caffemodel", model / "snapshot" / "*.caffemodel", *candidates[1:]]
    raise DataError(
        f"no weights for {name}; looked for {', '.join(map(str, looked))}. Either\n  "
        + "\n  ".join(ways)
        + "\nor name a file with --weights"
    )


def data_layer(model: Path) -> SegDataLayer | None:
    """The data layer that the model is scored with, outside its net: it knows means and the data set.

    Of ``val.prototxt`` or ``test.prototxt``, whichever there is.
    """
    for path in (model / "val.prototxt", model / "test.prototxt"):
        for layer in nets.read_prototxt(path, caffe_pb2.NetParameter()).layer if path.is_file() else ():
            cls = getattr(layers, layer.python_param.layer, None)
            if layer.type == "Python" and cls:
                return cls.outside(layer.python_param.param_str)
    return None


@dataclass(frozen=True)
class Input:
    """What a net sees in its blob ``blob``: ``kind`` is "data" or "color" (photographs), "depth" or "hha".

    ``read`` gives the values of a file, C x H x W float32, as the net was trained on them.
    """

    blob: str
    kind: str
    read: Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Output:
    """What a net says: the blob of its scores, its head's name ("" of an only one), names of classes."""

    blob: str
    head: str
    names: list[str]


PHOTOGRAPHS = ("data", "color")
CHANNELS = {"data": 3, **nets.NYUD_CHANNELS}


@dataclass
class Segmenter:
    """A deploy net with its weights, ready to segment what :meth:`read` gives."""

    net: caffe.Net
    inputs: list[Input]
    outputs: list[Output]

    def read(self, files: Sequence[str]) -> list[np.ndarray]:
        """The values of the files of one image, one for each input. Raises DataError for unequal sizes."""
        values = [i.read(file) for i, file in zip(self.inputs, files, strict=True)]
        for file, other in zip(files, values, strict=True):
            (height, width), (rows, columns) = other.shape[1:], values[0].shape[1:]
            if (height, width) != (rows, columns):
                raise DataError(
                    f"{file} is {width} x {height} pixels, its image {files[0]} {columns} x {rows}: "
                    "they must be of one size"
                )
        return values

    def __call__(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """For each output the class of every pixel, H x W."""
        for i, value in zip(self.inputs, values, strict=True):
            blob = self.net.blobs[i.blob]
            blob.reshape(1, *value.shape)
            blob.data[...] = value
        self.net.forward(blobs=[output.blob for output in self.outputs])
        return [self.net.blobs[output.blob].data[0].argmax(0) for output in self.outputs]


def load(args: argparse.Namespace) -> Segmenter:
    """Find all that the command line names or implies, and build the net."""
    model = find_model(args.model) if args.model or not args.deploy else Path(args.deploy).parent
    deploy = Path(args.deploy) if args.deploy else model / "deploy.prototxt"
    proto = nets.read_prototxt(deploy, caffe_pb2.NetParameter())
    weights = Path(args.weights) if args.weights else find_weights(model)
    data = data_layer(model)
    if not (args.mean or data):
        raise DataError(
            f"{model} has no val.prototxt or test.prototxt that says which mean to subtract: give --mean B G R"
        )
    own = [model / "classes.txt"] if (model / "classes.txt").is_file() else []
    lists = [read_lines(path, "class list") for path in args.classes or own]
    device = training.choose_device(args.gpu, args.cpu)
    choose_precision(args.precision)
    net = caffe.Net(str(deploy), caffe.TEST)
    inputs = _inputs(net, deploy, data, args.mean)
    outputs = _outputs(net, deploy, data, lists)
    _load_weights(net, proto, weights)
    how = f" in {args.precision}" if args.precision else ""
    print(f"{model.resolve().name} on {device}{how}, weights {_short(weights)}", flush=True)
    return Segmenter(net, inputs, outputs)


def choose_precision(precision: str | None) -> None:
    """Have the engine compute in ``precision`` from now on, of ``options.PRECISIONS``; None: float32.

    Raises DataError for another than float32 where the engine has no other, as the original has not.
    """
    if hasattr(caffe, "set_precision"):
        caffe.set_precision(precision or "float32")
    elif precision not in (None, "float32"):
        raise DataError(
            f"--precision {precision} is not to be had of the original Caffe, which computes in float32 alone: leave "
            "it out, or run on the embedded engine (without PYTHONPATH)"
        )


def _inputs(net, deploy: Path, data: SegDataLayer | None, mean) -> list[Input]:
    """The inputs of ``net``, read as its data layer ``data`` reads them, with another ``mean`` if given."""
    kinds = (
        [top for top in data.params.get("tops", data.tops) if top not in data.labels] if data else ["data"]
    )
    if len(kinds) != len(net.inputs):
        raise DataError(
            f"{deploy} has {len(net.inputs)} inputs ({', '.join(net.inputs) or 'none'}); its data gives "
            f"{len(kinds)} ({', '.join(kinds)})"
        )
    if mean and not set(kinds) & set(PHOTOGRAPHS):
        raise DataError(f"--mean is for photographs; {deploy} sees {', '.join(kinds)}")
    if data and mean:
        data.params["mean"] = tuple(mean)
    made = []
    for blob, kind in zip(net.inputs, kinds, strict=True):
        channels = net.blobs[blob].shape[1]
        expected = data.params.get("channels", CHANNELS[kind]) if data else CHANNELS[kind]
        if mean and kind in PHOTOGRAPHS and expected != len(mean):
            raise DataError(f"--mean is for photographs, of 3 channels; {deploy} sees {expected}")
        if channels != expected:
            what = "photographs" if kind in PHOTOGRAPHS else f"{kind} images"
            raise DataError(
                f"{deploy} takes {channels} channels; infer.py feeds it {what}, which have {expected}"
            )
        if data:
            read = partial(data.read, kind)
        else:
            read = partial(_photo, mean=mean)
        made.append(Input(blob, kind, read))
    return made


def _photo(path, mean) -> np.ndarray:
    return planes(images.load_image(path)[:, :, ::-1], mean)


def _outputs(net, deploy: Path, data: SegDataLayer | None, lists: list[list[str]]) -> list[Output]:
    """The blob ``score`` of ``net``, or its outputs ``score_<head>``, with class names: ``lists``, or the data's."""
    blobs = [
        blob for blob in net.blobs if blob in net.outputs and blob.startswith("score_")
    ]  # in their order
    if "score" in net.blobs or not blobs:
        blobs = ["score"]
    if blobs[0] not in net.blobs:
        raise DataError(f"{deploy} has no blob 'score'; it has {', '.join(net.blobs)}")
    if lists and len(lists) != len(blobs):
        raise DataError(
            f"there are {len(lists)} class lists for the {len(blobs)} heads of {deploy} "
            f"({', '.join(blobs)}): give --classes once for each, in that order"
        )
    made = []
    for number, blob in enumerate(blobs):
        head = blob.removeprefix("score").lstrip("_")
        if lists:
            names = lists[number]
        else:
            names = data.class_names(head or "label") if data else []
        classes = net.blobs[blob].shape[1]
        if names and len(names) != classes:
            raise DataError(
                f"there are {len(names)} class names for the {classes} classes of {deploy}"
                f"{f', head {head}' if head else ''}: give --classes"
            )
        made.append(Output(blob, head if len(blobs) > 1 else "", names))
    return made


def beside(inputs: Sequence[Input], paths: Sequence[str], given: dict[str, str | None]) -> list[list[str]]:
    """For each image of ``paths`` the files that the net sees, one for each of ``inputs``.

    ``given``: kind → the file or folder on the command line. Raises DataError where one lacks or is too many.
    """
    first, *others = [i.kind for i in inputs]
    for kind in others:
        if not given.get(kind):
            raise DataError(
                f"the net sees {' and '.join([first, *others])}: give --{kind} FILE, or a folder with a file for "
                "each image, called as the image is"
            )
    for kind, path in given.items():
        if path and kind not in others:
            own = f"; give {kind} files as the images" if kind == first else ""
            raise DataError(
                f"--{kind} {path} is not for this net, which sees {', '.join([first, *others])}{own}"
            )
        if path and len(paths) > 1 and not os.path.isdir(path):
            raise DataError(f"--{kind} {path} is one file for {len(paths)} images: give a folder of them")
    return [[path, *(_beside(path, given[kind]) for kind in others)] for path in paths]


def _beside(path: str, given: str) -> str:
    """``given``, or the file in that folder with the name of the image ``path`` (or its stem, and .png)."""
    if not os.path.isdir(given):
        return given
    same = Path(given) / Path(path).name
    return str(same if same.is_file() else same.with_suffix(".png"))


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


def find(paths: Iterable[str]) -> list[str]:
    """The images among files and folders as :func:`images.find` gives them; of a folder of arrays, its arrays."""
    found = []
    for path in paths:
        arrays = sorted(map(str, Path(path).glob(f"*{bands.ARRAY}"))) if os.path.isdir(path) else []
        found += arrays or images.find([path])
    return found


class Names:
    """Output names that neither repeat nor fall on an input: ``cat``, then ``cat_2``, ..."""

    def __init__(self, out: Path, inputs: Iterable[str]):
        self.out = out
        self.taken = {os.path.realpath(path).casefold() for path in inputs}

    def choose(self, path: str, heads: Sequence[str] = ("",)) -> list[tuple[Path, Path]]:
        """Where the indexed PNG and the overlay of the image ``path`` go, for each of ``heads``."""
        stem, number = Path(path).stem, 1
        while True:
            name = stem if number == 1 else f"{stem}_{number}"
            named = [f"{name}_{head}" if head else name for head in heads]
            pairs = [(self.out / f"{each}.png", self.out / f"{each}_overlay.png") for each in named]
            keys = {os.path.realpath(p).casefold() for pair in pairs for p in pair}
            if not keys & self.taken:
                self.taken |= keys
                return pairs
            number += 1


def _short(path: str | os.PathLike) -> str:
    """A path as one would type it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else os.fspath(path)


def segment_file(
    segmenter: Segmenter, files: Sequence[str], values: Sequence[np.ndarray], names: Names
) -> float:
    """Segment one image, write two pictures for each head, print what is in it.

    ``files``, and the ``values`` read from them: one for each input of the net. Returns the seconds the net took.
    """
    path = files[0]
    start = time.perf_counter()
    segs = segmenter(values)
    seconds = time.perf_counter() - start
    image, palette = bands.picture(path), vis.make_palette(256)
    height, width = segs[0].shape
    print(f"{path}  {width} x {height}, {1000 * seconds:.0f} ms")
    written = names.choose(path, [output.head for output in segmenter.outputs])
    for output, seg, (indexed, overlay) in zip(segmenter.outputs, segs, written, strict=True):
        vis.save_indexed(indexed, seg, palette)
        vis.save(overlay, vis.overlay(image, seg, output.names, palette))
        found = [f"{vis.class_name(output.names, i)} {vis.percent(share)}" for i, share in vis.shares(seg)]
        print(f"  {f'{output.head}: ' if output.head else ''}{', '.join(found)}")
        print(f"  {_short(indexed)}  {_short(overlay)}", flush=True)
    return seconds


def segment(segmenter: Segmenter, items: Sequence[Sequence[str]], out: Path) -> int:
    """Segment all, going on past bad files; returns the exit status, 1 if any failed.

    ``items``: for each image the files that the net sees, as :func:`beside` gives them.
    """
    names, seconds, failed = Names(out, [file for files in items for file in files]), [], []
    for files, read in in_turn(segmenter.read, items):
        try:
            seconds.append(segment_file(segmenter, files, read.result(), names))
        except (RuntimeError, MemoryError, OSError) as error:  # DataError and Caffe's are RuntimeErrors
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            failed.append(reason if any(file in reason for file in files) else f"{files[0]}: {reason}")
            print(f"error: {failed[-1]}", file=sys.stderr, flush=True)
    if len(seconds) > 1:
        print(f"{len(seconds)} images, {1000 * sum(seconds) / len(seconds):.0f} ms each in the net")
    if failed and len(items) > 1:
        print(f"{len(failed)} of {len(items)} failed:", *failed, sep="\n  ", file=sys.stderr)
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """Read the command line, load the net, segment; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    options.add_net(parser, "model directory (default: voc-fcn8s)")
    parser.add_argument(
        "--classes",
        metavar="FILE",
        action="append",
        help="class names, a line each (default: of the model's data); once for each head",
    )
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="default: %(default)s")
    options.add_device(parser)
    options.add_precision(parser)
    args = parser.parse_intermixed_args(argv)
    args.model = args.model or (None if args.deploy else "voc-fcn8s")
    with training.one_message():
        paths = list({os.path.realpath(path): path for path in find(args.images)}.values())
        segmenter = load(args)
        items = beside(segmenter.inputs, paths, {"depth": args.depth, "hha": args.hha})
        return segment(segmenter, items, args.out)


if __name__ == "__main__":
    sys.exit(main())
