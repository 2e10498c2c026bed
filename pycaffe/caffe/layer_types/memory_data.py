"""MemoryData: batches out of two NumPy arrays."""

from __future__ import annotations

import numpy as np

from ..data_transformer import DataTransformer
from ..layer import Layer, layer_error
from ..log import logger
from ..registry import register
from .batches import named


@register("MemoryData")
class MemoryData(Layer):
    """``batch_size`` items at a time, in order and round and round, of arrays given by :meth:`set_arrays`.

    Nothing is transformed. The labels' top is of shape (N) at first and, as in Caffe, N x 1 x 1 x 1
    from the first forward on. ``batch_size``, ``channels``, ``height`` and ``width`` are those of
    ``memory_data_param``.
    """

    exact_bottoms = 0
    exact_tops = 2

    def setup(self, bottom, top):
        param = self.layer_param.memory_data_param
        self.batch_size = param.batch_size
        self.channels, self.height, self.width = param.channels, param.height, param.width
        with named(self):  # a transformer only for the draw that Caffe makes
            DataTransformer(self.layer_param.transform_param, self.phase).init_rand()
        if not min(self.batch_size, self.channels, self.height, self.width):
            raise layer_error(
                self,
                "batch_size, channels, height, and width must be specified and positive in memory_data_param; they are "
                f"{self.batch_size}, {self.channels}, {self.height}, {self.width}",
            )
        with named(self):
            top[0].reshape(self.batch_size, self.channels, self.height, self.width)
        top[1].reshape(self.batch_size)
        self._data = self._labels = None
        self._position = 0

    def set_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Take the items to come from ``data``, N x C x H x W, and ``labels``, N or N x 1 x 1 x 1.

        Both must be float32 and C-contiguous, of the layer's C, H and W, and N a multiple of
        ``batch_size``. They are kept, not copied: what is written into them later is seen. Raises
        CaffeError, and keeps what it had, when one does not fit.
        """
        if isinstance(labels, np.ndarray) and labels.ndim == 1:
            labels = np.ascontiguousarray(labels)[:, np.newaxis, np.newaxis, np.newaxis]
        self._check(data, "data array", (self.channels, self.height, self.width))
        self._check(labels, "labels array", (1, 1, 1))
        if len(data) != len(labels):
            raise layer_error(
                self,
                f"data and labels must have the same first dimension; they have {len(data)} and {len(labels)}",
            )
        if len(data) % self.batch_size or not len(data):
            raise layer_error(
                self,
                f"first dimensions of input arrays must be a multiple of batch size: {len(data)} items, "
                f"batch_size {self.batch_size}",
            )
        if self.layer_param.HasField("transform_param"):
            logger.warning("MemoryData does not transform array data on Reset()")
        self._data, self._labels, self._position = data, labels, 0

    def _check(self, array, name: str, sizes: tuple[int, int, int]) -> None:
        if not isinstance(array, np.ndarray):
            raise layer_error(self, f"{name} must be a NumPy array, got {type(array).__name__}")
        if not array.flags.c_contiguous:
            raise layer_error(self, f"{name} must be C contiguous; use numpy.ascontiguousarray")
        if array.ndim != 4:
            raise layer_error(self, f"{name} must be 4-d, N x C x H x W; its shape is {array.shape}")
        if array.dtype != np.float32:
            raise layer_error(self, f"{name} must be float32; it is {array.dtype}")
        words = "wrong number of channels", "wrong height", "wrong width"
        for word, found, wanted in zip(words, array.shape[1:], sizes, strict=True):
            if found != wanted:
                raise layer_error(self, f"{name} has {word}: {found}, the layer's is {wanted}")

    def reshape(self, bottom, top):
        """Each forward sizes the tops."""

    def forward(self, bottom, top):
        if self._data is None:
            raise layer_error(
                self,
                "MemoryDataLayer needs to be initialized by calling Reset: "
                "call net.set_input_arrays(data, labels) before forward",
            )
        items = slice(self._position, self._position + self.batch_size)
        top[0].reshape(self.batch_size, self.channels, self.height, self.width)
        top[1].reshape(self.batch_size, 1, 1, 1)
        top[0].data[...] = self._data[items]
        top[1].data[...] = self._labels[items]
        self._position = items.stop % len(self._data)

    def backward(self, top, propagate_down, bottom):
        """Nothing lies below."""
