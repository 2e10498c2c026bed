"""Blobs: named N-d arrays of float32 with a value (``data``) and a gradient (``diff``).

A blob is a shape and two :class:`Memory` objects. Blobs that share (split tops, shared
parameters) refer to the same ``Memory``, so a write through one is seen through the other.

How memory stays both NumPy's and PyTorch's: a tensor that a layer computed becomes the memory
itself, without a copy, unless somebody holds a NumPy view of the old contents; then the values
are copied into it, so that an array taken before a forward shows the new values after it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from weakref import WeakSet

import numpy as np
import torch

from . import common
from .errors import CaffeError

MAX_AXES = 32
INT_MAX = 2**31 - 1

CPU = torch.device("cpu")


class Memory:
    """A flat run of float32 that the host and one device share (Caffe's synced memory).

    Fresh memory reads as zeros and takes no space until it is touched. At any time the newest
    values are on the host, on the device, or on both.
    """

    __slots__ = (
        "_array",
        "_fresh_gpu",
        "_fresh_host",
        "_gpu",
        "_host",
        "before_change",
        "capacity",
        "version",
        "withheld",
    )

    def __init__(self, capacity: int = 0):
        self.capacity = capacity
        self._host: torch.Tensor | None = None  # flat, float32
        self._array: np.ndarray | None = None  # the host tensor as NumPy sees it
        self._gpu: torch.Tensor | None = None
        self._fresh_host = self._fresh_gpu = False
        self.version = 0  # grows with every change but those through an array
        self.withheld = None  # has give(): the contents are computed when somebody reads them (whole.py)
        # have prepare(), to be called before an array is handed out
        self.before_change: WeakSet | None = None

    @property
    def is_zero(self) -> bool:
        """True while the memory was never written since it was made or zeroed."""
        return not (self._fresh_host or self._fresh_gpu)

    def viewed(self) -> bool:
        """Does anybody hold a NumPy view of the host memory?"""
        return self._array is not None and sys.getrefcount(self._array) > _UNSHARED_REFERENCES

    def array(self, count: int) -> np.ndarray:
        """The first ``count`` values as a writable host array; the host becomes the newest side."""
        for each in list(self.before_change or ()):
            each.prepare()
        self._to_host()
        return self._writable(count)

    def watch(self, watcher) -> None:
        """Call ``watcher.prepare()`` whenever an array is about to be handed out; it is held weakly."""
        if self.before_change is None:
            self.before_change = WeakSet()
        self.before_change.add(watcher)

    def _writable(self, count: int) -> np.ndarray:
        self._fresh_gpu = False
        if self._array is None:
            self._array = self._host.numpy()
        return self._array[:count]

    def overwrite(self, count: int) -> np.ndarray:
        """Like :meth:`array`, for a caller that sets every value: fresh memory is not zeroed first."""
        self._changed()
        if self._host is None:
            self._host = torch.empty(self.capacity)
        self._fresh_host = True
        return self._writable(count)

    def _changed(self):
        self.version += 1
        self.withheld = None

    def _to_host(self):
        if self.withheld:
            self.withheld.give()
        if self._fresh_host:
            return
        if self._fresh_gpu:
            if self._host is None:
                self._host = torch.empty(self.capacity)
            self._host.copy_(self._gpu)
        elif self._host is None:
            self._host = torch.zeros(self.capacity)
        else:
            self._host.zero_()
        self._fresh_host = True

    def tensor(self, count: int, device: torch.device = CPU) -> torch.Tensor:
        """The first ``count`` values on ``device``, for reading (writes into it count on that side)."""
        if device.type == "cpu":
            self._to_host()
            return self._host[:count]
        if self.withheld:
            self.withheld.give()
        if not self._fresh_gpu:
            if self._fresh_host:
                self._gpu = self._host.to(device)
            else:
                self._gpu = torch.zeros(self.capacity, device=device)
            self._fresh_gpu = True
        return self._gpu[:count]

    def modified(self, device: torch.device) -> None:
        """Say that the tensor got from :meth:`tensor` was written: that side is now the newest."""
        self._changed()
        if device.type == "cpu":
            self._fresh_gpu = False
        else:
            self._fresh_host = False

    def write(self, values: torch.Tensor) -> None:
        """Take ``values`` (any shape, contiguous float32) as the new contents, copying only if viewed."""
        self._changed()
        values = values.detach().reshape(-1)
        if values.device.type == "cpu":
            if self.viewed():
                np.copyto(self._array[: values.numel()], values.numpy())
            else:
                self._host, self._array = values, None
                self.capacity = values.numel()
            self._fresh_host, self._fresh_gpu = True, False
        else:
            self._gpu = values
            if self.capacity != values.numel():
                self._host = self._array = None
                self.capacity = values.numel()
            self._fresh_host, self._fresh_gpu = False, True

    def add(self, values: torch.Tensor) -> None:
        """Add ``values`` to the contents; zero memory simply takes them."""
        if self.is_zero and self.capacity == values.numel():
            self.write(values)
            return
        self.tensor(values.numel(), values.device).add_(values.detach().reshape(-1))
        self.modified(values.device)

    def zero(self) -> None:
        """Set every value to 0; without a view of it, the space is merely forgotten."""
        self._changed()
        if self.viewed():
            self._array.fill(0)
            self._fresh_host, self._fresh_gpu = True, False
        else:
            self.release()

    def release(self) -> None:
        """Give the space back, of contents that are about to be written whole; a viewed array stays."""
        if not self.viewed():
            self._host = self._array = self._gpu = None
            self._fresh_host = self._fresh_gpu = False


class _Probe:
    def __init__(self):
        self._array = np.zeros(1)

    def count(self):
        return sys.getrefcount(self._array)


# what getrefcount says of an attribute that nobody else refers to (it differs between Pythons)
_UNSHARED_REFERENCES = _Probe().count()


class Shape(tuple):
    """A blob's shape: a tuple that also equals a list of the same numbers."""

    def __eq__(self, other):
        return tuple.__eq__(self, tuple(other)) if isinstance(other, (list, tuple)) else NotImplemented

    def __ne__(self, other):
        return not self == other

    __hash__ = tuple.__hash__


class Blob:
    """An N-d array of float32 with its gradient.

    ``data`` and ``diff`` are NumPy arrays of the blob's shape, C-contiguous and writable, that
    share the blob's memory: assign into them (``blob.data[...] = x``). On a GPU they are a host
    copy; reading the property brings the newest values, and a write through it is used by the
    next layer that runs.
    """

    __slots__ = ("__weakref__", "_count", "_data", "_diff", "_shape")

    def __init__(self, *shape: int):
        self._data, self._diff = Memory(), Memory()
        self._shape, self._count = None, 0
        if shape:
            self.reshape(*shape)

    # -- shape --------------------------------------------------------------------------------

    def reshape(self, *shape: int, **kwargs) -> None:
        """Set the ``shape``: one integer per axis (none gives a scalar; 0 is allowed).

        Memory is kept while the new count fits it, so the contents are reinterpreted; a larger
        count gets new, zeroed memory. Raises TypeError for anything but integers (a tuple or a
        list too: write ``reshape(*shape)``) and CaffeError for a negative size, more than 32
        axes, or more than 2147483647 elements, and RuntimeError for any ``kwargs``.
        """
        if kwargs:
            raise RuntimeError(f"Blob.reshape takes no kwargs, got {sorted(kwargs)}")
        sizes = []
        for size in shape:
            if not isinstance(size, (int, np.integer)) or isinstance(size, bool):
                raise TypeError(
                    f"Blob.reshape takes integers, one per axis, got {size!r}; write reshape(*shape)"
                )
            sizes.append(int(size))
        if len(sizes) > MAX_AXES:
            raise CaffeError(f"a blob has at most {MAX_AXES} axes, got {len(sizes)}")
        if any(size < 0 for size in sizes):
            raise CaffeError(f"a blob's sizes are at least 0, got shape {tuple(sizes)}")
        count = math.prod(sizes)
        if count > INT_MAX:
            raise CaffeError(f"blob size exceeds INT_MAX: shape {tuple(sizes)} has {count} elements")
        if self._data.withheld and tuple(sizes) != self._shape:
            self._data.zero()  # values of another shape: not worth computing
        self._shape, self._count = Shape(sizes), count
        if count > self._data.capacity:
            self._data = Memory(count)
        if count > self._diff.capacity:
            self._diff = Memory(count)

    @property
    def shape(self) -> Shape:
        """The sizes, one per axis."""
        self._require_shape()
        return self._shape

    @property
    def count(self) -> int:
        """Number of elements (1 for a scalar)."""
        return self._count

    @property
    def has_shape(self) -> bool:
        """False for a blob that was never shaped, such as an Input without a shape."""
        return self._shape is not None

    def _require_shape(self):
        if self._shape is None:
            raise CaffeError("this blob has no shape yet: call blob.reshape(...) first")

    def _legacy(self, axis: int) -> int:
        self._require_shape()
        if len(self._shape) > 4:
            raise CaffeError("Cannot use legacy accessors on Blobs with > 4 axes.")
        return self._shape[axis] if axis < len(self._shape) else 1

    num = property(lambda self: self._legacy(0), doc="Size of axis 0 (1 when it is missing).")
    channels = property(lambda self: self._legacy(1), doc="Size of axis 1 (1 when it is missing).")
    height = property(lambda self: self._legacy(2), doc="Size of axis 2 (1 when it is missing).")
    width = property(lambda self: self._legacy(3), doc="Size of axis 3 (1 when it is missing).")

    def shape_string(self) -> str:
        """The shape as Caffe logs it, ``1 3 2 2 (12)``."""
        return " ".join([*map(str, self.shape), f"({self._count})"])

    # -- NumPy --------------------------------------------------------------------------------

    @property
    def data(self) -> np.ndarray:
        """The values: a writable float32 array of the blob's shape that shares its memory."""
        self._require_shape()
        return self._data.array(self._count).reshape(self._shape)

    @property
    def diff(self) -> np.ndarray:
        """The gradient: a writable float32 array of the blob's shape that shares its memory."""
        self._require_shape()
        return self._diff.array(self._count).reshape(self._shape)

    @property
    def _gpu_data_ptr(self) -> int:
        """Address of the values on the GPU, until the next forward; AttributeError in CPU mode."""
        return self._pointer(self._data)

    @property
    def _gpu_diff_ptr(self) -> int:
        """Address of the gradient on the GPU, until the next backward; AttributeError in CPU mode."""
        return self._pointer(self._diff)

    def _pointer(self, memory: Memory) -> int:
        device = common.device()
        if device.type == "cpu":
            raise AttributeError("a blob has an address on the GPU in GPU mode only: caffe.set_mode_gpu()")
        self._require_shape()
        pointer = memory.tensor(self._count, device).data_ptr()
        memory.modified(device)
        return pointer

    # -- PyTorch (used by the layers and the solvers) --------------------------------------------

    def tensor(self, device: torch.device | None = None) -> torch.Tensor:
        """The values as a tensor on ``device`` (default: the thread's), sharing memory."""
        self._require_shape()
        return self._data.tensor(self._count, device or common.device()).view(self._shape)

    def diff_tensor(self, device: torch.device | None = None) -> torch.Tensor:
        """The gradient as a tensor on ``device`` (default: the thread's), sharing memory."""
        self._require_shape()
        return self._diff.tensor(self._count, device or common.device()).view(self._shape)

    def write(self, values: torch.Tensor) -> None:
        """Replace the values; ``values`` has the blob's count, and is given away to it."""
        self._data.write(values.contiguous())

    def write_diff(self, values: torch.Tensor) -> None:
        """Replace the gradient; ``values`` has the blob's count, and is given away to the blob."""
        self._diff.write(values.contiguous())

    def release(self, but: Sequence[Blob]) -> None:
        """Give back the space of the values, about to be written whole, unless a blob in ``but`` shares it."""
        if all(self._data is not other._data for other in but):
            self._data.release()

    def release_diff(self, but: Sequence[Blob]) -> None:
        """Give back the space of the gradient, about to be written whole, unless one in ``but`` shares it."""
        if all(self._diff is not other._diff for other in but):
            self._diff.release()

    def overwrite(self) -> np.ndarray:
        """The values as a flat array that the caller is about to set whole (contents undefined)."""
        self._require_shape()
        return self._data.overwrite(self._count)

    def add_diff(self, values: torch.Tensor) -> None:
        """Add to the gradient."""
        self._diff.add(values.contiguous())

    def zero_diff(self) -> None:
        """Set the gradient to 0."""
        self._diff.zero()

    def viewed(self) -> bool:
        """Does anybody hold a NumPy view of the values? Then :meth:`write` copies into them."""
        return self._data.viewed()

    def modified(self) -> None:
        """Say that :meth:`tensor` was written in place."""
        self._data.modified(common.device())

    def diff_modified(self) -> None:
        """Say that :meth:`diff_tensor` was written in place."""
        self._diff.modified(common.device())

    def share_data(self, other: Blob) -> None:
        """Use ``other``'s memory for the values from now on (counts must be equal)."""
        self._data = other._data

    def share_diff(self, other: Blob) -> None:
        """Use ``other``'s memory for the gradient from now on (counts must be equal)."""
        self._diff = other._diff
