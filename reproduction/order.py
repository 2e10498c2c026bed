"""What a command line of ``reproduce.py`` asks for, and what is done to it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

import watching
from datakit.weights import RELEASED
from files import DataError
from reproduction import records, toyset
from reproduction.miniature import Miniature
from reproduction.workshop import ROOT, Net, Stage, Workshop, place

RELEASED_FROM = "python data/released/prepare.py get {}"


@dataclass(eq=False)  # itself a key: what was made for an order is not made for it twice
class Order:
    """The options of ``reproduce.py``, and where things are.

    ``data``: real or toy. ``recipe``: paper or heavy. ``weights``: "" to train, "released" for the authors' files,
    "trained" for what solve.py left in the model directories. ``seeds``: None in the place of a seed leaves the
    project's own. ``gpu``: a GPU's number, or None for the CPU.
    """

    data: str
    recipe: str = "paper"
    weights: str = ""
    seeds: Sequence[int | None] = (None,)
    gpu: int | None = None
    shorten: int = 1
    divide: int = 1
    runs: Path = ROOT / "runs"
    results: Path = ROOT / "results" / "mine"
    shops: dict[int | None, Workshop] = field(default_factory=dict)

    @property
    def toy(self) -> bool:
        """Whether this is the method in miniature."""
        return self.data == "toy"

    @property
    def kind(self) -> str:
        """What must not be mixed, in a word: toy, real-heavy, real-released."""
        parts = [self.data]
        parts += [] if self.toy else [self.weights or self.recipe]
        parts += [f"{name}{value}" for name in ("shorten", "divide") if (value := getattr(self, name)) > 1]
        parts += [] if self.gpu is None else ["gpu"]
        return "-".join(parts)

    @cached_property
    def home(self) -> Path:
        """Where it trains."""
        return self.runs / "-".join([self.kind, *([toyset.version()] if self.toy else [])])

    @property
    def synthetic(self) -> bool:
        """Whether its data were drawn: in miniature, or as twins of the real sets (data/toy/prepare.py)."""
        try:
            return self.toy or bool(json.loads((self.data_root / "sources.json").read_text()).get("facts"))
        except (OSError, ValueError, AttributeError):
            return False

    @property
    def data_root(self) -> Path:
        """The folder of its data sets."""
        return (
            self.home / "data" if self.toy else Path(os.environ.get("FCN_DATA") or ROOT / "data").absolute()
        )

    @property
    def device(self) -> str:
        """As records call it."""
        return "cpu" if self.gpu is None else f"cuda:{self.gpu}"

    def shop(self, seed: int | None) -> Workshop:
        """Where the nets of a seed are trained."""
        if seed not in self.shops:
            root = self.home / ("own-seed" if seed is None else f"seed{seed}")
            kind = Miniature if self.toy else Workshop
            data = "" if self.toy else str(self.data_root)
            self.shops[seed] = kind(root, self.recipe, seed, self.shorten, self.divide, data)
        return self.shops[seed]

    def stages(self, net: Net, seed: int | None) -> list[Stage]:
        """What has to be done to have a net's scores."""
        if not self.weights:
            return self.shop(seed).add(net)
        weights = self.file(net)
        directory = self.home / net.name
        stat = weights.stat()
        said = f"{weights}\n{stat.st_size} {stat.st_mtime_ns}\n{self.data_root}\n"
        place(directory, {"weights.txt": said})
        command = ("-m", "reproduction.scored", str(ROOT / net.base), str(weights))
        return [Stage(f"{self.weights}/{net.name}", directory, command)]

    def has(self, net: Net) -> bool:
        """Whether a net can be had: there are not released weights of all."""
        return not self.weights or (self.weights == "trained" or net.base in RELEASED)

    def file(self, net: Net) -> Path:
        """The weights of a net that is not trained here. Raises DataError that says how to get them."""
        if self.weights == "released":
            path = ROOT / net.base / RELEASED[net.base].name
            if not path.is_file():
                raise DataError(
                    f"{path} does not exist, the authors' weights of {net.base}. Get them: "
                    f"{RELEASED_FROM.format(net.base)}"
                )
            return path
        import infer

        return infer.find_weights(ROOT / net.base)

    def directory(self, net: Net, seed: int | None) -> Path:
        """A net's directory, where its stage has left what there is to know."""
        return (self.home if self.weights else self.shop(seed).root) / net.name

    def deploy(self, net: Net, seed: int | None) -> tuple[Path, Path]:
        """The deploy net and the weights of a net that is trained."""
        if self.weights:
            return ROOT / net.base / "deploy.prototxt", self.file(net)
        directory = self.directory(net, seed)
        last = watching.last_scored(directory / "snapshot")
        return directory / "deploy.prototxt", directory / "snapshot" / f"train_iter_{last}.caffemodel"

    def device_options(self) -> tuple[str, ...]:
        """The options that choose the device, of solve.py."""
        return ("--cpu",) if self.gpu is None else ("--gpu", str(self.gpu))

    def scores(self, net: Net, seed: int | None) -> dict[str, np.ndarray]:
        """The confusion matrix of each head of a net that is trained and scored."""
        directory = self.directory(net, seed)
        try:
            found = watching.read_record(directory / "snapshot")["heads"]
        except DataError as error:
            raise DataError(f"{error}. To have it made again: remove {directory}") from None
        return {head: np.array(each["confusion"], np.int64) for head, each in found.items()}

    def command(self, target: str, seeds: Sequence[int | None]) -> str:
        """The command line that makes a target's record as this order does, on these seeds."""
        words = [f"python reproduce.py {target} --data {self.data}"]
        words += [f"--weights {self.weights}"] if self.weights else []
        words += [f"--recipe {self.recipe}"] if self.recipe != "paper" else []
        given = [seed for seed in seeds if seed is not None]
        words += [f"--seeds {','.join(map(str, given))}"] if given and not (self.toy and given == [1]) else []
        words += [f"--{name} {value}" for name in ("shorten", "divide") if (value := getattr(self, name)) > 1]
        return " ".join(words)

    def directory_of(self, net: Net) -> str:
        """The model directory whose net a row is of; "" where it is another: narrow, hardly trained."""
        return "" if self.toy or self.divide > 1 or self.shorten > 1 else net.base

    def rows(self, name: str, net: Net, target: str, seeds: Sequence[int | None], **more) -> list[dict]:
        """The rows of a record of a net, one for each seed and head; ``name`` is the paper's."""
        return [
            records.row(
                name,
                hist,
                seed=seed,
                head=head,
                directory=self.directory_of(net),
                command=self.command(target, seeds),
                **more,
            )
            for seed in seeds
            for head, hist in self.scores(net, seed).items()
        ]
