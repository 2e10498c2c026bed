"""What a net shows by number, its hooks, and how it runs over more items than one batch holds."""

from __future__ import annotations

from collections import OrderedDict
from itertools import zip_longest

import numpy as np

from .errors import CaffeError
from .vectors import BlobVec, DtypeVec, IntVec, StringVec


class NetAccess:
    """The part of :class:`caffe.Net` that only reads what the net was built with.

    Blobs are numbered in the order of ``net.blobs``, layers in that of ``net.layers``.
    """

    # -- by number ----------------------------------------------------------------------------------

    @property
    def _blobs(self) -> BlobVec:
        return BlobVec(self.blobs.values())

    @property
    def _blob_names(self) -> StringVec:
        return StringVec(self.blobs)

    @property
    def _blob_loss_weights(self) -> DtypeVec:
        return DtypeVec(self.blob_loss_weights.values())

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Blob name → its loss weight (0 for most)."""
        weights = OrderedDict((name, 0.0) for name in self.blobs)
        for tops, values in zip(self._top_lists, self._loss_weights, strict=True):
            weights.update(zip(tops, values, strict=True))
        return weights

    @property
    def _inputs(self) -> IntVec:
        return self._ids(self.inputs)

    @property
    def _outputs(self) -> IntVec:
        return self._ids(self.outputs)

    def _bottom_ids(self, index: int) -> IntVec:
        return self._ids(self._layer_params[index].bottom)

    def _top_ids(self, index: int) -> IntVec:
        return self._ids(self._top_lists[index])

    def _ids(self, names) -> IntVec:
        known = list(self.blobs)
        return IntVec(known.index(name) for name in names)

    # -- hooks --------------------------------------------------------------------------------------

    def before_forward(self, function) -> None:
        """Call ``function(layer_index)`` before each layer's forward, after the hooks set earlier."""
        self._hooks["before_forward"].append(function)

    def after_forward(self, function) -> None:
        """Call ``function(layer_index)`` after each layer's forward, after the hooks set earlier."""
        self._hooks["after_forward"].append(function)

    def before_backward(self, function) -> None:
        """Call ``function(layer_index)`` before each layer's backward, needed or not."""
        self._hooks["before_backward"].append(function)

    def after_backward(self, function) -> None:
        """Call ``function(layer_index)`` after each layer's backward, needed or not; also takes an ``NCCL``."""
        self._hooks["after_backward"].append(function)

    # -- many items ---------------------------------------------------------------------------------

    def set_input_arrays(self, data, labels) -> None:
        """Let the MemoryData layer that begins the net read ``data`` and ``labels``.

        ``data`` is N×C×H×W and ``labels`` N or N×1×1×1, both float32 and C-contiguous, C, H, W as
        the layer's and N a multiple of its batch size; they are used where they lie, not copied.
        Raises CaffeError (a RuntimeError) for arrays of another kind, and for a net that begins
        with another layer.
        """
        self._set_input_arrays(data, labels)

    def _set_input_arrays(self, data, labels) -> None:
        first = next(iter(self.layers), None)
        if getattr(first, "type", None) != "MemoryData":
            found = f"layer '{first.name}' is of type {first.type}" if first else "the net has no layers"
            raise CaffeError(
                f"set_input_arrays may only be called if the first layer is a MemoryDataLayer; {found}"
            )
        first.set_arrays(data, labels)

    def forward_all(self, blobs=None, **kwargs) -> dict[str, np.ndarray]:
        """Run the net over any number of items: ``kwargs`` give the arrays, one for each net input.

        They are cut into batches of the first blob's axis 0, the last one padded with zeros. Returns
        name → array for the net's outputs and the names in ``blobs``: copies, joined along axis 0, without the
        padding. A scalar output (a loss) gives one value for each batch. Raises as :meth:`forward`.
        """
        self._require_arrays(kwargs, self.inputs)
        outs: dict[str, list] = {}
        for batch in self._batch(kwargs):
            _collect(outs, self.forward(blobs=blobs, **batch))
        return self._joined(outs, kwargs)

    def forward_backward_all(self, blobs=None, diffs=None, **kwargs) -> tuple[dict, dict]:
        """Run forward and backward over any number of items: ``kwargs`` give inputs and outputs' diffs.

        Returns two dictionaries, name → array: what :meth:`forward_all` gives with ``blobs``, and the
        diffs of the net's inputs and of the names in ``diffs``. The diffs of parameters add up over all
        batches. Raises as :meth:`forward` and :meth:`backward`.
        """
        self._require_arrays(kwargs, [*self.inputs, *self.outputs])
        outs: dict[str, list] = {}
        grads: dict[str, list] = {}
        inputs, seeds = (
            self._batch({name: kwargs[name] for name in names if name in kwargs})
            for names in (self.inputs, self.outputs)
        )
        for batch, seed in zip_longest(inputs, seeds, fillvalue={}):
            _collect(outs, self.forward(blobs=blobs, **batch))
            _collect(grads, self.backward(diffs=diffs, **seed))
        return self._joined(outs, kwargs), self._joined(grads, kwargs)

    @staticmethod
    def _require_arrays(arrays: dict, names: list[str]) -> None:
        if not arrays or not set(arrays) <= set(names):
            raise Exception(
                f"Input blob arguments do not match net inputs. Given: {sorted(arrays)}; known here: {names}"
            )
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1 or 0 in lengths.values():
            raise Exception(
                f"the arrays must hold equally many items along axis 0, at least one, got {lengths}"
            )

    def _batch_size(self) -> int:
        name, blob = next(iter(self.blobs.items()))
        if not (blob.shape and blob.shape[0]):
            raise CaffeError(
                f"arrays are cut into batches as long as axis 0 of the net's first blob, but '{name}' has shape "
                f"{tuple(blob.shape)}; reshape it"
            )
        return blob.shape[0]

    def _batch(self, blobs: dict):
        """The arrays of ``blobs`` in batches, dictionaries of the same names, the last padded with zeros."""
        length = max(map(len, blobs.values()), default=0)
        size = self._batch_size()
        for at in range(0, length, size):
            yield {name: _padded(np.asarray(array[at : at + size]), size) for name, array in blobs.items()}

    def _joined(self, parts: dict[str, list], arrays: dict) -> dict[str, np.ndarray]:
        """Each name's batches as one array; those that have an item for each of the net's lose the padding."""
        length, size = len(next(iter(arrays.values()))), self._batch_size()
        joined = {}
        for name, batches in parts.items():
            cut = length if len(batches[0]) == size else None
            joined[name] = np.concatenate(batches)[:cut]
        return joined


def _collect(parts: dict[str, list], arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        parts.setdefault(name, []).append(np.atleast_1d(array).copy())


def _padded(array: np.ndarray, length: int) -> np.ndarray:
    """``array`` with zero items appended up to ``length``."""
    padding = [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1)
    return np.pad(array, padding)
