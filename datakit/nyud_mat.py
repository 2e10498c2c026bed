"""NYUDv2 as it was published: all 1449 images in one MATLAB 7.3 (HDF5) file, nyu_depth_v2_labeled.mat."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from files import DataError
from images import load_mat

# What is left of 480 x 640 when the frame is cut off, in which the depth was not measured: MATLAB's (46:470, 41:600)
ROWS, COLUMNS = slice(45, 470), slice(40, 600)
ARRAYS = {"images": "u", "depths": "f", "rawDepths": "f", "labels": "u"}  # with the kinds of NumPy's types
CACHE, LARGEST = 64 << 20, 256 << 20  # bytes: of each array's cache; of a piece that HDF5 must hold at once


class Labeled:
    """The file, open: each image of it, cropped to 425 x 560, is read when it is asked for.

    Its arrays are seen from MATLAB's side (images 480 x 640 x 3 x n, the others 480 x 640 x n), so axes come the other
    way round here. Images count from 0; threads may share the object. Every method raises DataError for a file that
    is damaged or another.
    """

    def __init__(self, path: Path):
        from h5py import File  # takes a tenth of a second, and only this file needs it

        self.path = path
        try:
            self._file = File(path, "r", rdcc_nbytes=CACHE)
        except OSError as error:
            raise self._wrong(f"cannot be opened ({error})") from None
        self._arrays = {name: self._array(name, kind) for name, kind in ARRAYS.items()}
        counts = {name: array.shape[0] for name, array in self._arrays.items()}
        if len(set(counts.values())) > 1:
            raise self._wrong(f"has arrays of different numbers of images: {counts}")

    def _array(self, name: str, kind: str):
        array = self._file.get(name)
        inner = (3, 640, 480) if name == "images" else (640, 480)
        shape = getattr(array, "shape", None)
        if not shape or shape[1:] != inner or array.dtype.kind != kind:
            found = "no array" if shape is None else f"an array of {array.dtype} of shape {shape}"
            raise self._wrong(f"has {found} {name}; it must be (images, {', '.join(map(str, inner))})")
        piece = int(np.prod(array.chunks or (0,))) * array.dtype.itemsize
        if piece > LARGEST:
            raise DataError(
                f"{self.path} stores {name} in pieces of {piece >> 20} MiB; each must be held in memory at once, "
                f"and at most {LARGEST >> 20} are: store it with a piece for each image (HDF5's h5repack does that)"
            )
        return array

    def _wrong(self, found: str) -> DataError:
        return DataError(f"{self.path} {found}: it is damaged, or another file than nyu_depth_v2_labeled.mat")

    def __enter__(self) -> Labeled:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._arrays["images"].shape[0]

    def _image(self, name: str, index: int) -> np.ndarray:
        try:
            return self._arrays[name][index, ..., COLUMNS, ROWS].T
        except (OSError, RuntimeError) as error:  # h5py's, of a damaged piece
            raise self._wrong(f"cannot be read at image {index + 1} of {name} ({error})") from None

    def color(self, index: int) -> np.ndarray:
        """RGB, 425 x 560 x 3, uint8."""
        return np.ascontiguousarray(self._image("images", index))

    def depth(self, index: int) -> np.ndarray:
        """Depth with holes filled in: millimetres, uint16."""
        return millimetres(self._image("depths", index))

    def raw_depth(self, index: int) -> np.ndarray:
        """Depth as measured: millimetres, uint16; 0 where there was none."""
        return millimetres(self._image("rawDepths", index))

    def label(self, index: int, classes: np.ndarray) -> np.ndarray:
        """The raw classes' entries in the table ``classes``."""
        raw = self._image("labels", index)
        if raw.max() >= len(classes):
            raise self._wrong(f"has label {raw.max()} in image {index + 1}, beyond {len(classes) - 1}")
        return classes[raw]


def millimetres(metres: np.ndarray) -> np.ndarray:
    """``metres`` as MATLAB's uint16(1000 * metres): in their own precision, halves away from zero; NaN is 0."""
    values = np.clip(np.nan_to_num(metres * metres.dtype.type(1000)), 0, 65535)
    whole = np.floor(values)
    return (whole + (values - whole >= 0.5)).astype(np.uint16)


def class_table(path: Path, classes: int) -> np.ndarray:
    """Of classMapping40.mat: for each raw class, from 0 (none), the class from 0, or 255 for none; uint8."""
    mapped = load_mat(path, "mapClass", range(1, classes + 1)).ravel()
    return np.concatenate([[255], mapped - 1]).astype(np.uint8)
