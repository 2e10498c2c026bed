"""The weights of a net: in files, and shared with another net."""

from __future__ import annotations

from . import caffemodel, hdf5_model
from .blob import Blob
from .errors import CaffeError
from .layer import Layer, layer_error
from .log import logger


class NetWeights:
    """The part of :class:`caffe.Net` that loads, saves and shares parameters."""

    def copy_from(self, path) -> None:
        """Load the weights in ``path``, a ``.caffemodel`` or ``.caffemodel.h5``, into the layers of equal name.

        The content says which it is. Layers that the file lacks keep their values; layers that the
        net lacks are ignored. Values that are NaN or infinite load, with a warning. Raises
        CaffeError, before anything is changed, when a layer's blobs differ in number or shape.
        """
        with caffemodel.open_model(path) as model:
            self._load(model)

    def load_hdf5(self, path) -> None:
        """Load the weights in ``path``, a ``.caffemodel.h5``, as :meth:`copy_from`."""
        with caffemodel.HDF5Model(path) as model:
            self._load(model)

    def _load(self, model) -> None:
        plan = []
        shared = [] if model.lists_shared else self._shared_blobs()
        for stored in model.layers():
            if stored.name not in self._layer_names:
                logger.info("Ignoring source layer %s", stored.name)
                continue
            layer = self.layers[self._index(stored.name)]
            _check_source(model.path, stored, layer, shared)
            plan += [(layer, i, source) for i, source in enumerate(stored.blobs) if source is not None]
        for layer, i, source in plan:
            if not model.fill(layer.blobs[i], source):
                logger.warning(
                    "%s: layer '%s', blob %d has values that are NaN or infinite: was its training lost?",
                    model.path,
                    layer.name,
                    i,
                )

    def _shared_blobs(self) -> list[Blob]:
        """The parameter blobs that use another one's memory."""
        return [blob for blob, _ in self._param_table._sharers]

    def share_with(self, other) -> None:
        """Use the parameter values of the net ``other``'s layers of equal name, in the same memory.

        Raises CaffeError, before anything is changed, when a layer's blobs differ in number or shape.
        """
        pairs = []
        for name, source in zip(other._layer_names, other.layers, strict=True):
            if name not in self._layer_names:
                continue
            layer = self.layers[self._index(name)]
            if len(layer.blobs) != len(source.blobs):
                raise layer_error(
                    layer,
                    f"Incompatible number of blobs for layer {name}: {len(source.blobs)} in the other net, "
                    f"{len(layer.blobs)} here",
                )
            for i, (mine, theirs) in enumerate(zip(layer.blobs, source.blobs, strict=True)):
                if mine.shape != theirs.shape:
                    raise layer_error(
                        layer,
                        f"Cannot share param {i} weights from layer '{name}'; shape mismatch.  Source param shape "
                        f"is {theirs.shape_string()}; target param shape is {mine.shape_string()}",
                    )
                pairs.append((mine, theirs))
        for mine, theirs in pairs:
            mine.share_data(theirs)

    def save(self, path) -> None:
        """Write all parameters to ``path`` as a ``.caffemodel``. The file appears whole or not at all."""
        caffemodel.save(path, self._name, self._stored_layers())

    def save_hdf5(self, path, write_diff: bool = False) -> None:
        """Write all parameters to ``path`` as a ``.caffemodel.h5``, with ``write_diff`` their diffs too.

        The file appears whole or not at all. Raises CaffeError when two layers with parameters have
        one name, or a name is no HDF5 path. The original cannot read names with slashes in it.
        """
        hdf5_model.save_model(path, self._stored_layers(), self._shared_blobs(), write_diff)

    def _stored_layers(self):
        return [(param, layer.blobs) for param, layer in zip(self._layer_params, self.layers, strict=True)]


def _check_source(path: str, stored, layer: Layer, shared: list[Blob]):
    """Do the blobs of a stored layer fit? Those in ``shared`` may be missing."""
    lacking = len(stored.blobs) > len(layer.blobs)
    for i, blob in enumerate(layer.blobs):
        if i >= len(stored.blobs) or stored.blobs[i] is None:
            lacking = lacking or all(blob is not other for other in shared)
    if lacking:
        raise CaffeError(
            f"{path}: Incompatible number of blobs for layer {layer.name}: "
            f"{sum(blob is not None for blob in stored.blobs)} in the file, {len(layer.blobs)} in the net. These are "
            "weights of another net; rename the layer to learn it afresh."
        )
    for i, (source, blob) in enumerate(zip(stored.blobs, layer.blobs, strict=False)):
        if source is not None and not source.fits(blob.shape):
            raise CaffeError(
                f"{path}: Cannot copy param {i} weights from layer '{layer.name}'; shape mismatch.  Source param "
                f"shape is {' '.join(map(str, source.shape))} ({source.count}); target param shape is "
                f"{blob.shape_string()}. To learn this layer's parameters from scratch rather than copying from a "
                "saved net, rename the layer."
            )
