"""The training run that every model directory's ``solve.py`` shares.

A ``solve.py`` says where its weights come from and how long to train; :func:`main` does the rest:
it reads the command line, checks that everything needed is there, picks the device, builds the
solver, loads the parent's weights, fills the upsampling kernels, trains, scores, and saves.
"""

from __future__ import annotations

import argparse
import glob
import math
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Caffe logs every layer it builds; show warnings only, unless asked (GLOG_minloglevel=0 shows all)
os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from tqdm import tqdm

import feed
import layers
import nets
import score
import surgery
from datakit import own
from files import DataError


@dataclass
class Parent:
    """The net whose weights a net starts from: its name, file patterns in order of preference
    (relative to the model directory), and how to obtain such a file.

    Weights go to the layers of the same names. Where they do not, ``prototxt`` is the parent's deploy net,
    ``suffix`` what its layers' names get here (late fusion), and ``change(net, parent_net)`` fills the
    layer ``changed``, by functions of ``surgery``, and returns their report. A net can do without
    an ``optional`` parent: it starts from its fillers then.
    """

    name: str
    files: tuple[str, ...]
    how: str
    prototxt: str = ""
    optional: bool = False
    suffix: str = ""
    changed: str = ""
    change: Callable[[caffe.Net, caffe.Net], surgery.Report] | None = None

    def find(self) -> Path:
        """The first pattern's newest file (highest iteration); DataError when no pattern matches."""
        for pattern in self.files:
            found = sorted(map(Path, glob.glob(pattern) if "*" in pattern else []), key=iteration_of)
            if found:
                return found[-1]
            if Path(pattern).is_file():
                return Path(pattern)
        raise DataError(
            f"no weights of the parent stage {self.name}: looked for {', '.join(self.files)} in {Path.cwd()}.\n"
            f"  To get them, from the project's folder: {self.how}\n"
            "  If you have them elsewhere: python solve.py --weights FILE.caffemodel"
        )

    def load(self, net: caffe.Net, path: Path) -> str:
        """Give ``net`` the weights in the file ``path``; returns what was done, to print."""
        if not self.prototxt or (self.changed and surgery.holds(path, net, self.changed)):
            return str(surgery.load_parent(net, str(path)))  # as it is, or the net's own earlier weights
        source = caffe.Net(self.prototxt, caffe.TEST)
        surgery.load_parent(source, str(path))
        reports = [surgery.transplant(net, source, self.suffix)]
        if self.change:
            reports.append(self.change(net, source))
        return "\n".join(map(str, reports))


def classifier(name: str, **more) -> Parent:
    """An ImageNet classifier made convolutional, ``vgg16`` for one; ``more``: fields of Parent."""
    if "change" in more:
        more["prototxt"] = f"../ilsvrc-nets/{name}-fcn.prototxt"
    how = f"python ilsvrc-nets/prepare.py all {name}"
    return Parent(f"{name}-fcn", (f"../ilsvrc-nets/{name}-fcn.caffemodel",), how, **more)


def stage(directory: str, released: str = "", **more) -> Parent:
    """The net of another model directory, trained here or as released; ``more``: fields of Parent."""
    if "suffix" in more or "change" in more:
        more["prototxt"] = f"../{directory}/deploy.prototxt"
    files, how = [f"../{directory}/snapshot/train_iter_*.caffemodel"], f"cd {directory} && python solve.py"
    if released:
        files.append(f"../{directory}/{released}.caffemodel")
        how += f", or the authors' {released}: python data/released/prepare.py get {directory}"
    return Parent(directory, tuple(files), how, **more)


def iteration_of(path: Path) -> int:
    """The iteration in a snapshot's name, ``train_iter_4000.caffemodel``; -1 if there is none."""
    number = re.search(r"_iter_(\d+)", path.name)
    return int(number[1]) if number else -1


@contextmanager
def one_message():
    """Turn the errors that bad input causes into one message and exit status 1."""
    try:
        yield
    except (getattr(caffe, "CaffeError", DataError), DataError, surgery.SurgeryError) as error:
        sys.exit(f"error: {error}")


def main(file: str, *parents: Parent, rounds: int = 25) -> None:
    """Train the net of the directory that holds ``file`` (a ``solve.py``).

    It trains for the solver's ``max_iter`` and is scored ``rounds`` times on the way; ``parents`` are
    where its weights come from (none: from its fillers). The command line may override all of
    it; see ``--help``.
    """
    directory = Path(file).resolve().parent
    args = _arguments(directory)
    for name in ("solver", "weights", "snapshot"):  # given relative to where the user stands
        value = getattr(args, name)
        if value is not None:
            setattr(args, name, _located(value, directory))
    args.solver = args.solver or "solver.prototxt"
    if args.data_root or os.environ.get("FCN_DATA"):
        os.environ["FCN_DATA"] = os.path.abspath(args.data_root or os.environ["FCN_DATA"])
    here = os.getcwd()
    os.chdir(directory)
    with one_message():
        run = Run(args, parents, rounds)
        run.train(args.iterations)
    example = run.example()
    os.chdir(here)  # where the next command is typed
    if example:
        command = own.typed("infer.py", own.short(example), "--model", own.short(directory))
        own.say_next("segment an image", command)


def _located(path: str, directory: Path) -> str:
    """``path`` as the user meant it: from where they stand, or from the model directory."""
    return str(Path(path).absolute()) if Path(path).exists() or not (directory / path).exists() else path


def _arguments(directory: Path):
    parser = argparse.ArgumentParser(
        description=f"Train {directory.name}; see {directory.name}/solver.prototxt."
    )
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--gpu", type=int, metavar="N", help="use GPU N (default: the first one, if there is one)"
    )
    device.add_argument("--cpu", action="store_true", help="use the CPU")
    parser.add_argument("--solver", metavar="FILE", help="default: solver.prototxt")
    parser.add_argument(
        "--weights", metavar="FILE", help="start from this .caffemodel, not the parent stage's"
    )
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="train to iteration N (default: max_iter)"
    )
    parser.add_argument("--snapshot", metavar="FILE", help="resume from this .solverstate")
    parser.add_argument(
        "--data-root", metavar="DIR", help="folder of all data sets (default: $FCN_DATA, else data/)"
    )
    parser.add_argument(
        "--allow-overlap",
        action="store_true",
        help="score on a split that shares images with the training split",
    )
    args = parser.parse_args()
    if args.snapshot and args.weights:
        parser.error("Give a snapshot to resume training or weights to finetune but not both.")
    if args.iterations is not None and args.iterations < 1:
        parser.error(f"--iterations must be at least 1, got {args.iterations}")
    return args


def choose_device(gpu: int | None, cpu: bool) -> str:
    """Set Caffe's mode as asked, or to the first GPU if there is one; returns a name to print."""
    count = getattr(caffe, "device_count", lambda: 0)()  # the original engine cannot be asked: CPU
    if cpu or (gpu is None and count == 0):
        caffe.set_mode_cpu()
        return "CPU"
    caffe.set_device(gpu or 0)
    caffe.set_mode_gpu()
    return f"GPU {gpu or 0}"


class Run:
    """One training run: a solver, ready to train, in the model's directory."""

    def __init__(self, args, parents: Sequence[Parent], rounds: int):
        proto = nets.read_prototxt(args.solver, caffe_pb2.SolverParameter())
        train, test = _net_files(proto, args.solver)
        self.train_param = nets.read_prototxt(train, caffe_pb2.NetParameter())
        self.test_param = nets.read_prototxt(test, caffe_pb2.NetParameter())
        weights = self._preflight(args, parents)
        self.prefix = proto.snapshot_prefix
        Path(self.prefix).parent.mkdir(parents=True, exist_ok=True)
        print(f"{Path.cwd().name}: {args.solver} on {choose_device(args.gpu, args.cpu)}", flush=True)
        self.solver = caffe.get_solver(args.solver)
        self.max_iter, self.display = proto.max_iter, proto.display or 20
        self.between_scores = max(1, self.max_iter // rounds)
        net = self.solver.net
        if args.snapshot:
            self.solver.restore(args.snapshot)
            feed.resume(self.solver.iter * proto.iter_size)
            print(f"resumed at iteration {self.solver.iter} from {args.snapshot}")
        for parent, path in weights:
            print(f"weights from {path}")
            print(parent.load(net, path))
        self._fill_upsampling()
        surgery.check_ready(net, self.train_param)
        self.meter = LossMeter(net, self.train_param)
        self.heads = [
            score.Head(layer.bottom[0], layer.bottom[1], layer.top[0])
            for layer in self.test_param.layer
            if is_loss(layer)
        ]
        self.scored = source_of(self.test_param)
        self.validation = self.scored.ids
        self.stopped = False

    def _preflight(self, args, parents: Sequence[Parent]) -> list[tuple[Parent, Path]]:
        """Whose weights to start from, in which files, after a look at everything the run needs; all
        that is missing is told at once."""
        problems, weights = [], []
        for what in (args.weights, args.snapshot):
            if what and not Path(what).is_file():
                problems.append(f"no such file: {what}")
        if args.weights:
            parent = parents[0] if len(parents) == 1 else Parent(args.weights, (), "")
            weights = [(parent, Path(args.weights))]
        elif not args.snapshot:
            for parent in parents:
                try:
                    weights.append((parent, parent.find()))
                except DataError as error:
                    if not parent.optional:
                        problems.append(str(error))
        sources = []
        for param in (self.train_param, self.test_param):
            try:
                sources.append(source_of(param))
            except DataError as error:
                problems.append(str(error))
        if len(sources) == 2:
            problems += overlap(*sources, args.allow_overlap)
        problems = list(dict.fromkeys(problems))
        if len(problems) == 1:
            raise DataError(problems[0])
        if problems:
            listed = (f"{i}. {problem}" for i, problem in enumerate(problems, 1))
            raise DataError("\n".join([f"{len(problems)} things are missing:", *listed]))
        return weights

    def _fill_upsampling(self):
        """Bilinear kernels for the upsampling that no weight file gave; fixed ones must be bilinear."""
        net = self.solver.net
        upsampling = [layer for layer in self.train_param.layer if layer.type == "Deconvolution"]
        empty = [layer.name for layer in upsampling if not net.params[layer.name][0].data.any()]
        surgery.interp(net, empty)
        for layer in upsampling:
            fixed = any(spec.lr_mult == 0 for spec in layer.param)
            if fixed and not surgery.is_bilinear(net.params[layer.name][0]):
                print(
                    f"warning: {layer.name} is fixed (lr_mult: 0), and its kernel is not bilinear upsampling"
                )

    def train(self, last: int | None) -> None:
        """Train to iteration ``last`` (None: max_iter), scoring on the way and at the end; save."""
        solver = self.solver
        last = last or self.max_iter
        if solver.iter >= last:
            print(f"nothing to do: at iteration {solver.iter} already (--iterations {last} is the last one)")
            return
        previous = signal.signal(signal.SIGINT, self._stop)
        bar = tqdm(total=last, initial=solver.iter, unit="it", disable=None, dynamic_ncols=True)
        clock, marked, waited = time.monotonic(), solver.iter, feed.waited()
        try:
            while solver.iter < last and not self.stopped:
                at = solver.iter
                solver.step(1)
                self.meter.update()
                bar.update()
                if at % self.display == 0:
                    bar.set_postfix_str(f"{self.meter.per_pixel:.4f} loss per pixel", refresh=False)
                    seconds = time.monotonic() - clock
                    waiting = (feed.waited() - waited) / seconds if seconds else 0
                    bar.write(self.meter.line(at, solver.iter - marked, seconds, waiting), file=sys.stdout)
                    sys.stdout.flush()
                    clock, marked, waited = time.monotonic(), solver.iter, feed.waited()
                for sentence in self.meter.warnings():
                    bar.write(f"warning: {sentence}", file=sys.stdout)
                if solver.iter < last and solver.iter % self.between_scores == 0:
                    bar.clear()
                    self.score()
        finally:
            bar.close()
            signal.signal(signal.SIGINT, previous)
        if self.stopped:
            solver.snapshot()
            state = f"{self.prefix}_iter_{solver.iter}.solverstate"
            sys.exit(f"stopped at iteration {solver.iter}; go on with: python solve.py --snapshot {state}")
        solver.snapshot()
        self.score(by_class=True)
        print(f"saved {self.prefix}_iter_{solver.iter}.caffemodel and .solverstate")

    def example(self) -> Path | None:
        """One of the images that are scored; None for a net that sees several kinds of images."""
        tops = [top for top in self.scored.chosen if top not in self.scored.labels]
        path = self.scored.path(tops[0], self.validation[0])
        return path if len(tops) == 1 and path.is_file() else None

    def _stop(self, *_):
        """Ctrl-C: finish this iteration, save, and leave; a second one leaves at once."""
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True

    def score(self, by_class: bool = False):
        """Score every head of the net on its validation split; prints the paper's four metrics."""
        names = [self.scored.class_names(head.gt) if by_class else () for head in self.heads]
        return score.seg_tests_of(self.solver, False, self.validation, self.heads, names)


class LossMeter:
    """Caffe's loss beside the loss per labelled pixel, which tells how training goes.

    An unnormalised loss is a sum over the image's pixels, 100 000 and more; divided by the pixels
    that carry a label it is ln C for a net that knows nothing of C classes, and falls from there.
    """

    WINDOW = 20

    def __init__(self, net, param: caffe_pb2.NetParameter):
        self.net = net
        self.losses = [layer for layer in param.layer if is_loss(layer)]
        self.recent: deque[tuple[float, float]] = deque(maxlen=self.WINDOW)
        self.chance = sum(math.log(net.blobs[layer.bottom[0]].shape[1]) for layer in self.losses)
        self._flat = 0
        self._told = False

    def update(self) -> None:
        """Take note of the iteration just done. Raises DataError when the loss is not finite."""
        total = per_pixel = 0.0
        for layer in self.losses:
            value = float(self.net.blobs[layer.top[0]].data)
            total += value
            per_pixel += value * self._share(layer)
        if not math.isfinite(total):
            raise DataError(
                f"the loss became {total}: the learning rate is too high for this loss, or the weights hold NaN. "
                "An unnormalised loss (normalize: false) wants base_lr 1e-10 and the like; a normalised one 1e-4."
            )
        self.recent.append((total, per_pixel))

    def _share(self, layer) -> float:
        """Factor from this layer's loss to loss per labelled pixel, for the last image.

        A loss written in Python is taken for a mean already.
        """
        if layer.type == "Python":
            return 1.0
        labels = self.net.blobs[layer.bottom[1]].data
        param = layer.loss_param
        valid = labels.size
        if param.HasField("ignore_label"):
            valid = int(np.count_nonzero(labels != param.ignore_label))
        mode = param.normalization
        if not param.HasField("normalization") and param.HasField("normalize") and not param.normalize:
            mode = caffe_pb2.LossParameter.BATCH_SIZE
        denominator = {
            caffe_pb2.LossParameter.FULL: labels.size,
            caffe_pb2.LossParameter.VALID: valid,
            caffe_pb2.LossParameter.BATCH_SIZE: labels.shape[0],
            caffe_pb2.LossParameter.NONE: 1,
        }[mode]
        return max(denominator, 1) / max(valid, 1)

    @property
    def loss(self) -> float:
        """Mean of Caffe's loss over the last 20 iterations."""
        return sum(total for total, _ in self.recent) / max(len(self.recent), 1)

    @property
    def per_pixel(self) -> float:
        """Mean loss per labelled pixel over the last 20 iterations."""
        return sum(value for _, value in self.recent) / max(len(self.recent), 1)

    def line(self, iteration: int, done: int, seconds: float, waiting: float) -> str:
        """A log line in Caffe's words, with the loss per pixel, and the share of time spent ``waiting`` for data."""
        rate = done / seconds if seconds else 0
        return (
            f"Iteration {iteration} ({rate:.4g} iter/s, {seconds:.4g}s/{done} iters), loss = {self.loss:.6g} "
            f"({self.per_pixel:.4f} per pixel), {100 * waiting:.1f}% of the time waiting for data"
        )

    def warnings(self):
        """Sentences, each said once, when the loss stays where an untrained net's is."""
        self._flat = self._flat + 1 if abs(self.recent[-1][1] - self.chance) < 1e-4 * self.chance else 0
        if self._flat >= 100 and not self._told:
            self._told = True
            yield (
                f"the loss per pixel has been {self.chance:.4f} = ln C for 100 iterations: all scores are equal, so "
                "nothing is learned. Some layer is zero or its learning rate is; look at the report of copied weights."
            )


def is_loss(layer) -> bool:
    """Is this LayerParameter a loss of scores against labels: Caffe's, or a Python layer with a loss_weight?"""
    weighted = layer.type == "Python" and any(layer.loss_weight) and len(layer.bottom) == 2
    return layer.type == "SoftmaxWithLoss" or weighted


def _net_files(proto, solver: str) -> tuple[str, str]:
    if not (proto.train_net and proto.test_net):
        raise DataError(f"{solver}: solve.py needs 'train_net' and 'test_net' in the solver")
    return proto.train_net, proto.test_net[0]


def data_layer(param) -> feed.SegDataLayer:
    """The data layer of a net, outside the net: its ``params`` are read and checked."""
    for layer in param.layer:
        if layer.type == "Python" and not layer.bottom:
            cls = getattr(layers, layer.python_param.layer, None)
            if cls is None:
                raise DataError(f"layer {layer.name}: layers.py has no class {layer.python_param.layer}")
            return cls.outside(layer.python_param.param_str)
    raise DataError("the net has no Python data layer; solve.py needs one to know what it scores")


def source_of(param) -> feed.SegDataLayer:
    """:func:`data_layer` with its split read: it knows the ``ids`` of its images."""
    layer = data_layer(param)
    layer.open()
    return layer


def overlap(train: feed.SegDataLayer, test: feed.SegDataLayer, allowed: bool) -> list[str]:
    """What is wrong with scoring on images that are trained on: a list of at most one text, for :func:`main`.

    A net that is scored on the very images it learns from is told so, and may go on: one does that to see
    it learn. Where only some are shared it is a mistake, which is refused unless ``allowed``.
    """
    shared = set(train.ids) & set(test.ids) if train.origin() == test.origin() else set()
    if not shared:
        return []
    own, all_ = test.params["split"], len(set(test.ids))
    if allowed or set(train.ids) == set(test.ids):
        print(
            f"warning: {len(shared)} of the {all_} images that are scored ({own}) are trained on, too: the score "
            "shows that the net learns, not how well it does on others"
        )
        return []
    instead = "; the split seg11valid is VOC's val without them" if train.dataset == "pascal" else ""
    return [
        f"{len(shared)} of the {all_} images of the split {own} are in the training split {train.params['split']}, "
        f"too, such as {min(shared)}: scores would be too high. Score on images that are not trained on{instead}. "
        "To do it all the same: --allow-overlap"
    ]
