"""Where a reproduction trains: copies of model directories, in a folder of their own for each seed.

A net there is a model directory as any other: prototxts, solver, solve.py, snapshots. It differs from the project's in
what the reproduction sets: the seed, the recipe, how wide it is, how long it trains; and, of nets that are to be
compared with it, in what its weights start from. The project's own directories are only read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import runpy
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from caffe.proto import caffe_pb2
from google.protobuf import text_format

import files
import nets
import training
from files import DataError

ROOT = Path(__file__).resolve().parents[1]
CLASSIFIERS = {"vgg16": 4, "caffenet": 2, "googlenet": 3}  # and their last window on a picture of toyset.CROP


@dataclass(frozen=True)
class Net:
    """A net to train: the name of its directory in the workshop, and the model directory that it is made of.

    ``start``: what its weights start from, in the place of what the model's solve.py says: "nothing", "classifier",
    or another net's name. ``like``: whose rate and length of training it has, in the miniature, ``longer`` times as
    long. An update takes ``batch`` times as many images; it is scored ``rounds`` times; ``changes`` are to its recipe.
    """

    name: str
    base: str
    start: str = ""
    like: str = ""
    longer: float = 1
    batch: int = 1
    rounds: int = 1
    changes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """Something to do in a directory, by a script there or a module, after other stages; ``images`` is how much.

    ``key`` names it among all.
    """

    key: str
    directory: Path
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    images: int = 1
    batch: int = 1

    def done(self) -> bool:
        """Whether it was finished."""
        return (self.directory / DONE).is_file()


DONE = "done"  # in a stage's directory: it is finished
PLAN = "plan.json"  # there, too: what it was made of


def _net_py(directory: str):
    """A directory's net.py, which no package holds, as a module."""
    path = ROOT / directory / "net.py"
    spec = importlib.util.spec_from_file_location(f"net_{directory.replace('-', '_')}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def model_of(directory: str) -> nets.Model:
    """The ``MODEL`` of a model directory's net.py."""
    return _net_py(directory).MODEL


def classifiers():
    """The module ilsvrc-nets/net.py."""
    return _net_py("ilsvrc-nets")


def parents_of(directory: str) -> tuple[training.Parent, ...]:
    """What a model directory's solve.py says its weights start from."""
    called, original = [], training.main
    training.main = lambda file, *parents, **more: called.append(parents)
    try:
        runpy.run_path(str(ROOT / directory / "solve.py"), run_name="__main__")
    finally:
        training.main = original
    return called[0]


def classifier_of(directory: str) -> str:
    """The classifier that a net's first ancestor starts from: ``vgg16``."""
    parent = parents_of(directory)[0]
    name = parent.name.removesuffix("-fcn")
    return name if name in CLASSIFIERS else classifier_of(parent.name)


def place(directory: Path, texts: Mapping[str, str], above: Mapping[str, str] | None = None) -> str:
    """Fill a stage's directory with files, unless it has these already: then it is as a run left it, to go on.

    ``above`` is what the stages have that it comes after: as this returns it, for each of them. If anything changed,
    everything there is thrown away.
    """
    plan = hashlib.sha256(json.dumps([dict(texts), dict(above or {})], sort_keys=True).encode()).hexdigest()
    try:
        same = json.loads((directory / PLAN).read_text()) == plan
    except (OSError, ValueError):
        same = False
    if not same:
        (directory / PLAN).unlink(missing_ok=True)  # first: what is half removed is nothing to go on from
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name, text in texts.items():
            (directory / name).write_text(text, encoding="utf-8")
        files.write(directory / PLAN, json.dumps(plan).encode())
    return plan


@dataclass
class Workshop:
    """The nets of one seed, trained in ``root``.

    ``recipe``: paper or heavy. ``seed``: of all that is random (None: as the project's files have it). ``shorten``:
    every training this many times as short. ``divide``: nets so many times as narrow, which start from random weights.
    ``data``: the folder of real data sets; with another all is made anew. ``needs``: files of weights that the nets
    added so far want to start from.
    """

    root: Path
    recipe: str = "paper"
    seed: int | None = None
    shorten: int = 1
    divide: int = 1
    data: str = ""
    needs: set[Path] = field(default_factory=set)
    plans: dict[str, str] = field(default_factory=dict)

    def key(self, name: str) -> str:
        return f"{self.root.name}/{name}"

    def add(self, net: Net) -> list[Stage]:
        """Set up a net's directory; the stages to get it, those that it comes after first."""
        before, parents = self.ancestors(net)
        texts = self.texts(net) | ({"data.txt": f"{self.data}\n"} if self.data else {})
        directory = self.root / net.name
        self.plans[net.name] = place(directory, texts, {name: self.plans[name] for name in parents})
        solver = text_format.Parse(texts["solver.prototxt"], caffe_pb2.SolverParameter())
        batch = max(solver.iter_size, 1)
        command = ("solve.py", "--resume", "--rounds", str(net.rounds))
        after = tuple(self.key(name) for name in parents)
        stage = Stage(self.key(net.name), directory, command, after, solver.max_iter * batch, batch)
        return [*before, stage]

    def ancestors(self, net: Net) -> tuple[list[Stage], list[str]]:
        """The stages before a net's own, and the names of the directories that it starts from."""
        if net.start == "nothing":
            return [], []
        if net.start == "classifier":
            return self.classifier(classifier_of(net.base))
        if net.start:
            return self.add(Net(net.start, net.start)), [net.start]
        stages, names = [], []
        for parent in parents_of(net.base):
            own = parent.name.removesuffix("-fcn")
            found, found_names = (
                self.classifier(own)
                if own in CLASSIFIERS
                else (self.add(Net(parent.name, parent.name)), [parent.name])
            )
            stages += found
            names += found_names
        return stages, names

    def classifier(self, name: str) -> tuple[list[Stage], list[str]]:
        """What gives ``ilsvrc-nets/<name>-fcn.caffemodel`` in the workshop; nothing where that is the project's own."""
        if self.divide > 1:
            recipe = nets.Recipe(divide=self.divide, from_scratch=True)
            return self.pretrained(name, classifiers().convolutional(name, recipe), {})
        link = self.root / "ilsvrc-nets"
        if not link.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)  # one that leads nowhere: the project was moved
            link.symlink_to(os.path.relpath(ROOT / "ilsvrc-nets", self.root.resolve()))
        self.needs.add(ROOT / "ilsvrc-nets" / f"{name}-fcn.caffemodel")
        return [], []

    def pretrained(self, name, fcn, texts: Mapping[str, str], work: int = 1, batch: int = 1):
        """The stage that makes those weights in a directory of these ``texts``; ``fcn``: the convolutional net."""
        prototxt = text_format.MessageToString(fcn)
        (self.root / "ilsvrc-nets").mkdir(parents=True, exist_ok=True)
        files.write(self.root / "ilsvrc-nets" / f"{name}-fcn.prototxt", prototxt.encode())
        target = f"../ilsvrc-nets/{name}-fcn.caffemodel\n"
        self.plans[name] = place(self.root / name, {**texts, "fcn.prototxt": prototxt, "target": target})
        command = ("-m", "reproduction.pretrain", "--seed", str(1337 if self.seed is None else self.seed))
        return [Stage(self.key(name), self.root / name, command, (), work, batch)], [name]

    def model(self, net: Net) -> nets.Model:
        """The net's model, with the changes of this workshop and its own."""
        model = model_of(net.base)
        if self.seed is not None:
            model = replace(model, data=replace(model.data, common={**model.data.common, "seed": self.seed}))
        return model

    def changes(self, net: Net) -> dict:
        """What is changed in the recipe of ``net``."""
        return {**({"divide": self.divide, "from_scratch": True} if self.divide > 1 else {}), **net.changes}

    def solver(self, net: Net) -> caffe_pb2.SolverParameter:
        """How a net is trained."""
        name = "solver-heavy.prototxt" if self.recipe == "heavy" else "solver.prototxt"
        path = ROOT / net.base / name
        if not path.is_file():
            path = ROOT / net.base / "solver.prototxt"  # one recipe is both
        return nets.read_prototxt(path, caffe_pb2.SolverParameter())

    def texts(self, net: Net) -> dict[str, str]:
        """The files of a net's directory, by name."""
        made = self.model(net).prototxts(**self.changes(net))
        solver = self.solver(net)
        if self.seed is not None:
            solver.random_seed = self.seed
        solver.iter_size *= net.batch
        shortened(solver, self.shorten)
        used = {Path(solver.train_net).stem, Path(solver.test_net[0]).stem, "deploy"}
        texts = {
            f"{stem}.prototxt": text_format.MessageToString(self.fitted(made[stem])) for stem in sorted(used)
        }
        return texts | {"solver.prototxt": text_format.MessageToString(solver), "solve.py": self.solve(net)}

    def fitted(self, param: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
        """A prototxt as this workshop's data wants it."""
        return param

    def solve(self, net: Net) -> str:
        """The text of a net's solve.py: the model's own, unless it starts from something else."""
        if not net.start:
            return (ROOT / net.base / "solve.py").read_text(encoding="utf-8")
        start = {"nothing": "", "classifier": f', training.classifier("{classifier_of(net.base)}")'}
        parent = start.get(net.start, f', training.stage("{net.start}")')
        return (
            f'"""Train {net.base} from {net.start}."""\n\nimport training\n\n'
            f'if __name__ == "__main__":\n    training.main(__file__{parent})\n'
        )


def shortened(solver: caffe_pb2.SolverParameter, times: int) -> None:
    """Let a training be ``times`` as short; snapshots come where a row of its table does."""
    if times < 1:
        raise DataError(f"--shorten is {times}; it must be 1 or more")
    if times > 1:
        solver.max_iter = max(2, solver.max_iter // times)
        solver.display = max(1, min(solver.display, solver.max_iter // 2))
        solver.snapshot = solver.display
