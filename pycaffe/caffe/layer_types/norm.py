"""BatchNorm and MVN: values brought to mean 0 and variance 1."""

from __future__ import annotations

import torch

from ..layer import TensorLayer
from ..proto import caffe_pb2
from ..registry import register
from .rules import canonical_axis, dims


@register("BatchNorm")
class BatchNorm(TensorLayer):
    """(x - mean) / sqrt(variance + ``eps`` (1e-5)) for each channel, axis 1. A Scale layer goes after it.

    Blobs, all 0 at first: sum of means (C), sum of variances (C), and the weight of these sums (1).
    ``use_global_stats``, by default true in testing and false in training, says which statistics:

    true: the sums divided by their weight (0 while that is 0). They do not depend on the bottom, so
    the gradient is the top's divided by sqrt(variance + eps).

    false: mean and biased variance of the batch, which the gradient goes through. Every such
    forward, whatever the phase, multiplies the three blobs with ``moving_average_fraction`` (0.999)
    and adds the mean, the unbiased variance (0 for a single value), and 1.

    The blobs do not learn: a ``param`` with another lr_mult than 0 is refused, but for the three of
    an old net, which are set to 0 on reading.
    """

    exact_bottoms = 1
    exact_tops = 1
    gradient_reads_tops = False

    def configure(self, shapes):
        param = self.layer_param.batch_norm_param
        self.eps, self.fraction = param.eps, param.moving_average_fraction
        given = param.HasField("use_global_stats")
        self.use_global_stats = param.use_global_stats if given else self.phase == caffe_pb2.TEST
        self.stateless = self.use_global_stats
        self.channels = shapes[0][canonical_axis(self, 1, shapes[0])]
        for size in (self.channels, self.channels, 1):
            self.blobs.add_blob(size)
        specs = self.layer_param.param
        if any(spec.lr_mult for spec in specs):
            raise self.error(
                "Cannot configure batch normalization statistics as layer parameters. They do not learn: leave "
                "out param, or give lr_mult: 0; the learned factors are a Scale layer's"
            )
        for _ in range(3 - len(specs)):
            specs.add(lr_mult=0)

    def top_shapes(self, shapes):
        if len(shapes[0]) < 2 or shapes[0][1] != self.channels:
            raise self.error(
                f"the statistics are of {self.channels} channels, bottom[0] is {dims(shapes[0])}"
            )
        return [shapes[0]]

    def compute(self, bottoms, params):
        x = bottoms[0]
        if self.use_global_stats:
            mean, variance, weight = (param.detach() for param in params)
            inverse = torch.where(weight == 0, 0, 1 / weight)
            along = (-1, *[1] * (x.dim() - 2))
            return [(x - (mean * inverse).view(along)) / (variance * inverse + self.eps).sqrt().view(along)]
        mean, variance = x.new_zeros(self.channels), x.new_zeros(self.channels)
        # PyTorch's running variance is unbiased as Caffe's; taken over whole (momentum 1), it is the batch's
        top, *_ = torch.native_batch_norm(x, None, None, mean, variance, True, 1.0, self.eps)
        self._statistics = mean, variance if x.numel() > self.channels else torch.zeros_like(variance)
        return [top]

    def forward(self, bottom, top):
        super().forward(bottom, top)
        if not self.use_global_stats:
            mean, variance = self._statistics
            for blob, value in zip(self.blobs, (mean, variance, 1), strict=True):
                blob.tensor().mul_(self.fraction).add_(value)
                blob.modified()


@register("MVN")
class MVN(TensorLayer):
    """Each plane, or with ``across_channels`` each image, minus its mean, over its deviation + ``eps`` (1e-9).

    The deviation is the root of the biased variance; ``normalize_variance: false`` leaves the
    division out. The top has four axes: the bottom's, at most four, and 1 for the missing ones. The
    gradient is Caffe's, which takes the mean square of the top to be 1 (it is less by eps's share).
    """

    exact_bottoms = 1
    exact_tops = 1

    def top_shapes(self, shapes):
        if len(shapes[0]) > 4:
            raise self.error(
                f"Cannot use legacy accessors on Blobs with > 4 axes. bottom[0] is {dims(shapes[0])}"
            )
        return [(*shapes[0], *[1] * (4 - len(shapes[0])))]

    def compute(self, bottoms, params):
        param = self.layer_param.mvn_param
        x = bottoms[0].reshape(*bottoms[0].shape, *[1] * (4 - bottoms[0].dim()))
        axes = (1, 2, 3) if param.across_channels else (2, 3)
        if not param.normalize_variance:
            return [x - x.mean(axes, keepdim=True)]
        return [_Normalized.apply(x, axes, param.eps)]


class _Normalized(torch.autograd.Function):
    """(x - mean) / (deviation + eps) over ``axes``; finite gradients where the deviation is 0."""

    @staticmethod
    def forward(ctx, x, axes, eps):
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        divisor = variance.sqrt() + eps
        y = (x - mean) / divisor
        ctx.save_for_backward(y, divisor)
        ctx.axes = axes
        return y

    @staticmethod
    def backward(ctx, diff):
        y, divisor = ctx.saved_tensors
        mean = diff.mean(ctx.axes, keepdim=True)
        slope = (diff * y).mean(ctx.axes, keepdim=True)
        return (diff - mean - y * slope) / divisor, None, None
