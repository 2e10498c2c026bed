"""What all data layers share: parameters, the order of images, loading ahead, resuming."""

from __future__ import annotations

import ast
import difflib
import json
import os
import random
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import caffe
import numpy as np

from files import DataError, read_lines
from images import check_label, load_image

ROOT = Path(__file__).resolve().parent
live: weakref.WeakSet[SegDataLayer] = weakref.WeakSet()  # every data layer of a living net


def class_names(dataset: str) -> list[str]:
    """The names of a data set's classes in order of index, from ``data/<dataset>/classes.txt``."""
    return read_lines(ROOT / "data" / dataset / "classes.txt", "class list")


def resume(consumed: int) -> None:
    """Put every living data layer of a training net where it is after ``consumed`` items.

    For solver states of the original engine, which do not hold the position; a layer that was
    already put elsewhere by :meth:`SegDataLayer.set_state` stays there.
    """
    for layer in live:
        if layer.phase == caffe.TRAIN and layer.position == 0:
            layer.skip_to(consumed)


class Order:
    """Which item comes k-th: ``order[k]``, a pure function of (size, seed, k).

    With a seed, items are drawn with replacement (floor of a uniform draw times the size, from a
    generator of its own: the release's order under Python 2). Without, they come in file order,
    round and round.
    """

    def __init__(self, size: int, seed: int | None = None):
        self.size, self.seed = size, seed
        self._restart()

    def _restart(self) -> None:
        self._random, self._drawn, self._last = random.Random(self.seed), 0, 0

    def __getitem__(self, k: int) -> int:
        if self.seed is None:
            return k % self.size
        if k < self._drawn - 1:
            self._restart()
        while self._drawn <= k:
            self._last = int(self._random.random() * self.size)
            self._drawn += 1
        return self._last


class Ahead:
    """The results of ``load(order[k])`` for k = 0, 1, ..., made ahead of time by one worker thread.

    Neither the order nor the results depend on the thread; what ``load`` raises is raised by
    :meth:`get`.
    """

    def __init__(self, load: Callable[[int], Any], order: Order, depth: int = 3):
        self._load, self._order, self._depth = load, order, depth
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="data")
        self._loading: dict[int, Future] = {}

    def get(self, k: int) -> Any:
        """The k-th result; starts on the next ``depth``, and forgets all others."""
        wanted = range(k, k + self._depth + 1)
        for gone in [i for i in self._loading if i not in wanted]:
            self._loading.pop(gone).cancel()
        for i in wanted:
            if i not in self._loading:
                self._loading[i] = self._pool.submit(self._load, self._order[i])
        return self._loading[k].result()


class SegDataLayer(caffe.Layer):
    """Base of the data layers: parameters, order of images, loading ahead, resuming.

    ``param_str`` is a Python dictionary. Common keys: ``split`` (name of the list of image ids),
    ``mean`` (B, G, R, subtracted), ``randomize`` (draw with replacement; default: true, but only
    a split with "train" in its name is ever drawn, others come in file order), ``seed``
    (default 1337; None draws one), ``classes`` (number of classes; a label is checked against it
    at first sight). A data set adds the key of its directory. A leading ``../data`` in it is
    replaced by the environment variable FCN_DATA if that is set.

    Tops: ``data``, 1 x 3 x H x W float, BGR minus mean, and ``label``, 1 x 1 x H x W class
    indices, 255 for void. Each forward consumes one item; ``reshape`` loads it and sizes the tops.

    A data set's class defines ``dataset``, ``directory``, and the methods :meth:`split_file`,
    :meth:`load` and :meth:`get_it`.
    """

    dataset = ""  # the folder under data/ that tells about it, with classes.txt
    directory = ""  # which key of param_str holds its directory
    tops = ("data", "label")
    defaults: dict[str, Any] = {"randomize": True, "seed": 1337, "classes": 21}
    required: tuple[str, ...] = ("split", "mean")

    def split_file(self) -> Path:
        """The path of the list of ids of ``self.params["split"]``."""
        raise NotImplementedError

    def load(self, name: str) -> tuple[np.ndarray, ...]:
        """The item called ``name``: for each top an array of C x H x W."""
        raise NotImplementedError

    @classmethod
    def outside(cls, param_str: str) -> SegDataLayer:
        """Such a layer without a net: its ``params`` are read and checked, its data set is not looked for."""
        layer = cls.__new__(cls)  # the constructor is for nets
        layer.param_str = param_str
        layer.params = layer.read_params()
        return layer

    @classmethod
    def source_ids(cls, param_str: str) -> list[str]:
        """The ids that such a layer would read, in file order, without a net; raises as ``setup`` does."""
        layer = cls.outside(param_str)
        layer.open()
        return layer.ids

    def open(self) -> None:
        """Read ``param_str`` and the split: sets ``params``, ``root`` (the directory) and ``ids``."""
        self.params = self.read_params()
        self.root = Path(os.path.abspath(self._locate(self.params[self.directory])))
        if not self.root.is_dir():
            raise DataError(f"{self._who()}: data set directory {self.root} does not exist. {self.get_it()}")
        self.ids = read_lines(self.split_file(), f"{self._who()}: split file", self.get_split())

    def get_it(self) -> str:
        """What to do for the data set to be there: commands, archives, where to unpack them."""
        raise NotImplementedError

    def get_split(self) -> str:
        """What to do when the data set is there but not the split."""
        others = sorted(path.stem for path in self.split_file().parent.glob("*.txt"))
        return f"There are the splits: {', '.join(others)}" if others else self.get_it()

    # the four methods that Caffe calls

    def setup(self, bottom, top):
        self.open()
        if len(top) != len(self.tops) or len(bottom):
            raise DataError(
                f"{self._who()} has {len(bottom)} bottoms and {len(top)} tops; it takes no bottom, and the "
                f"tops {', '.join(self.tops)}"
            )
        seed = None
        if "train" in self.params["split"] and self.params["randomize"]:
            seed = self.params["seed"]
            seed = random.SystemRandom().randrange(2**32) if seed is None else seed
        self._seen: set[str] = set()
        self._start(0, seed)
        live.add(self)

    def reshape(self, bottom, top):
        for i, values in enumerate(self._ahead.get(self.position)):  # the original's top does not iterate
            top[i].reshape(1, *values.shape)

    def forward(self, bottom, top):
        for i, values in enumerate(self._ahead.get(self.position)):
            top[i].data[...] = values
        self.position += 1

    def backward(self, top, propagate_down, bottom):
        pass  # data has no gradient

    # resuming

    def get_state(self) -> str:
        """Where the layer is, as JSON: items consumed so far, and the seed of its order."""
        return json.dumps({"position": self.position, "seed": self._order.seed})

    def set_state(self, state: str) -> None:
        """Go on from where :meth:`get_state` was called."""
        try:
            position, seed = (json.loads(state)[key] for key in ("position", "seed"))
            if type(position) is not int or position < 0 or type(seed) not in (int, type(None)):
                raise ValueError("position must be a count, seed an integer or null")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._who()}: {state!r} is no state of a data layer ({error})") from None
        self._start(position, seed)

    def skip_to(self, position: int) -> None:
        """Make the item that comes ``position``-th (from 0) the next one."""
        self.position = position

    def _start(self, position: int, seed: int | None) -> None:
        self.position, self._order = position, Order(len(self.ids), seed)
        self._ahead = Ahead(self._load_item, self._order)

    def _load_item(self, index: int) -> tuple[np.ndarray, ...]:
        return self.load(self.ids[index])

    # what the data sets share

    def photo(self, path: Path) -> np.ndarray:
        """A photograph as the nets take it: 3 x H x W float32, BGR, minus ``mean``."""
        self._must_exist(path, "image")
        image = load_image(path)[:, :, ::-1].astype(np.float32)
        image -= np.array(self.params["mean"])
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    def label(self, read: Callable[[Path], np.ndarray], path: Path, size: tuple[int, int]) -> np.ndarray:
        """``read(path)`` as 1 x H x W uint8, checked: its values at first sight, and H x W = ``size``."""
        self._must_exist(path, "label")
        label = read(path)
        if label.shape != size:
            raise DataError(
                f"label {path} is {label.shape[1]} x {label.shape[0]} pixels, its image "
                f"{size[1]} x {size[0]}: they must be of one size"
            )
        if path not in self._seen:
            check_label(label, self.params["classes"], path)
            self._seen.add(path)
        return label[np.newaxis]

    def _must_exist(self, path: Path, what: str) -> None:
        if not path.exists():
            raise DataError(
                f"{what} {path} does not exist, though {self.split_file()} lists it. {self.get_it()}"
            )

    def _who(self) -> str:
        name = getattr(self, "name", None)
        return f"layer {name} ({type(self).__name__})" if name else type(self).__name__

    def _locate(self, directory: str) -> str:
        data = os.environ.get("FCN_DATA")
        parts = Path(directory).parts
        return os.path.join(data, *parts[2:]) if data and parts[:2] == ("..", "data") else directory

    def read_params(self) -> dict[str, Any]:
        """``param_str`` as a dictionary with the defaults filled in; DataError for a wrong key or value."""
        where = f"{self._who()}: param_str"
        try:
            given = ast.literal_eval(self.param_str)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise DataError(
                f"{where} {self.param_str!r} is no Python dictionary of constants: {error}"
            ) from None
        if not isinstance(given, dict):
            raise DataError(f"{where} {self.param_str!r} is a {type(given).__name__}, not a dictionary")
        required = (self.directory, *self.required)
        known = (*required, *self.defaults)
        for key in given:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise DataError(f"{where} has the unknown key {key!r}; {hint}Known: {', '.join(known)}")
        missing = [key for key in required if key not in given]
        if missing:
            raise DataError(f"{where} lacks {', '.join(missing)}. It needs {', '.join(required)}")
        params = {**self.defaults, **given}
        for key, value in params.items():
            rule = _broken_rule(key, value, self.directory)
            if rule:
                raise DataError(f"{where}: {key} is {value!r}; {rule}")
        return params


def _broken_rule(key: str, value: Any, directory: str) -> str:
    """What the value of a parameter must be, if it is not."""
    number = (int, float)
    if key in (directory, "split") and not (isinstance(value, str) and value):
        return "it must be a text"
    if key == "mean" and not (
        isinstance(value, (tuple, list)) and len(value) == 3 and all(type(v) in number for v in value)
    ):
        return "it must be three numbers, B, G, R, such as (104.00699, 116.66877, 122.67892)"
    if key == "randomize" and not isinstance(value, bool):
        return "it must be True or False"
    if key == "seed" and not (value is None or type(value) is int):
        return "it must be an integer or None"
    if key == "classes" and not (type(value) is int and 1 <= value <= 255):
        return "it must be an integer from 1 to 255"
    return ""
