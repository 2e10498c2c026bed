"""The training run that every model directory's ``solve.py`` shares.

A ``solve.py`` says where its weights come from and how long to train; :func:`main` does the rest:
it reads the command line, checks that everything needed is there, picks the device, builds the
solver, loads the parent's weights, fills the upsampling kernels, trains, scores, and saves.
"""

from __future__ import annotations

import argparse
import glob
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Caffe logs every layer it builds; show warnings only, unless asked (GLOG_minloglevel=0 shows all)
os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
from caffe.proto import caffe_pb2
from tqdm import tqdm

import board
import feed
import layers
import nets
import options
import score
import signs
import snapshots
import surgery
import watching
from datakit import own
from files import DataError
from signs import LossMeter, is_loss
from snapshots import iteration_of


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
    args = _arguments(directory, rounds)
    go_on = _go_on(args)
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
        if args.resume and _resume(args):
            return
        run = Run(args, parents, args.rounds or rounds)
        if not run.train(args.iterations):
            sys.exit(
                f"stopped at iteration {run.solver.iter}, saved in {run.prefix}_iter_{run.solver.iter}.solverstate; go "
                f"on with: {go_on}"
            )
    example = run.example()
    os.chdir(here)  # where the next command is typed
    if example:
        command = own.typed("infer.py", own.short(example), "--model", own.short(directory))
        own.say_next("segment an image", command)


def _resume(args) -> bool:
    """Make the newest whole snapshot ``args.snapshot``; True when there is nothing left to do, which is said."""
    proto = nets.read_prototxt(args.solver, caffe_pb2.SolverParameter())
    newest = snapshots.Story(proto.snapshot_prefix).newest(args.solver)
    if newest is None:
        print(
            f"no snapshot to resume from in {Path(proto.snapshot_prefix).parent}: starting from the beginning"
        )
        return False
    args.snapshot = str(newest.state)
    done = newest.iteration >= (args.iterations or proto.max_iter)
    if done and watching.last_scored(newest.state.parent) == newest.iteration:
        print(f"nothing to do: trained to iteration {newest.iteration} and scored already")
        return True
    return False


def _go_on(args) -> str:
    """The command line that goes on with the run that this one begins, to type where this one was typed."""
    words = [sys.orig_argv[0] or "python", sys.argv[0]]
    for name, value in vars(args).items():
        if name not in ("weights", "snapshot", "resume") and value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join([*words, "--resume"])


def _located(path: str, directory: Path) -> str:
    """``path`` as the user meant it: from where they stand, or from the model directory."""
    return str(Path(path).absolute()) if Path(path).exists() or not (directory / path).exists() else path


def _arguments(directory: Path, rounds: int):
    parser = argparse.ArgumentParser(
        description=f"Train {directory.name}; see {directory.name}/solver.prototxt."
    )
    options.add_device(parser)
    parser.add_argument("--solver", metavar="FILE", help="default: solver.prototxt")
    parser.add_argument(
        "--weights", metavar="FILE", help="start from this .caffemodel, not the parent stage's"
    )
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="train to iteration N (default: max_iter)"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"score N times on the way (default: {rounds})"
    )
    resumed = parser.add_mutually_exclusive_group()
    resumed.add_argument("--snapshot", metavar="FILE", help="resume from this .solverstate")
    resumed.add_argument(
        "--resume",
        action="store_true",
        help="resume from the newest snapshot that is whole; without one, start from the beginning",
    )
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
    for name in ("iterations", "rounds"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    return args


def gpus() -> int:
    """How many GPUs there are, as far as the engine can tell: the original one cannot."""
    return getattr(caffe, "device_count", lambda: 0)()


def choose_device(gpu: int | None, cpu: bool) -> str:
    """Set Caffe's mode as asked, or to the first GPU if there is one; returns a name to print."""
    if cpu or (gpu is None and gpus() == 0):
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
        self.saves = proto.snapshot
        self.between_scores = max(1, self.max_iter // rounds)
        net = self.solver.net
        self.args = args
        if args.snapshot:
            self._restore()
            feed.resume(self.solver.iter * proto.iter_size)
            print(f"resumed at iteration {self.solver.iter} from {args.snapshot}")
        for parent, path in weights:
            print(f"weights from {path}")
            print(parent.load(net, path))
        self._fill_upsampling(weights)
        surgery.check_ready(net, self.train_param)
        self.weights = [str(path) for _, path in weights]
        self.meter = LossMeter(net, self.train_param, bool(source_of(self.train_param).params["jitter"]))
        self.heads = [
            score.Head(layer.bottom[0], layer.bottom[1], layer.top[0])
            for layer in self.test_param.layer
            if is_loss(layer)
        ]
        self.scored = source_of(self.test_param)
        self.validation = self.scored.ids
        self.names = [self.scored.class_names(head.gt) for head in self.heads]
        self.stopped, self.blind = False, None
        self.solver.add_callback(lambda: None, self._before_update)

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

    def _restore(self):
        try:
            self.solver.restore(self.args.snapshot)
        except getattr(caffe, "CaffeError", DataError) as error:
            raise DataError(
                f"{error}\n  To start from the beginning: without --snapshot or --resume"
            ) from None

    def _fill_upsampling(self, weights: Sequence[tuple[Parent, Path]]):
        """Bilinear kernels for the upsampling that no weight file gave; others that should be bilinear are told."""
        net = self.solver.net
        upsampling = [layer for layer in self.train_param.layer if layer.type == "Deconvolution"]
        empty = [layer.name for layer in upsampling if not net.params[layer.name][0].data.any()]
        surgery.interp(net, empty)
        given = {name + parent.suffix for parent, path in weights for name in surgery.shapes_in_file(path)}
        for layer in upsampling:
            if surgery.is_bilinear(net.params[layer.name][0]):
                continue
            if any(spec.lr_mult == 0 for spec in layer.param):
                print(
                    f"warning: {layer.name} is fixed (lr_mult: 0), and its kernel is not bilinear upsampling"
                )
            elif layer.name not in given and not self.args.snapshot:
                filler = layer.convolution_param.weight_filler.type
                print(
                    f"warning: {layer.name} is in no weight file, and its weight_filler, {filler}, does not make "
                    "bilinear upsampling: without a filler it starts bilinear"
                )

    def train(self, last: int | None) -> bool:
        """Train to iteration ``last`` (None: max_iter), scoring on the way and at the end; save.

        False when Ctrl-C ended it before.
        """
        solver = self.solver
        self.last = last = last or self.max_iter
        folder = Path(self.prefix).parent
        again = self.args.resume and watching.last_scored(folder) != solver.iter  # the last scoring was lost
        if solver.iter >= last and not again:
            print(f"nothing to do: at iteration {solver.iter} already (--iterations {last} is the last one)")
            return True
        snapshots.Story(self.prefix).begin(self.args.solver, self.weights, self.args.snapshot)
        heads = [head.layer for head in self.heads] if len(self.heads) > 1 else ["score"]
        self.watch = watching.Watch(self.prefix, solver.iter, heads, feed.waited())
        if solver.iter >= last:
            self._score_at_end()
            return True
        due = solver.iter % self.between_scores == 0
        if self.watch.iteration and due and not self.watch.has_scores(solver.iter):
            self.score()  # it was stopped between this snapshot and its scores
        previous = signal.signal(signal.SIGINT, self._stop)
        bar = tqdm(total=last, initial=solver.iter, unit="it", disable=None, dynamic_ncols=True)
        clock, marked, waited = time.monotonic(), solver.iter, feed.waited()
        first = True
        try:
            while solver.iter < last and not self.stopped:
                at = solver.iter
                self._step()
                bar.update()
                if at % self.display == 0:
                    bar.set_postfix_str(f"{self.meter.per_pixel:.4f} loss per pixel", refresh=False)
                    seconds = time.monotonic() - clock
                    waiting = (feed.waited() - waited) / seconds if seconds else 0
                    bar.write(self.meter.line(at, solver.iter - marked, seconds, waiting), file=sys.stdout)
                    sys.stdout.flush()
                    clock, marked, waited = time.monotonic(), solver.iter, feed.waited()
                for sentence in (*self.meter.warnings(), *([self.blind] if first and self.blind else [])):
                    bar.write(f"warning: {sentence}", file=sys.stdout)
                first = False
                if solver.iter < last and solver.iter % self.between_scores == 0:
                    bar.clear()
                    self.score()
        finally:
            bar.close()
            signal.signal(signal.SIGINT, previous)
        if self.watch.iteration < solver.iter and self.stopped:
            self._row(solver.iter, self.watch.seconds)
        solver.snapshot()
        if self.stopped and solver.iter < last:
            return False
        self._score_at_end()
        print(f"saved {self.prefix}_iter_{solver.iter}.caffemodel and .solverstate")
        return True

    def _step(self):
        """One iteration; ``watch.seconds`` grows by the time it took, without that of a snapshot."""
        self._began = time.monotonic()
        # the embedded engine is faster when it need not keep every blob for whoever may look
        if hasattr(self.solver, "step_whole"):
            self.solver.step_whole(1, self.meter.blobs)
        else:
            self.solver.step(1)
        saved = self.saves and self.solver.iter % self.saves == 0
        self.watch.seconds += (self._computed if saved else time.monotonic()) - self._began

    def _before_update(self):
        """What the solver calls when an iteration's gradients are there: before it can write a snapshot, so that none
        is further than the rows are."""
        self.meter.update()
        if self.blind is None:
            self.blind = signs.blind(self.solver.net, self.train_param)
        self._computed = time.monotonic()
        iteration = self.solver.iter + 1
        if iteration % self.display == 0 or iteration == self.last:
            self._row(iteration, self.watch.seconds + self._computed - self._began)

    def _row(self, iteration: int, seconds: float):
        rate = getattr(self.solver, "lr", None)  # the original engine does not tell
        rate = rate and float(f"{rate:.7g}")  # as written in the solver: it is kept in 32 bits
        self.watch.trained(iteration, seconds, *self.meter.take(), rate, feed.waited())

    def _score_at_end(self):
        """Score, by class; say so when the net is worse than the one it started from."""
        self.score(by_class=True)
        for sentence in self.watch.worse_than(snapshots.Story(self.prefix).weights):
            print(f"warning: {sentence}")

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
        iteration, shown_on = self.solver.iter, self.watch.board
        seen = shown_on.viewer(iteration, self._photo) if shown_on else None
        shown = self.names if by_class else None
        results = score.seg_tests_of(self.solver, False, self.validation, self.heads, shown, seen)
        split = self.scored.params["split"]
        self.watch.scored(iteration, results, self.names, split, len(self.validation))
        return results

    def _photo(self, name: str):
        """The photograph of a validation image; None for a net whose first input is no picture of three channels."""
        top = self.scored.chosen[0]
        blob = self.solver.test_nets[0].blobs.get(top)
        three = blob is not None and blob.data.shape[1] == 3
        return board.photograph(self.scored.path(top, name)) if three else None


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
