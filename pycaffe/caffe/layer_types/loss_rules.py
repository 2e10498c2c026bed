"""What the losses share: their blobs, and what they divide their sum by."""

from __future__ import annotations

import math

import torch

from ..layer import TensorLayer
from ..proto import caffe_pb2
from .rules import dims

LOG_THRESHOLD = 1e-20  # probabilities below count as this much in a logarithm

_MODES = caffe_pb2.LossParameter


class Loss(TensorLayer):
    """A scalar of predictions (bottom 0) and labels (bottom 1, which get no gradient).

    Its loss weight is 1 unless the prototxt says otherwise, and it needs no top in the prototxt.
    """

    exact_bottoms = 2
    exact_tops: int | None = 1
    auto_tops = True
    is_loss = True
    gradient_refused = (1,)
    force_backward_refused = (1,)

    def check_items(self, data: tuple[int, ...], labels: tuple[int, ...]) -> None:
        """Raise the layer's error unless ``data`` and ``labels`` have as many items, on axis 0."""
        if not data or not labels or data[0] != labels[0]:
            raise self.error(
                "The data and label should have the same first dimension. "
                f"bottom[0] is {dims(data)}, bottom[1] {dims(labels)}"
            )

    def check_single(self, labels: tuple[int, ...]) -> None:
        """Raise the layer's error unless bottom[1], of the shape ``labels``, holds one number an item."""
        if math.prod(labels[1:]) != 1:
            raise self.error(
                f"bottom[1] holds one number an item, in the shape N or Nx1x1x1, but it is {dims(labels)}"
            )


class Denominator:
    """What a loss is divided by, as its ``param`` (LossParameter) says; at least 1.

    ``normalization``: the number of values (FULL), of those not ignored (VALID), of items
    (BATCH_SIZE), or 1 (NONE). Without it the old ``normalize`` means VALID when true and
    BATCH_SIZE when false; with neither it is ``default``.
    """

    def __init__(self, param: caffe_pb2.LossParameter, default=_MODES.VALID):
        if param.HasField("normalization"):
            self.mode = param.normalization
        elif param.HasField("normalize"):
            self.mode = _MODES.VALID if param.normalize else _MODES.BATCH_SIZE
        else:
            self.mode = default

    def of(self, items: int, values: int, ignored: torch.Tensor | None) -> torch.Tensor | int:
        """The denominator for so many ``items`` and ``values``; ``ignored``: where not to count, or None."""
        if self.mode == _MODES.VALID and ignored is not None:
            return (values - ignored.sum()).clamp(min=1)
        counts = {_MODES.FULL: values, _MODES.VALID: values, _MODES.BATCH_SIZE: items, _MODES.NONE: 1}
        return max(1, counts[self.mode])
