"""Losses of distances, of scores and of probabilities; SoftmaxWithLoss and InfogainLoss are elsewhere."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..proto import caffe_pb2
from ..registry import register
from .labels import LabelRule
from .loss_rules import LOG_THRESHOLD, Denominator, Loss
from .rules import dims

_NEAR = 1e-4  # added to a distance that is divided by


@register("EuclideanLoss")
class EuclideanLoss(Loss):
    """sum (a - b)^2 / (2 N): half the squared distance of bottoms 0 and 1, a mean over their N items.

    The two have the same number of values an item, in any shape. Both get gradients.
    """

    gradient_refused = ()
    force_backward_refused = ()

    def top_shapes(self, shapes):
        self.check_items(*shapes)
        if math.prod(shapes[0][1:]) != math.prod(shapes[1][1:]):
            raise self.error(
                f"Inputs must have the same dimension. bottom[0] is {dims(shapes[0])}, bottom[1] {dims(shapes[1])}"
            )
        return [()]

    def compute(self, bottoms, params):
        difference = bottoms[0] - bottoms[1].reshape(bottoms[0].shape)
        return [difference.square().sum() / bottoms[0].shape[0] / 2]


@register("ContrastiveLoss")
class ContrastiveLoss(Loss):
    """Pulls similar pairs together and pushes others ``margin`` (1) apart.

    Bottoms: a and b (N, C), where more axes have size 1, and N numbers that are, truncated, 0
    for pairs unlike each other. With the distance d of a pair the loss is the sum of d^2 (similar)
    or max(margin - d, 0)^2 (not), or with ``legacy_version`` max(margin - d^2, 0), over 2 N.
    The gradient of unlike pairs divides by d + 0.0001, so that it is finite at d = 0.
    """

    exact_bottoms = 3
    gradient_refused = ()
    force_backward_refused = (2,)

    def configure(self, shapes):
        self.param = self.layer_param.contrastive_loss_param

    def top_shapes(self, shapes):
        self.check_items(*shapes[:2])
        a, b, similar = shapes
        self.shape = (a[0], a[1] if len(a) > 1 else 1)
        if math.prod(a[2:]) != 1 or math.prod(b[2:]) != 1 or math.prod(b) != math.prod(self.shape):
            raise self.error(
                "bottom[0] and bottom[1] hold one vector an item, both of the same channels, in the shape NxC or "
                f"NxCx1x1, but they are {dims(a)} and {dims(b)}"
            )
        if similar[:1] != a[:1] or math.prod(similar[1:]) != 1:
            raise self.error(
                f"bottom[2] holds one number a pair, in the shape N or Nx1x1x1, N = {a[0]}, but it is {dims(similar)}"
            )
        return [()]

    def compute(self, bottoms, params):
        a, b = (bottom.reshape(self.shape) for bottom in bottoms[:2])
        similar = bottoms[2].detach().reshape(self.shape[0]).trunc() != 0
        return [_Contrast.apply(a - b, similar, self.param.margin, self.param.legacy_version)]


class _Contrast(torch.autograd.Function):
    """The loss of differences (N, C); by hand because Caffe's gradient has a distance that is never 0."""

    @staticmethod
    def forward(ctx, difference, similar, margin, legacy):
        squared = difference.square().sum(1)
        distance = squared.sqrt()
        gap = margin - (squared if legacy else distance)
        unlike = gap.clamp(min=0) if legacy else gap.clamp(min=0).square()
        pull = torch.ones_like(gap) if legacy else gap / (distance + _NEAR)
        ctx.save_for_backward(difference, torch.where(similar, 1, torch.where(gap > 0, -pull, 0)))
        return torch.where(similar, squared, unlike).sum() / len(difference) / 2

    @staticmethod
    def backward(ctx, seed):
        difference, factor = ctx.saved_tensors
        return (seed / len(difference)) * factor[:, None] * difference, None, None, None


class _OneLabelAnItem(Loss):
    """A loss of N items whose values from axis 1 on are those of the classes, with one label each."""

    def configure(self, shapes):
        self.rule = LabelRule(self, None)

    def top_shapes(self, shapes):
        self.check_items(*shapes)
        self.check_single(shapes[1])
        self.rule.outer, self.rule.inner = shapes[0][0], 1
        self.classes = math.prod(shapes[0][1:])
        return [()]

    def _read(self, bottoms):
        """Values (N, classes), and labels (N, 1) as int64."""
        labels, _ = self.rule.read(bottoms[1], self.classes)
        return bottoms[0].reshape(labels.shape[0], self.classes), labels


@register("HingeLoss")
class HingeLoss(_OneLabelAnItem):
    """sum max(0, 1 + s)^p / N over all scores s, the true class's negated; ``norm`` L1 (p = 1) or L2 (2).

    Bottoms: scores, N items of C values each, and N labels, which are truncated to integers.
    Raises CaffeError for labels outside 0..C-1.
    """

    def compute(self, bottoms, params):
        scores, labels = self._read(bottoms)
        margins = (1 + scores.scatter(1, labels, -scores.gather(1, labels))).relu()
        if self.layer_param.hinge_loss_param.norm == caffe_pb2.HingeLossParameter.L2:
            margins = margins.square()
        return [margins.sum() / len(scores)]


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(_OneLabelAnItem):
    """-sum log p[label] / N of probabilities p, with p at least 1e-20.

    Bottoms: probabilities, N items of C values each (of a Softmax; SoftmaxWithLoss does both
    better), and N labels, which are truncated to integers. Raises CaffeError for labels outside
    0..C-1. The gradient of a p below 1e-20 is that of 1e-20.
    """

    def compute(self, bottoms, params):
        probability, labels = self._read(bottoms)
        return [-_BoundedLog.apply(probability.gather(1, labels)).sum() / len(labels)]


class _BoundedLog(torch.autograd.Function):
    """log max(p, 1e-20), whose gradient goes on below the bound."""

    @staticmethod
    def forward(ctx, probability):
        bounded = probability.clamp(min=LOG_THRESHOLD)
        ctx.save_for_backward(bounded)
        return bounded.log()

    @staticmethod
    def backward(ctx, seed):
        (bounded,) = ctx.saved_tensors
        return seed / bounded


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(Loss):
    """-sum [t log s(x) + (1 - t) log(1 - s(x))] / denominator, s the sigmoid, computed without overflow.

    Bottoms: scores x and targets t, of equal count and N items; targets are any numbers.
    ``loss_param``: targets that are, truncated, equal to ``ignore_label`` cost nothing;
    ``normalization`` divides by the number of values (FULL), of those not ignored (VALID), by N
    (BATCH_SIZE, the default of this loss) or by 1 (NONE); the old ``normalize`` means VALID when
    true and BATCH_SIZE when false. The denominator is at least 1.
    """

    def configure(self, shapes):
        self.param = self.layer_param.loss_param
        self.denominator = Denominator(self.param, default=caffe_pb2.LossParameter.BATCH_SIZE)

    def top_shapes(self, shapes):
        self.check_items(*shapes)
        if math.prod(shapes[0]) != math.prod(shapes[1]):
            raise self.error(
                "SIGMOID_CROSS_ENTROPY_LOSS layer inputs must have the same count. "
                f"bottom[0] is {dims(shapes[0])}, bottom[1] {dims(shapes[1])}"
            )
        return [()]

    def compute(self, bottoms, params):
        scores, targets = bottoms[0], bottoms[1].detach().reshape(bottoms[0].shape)
        cost = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        ignored = None
        if self.param.HasField("ignore_label"):
            ignored = targets.trunc() == self.param.ignore_label
            cost = cost.masked_fill(ignored, 0)
        return [cost.sum() / self.denominator.of(scores.shape[0], scores.numel(), ignored)]
