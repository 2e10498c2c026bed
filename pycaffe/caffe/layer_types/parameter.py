"""Parameter: a learnable blob as a top, for layers that take their weights as a bottom."""

from __future__ import annotations

from ..errors import CaffeError
from ..layer import Layer, layer_error
from ..registry import register
from .rules import dims


@register("Parameter")
class Parameter(Layer):
    """A blob of ``parameter_param.shape``, zeros at first, whose values and gradient are those of the top.

    The two share memory, so the gradient is what the layer above writes into the top's diff: it is
    overwritten by every backward, not added to (with ``iter_size`` only the last one counts, as in
    Caffe).
    """

    exact_bottoms = 0
    exact_tops = 1

    def setup(self, bottom, top):
        shape = tuple(self.layer_param.parameter_param.shape.dim)
        try:
            self.blobs.add_blob(*shape)
        except CaffeError as error:
            raise layer_error(self, f"parameter_param {{ shape }} of {dims(shape)}: {error}") from error

    def reshape(self, bottom, top):
        top[0].reshape(*self.blobs[0].shape)
        top[0].share_data(self.blobs[0])
        top[0].share_diff(self.blobs[0])

    def forward(self, bottom, top):
        """The top's memory is the blob's."""

    def backward(self, top, propagate_down, bottom):
        """The layer above has written the blob's diff."""
