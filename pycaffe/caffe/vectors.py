"""The vector types of pycaffe: lists whose slices are vectors of the same type.

Nets, layers and solvers show their parts in them: ``net.layers`` (LayerVec), ``net._layer_names``
(StringVec), ``layer.blobs`` (BlobVec), ``solver.test_nets`` (NetVec). Python's lists do the rest:
length, items (also from the end), iteration, ``in``, append, extend, ``del``.
"""

from __future__ import annotations

from .blob import Blob


class Vector(list):
    """A list of things of the type ``kind``, whose slices have its own type."""

    kind: type = object

    def __getitem__(self, index):
        items = super().__getitem__(index)
        return type(self)(items) if isinstance(index, slice) else items

    def append(self, item) -> None:
        """Append ``item``; TypeError unless it is of the vector's ``kind``."""
        if not isinstance(item, self.kind):
            raise TypeError(
                f"Attempting to append an invalid type: {type(self).__name__} holds {self.kind.__name__}, got {item!r}"
            )
        super().append(item)

    def extend(self, items) -> None:
        """Append all ``items``; TypeError unless they are of the vector's ``kind``."""
        for item in list(items):
            self.append(item)


class BlobVec(Vector):
    """The blobs that a layer owns; ``add_blob`` makes a new one."""

    kind = Blob

    def add_blob(self, *shape: int, **kwargs) -> None:
        """Append a blob of zeros of the given ``shape``, one integer per axis (none: a scalar).

        Raises RuntimeError for any ``kwargs``, else as :meth:`caffe.Blob.reshape` does.
        """
        if kwargs:
            raise RuntimeError(f"BlobVec.add_blob takes no kwargs, got {sorted(kwargs)}")
        blob = Blob()
        blob.reshape(*shape)
        self.append(blob)


class RawBlobVec(Vector):
    """The bottoms or tops of a layer."""

    kind = Blob


class LayerVec(Vector):
    """The layers of a net."""


class NetVec(Vector):
    """The test nets of a solver."""


class StringVec(Vector):
    """Names."""

    kind = str


class IntVec(Vector):
    """Integers: numbers of blobs."""

    kind = int


class DtypeVec(Vector):
    """Floating-point numbers: loss weights."""

    kind = float


class BoolVec(Vector):
    """Truth values: ``propagate_down``."""

    kind = bool
