"""Softmax and SoftmaxWithLoss, the loss of every FCN."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..layer import TensorLayer
from ..registry import register
from .labels import LabelRule
from .loss_rules import Denominator, Loss
from .rules import canonical_axis

FLT_MIN = torch.finfo(torch.float32).tiny


@register("Softmax")
class Softmax(TensorLayer):
    """exp(x) / sum exp(x) over ``axis`` (1), computed after subtracting the maximum."""

    exact_bottoms = 1
    exact_tops = 1

    def top_shapes(self, shapes):
        self.axis = canonical_axis(self, self.layer_param.softmax_param.axis, shapes[0])
        return [shapes[0]]

    def compute(self, bottoms, params):
        return [torch.softmax(bottoms[0], self.axis)]


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(Loss):
    """Multinomial logistic loss of softmax probabilities: sum of -log p[label] over a denominator.

    Bottoms: scores (N, C, ...) with C on ``softmax_param.axis`` (1), and labels, one a prediction
    in any shape that begins with N, floats that are truncated to integers. Tops: the loss, a
    scalar, and if wanted the probabilities (which pass no gradient down).

    ``loss_param``: labels equal to ``ignore_label`` cost nothing. ``normalization`` divides by the
    number of predictions (FULL), of those not ignored (VALID, the default), by N (BATCH_SIZE) or
    by 1 (NONE); the old ``normalize`` means VALID when true and BATCH_SIZE when false. The
    denominator is at least 1. One prediction costs at most 87.33655, -log of the smallest float.

    Raises CaffeError for labels outside 0..C-1 that are not the ignore label, with their values
    and counts.
    """

    exact_tops = None
    min_tops = 1
    max_tops = 2

    def configure(self, shapes):
        param = self.layer_param.loss_param
        self.rule = LabelRule(self, param.ignore_label if param.HasField("ignore_label") else None)
        self.denominator = Denominator(param)

    def top_shapes(self, shapes):
        scores, labels = shapes
        self.axis = canonical_axis(self, self.layer_param.softmax_param.axis, scores)
        self.check_items(scores, labels)
        self.rule.check_shapes(scores, labels, self.axis, "softmax axis")
        return [(), scores][: max(1, len(self.layer_param.top))]

    def compute(self, bottoms, params):
        scores, labels = bottoms
        folded = scores.reshape(self.rule.outer, scores.shape[self.axis], self.rule.inner)
        labels, ignored = self.rule.read(labels, folded.shape[1])
        denominator = self.denominator.of(self.rule.outer, labels.numel(), ignored)
        loss, probability = _Loss.apply(folded, labels, ignored, denominator)
        return [loss, probability.view(scores.shape)][: max(1, len(self.layer_param.top))]


class _Loss(torch.autograd.Function):
    """(loss, probabilities) of scores (outer, C, inner) and labels (outer, inner), int64 in 0..C-1.

    By hand for three reasons: the loss is cut off where the gradient is not, one array the size
    of the scores is kept instead of two, and the gradient is made in one pass over it.
    """

    @staticmethod
    def forward(ctx, scores, labels, ignored, denominator):
        probability = torch.softmax(scores, 1)
        cost = probability.gather(1, labels.unsqueeze(1)).squeeze(1).clamp_(min=FLT_MIN).log_().neg_()
        if ignored is not None:
            cost.masked_fill_(ignored, 0)
        ctx.save_for_backward(probability, labels, ignored)
        ctx.denominator = denominator
        ctx.mark_non_differentiable(probability)
        return cost.sum() / denominator, probability

    @staticmethod
    def backward(ctx, seed, _):
        probability, labels, ignored = ctx.saved_tensors
        weight = (seed / ctx.denominator).expand(labels.shape)
        if ignored is not None:
            weight = weight.masked_fill(ignored, 0)
        weight = weight.unsqueeze(1)
        grad = probability * weight
        grad.scatter_add_(1, labels.unsqueeze(1), -weight)
        # a confident net's gradient is mostly smaller than the smallest normal float, and arithmetic on such
        # numbers is many times slower in the layers below: make them 0
        return F.hardshrink(grad, FLT_MIN), None, None, None
