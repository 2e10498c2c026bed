"""Weights and solver states in HDF5: ``.caffemodel.h5`` and ``.solverstate.h5``.

Weights are float32 datasets ``/data/<layer>/<i>``, with a group for every layer and a shared
parameter under its owner only; ``/diff/<layer>/<i>`` are the gradients, if written. A state has
``iter``, ``current_step`` and ``learned_net``, and the history as ``/history/<i>``. What follows
links out of the file, or claims more than it holds, is refused.
"""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, field

import h5py
import numpy as np

from .blob import INT_MAX, MAX_AXES, Blob
from .errors import FETCH_AGAIN, CaffeError
from .message_file import parse_binary
from .proto import caffe_pb2
from .wire import MAX_PARTS, all_finite, replacing

_MAX_BLOBS = 1000  # of one layer
_MAX_DEPTH = 32  # of groups in one another, which layer names with slashes make
_LEAST_CHUNK = 1 << 20  # bytes that a chunk may have, however small the dataset


@dataclass(slots=True)
class StoredDataset:
    """A blob in an HDF5 file: its shape and the dataset with its values."""

    shape: tuple[int, ...]
    dataset: h5py.Dataset

    @property
    def count(self) -> int:
        """Number of values stored."""
        return math.prod(self.shape)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Does a net's blob of ``shape`` take this one?"""
        return self.shape == tuple(shape)


@dataclass(slots=True)
class StoredLayer:
    """A layer in a weight file: its name and its blobs, None where an index is left out."""

    name: str
    blobs: list[StoredDataset | None] = field(default_factory=list)


class HDF5File:
    """An open HDF5 file of blobs. Use as a context manager.

    ``path`` names the file, ``kind`` what it should be (for errors). Raises CaffeError when it
    cannot be opened.
    """

    def __init__(self, path, kind: str):
        self.path, self.kind = os.fsdecode(os.fspath(path)), kind
        with self.reading("it"):
            self.file = h5py.File(self.path, "r")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()

    def broken(self, what: str) -> CaffeError:
        """The exception for a file that is not of its kind."""
        return CaffeError(f"{self.path}: not a readable HDF5 {self.kind}: {what}. {FETCH_AGAIN}")

    @contextmanager
    def reading(self, what: str):
        """Turn the library's errors into the file's. They are of any class: h5py picks the nearest."""
        try:
            yield
        except CaffeError:
            raise
        except Exception as error:
            raise self.broken(f"{what} cannot be read ({error})") from error

    def child(self, group: h5py.Group, name: str, what: type):
        """The Group or Dataset (``what``) called ``name`` in ``group``."""
        place = f"{group.name.rstrip('/')}/{name}"
        with self.reading(place):
            link = group.get(name, getlink=True)
            if link is None:
                raise self.broken(f"{place} is missing")
            if not isinstance(link, h5py.HardLink):
                raise self.broken(f"{place} is a link to elsewhere, which is not followed")
            found = group[name]
            if not isinstance(found, what):
                raise self.broken(f"{place} should be a {what.__name__.lower()}")
        return found

    def blob(self, group: h5py.Group, name: str) -> StoredDataset:
        """The blob ``name`` of ``group``, its values left where they are; CaffeError when it cannot be one."""
        dataset = self.child(group, name, h5py.Dataset)
        with self.reading(dataset.name):
            if dataset.external or dataset.is_virtual:
                raise self.broken(f"{dataset.name} keeps its values in other files, which are not read")
            if dataset.dtype.kind not in "fiu":
                raise self.broken(f"{dataset.name} has type {dataset.dtype}; blobs are floats")
            shape = dataset.shape
            if shape is None or len(shape) > MAX_AXES or math.prod(shape) > INT_MAX:
                raise self.broken(
                    f"{dataset.name} has shape {shape}; a blob has at most {MAX_AXES} axes and {INT_MAX} values"
                )
            size = math.prod(shape) * dataset.dtype.itemsize
            if size and not dataset.id.get_storage_size():
                raise self.broken(f"{dataset.name} claims shape {shape} and holds no values")
            chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
            if dataset.chunks and chunk > max(size, _LEAST_CHUNK):
                raise self.broken(f"{dataset.name} of {size} bytes claims chunks of {chunk}")
        return StoredDataset(tuple(shape), dataset)

    def fill(self, blob: Blob, stored: StoredDataset) -> bool:
        """Load a net's blob from the data set ``stored`` of equal shape; True if all values are finite."""
        values = blob.overwrite()
        with self.reading(stored.dataset.name):
            if values.size:
                stored.dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, values.reshape(stored.shape))
        return all_finite(values)


class HDF5Model(HDF5File):
    """An open ``.caffemodel.h5``."""

    lists_shared = False  # a shared parameter stands under its owner only

    def __init__(self, path):
        super().__init__(path, "caffemodel")

    def layers(self) -> list[StoredLayer]:
        """The layers in the file. A name with slashes is a group in a group."""
        found: list[StoredLayer] = []
        waiting = [("", self.child(self.file, "data", h5py.Group), 0)]
        met = 0
        while waiting:
            name, group, depth = waiting.pop()
            with self.reading(group.name):
                members = list(group)
                blobs: dict[int, StoredDataset] = {}
                inner = False
                for member in members:
                    met += 1
                    if met > MAX_PARTS or depth > _MAX_DEPTH:
                        raise self.broken(f"{group.name} has too many groups and datasets to be a net's")
                    if group.get(member, getclass=True, getlink=False) is h5py.Group:
                        below = self.child(group, member, h5py.Group)
                        waiting.append((f"{name}/{member}" if name else member, below, depth + 1))
                        inner = True
                    elif name and member.isascii() and member.isdigit() and int(member[:4]) < _MAX_BLOBS:
                        blobs[int(member)] = self.blob(group, member)
                    else:
                        raise self.broken(
                            f"{group.name}/{member} is no layer and no blob (these are numbered from 0)"
                        )
            if name and (blobs or not inner):
                found.append(StoredLayer(name, [blobs.get(i) for i in range(max(blobs, default=-1) + 1)]))
        return found


@contextmanager
def _writing(path):
    """An HDF5 file that takes the name ``path`` when the block ends without an error."""
    with replacing(path) as temporary:
        try:
            with h5py.File(temporary.name, "w") as file:
                yield file
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, CaffeError):
                raise
            raise CaffeError(f"cannot write {path}: {error}. Nothing was changed.") from error


def save_model(path, layers, shared, diffs: bool = False) -> None:
    """Write the parameters of a net.

    ``layers`` are pairs of a LayerParameter and its blobs; the blobs in ``shared`` are others'
    parameters, whose values are left out. ``diffs`` adds the gradients of all. The file appears
    whole or not at all. Raises CaffeError for names of layers that HDF5 cannot tell apart, and
    when the file cannot be written.
    """
    shared = {id(blob) for blob in shared}
    with _writing(path) as file:
        groups = [file.create_group("data")] + ([file.create_group("diff")] if diffs else [])
        written = set()
        for param, blobs in layers:
            name = param.name
            if not blobs and (name in written or not _usable(name)):
                continue
            if not _usable(name) or (blobs and name in written):
                raise CaffeError(
                    f"Error saving weights to {path}: layer name '{name}' is "
                    f"{'taken twice' if _usable(name) else 'no name of an HDF5 group'}. Rename the layer, or save "
                    "a .caffemodel, which takes any name."
                )
            if blobs:
                written.add(name)
            data, *diff = [_group(path, group, name) for group in groups]
            for i, blob in enumerate(blobs):
                if id(blob) not in shared:
                    data.create_dataset(str(i), data=blob.data)
                for group in diff:
                    group.create_dataset(str(i), data=blob.diff)


def _usable(name: str) -> bool:
    """Can HDF5 keep a group of this name apart from others? Slashes divide it, dots stand for the group itself."""
    return "\0" not in name and all(part not in ("", ".") for part in name.split("/"))


def _group(path, parent: h5py.Group, name: str) -> h5py.Group:
    try:
        return parent.require_group(name)
    except (TypeError, ValueError) as error:
        raise CaffeError(
            f"Error saving weights to {path}: layer name '{name}' is the place of another layer's blob. Rename "
            "the layer, or save a .caffemodel, which takes any name."
        ) from error


def save_state(path, state: caffe_pb2.SolverState, history: list[Blob]) -> None:
    """Write a solver's ``state`` and ``history``; the file appears whole or not at all.

    What Caffe's state lacks (``state.resume``) goes into a dataset that Caffe does not look at.
    """
    name = state.learned_net.encode()
    with _writing(path) as file:
        for field_name in ("iter", "current_step"):
            file.create_dataset(field_name, data=np.array([getattr(state, field_name)], np.int32))
        file.create_dataset("learned_net", data=np.array(name, f"S{len(name) + 1}"))
        group = file.create_group("history")
        for i, blob in enumerate(history):
            group.create_dataset(str(i), data=blob.data)
        resume = state.resume.SerializeToString()
        file.create_dataset("resume", data=np.frombuffer(resume, np.uint8))


def load_state(path) -> tuple[caffe_pb2.SolverState, HDF5File, list[StoredDataset]]:
    """A SolverState without its history, the open file, and the history blobs in it."""
    source = HDF5File(path, "solverstate")
    try:
        state = caffe_pb2.SolverState(iter=_integer(source, "iter"))
        state.current_step = _integer(source, "current_step")
        with source.reading("/"):
            given = set(source.file)
        if "learned_net" in given:
            state.learned_net = _string(source, "learned_net")
        if "resume" in given:
            blob = source.blob(source.file, "resume")
            with source.reading("/resume"):
                parse_binary(blob.dataset[()].tobytes(), state.resume)
        group = source.child(source.file, "history", h5py.Group)
        with source.reading("/history"):
            count = len(group)
        history = [source.blob(group, str(i)) for i in range(min(count, MAX_PARTS))]
    except BaseException:
        source.file.close()
        raise
    return state, source, history


def _integer(source: HDF5File, name: str) -> int:
    stored = source.blob(source.file, name)
    if stored.count != 1 or stored.dataset.dtype.kind != "i":
        raise source.broken(f"/{name} should be one integer, found {stored.shape} of {stored.dataset.dtype}")
    with source.reading(f"/{name}"):
        value = int(np.asarray(stored.dataset[()]).reshape(())[()])
    if not 0 <= value <= INT_MAX:
        raise source.broken(f"/{name} is {value}, and should be from 0 to {INT_MAX}")
    return value


def _string(source: HDF5File, name: str) -> str:
    dataset = source.child(source.file, name, h5py.Dataset)
    with source.reading(f"/{name}"):
        if h5py.check_string_dtype(dataset.dtype) is None or dataset.shape not in ((), (1,)):
            raise source.broken(f"/{name} should be one string, found {dataset.shape} of {dataset.dtype}")
        value = np.asarray(dataset[()]).reshape(())[()]
    return bytes(value).partition(b"\0")[0].decode("utf-8", "replace")
