"""Labels as losses and accuracies read them: one class number a prediction."""

from __future__ import annotations

import math

import torch

from ..layer import TensorLayer
from .rules import dims

_NAMED = 5  # so many wrong values are listed


class LabelRule:
    """Which labels a layer takes: 0..C-1, and ``ignore_label`` unless it is None."""

    def __init__(self, layer: TensorLayer, ignore_label: int | None):
        self.layer = layer
        self.ignore_label = ignore_label
        self.outer = self.inner = 0  # predictions: those before the class axis, times those after it

    def check_shapes(self, scores: tuple[int, ...], labels: tuple[int, ...], axis: int, name: str) -> None:
        """Note the number of predictions: of ``scores``, without its ``axis``.

        Raises the layer's error, which calls the bottom ``name``, unless there are as many ``labels``.
        """
        self.outer, self.inner = math.prod(scores[:axis]), math.prod(scores[axis + 1 :])
        if self.outer * self.inner != math.prod(labels):
            raise self.layer.error(
                f"Number of labels must match number of predictions; e.g., if {name} == 1 and prediction "
                "shape is (N, C, H, W), label count (number of labels) must be N*H*W, with integer values in "
                f"{{0, 1, ..., C-1}}. Scores are {dims(scores)}, with classes on axis {axis}: "
                f"{self.outer * self.inner} predictions; labels are {dims(labels)}: {math.prod(labels)}. "
                "A difference of a few pixels is for a Crop layer to take off"
            )

    def read(self, labels: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """``labels`` as int64 (outer, inner), those to ignore replaced by 0, and where those are.

        The second is None when nothing can be ignored. Raises the layer's error for a label
        outside 0..classes-1 that is not to be ignored.
        """
        numbers = labels.reshape(self.outer, self.inner).long()  # truncates toward zero
        ignored = None if self.ignore_label is None else numbers == self.ignore_label
        if ignored is not None:
            numbers = numbers.masked_fill(ignored, 0)
        if numbers.numel():
            lowest, highest = torch.aminmax(numbers)
            if (lowest < 0) | (highest >= classes):
                wrong = (numbers < 0) | (numbers >= classes)
                raise self.layer.error(self._complaint(labels.reshape(numbers.shape)[wrong], classes))
        return numbers, ignored

    def _complaint(self, wrong: torch.Tensor, classes: int) -> str:
        values, counts = wrong.detach().unique(return_counts=True)
        found = [f"{v:g} ({n} pixels)" for v, n in zip(values.tolist(), counts.tolist(), strict=True)]
        if len(found) > _NAMED:
            found[_NAMED:] = [f"{len(found) - _NAMED} more values"]
        if self.ignore_label is None:
            ignore = "no ignore_label is set; to skip a value, give it as ignore_label"
        else:
            ignore = f"the ignore_label is {self.ignore_label}"
        return (
            f"{wrong.numel()} labels are out of range: {', '.join(found)}. The {classes} classes are "
            f"0..{classes - 1}, and {ignore}"
        )
