"""A model directory for your own data, made from one of the project's:

    python nets.py new my-net --data DIR --base mini-fcn8s

DIR is as data/own/README.md says. The directory has all that others have: net.py and the prototxts that it prints,
solve.py, solvers, and classes.txt. It is yours to edit.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import io
import json
import os
import re
import runpy
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # before Caffe is imported: no line per layer

import caffe
import numpy as np
from caffe.proto import caffe_pb2

import files
import nets
import surgery
import training
from datakit import bands, checks, own
from datakit.model_texts import BASES, net_text, solve_text, solver_text
from datakit.weights import RELEASED
from feed import ROOT, locate
from files import DataError

SPREAD = 64  # what photographs minus their mean spread over, and the first layers are made for; see trunks.py


# ------------------------------------------------------------------ where its weights come from


class Trunk(training.Parent):
    """A net whose trunk another one starts with, though its classes, and perhaps its channels, are others.

    All layers below the first scores are copied; scores start at zero. A first layer that sees other channels is
    changed so that channels which are alike give the response of before. Weights of the net itself, which --weights
    may name, are taken whole.
    """

    def load(self, net: caffe.Net, path: Path) -> str:
        shapes = surgery.shapes_in_file(path)
        known = {os.path.realpath(file) for each in self.files for file in (each, *glob.glob(each))}
        whole = all(surgery.fits(shapes.get(name, ()), blobs) for name, blobs in net.params.items())
        if whole and os.path.realpath(path) not in known:
            return str(surgery.load_parent(net, str(path)))
        first = next(iter(net.params))
        channels = net.params[first][0].data.shape[1]
        seen = shapes[first][0][1] if first in shapes else channels
        source = _trunk(seen)
        surgery.load_parent(source, str(path))
        reports = [surgery.transplant(net, source)]
        if seen != channels:
            reports.append(surgery.rechannel(net, first, source, first))
        return "\n".join(map(str, reports))


def _trunk(channels: int) -> caffe.Net:
    """The deploy net of this model directory up to its scores, for images of so many channels."""
    net = nets.read_prototxt("deploy.prototxt", caffe_pb2.NetParameter())
    end = next(i for i, layer in enumerate(net.layer) if layer.name.startswith("score"))
    del net.layer[end:]
    net.layer[0].input_param.shape[0].dim[1] = channels
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trunk.prototxt")
        path.write_text(str(net), encoding="utf-8")
        return caffe.Net(str(path), caffe.TEST)


def start_from(base: str) -> Trunk:
    """The project's net ``base`` as it was trained here, or released, else the classifier that it starts from."""
    classifier = BASES[base].trunk
    files = [f"{glob.escape(str(ROOT / base))}/snapshot/train_iter_*.caffemodel"]
    how = f"python ilsvrc-nets/prepare.py all {classifier}"
    if base in RELEASED:
        files.append(str(ROOT / base / RELEASED[base].name))
        how += f", or the authors' net: python data/released/prepare.py get {base}"
    files.append(str(ROOT / "ilsvrc-nets" / f"{classifier}-fcn.caffemodel"))
    how += ". A small net needs none: python nets.py new NAME --base mini-fcn8s --data DIR"
    return Trunk(base, tuple(files), how)


# ------------------------------------------------------------------ the directory


@dataclass(frozen=True)
class New:
    """A model directory that is to be: its name, where it will be, of which ``base``, for which data."""

    directory: Path
    base: str
    folder: own.Folder
    names: list[str]
    lists: dict[str, list[str]]
    channels: int
    mean: tuple[float, ...]
    scale: float | tuple[float, ...]

    @property
    def name(self) -> str:
        return self.directory.name

    def texts(self) -> dict[str, str]:
        """What is in it, by file name, but for what net.py prints."""
        path = json.dumps(seen_from(self.directory, self.folder.data), ensure_ascii=False)
        data = [path, "CLASSES"]
        data += [f"channels={self.channels}"] if self.channels != 3 else []
        data += [f"mean={self.mean}"] if self.mean != nets.MEAN else []
        data += [f"scale={self.scale}"] if self.scale != 1 else []
        texts = {
            "classes.txt": "".join(f"{name}\n" for name in self.names),
            "net.py": net_text(self.name, self.base, len(self.names), data),
            "solve.py": solve_text(self.name, self.base),
        }
        source = ROOT / ("voc-fcn8s-atonce" if BASES[self.base].scales else self.base)
        for path in sorted(source.glob("solver*.prototxt")):
            proto = nets.read_prototxt(path, caffe_pb2.SolverParameter())
            counts = len(self.lists["train"]), len(self.lists["val"])
            texts[path.name] = solver_text(self.name, self.base, f"{source.name}/{path.name}", proto, *counts)
        return texts

    def write(self) -> None:
        """Make the directory; it appears when it is whole."""
        scratch = self.directory.with_name(f".{self.name}.{os.getpid()}")
        scratch.mkdir(parents=True)
        try:
            for name, text in self.texts().items():
                files.write(scratch / name, text.encode())
            with contextlib.redirect_stdout(io.StringIO()):
                runpy.run_path(str(scratch / "net.py"), run_name="__main__")
            os.replace(scratch, self.directory)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def seen_from(directory: Path, data: Path) -> str:
    """How a model directory calls ``data``: relative to it where both are in the project, else absolute.

    Absolute also where FCN_DATA would turn it into another folder.
    """
    directory, data = Path(os.path.abspath(directory)), data.resolve()
    if data.is_relative_to(ROOT) and directory.is_relative_to(ROOT):
        path = os.path.relpath(data, directory)
        if (directory / locate(path)).resolve() == data:
            return path
    return str(data)


# ------------------------------------------------------------------ the command


def new(name: str, data: Path, classes: Path | None, base: str, channels: int | None) -> New:
    """Look at the data and make the directory ``name``. Raises DataError for what is missing or does not fit."""
    directory = Path(name)
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", directory.name):
        raise DataError(
            f"{name!r} does not do as a name: letters, digits, '-', '_' and '.' make one, such as my-net"
        )
    if directory.exists():
        raise DataError(f"{directory} is there already: choose another name, or remove it")
    folder = own.read(data, classes=classes)
    names = folder.names()
    look = own.typed(own.PREPARE, "check", "--data", data)
    if names is None:
        raise DataError(
            f"there is no {data / 'classes.txt'}, which names the classes. Look at the data: {look}"
        )
    lists = folder.lists()
    if missing := [split for split in ("train", "val") if split not in lists]:
        divide = own.typed(own.PREPARE, "split", "--data", data)
        raise DataError(f"there is no {data / missing[0]}.txt. To divide the images: {divide}")
    wanted = [*lists["train"], *lists["val"]]
    masks = [data / "masks" / f"{each}.png" for each in wanted]
    if lost := [
        mask for each, mask in zip(wanted, masks, strict=True) if folder.pairs.get(each, ("", ""))[1] != mask
    ]:
        raise DataError(
            f"no image with a mask {lost[0]} ({len(lost)} such in the lists). Look at the data: {look}"
        )
    photos, wrong = checks.over([folder.pairs[each][0] for each in wanted], bands.look, "reading images")
    if wrong:
        raise DataError(f"{wrong[0]}. Look at the data: {look}")
    found = bands.channels_of(photos)
    if found is None and channels is None:
        raise DataError("images differ in their number of channels; a net can see 3 of all: add --channels 3")
    channels = channels or found
    arrays = photos[0].path.suffix.lower() == bands.ARRAY
    mean, scale = nets.MEAN, 1
    if arrays or channels != 3:
        mean, spread = measured([folder.pairs[each][0] for each in lists["train"]], channels)
        scale = scale_for(spread) if arrays else 1
    made = New(directory, base, folder, names, lists, channels, mean, scale)
    made.write()
    return made


def measured(paths: Sequence[Path], channels: int) -> tuple[tuple[float, ...], list[float]]:
    """Mean and standard deviation of each channel over all pixels of the images ``paths``."""

    def sums(path: Path) -> np.ndarray:
        values = bands.load_bands(path, channels).reshape(-1, channels).astype(np.float64)
        return np.stack([np.full(channels, len(values)), values.sum(0), (values**2).sum(0)])

    found, wrong = checks.over(paths, sums, "measuring the mean")
    if wrong:
        raise DataError(wrong[0])
    count, total, squares = np.sum(found, 0)
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return tuple(float(f"{value:.5g}") for value in mean), spread.tolist()


def scale_for(spread: Sequence[float]) -> float | tuple[float, ...]:
    """Factors, one if all are alike, that make values of this spread as wide as photographs'; 1 if they nearly are."""
    factors = [float(f"{SPREAD / each:.3g}") if each else 1.0 for each in spread]
    if all(0.5 < factor < 2 for factor in factors):
        return 1
    return factors[0] if len(set(factors)) == 1 else tuple(factors)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of ``python nets.py``; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("new", help="make a model directory for your own data")
    command.add_argument("name", metavar="NAME", help="the directory to make")
    command.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="your data (data/own/README.md)"
    )
    command.add_argument(
        "--classes", type=Path, metavar="FILE", help="names of the classes (default: DIR/classes.txt)"
    )
    command.add_argument(
        "--base", choices=BASES, default="mini-fcn8s", help="the net to make it from (%(default)s)"
    )
    command.add_argument(
        "--channels", type=int, metavar="N", help="channels that it sees (default: the images')"
    )
    args = parser.parse_args(argv)
    if args.channels is not None and args.channels < 1:
        parser.error(f"--channels must be at least 1, got {args.channels}")
    with training.one_message():
        made = new(args.name, args.data, args.classes, args.base, args.channels)
        tell(made)
    return 0


def tell(made: New) -> None:
    """What was made, and what comes next."""
    names, lists = made.names, made.lists
    some = f"{', '.join(names[:5])}{', ...' if names[5:] else ''}"
    print(
        f"{made.directory}: {made.base} for {len(names)} classes ({some}), images of {made.channels} channels"
    )
    print(f"  {len(lists['train'])} images to train on, {len(lists['val'])} to score")
    train = own.typed((made.directory / "solve.py").absolute())
    if BASES[made.base].mini:
        return own.say_next("train it, from random weights", train)
    try:
        print(f"  its weights start from {own.short(start_from(made.base).find())}")
    except DataError:
        get = own.typed("ilsvrc-nets/prepare.py", "all", BASES[made.base].trunk)
        return own.say_next("get the weights that it starts from, then train it", f"{get}\n  {train}")
    return own.say_next("train it", train)


if __name__ == "__main__":
    sys.exit(main())
