"""InfogainLoss: a softmax loss where each mistake has a cost of its own."""

from __future__ import annotations

import math

import torch

from ..blob_file import read_blob
from ..errors import CaffeError
from ..registry import register
from .labels import LabelRule
from .loss_rules import LOG_THRESHOLD, Denominator, Loss
from .rules import canonical_axis, dims


@register("InfogainLoss")
class InfogainLoss(Loss):
    """-sum over classes l of H[label, l] log p[l], p = softmax(scores), over a denominator.

    Bottoms: scores (N, C, ...) with C on ``axis`` (1), labels, one a prediction, and if wanted the
    infogain matrix H, C x C values in any shape; without it H is read from ``source``, a
    .binaryproto file. Tops: the loss, and if wanted the probabilities (which pass no gradient
    down). H = 1 gives SoftmaxWithLoss but for the bound: log p is taken of at least 1e-20.

    ``loss_param``: ``ignore_label`` and ``normalization`` as in SoftmaxWithLoss; ``normalize`` is
    refused. Raises CaffeError for labels outside 0..C-1 that are not the ignore label, and for a
    matrix that cannot be read or is not C x C.
    """

    exact_bottoms = None
    min_bottoms = 2
    max_bottoms = 3
    exact_tops = None
    min_tops = 1
    max_tops = 2
    force_backward_refused = (1, 2)

    def configure(self, shapes):
        param = self.layer_param.loss_param
        if param.HasField("normalize"):
            raise self.error('normalize is deprecated. use "normalization"')
        self.rule = LabelRule(self, param.ignore_label if param.HasField("ignore_label") else None)
        self.denominator = Denominator(param)
        self.matrix = None
        if len(shapes) == 2:
            self.matrix = self._read_matrix()

    def _read_matrix(self) -> torch.Tensor:
        param = self.layer_param.infogain_loss_param
        if not param.HasField("source"):
            raise self.error(
                "Infogain matrix source must be specified. Give infogain_loss_param { source: ... }, "
                "a .binaryproto file, or the matrix as a third bottom"
            )
        try:
            return torch.from_numpy(read_blob(param.source))
        except CaffeError as error:
            raise self.error(str(error)) from error

    def top_shapes(self, shapes):
        scores, labels = shapes[:2]
        self.check_items(scores, labels)
        self.axis = canonical_axis(self, self.layer_param.infogain_loss_param.axis, scores)
        self.rule.check_shapes(scores, labels, self.axis, "infogain axis")
        matrix = shapes[2] if self.matrix is None else tuple(self.matrix.shape)
        if math.prod(matrix) != scores[self.axis] ** 2:
            where = "bottom[2]" if self.matrix is None else self.layer_param.infogain_loss_param.source
            raise self.error(
                f"the infogain matrix has a row and a column for each of the {scores[self.axis]} classes, "
                f"but {where} is {dims(matrix)}"
            )
        return [(), scores][: max(1, len(self.layer_param.top))]

    def backward_refusal(self, propagate_down):
        if any(propagate_down[2:]):
            return "InfogainLoss Layer cannot backpropagate to infogain inputs."
        return super().backward_refusal(propagate_down)

    def compute(self, bottoms, params):
        scores = bottoms[0]
        matrix = self.matrix.to(scores) if len(bottoms) == 2 else bottoms[2].detach()
        classes = scores.shape[self.axis]
        labels, ignored = self.rule.read(bottoms[1], classes)
        loss, probability = _Infogain.apply(
            scores.reshape(self.rule.outer, classes, self.rule.inner),
            labels,
            ignored,
            matrix.reshape(classes, classes),
            self.denominator.of(self.rule.outer, labels.numel(), ignored),
        )
        return [loss, probability.view(scores.shape)][: max(1, len(self.layer_param.top))]


class _Infogain(torch.autograd.Function):
    """(loss, probabilities) of scores (outer, C, inner), labels (outer, inner) and a matrix (C, C).

    By hand because the loss is cut off where the gradient is not.
    """

    @staticmethod
    def forward(ctx, scores, labels, ignored, matrix, denominator):
        probability = torch.softmax(scores, 1)
        cost = -(matrix[labels].movedim(2, 1) * probability.clamp(min=LOG_THRESHOLD).log_()).sum(1)
        if ignored is not None:
            cost.masked_fill_(ignored, 0)
        ctx.save_for_backward(probability, labels, ignored, matrix)
        ctx.denominator = denominator
        ctx.mark_non_differentiable(probability)
        return cost.sum() / denominator, probability

    @staticmethod
    def backward(ctx, seed, _):
        probability, labels, ignored, matrix = ctx.saved_tensors
        rows = matrix[labels].movedim(2, 1)
        grad = (probability * rows.sum(1, keepdim=True) - rows) * (seed / ctx.denominator)
        if ignored is not None:
            grad.masked_fill_(ignored.unsqueeze(1), 0)
        return grad, None, None, None, None
