"""Accuracy: the share of predictions that are right."""

from __future__ import annotations

import torch

from ..layer import TensorLayer
from ..registry import register
from .labels import LabelRule
from .rules import canonical_axis


@register("Accuracy")
class Accuracy(TensorLayer):
    """The share of predictions whose true class is among the ``top_k`` (1) highest scores.

    Bottoms: scores (N, C, ...) with C on ``axis`` (1), and as many labels as predictions. Tops: the
    accuracy, a scalar, and if wanted that of each class (C), 0 for a class without labels. Labels
    equal to ``ignore_label`` are left out; all ignored gives 0. A score equal to the true
    class's counts as higher. There is no gradient.
    """

    exact_bottoms = 2
    min_tops = 1
    max_tops = 2
    no_gradient = True

    def configure(self, shapes):
        param = self.layer_param.accuracy_param
        self.top_k = param.top_k
        self.rule = LabelRule(self, param.ignore_label if param.HasField("ignore_label") else None)

    def top_shapes(self, shapes):
        scores, labels = shapes
        self.axis = canonical_axis(self, self.layer_param.accuracy_param.axis, scores)
        self.rule.check_shapes(scores, labels, self.axis, "label axis")
        if self.top_k > scores[self.axis]:
            raise self.error(
                "top_k must be less than or equal to the number of classes. "
                f"top_k: {self.top_k}, classes: {scores[self.axis]}"
            )
        return [(), (scores[self.axis],)][: len(self.layer_param.top)]

    def compute(self, bottoms, params):
        scores, labels = bottoms
        classes = scores.shape[self.axis]
        scores = scores.detach().reshape(self.rule.outer, classes, self.rule.inner)
        labels, ignored = self.rule.read(labels, classes)
        own = scores.gather(1, labels.unsqueeze(1))
        correct = (scores >= own).sum(1) - 1 < self.top_k
        counted = torch.ones_like(correct) if ignored is None else ~ignored
        correct &= counted
        tops = [_share(correct.sum(), counted.sum(), scores.dtype)]
        if len(self.layer_param.top) == 2:
            of_class = [torch.bincount(labels[chosen], minlength=classes) for chosen in (correct, counted)]
            tops.append(_share(*of_class, scores.dtype))
        return tops


def _share(part: torch.Tensor, whole: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return part.to(dtype) / whole.clamp(min=1).to(dtype)
