"""HDF5Data and HDF5Output: blobs from and to HDF5 files."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import numpy as np
import torch

from ..blob import INT_MAX
from ..draws import CRand, c_shuffle
from ..errors import CaffeError
from ..layer import Layer, layer_error
from ..log import logger
from ..registry import register
from ..wire import replacing
from .batches import named, read_text, shard

_CLASSES = {
    "S": "H5T_STRING",
    "O": "H5T_VLEN",
    "V": "H5T_COMPOUND or H5T_ARRAY",
    "c": "H5T_COMPOUND",
    "b": "H5T_ENUM",
}


class _Rows:
    """The rows of several HDF5 files one after the other, endlessly; one file is in memory at a time.

    With ``shuffle`` files and rows come in the order that Caffe gives them in a program's first such
    layer: by the C library's ``rand()``, which no seed of Caffe's reaches, so every run is alike.
    """

    def __init__(self, paths: list[str], names: list[str], shuffle: bool):
        self._paths, self._names, self._shuffle = paths, names, shuffle
        self._counts: dict[str, int] = {}
        self._loaded: tuple[str, list[np.ndarray]] = ("", [])
        self.shapes: list[tuple[int, ...]] = []  # of one row, for each name
        self._count(paths[0])

    def order(self) -> Iterator[tuple[str, int]]:
        """(path, row) from the beginning."""
        rand = CRand()

        def shuffled(items):
            if self._shuffle:
                c_shuffle(items, rand)
            return items

        paths = shuffled(list(self._paths))
        rows = None
        while True:
            for path in paths:
                first = rows is None
                if first or len(paths) > 1:
                    rows = shuffled(list(range(self._count(path))))
                if not first:  # Caffe shuffles what it loads, and once more at every change of file
                    shuffled(rows)
                for row in rows:
                    yield path, row
            if len(paths) > 1:
                shuffled(paths)

    def row(self, path: str, row: int) -> list[np.ndarray]:
        """That row of every dataset."""
        if self._loaded[0] != path:
            self._loaded = ("", [])  # first give the memory back
            self._loaded = (path, self._read(path))
        return [array[row] for array in self._loaded[1]]

    def _count(self, path: str) -> int:
        """How many rows the file has; checked against the first file when it is first seen."""
        if path not in self._counts:
            with _opened(path) as file:
                shapes = [self._dataset(path, file, name).shape for name in self._names]
            rows = {shape[0] for shape in shapes}
            if len(rows) != 1 or rows == {0}:
                raise CaffeError(
                    f"{path}: the datasets {', '.join(self._names)} must have one number of rows, above 0; their "
                    f"shapes are {', '.join(map(str, shapes))}"
                )
            sizes = [shape[1:] for shape in shapes]
            if self.shapes and sizes != self.shapes:
                raise CaffeError(
                    f"{path}: rows of {', '.join(self._names)} have the shapes {sizes}; in {self._paths[0]} they have "
                    f"{self.shapes}, and all files must agree"
                )
            self.shapes = sizes
            self._counts[path] = rows.pop()
        return self._counts[path]

    def _dataset(self, path: str, file: h5py.File, name: str) -> h5py.Dataset:
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise CaffeError(
                f"{path}: Failed to find HDF5 dataset {name}: datasets are named as the layer's tops; "
                f"the file has {', '.join(file) or 'none'}"
            )
        if dataset.dtype.kind not in "fiu":
            kind = _CLASSES.get(dataset.dtype.kind, "unknown")
            raise CaffeError(
                f"{path}: dataset {name}: Unsupported datatype class: {kind} ({dataset.dtype}); store numbers"
            )
        if not dataset.shape:
            raise CaffeError(f"{path}: dataset {name}: Input must have at least 1 axis.")
        if math.prod(dataset.shape) > INT_MAX:
            raise CaffeError(
                f"{path}: dataset {name} of shape {dataset.shape}: blob size exceeds INT_MAX; split the file"
            )
        if not dataset.is_virtual and not dataset.id.get_storage_size() and 0 not in dataset.shape:
            raise CaffeError(
                f"{path}: dataset {name} of shape {dataset.shape} holds no data; it was never written"
            )
        return dataset

    def _read(self, path: str) -> list[np.ndarray]:
        logger.debug("Loading HDF5 file: %s", path)
        with _opened(path) as file:
            return [self._dataset(path, file, name).astype(np.float32)[...] for name in self._names]


@contextmanager
def _opened(path: str):
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CaffeError:
        raise
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        MemoryError,
    ) as error:  # h5py's, if damaged
        raise CaffeError(f"Failed opening HDF5 file: {path}: {error or type(error).__name__}") from error


@register("HDF5Data")
class HDF5Data(Layer):
    """``batch_size`` rows at a time of the HDF5 files that the text file ``source`` lists.

    Each top is the dataset of its name: one of ``batch_size`` x (a row's shape). Rows go on from file
    to file and from the last to the first; ``shuffle`` shuffles files and rows, each round anew.
    Numbers of any type become float32; there is no transform_param. Training with several solvers,
    solver r of n takes the rows whose number is r modulo n.
    """

    exact_bottoms = 0
    min_tops = 1

    def setup(self, bottom, top):
        param = self.layer_param.hdf5_data_param
        self._batches = 0
        with named(self):
            if self.layer_param.HasField("transform_param"):
                raise CaffeError(
                    "HDF5Data does not transform data. Remove transform_param; transform what is stored."
                )
            if param.batch_size < 1:
                raise CaffeError("Positive batch size required: set batch_size in hdf5_data_param")
            logger.info("Loading list of HDF5 filenames from: %s", param.source)
            paths = read_text(param.source, "source file").split()
            if not paths:
                raise CaffeError(f"Must have at least 1 HDF5 filename listed in {param.source}")
            logger.info("Number of HDF5 files: %d", len(paths))
            self._rows = _Rows(paths, list(self.layer_param.top), param.shuffle)
            for blob, shape in zip(top, self._rows.shapes, strict=True):
                blob.reshape(param.batch_size, *shape)
        self._solvers, self._rank = shard(self.phase)
        self._order = self._from(0)

    def _from(self, batch: int) -> Iterator[tuple[str, int]]:
        """This solver's rows from the given batch on."""
        first = batch * self.layer_param.hdf5_data_param.batch_size * self._solvers + self._rank
        return itertools.islice(self._rows.order(), first, None, self._solvers)

    def reshape(self, bottom, top):
        """The tops keep the shape of setup."""

    def forward(self, bottom, top):
        batch_size = self.layer_param.hdf5_data_param.batch_size
        arrays = [np.empty((batch_size, *shape), np.float32) for shape in self._rows.shapes]
        with named(self):
            for i, (path, row) in enumerate(itertools.islice(self._order, batch_size)):
                for array, values in zip(arrays, self._rows.row(path, row), strict=True):
                    array[i] = values
        self._batches += 1
        for blob, array in zip(top, arrays, strict=True):
            blob.reshape(*array.shape)
            blob.write(torch.from_numpy(array))

    def backward(self, top, propagate_down, bottom):
        """Nothing lies below."""

    def get_state(self) -> str:
        """Where the layer is, as JSON: batches given so far."""
        return json.dumps({"batches": self._batches})

    def set_state(self, state: str) -> None:
        """Go on from where :meth:`get_state` gave ``state``; CaffeError when it is none of such a layer."""
        try:
            batches = json.loads(state)["batches"]
            if type(batches) is not int or batches < 0:
                raise ValueError("batches must be a count")
        except (ValueError, KeyError, TypeError) as error:
            raise layer_error(self, f"{state!r} is no state of this layer: {error}") from error
        self._batches, self._order = batches, self._from(batches)


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes its two bottoms into the file ``file_name`` as the datasets ``data`` and ``label``, N x C x H x W.

    Every forward replaces the file, whole or not at all, so it holds the last batch. (Caffe fails
    in the second forward.)
    """

    exact_bottoms = 2
    exact_tops = 0

    def setup(self, bottom, top):
        self._path = self.layer_param.hdf5_output_param.file_name
        folder = os.path.dirname(self._path) or "."
        if not self._path or os.path.isdir(self._path) or not os.access(folder, os.W_OK):
            raise layer_error(
                self,
                f"Failed to open HDF5 file {self._path!r}: file_name must be a file's, in a folder that exists and can "
                "be written",
            )

    def reshape(self, bottom, top):
        """There is no top."""

    def forward(self, bottom, top):
        with named(self):
            arrays = [blob.data.reshape(blob.num, blob.channels, blob.height, blob.width) for blob in bottom]
            if len(arrays[0]) != len(arrays[1]):
                raise CaffeError(
                    "data blob and label blob must have the same batch size; they have "
                    f"{len(arrays[0])} and {len(arrays[1])}"
                )
            logger.info("Saving HDF5 file %s", self._path)
            with replacing(self._path) as file, h5py.File(file, "w") as target:
                for name, array in zip(("data", "label"), arrays, strict=True):
                    target.create_dataset(name, data=array)
        logger.info("Successfully saved %d rows", len(arrays[0]))

    def backward(self, top, propagate_down, bottom):
        """Nothing of it goes down."""
