"""Scale and Bias: factors and terms, learned or from a second blob, broadcast along some axes."""

from __future__ import annotations

import torch

from ..layer import TensorLayer
from ..proto import caffe_pb2
from ..registry import register
from .rules import add_blob, canonical_axis, dims


class _BroadcastLayer(TensorLayer):
    """bottom[0] combined with values that are broadcast along its axes from ``axis`` on.

    The values are blob 0 when there is one bottom, else bottom[1].
    """

    min_bottoms = 1
    max_bottoms = 2
    exact_tops = 1
    gradient_reads_tops = False
    values = ""  # what they are called

    def options(self):
        """The message of this type's options."""
        raise NotImplementedError

    def learned_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of blob 0 over a bottom of ``shape``: ``num_axes`` of its axes (-1: all the rest)."""
        param = self.options()
        if param.num_axes < -1:
            raise self.error(
                f"num_axes must be non-negative, or -1 to extend to the end; got {param.num_axes}"
            )
        axis = canonical_axis(self, param.axis, shape)
        end = len(shape) if param.num_axes == -1 else axis + param.num_axes
        if end > len(shape):
            raise self.error(
                f"{self.values} blob's shape extends past bottom[0]'s shape when applied starting with bottom[0] axis "
                f"{axis}: num_axes is {param.num_axes}, bottom[0] is {dims(shape)}"
            )
        return shape[axis:end]

    def top_shapes(self, shapes):
        whole = shapes[0]
        values = shapes[1] if len(shapes) == 2 else self.blobs[0].shape
        axis = (
            canonical_axis(self, self.options().axis, whole) if values else 0
        )  # a scalar goes with any axis
        if axis + len(values) > len(whole):
            raise self.error(
                f"{self.values} blob's shape extends past bottom[0]'s shape when applied starting with bottom[0] axis "
                f"{axis}: it is {dims(values)}, bottom[0] is {dims(whole)}"
            )
        for i, size in enumerate(values):
            if whole[axis + i] != size:
                raise self.error(
                    f"dimension mismatch between bottom[0]->shape({axis + i}) and {self.values}->shape({i}): "
                    f"{whole[axis + i]} vs. {size}; bottom[0] is {dims(whole)}, the {self.values} blob {dims(values)}"
                )
        self.broadcast = (*values, *[1] * (len(whole) - axis - len(values)))
        return [whole]


@register("Scale")
class Scale(_BroadcastLayer):
    """bottom[0] times factors that are broadcast along its axes from ``axis`` (1) on.

    One bottom: the factors are blob 0, shaped as ``num_axes`` (1; -1: all the rest; 0: a scalar) of
    bottom[0]'s axes, filled with 1 unless ``filler`` says otherwise. Two: the factors are
    bottom[1]. With ``bias_term`` the last blob, of the factors' shape, is added.
    """

    values = "scale"

    def options(self):
        return self.layer_param.scale_param

    def configure(self, shapes):
        param = self.options()
        factors = shapes[1] if len(shapes) == 2 else self.learned_shape(shapes[0])
        if len(shapes) == 1:
            one = caffe_pb2.FillerParameter(type="constant", value=1)
            add_blob(self, factors, param.filler if param.HasField("filler") else one)
        if param.bias_term:
            add_blob(self, factors, param.bias_filler)

    def compute(self, bottoms, params):
        x = bottoms[0]
        factors, *bias = [*bottoms[1:], *params]
        if not bias:
            return [x * factors.view(self.broadcast)]
        return [torch.addcmul(bias[0].view(self.broadcast), x, factors.view(self.broadcast))]


@register("Bias")
class Bias(_BroadcastLayer):
    """bottom[0] plus terms that are broadcast along its axes from ``axis`` (1) on.

    One bottom: the terms are blob 0, shaped as ``num_axes`` (1; -1: all the rest; 0: a scalar) of
    bottom[0]'s axes, filled by ``filler`` (0). Two: the terms are bottom[1].
    """

    values = "bias"

    def options(self):
        return self.layer_param.bias_param

    def configure(self, shapes):
        if len(shapes) == 1:
            add_blob(self, self.learned_shape(shapes[0]), self.options().filler)

    def compute(self, bottoms, params):
        (terms,) = [*bottoms[1:], *params]
        return [bottoms[0] + terms.view(self.broadcast)]
