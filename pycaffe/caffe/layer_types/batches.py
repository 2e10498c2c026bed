"""What the layers that read images share: batches made ahead by a thread, and going on after a restart."""

from __future__ import annotations

import json
import os
import queue
import re
import threading
import weakref
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch

from .. import common
from ..data_transformer import DataTransformer
from ..draws import draw_seed
from ..errors import CaffeError
from ..layer import Layer, layer_error
from ..log import logger
from ..proto import caffe_pb2

Batch = tuple[np.ndarray, np.ndarray]  # data, float32 of N x C x H x W, and labels, float32 of N


class Ahead:
    """``load(n)`` for n = ``first``, ``first`` + 1, ..., called in this order by one thread, ``depth`` ahead.

    What ``load`` raises is raised by :meth:`next`, from then on always. The thread ends with the
    object, so ``load`` must not hold it.
    """

    def __init__(self, load: Callable[[int], Batch], first: int, depth: int):
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._error: Exception | None = None
        stop = threading.Event()
        arguments = (load, first, self._ready, self._room, stop)
        thread = threading.Thread(target=_run_ahead, args=arguments, name="caffe data", daemon=True)
        self._end = weakref.finalize(self, _end_ahead, thread, self._room, stop)
        thread.start()

    def next(self) -> Batch:
        """The next batch; waits for it."""
        if self._error is None:
            batch, self._error = self._ready.get()
        if self._error is not None:
            raise self._error
        self._room.release()
        return batch

    def close(self) -> None:
        """End the thread."""
        self._end()


def _run_ahead(load, number, ready, room, stop) -> None:
    while True:
        room.acquire()
        if stop.is_set():
            return
        try:
            ready.put((load(number), None))
        except Exception as error:  # it belongs to whoever waits for the batch
            ready.put((None, error))
            return
        number += 1


def _end_ahead(thread, room, stop) -> None:
    stop.set()
    room.release()
    if thread is not threading.current_thread():
        thread.join()


class Source:
    """Where a layer's batches come from: batch ``n`` is a function of ``n`` and of ``seeds`` alone.

    Subclasses give :meth:`item`. ``transformer`` is the layer's, ``batch_size`` the prototxt's.
    """

    def __init__(self, transformer: DataTransformer, batch_size: int):
        if batch_size < 1:
            raise CaffeError("Positive batch size required: set batch_size")
        self.transformer, self.batch_size = transformer, batch_size

    def item(self, number: int) -> tuple[str, np.ndarray, int]:
        """Item ``number`` of the endless sequence: its name for errors, its C x H x W values, its label."""
        raise NotImplementedError

    def top_shape(self) -> tuple[int, ...]:
        """The data's shape as far as the first item tells it."""
        name, planes, _ = self.item(0)
        with about(name):
            return (self.batch_size, *self.transformer.infer_shape(planes)[1:])

    def load(self, number: int) -> Batch:
        """Batch ``number``: its data and its labels."""
        first = number * self.batch_size
        self.transformer.seek(first)
        data, labels = None, np.empty(self.batch_size, np.float32)
        for i in range(self.batch_size):
            name, planes, labels[i] = self.item(first + i)
            with about(name):
                image = self.transformer.transform(planes)
                if data is None:
                    data = np.empty((self.batch_size, *image.shape), np.float32)
                elif image.shape != data.shape[1:]:
                    raise CaffeError(
                        f"it gives {image.shape}, the first of its batch gave {data.shape[1:]}: the images of a batch "
                        "must be of one size. Set crop_size, resize them (ImageData: new_height and new_width; "
                        "databases: when they are made), or set batch_size: 1."
                    )
            data[i] = image
        return data, labels

    def seeds(self) -> dict[str, int]:
        """The numbers drawn at setup, on which the order and the crops depend."""
        return {"transform": self.transformer.draws.seed} if self.transformer.draws else {}

    def reseed(self, seeds: dict[str, int]) -> None:
        """Take ``seeds``, as the method of that name gave them, in place of those drawn."""
        if self.transformer.draws:
            self.transformer.init_rand(seeds["transform"])


@contextmanager
def about(name: str):
    """Put ``name`` in front of the text of a CaffeError."""
    try:
        yield
    except CaffeError as error:
        raise CaffeError(f"{name}: {error}") from error


@contextmanager
def named(layer: Layer):
    """Put the name of ``layer`` in front of the text of a CaffeError."""
    try:
        yield
    except CaffeError as error:
        raise layer_error(layer, str(error)) from error


def read_list(path: str) -> list[tuple[int, str, int]]:
    """The lines of the image list ``path`` as (line number, image path, label).

    A line is a path, a space and an integer; empty lines do not count. Raises CaffeError, naming
    file and line, for a file that cannot be read, a line without a label, and a list without lines.
    """
    lines = []
    for number, line in enumerate(read_text(path, "image list").split("\n"), 1):
        if not line.strip():
            continue
        name, _, label = line.rstrip().rpartition(" ")
        if not name or not re.fullmatch("[+-]?[0-9]{1,10}", label) or abs(int(label)) >= 2**31:
            raise CaffeError(
                f"{path}, line {number}: {line.strip()!r} has no label: a line is a path, a space and an integer "
                "label, such as 'cat.jpg 3'"
            )
        lines.append((number, name.rstrip(), int(label)))
    if not lines:
        raise CaffeError(f"{path}: File is empty: it lists no image")
    return lines


def read_text(path: str, what: str) -> str:
    """The text of the file ``path``, which is a ``what``; CaffeError when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise CaffeError(f"Failed to open {what} {path}: {error}") from error


def in_folder(root: str, name: str) -> str:
    """``name`` with ``root`` in front, as the text it is; a folder need not end with a slash."""
    return f"{root}/{name}" if not root.endswith("/") and os.path.isdir(root) else root + name


class BatchLayer(Layer):
    """A layer whose tops, data and labels, are batches of transformed images.

    The draws from the thread's generator, which later layers' fillers use too, come in Caffe's
    order: a seed for crops and flips (if these are random), what the source draws, that seed
    again (the second counts), and one for the thread that loads.

    A solver's snapshot keeps the position: :meth:`get_state` and :meth:`set_state`.
    """

    exact_bottoms = 0

    def open(self, transformer: DataTransformer) -> Source:
        """The source that the prototxt describes, giving images to ``transformer``."""
        raise NotImplementedError

    def setup(self, bottom, top):
        with named(self):
            transformer = DataTransformer(self.layer_param.transform_param, self.phase)
            transformer.init_rand()
            self._source = self.open(transformer)
            transformer.init_rand()
            draw_seed()
            shape = self._source.top_shape()
            for blob, sizes in zip(top, (shape, shape[:1]), strict=False):
                blob.reshape(*sizes)
        logger.info("output data size: %s", ",".join(map(str, shape)))
        self._batches, self._ahead = 0, None

    def reshape(self, bottom, top):
        """Each forward sizes the tops."""

    def forward(self, bottom, top):
        if self._ahead is None:
            depth = max(1, self.layer_param.data_param.prefetch)
            self._ahead = Ahead(self._source.load, self._batches, depth)
        with named(self):
            batch = self._ahead.next()
        self._batches += 1
        for blob, values in zip(top, batch, strict=False):
            blob.reshape(*values.shape)
            blob.write(torch.from_numpy(values))

    def backward(self, top, propagate_down, bottom):
        """Nothing lies below."""

    def get_state(self) -> str:
        """Where the layer is, as JSON: batches given so far, and the seeds of its order."""
        return json.dumps({"batches": self._batches, "seeds": self._source.seeds()})

    def set_state(self, state: str) -> None:
        """Go on from where :meth:`get_state` gave ``state``; CaffeError when it is none of such a layer."""
        try:
            given = json.loads(state)
            batches, seeds = given["batches"], given["seeds"]
            known = set(self._source.seeds())
            if type(batches) is not int or batches < 0 or set(seeds) != known:
                raise ValueError(f"it needs batches and the seeds {sorted(known)}")
            if not all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds.values()):
                raise ValueError("seeds must be 32-bit integers")
        except (ValueError, KeyError, TypeError) as error:
            raise layer_error(self, f"{state!r} is no state of this layer: {error}") from error
        if self._ahead is not None:
            self._ahead.close()
        self._source.reseed(seeds)
        self._batches, self._ahead = batches, None


def warn_ignored(layer: Layer, param, names=("scale", "mean_file", "crop_size", "mirror")) -> None:
    """Log which of the fields ``names`` of ``param``, old places of transform_param's, ``layer`` has in vain."""
    for name in names:
        if param.HasField(name):
            logger.warning(
                "layer '%s' (%s): %s is ignored here, as in Caffe: it belongs into transform_param",
                layer.name,
                layer.type,
                name,
            )


def shard(phase: int) -> tuple[int, int]:
    """(number of solvers that share the items, which of them this is): in ``phase`` TEST, (1, 0)."""
    return (common.solver_count(), common.solver_rank()) if phase == caffe_pb2.TRAIN else (1, 0)
