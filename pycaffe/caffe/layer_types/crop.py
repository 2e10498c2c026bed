"""Crop: the part of one blob that has another's size."""

from __future__ import annotations

import torch.nn.functional as F

from ..layer import TensorLayer
from ..registry import register
from .rules import canonical_axis, dims


@register("Crop")
class Crop(TensorLayer):
    """bottom[0] cut, from ``axis`` (2) on, to the size of bottom[1], whose values are not read.

    ``offset``: where the part begins; none (0), one for all cut axes, or one for each. The gradient
    is 0 outside the part, and for bottom[1].
    """

    exact_bottoms = 2
    exact_tops = 1

    def top_shapes(self, shapes):
        source, reference = shapes
        param = self.layer_param.crop_param
        axis = canonical_axis(self, param.axis, source)
        if len(reference) < len(source):
            raise self.error(
                f"bottom[1] needs as many axes as bottom[0]: it is {dims(reference)}, bottom[0] {dims(source)}"
            )
        offsets = list(param.offset)
        if len(offsets) > 1 and len(offsets) != len(source) - axis:
            raise self.error(
                "number of offset values specified must be equal to the number of dimensions following axis. "
                f"{len(offsets)} given, axis {axis} of {dims(source)} is followed by {len(source) - axis} "
                "(itself included)"
            )
        if len(offsets) <= 1:
            offsets = (offsets or [0]) * (len(source) - axis)
        offsets = [0] * axis + offsets
        top = (*source[:axis], *reference[axis : len(source)])
        self.border: list[int] = []  # as F.pad wants it: last axis first, negative to cut
        for i, (offset, size, length) in enumerate(zip(offsets, top, source, strict=True)):
            if offset + size > length:
                raise self.error(
                    f"the crop for dimension {i} is out-of-bounds with size {size} and offset {offset}: "
                    f"bottom[0], {dims(source)}, has {length} there; bottom[1] is {dims(reference)}"
                )
            self.border = [-offset, offset + size - length, *self.border]
        return [top]

    def compute(self, bottoms, params):
        return [F.pad(bottoms[0], self.border)]
