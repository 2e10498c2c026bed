"""What all data layers share: finding and reading an item's files, augmentation, resuming."""

from __future__ import annotations

import json
import os
import random
import weakref
from pathlib import Path
from typing import Any

import caffe
import numpy as np

from ahead import Ahead, Order
from files import DataError, read_lines
from images import IGNORE, check_label, load_image, shifted
from param_str import REQUIRED, SEED, Key, ParamLayer, are_numbers, flag, integer, text

ROOT = Path(__file__).resolve().parent
live: weakref.WeakSet[SeededLayer] = weakref.WeakSet()  # every such layer of a living net


def class_names(dataset: str, head: str = "label") -> list[str]:
    """The names of a data set's classes in order of index.

    ``head`` is the top of labels that they are of, where a data set has several. Read from
    ``data/<dataset>/classes-<head>.txt`` if it is there, else from ``classes.txt``.
    """
    folder = ROOT / "data" / dataset
    own = folder / f"classes-{head}.txt"
    return read_lines(own if own.is_file() else folder / "classes.txt", "class list")


def resume(consumed: int) -> None:
    """Put every living data layer of a training net where it is after ``consumed`` items.

    For solver states of the original engine, which do not hold the position; a layer that was
    already put elsewhere by :meth:`SeededLayer.set_state` stays there.
    """
    for layer in live:
        if layer.phase == caffe.TRAIN and layer.position == 0:
            layer.skip_to(consumed)


def waited() -> float:
    """How many seconds the living data layers of training nets have kept their nets waiting for images."""
    return sum(layer.waited for layer in live if layer.phase == caffe.TRAIN)


class SeededLayer(ParamLayer):
    """A layer whose k-th forward (from 0) depends on a seed and k alone, so that it can be resumed.

    ``position`` counts the forwards, ``seed`` is an integer, or None where nothing is random, ``waited`` the
    seconds that the net waited for it.
    """

    waited = 0.0

    def start(self, position: int, seed: int | None) -> None:
        """Be at ``position``, with ``seed``."""
        self.position, self.seed = position, seed
        live.add(self)

    def given_seed(self) -> int:
        """The parameter ``seed``; for None, one drawn now."""
        seed = self.params["seed"]
        return random.SystemRandom().randrange(2**32) if seed is None else seed

    def draws(self, k: int) -> random.Random:
        """The generator of the ``k``-th forward's random numbers."""
        return random.Random(f"{self.seed} {k}")

    def get_state(self) -> str:
        """Where the layer is, as JSON: forwards so far, and the seed."""
        return json.dumps({"position": self.position, "seed": self.seed})

    def set_state(self, state: str) -> None:
        """Go on from where :meth:`get_state` was called."""
        try:
            position, seed = (json.loads(state)[key] for key in ("position", "seed"))
            if type(position) is not int or position < 0 or type(seed) not in (int, type(None)):
                raise ValueError("position must be a count, seed an integer or null")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.who()}: {state!r} is no state of such a layer ({error})") from None
        self.start(position, seed)

    def skip_to(self, position: int) -> None:
        """Make the forward that comes ``position``-th (from 0) the next one."""
        self.position = position


def bgr(default: Any = REQUIRED) -> Key:
    """A key for a photograph's mean; required unless there is a ``default``."""
    must = "three numbers, B, G, R, such as (104.00699, 116.66877, 122.67892)"
    return Key(must, lambda value: are_numbers(value, 3), default)


class SegDataLayer(SeededLayer):
    """Base of the data layers: files of an item, order of images, loading ahead, augmentation, resuming.

    ``param_str`` is a Python dictionary. Common keys: ``split`` (name of the list of image ids),
    ``mean`` (B, G, R, subtracted), ``randomize`` (draw with replacement; default: true, but only
    a split with "train" in its name is ever drawn, others come in file order), ``seed``
    (default 1337; None draws one), ``classes`` (number of classes; a label is checked against it
    at first sight). A data set adds the keys of its directories. A leading ``../data`` in them is
    replaced by the environment variable FCN_DATA if that is set.

    Drawn items can be augmented (section 4.3), all tops of one alike: ``mirror`` (default False) flips
    each left to right with probability 1/2; ``jitter`` (default 0; the paper's is 32) moves each by up to
    so many pixels along both axes, and fills in with the mean, and with void labels.

    Tops: images, 1 x C x H x W float, minus mean, and labels, 1 x 1 x H x W class indices, 255 for
    void. Each forward consumes one item; ``reshape`` loads it and sizes the tops.

    A data set's class defines ``dataset``, ``directories``, ``keys``, perhaps ``tops`` and ``labels``, and the
    methods :meth:`split_file`, :meth:`path`, :meth:`read` and :meth:`get_it`. A key ``tops`` chooses among tops.
    """

    dataset = ""  # the folder under data/ that tells about it, with classes.txt
    directories: tuple[str, ...] = ()  # which keys of param_str hold its directories
    tops: tuple[str, ...] = ("data", "label")
    labels = {"label": "classes"}  # the tops that are labels, and the key of their number of classes
    keys = {
        "split": text(),
        "mean": bgr(),
        "randomize": flag(True),
        "seed": SEED,
        "classes": integer(1, 255, 21),
        "mirror": flag(False),
        "jitter": integer(0, None, 0),
    }

    # what a data set defines

    def split_file(self) -> Path:
        """The path of the list of ids of ``self.params["split"]``."""
        raise NotImplementedError

    def path(self, top: str, name: str) -> Path:
        """The file of the item called ``name`` for ``top``."""
        raise NotImplementedError

    def read(self, top: str, path: Path) -> np.ndarray:
        """What that file gives: C x H x W float32, or, of a label, H x W indices."""
        raise NotImplementedError

    def get_it(self) -> str:
        """What to do for the data set to be there: commands, archives, where to unpack them."""
        raise NotImplementedError

    def get_split(self) -> str:
        """What to do when the data set is there but not the split."""
        others = sorted(path.stem for path in self.split_file().parent.glob("*.txt"))
        others = [name for name in others if not name.startswith("classes")]
        return f"There are the splits: {', '.join(others)}" if others else self.get_it()

    def list_files(self) -> list[Path]:
        """The lists that the split is made of, one after the other."""
        return [self.split_file()]

    # outside a net

    @classmethod
    def source_ids(cls, param_str: str) -> list[str]:
        """The ids that such a layer would read, in file order, without a net; raises as ``setup`` does."""
        layer = cls.outside(param_str)
        layer.open()
        return layer.ids

    def class_names(self, head: str = "label") -> list[str]:
        """The names of the classes of the top ``head``, in order of index; see :func:`class_names`."""
        return class_names(self.dataset, head)

    def origin(self) -> str:
        """Where the photographs come from: two splits of one origin that share an id share a photograph."""
        return self.dataset

    def open(self) -> None:
        """Read ``param_str`` and the split: sets ``params``, ``roots`` (the directories) and ``ids``."""
        self.params = self.read_params()
        self.chosen = tuple(self.params.get("tops", self.tops))
        self.roots = [Path(os.path.abspath(locate(self.params[key]))) for key in self.directories]
        for root in self.roots:
            if not root.is_dir():
                raise DataError(f"{self.who()}: data set directory {root} does not exist. {self.get_it()}")
        self.ids = []
        for path in self.list_files():
            self.ids += read_lines(path, f"{self.who()}: split file", self.get_split())

    # the four methods that Caffe calls

    def setup(self, bottom, top):
        self.open()
        if len(top) != len(self.chosen) or len(bottom):
            raise DataError(
                f"{self.who()} has {len(bottom)} bottoms and {len(top)} tops; it takes no bottom, and the "
                f"tops {', '.join(self.chosen)}"
            )
        training = "train" in self.params["split"]
        augmented = [key for key in ("mirror", "jitter") if self.params[key]]
        if training and augmented and not self.params["randomize"]:
            raise DataError(
                f"{self.who()}: param_str: {' and '.join(augmented)} would change nothing where randomize is "
                "False, for only drawn images are augmented: leave one or the other out"
            )
        self._seen: set[tuple[str, Path]] = set()
        self.start(0, self.given_seed() if training and self.params["randomize"] else None)

    @property
    def waited(self) -> float:
        """The seconds that the net waited for images."""
        return self._waited_before + self._ahead.waited if "_ahead" in vars(self) else 0.0

    def reshape(self, bottom, top):
        for i, values in enumerate(self._ahead.get(self.position)):  # the original's top does not iterate
            top[i].reshape(1, *values.shape)

    def forward(self, bottom, top):
        for i, values in enumerate(self._ahead.get(self.position)):
            top[i].data[...] = values
        self.position += 1

    def backward(self, top, propagate_down, bottom):
        pass  # data has no gradient

    # loading

    def start(self, position: int, seed: int | None) -> None:
        """Be at ``position`` of the order that ``seed`` gives."""
        super().start(position, seed)
        self._waited_before = self.waited
        self._ahead = Ahead(self._load_item, Order(len(self.ids), seed))

    def _load_item(self, k: int, index: int) -> list[np.ndarray]:
        loaded = self.load(self.ids[index])
        if self.seed is None or not (self.params["mirror"] or self.params["jitter"]):
            return loaded
        draws, reach = self.draws(k), self.params["jitter"]
        flip = draws.random() < 0.5 and self.params["mirror"]
        down, right = (int(draws.random() * (2 * reach + 1)) - reach for _ in range(2))
        return [
            shifted(values[:, :, ::-1] if flip else values, down, right, IGNORE if top in self.labels else 0)
            for top, values in zip(self.chosen, loaded, strict=True)
        ]

    def load(self, name: str) -> list[np.ndarray]:
        """The item called ``name``: for each top C x H x W, a label 1 x H x W uint8, all of one H x W.

        A label's values are checked at first sight.
        """
        loaded = []
        for top in self.chosen:
            what, path = _ROLES.get(top, top), self.path(top, name)
            if not path.exists():
                lists = " or ".join(map(str, self.list_files()))
                raise DataError(f"{what} {path} does not exist, though {lists} lists it. {self.get_it()}")
            values = self.read(top, path)
            if loaded and values.shape[-2:] != loaded[0].shape[1:]:
                (height, width), (rows, columns) = values.shape[-2:], loaded[0].shape[1:]
                other = _ROLES.get(self.chosen[0], self.chosen[0])
                raise DataError(
                    f"{what} {path} is {width} x {height} pixels, its {other} "
                    f"{columns} x {rows}: they must be of one size"
                )
            if top in self.labels:
                if (top, path) not in self._seen:
                    check_label(values, self.params[self.labels[top]], path)
                    self._seen.add((top, path))
                values = values.astype(np.uint8)[np.newaxis]
            loaded.append(values)
        return loaded

    def photo(self, path: Path) -> np.ndarray:
        """A photograph as the nets take it: 3 x H x W float32, BGR, minus ``mean``."""
        return planes(load_image(path)[:, :, ::-1], self.params["mean"])


_ROLES = {"data": "image"}  # what messages call the tops


def planes(image: np.ndarray, mean: Any) -> np.ndarray:
    """An image, H x W x C, as C x H x W float32, minus ``mean`` (a number for each of C, or one for all)."""
    channels = image.shape[2]
    values = np.empty((channels, *image.shape[:2]), np.float32)
    for channel, its_mean in enumerate(np.broadcast_to(np.asarray(mean, np.float64), channels)):
        # one pass for conversion, difference and order: four times as fast as one after the other
        np.subtract(image[:, :, channel], its_mean, out=values[channel], dtype=np.float64)
    return values


def locate(directory: str) -> str:
    """Where a directory of ``param_str`` is: a leading ``../data`` is replaced by FCN_DATA if that is set."""
    data = os.environ.get("FCN_DATA")
    parts = Path(directory).parts
    return os.path.join(data, *parts[2:]) if data and parts[:2] == ("..", "data") else directory
