"""Fixed functions of each value: AbsVal, BNLL, Clip, ELU, Exp, Log, Power, Sigmoid, Swish, TanH, Threshold.

One bottom, one top of its shape. All but AbsVal may work in place, and their gradients are right
then too (Caffe's are not for BNLL, Clip, Log and Power).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..registry import register
from .neuron import NeuronLayer
from .rules import refuse_in_place


@register("AbsVal")
class AbsVal(NeuronLayer):
    """|x|; gradient sign(x), 0 where x is 0. Not in place."""

    gradient_reads_tops = False

    def setup(self, bottom, top):
        refuse_in_place(self, bottom, top)
        super().setup(bottom, top)

    def compute(self, bottoms, params):
        return [bottoms[0].abs()]


@register("BNLL")
class BNLL(NeuronLayer):
    """log(1 + e^x), the binomial normal log likelihood; x itself above 50, where the two are equal."""

    gradient_reads_tops = False

    def compute(self, bottoms, params):
        return [F.softplus(bottoms[0], threshold=50)]


@register("Clip")
class Clip(NeuronLayer):
    """x cut to at least ``min`` and at most ``max``, both required; gradient 1 for min <= x <= max."""

    gradient_reads_tops = False

    def configure(self, shapes):
        param = self.layer_param.clip_param
        if not (param.HasField("min") and param.HasField("max")):
            raise self.error("Clip needs both limits; set clip_param { min: ... max: ... }")

    def compute(self, bottoms, params):
        param = self.layer_param.clip_param
        return [bottoms[0].clamp(max=param.max).clamp(min=param.min)]  # min wins where it exceeds max


@register("ELU")
class ELU(NeuronLayer):
    """x where x > 0, else ``alpha`` (1) times e^x - 1."""

    gradient_reads_tops = False

    def compute(self, bottoms, params):
        return [F.elu(bottoms[0], self.layer_param.elu_param.alpha)]


@register("Sigmoid")
class Sigmoid(NeuronLayer):
    """1 / (1 + e^-x)."""

    def compute(self, bottoms, params):
        return [bottoms[0].sigmoid()]


@register("Swish")
class Swish(NeuronLayer):
    """x / (1 + e^(-``beta`` x)), ``beta`` 1."""

    gradient_reads_tops = False

    def compute(self, bottoms, params):
        x = bottoms[0]
        return [x * (self.layer_param.swish_param.beta * x).sigmoid()]


@register("TanH")
class TanH(NeuronLayer):
    """The hyperbolic tangent."""

    def compute(self, bottoms, params):
        return [bottoms[0].tanh()]


@register("Threshold")
class Threshold(NeuronLayer):
    """1 where x > ``threshold`` (0), else 0. There is no gradient."""

    no_gradient = True
    gradient_reads_tops = False

    def compute(self, bottoms, params):
        x = bottoms[0]
        return [(x > self.layer_param.threshold_param.threshold).to(x.dtype)]


@register("Power")
class Power(NeuronLayer):
    """(``shift`` (0) + ``scale`` (1) x) to the ``power`` (1).

    When scale or power is 0 the top is a constant, shift^power (1 if power is 0), and the gradient 0.
    """

    gradient_reads_tops = False

    def compute(self, bottoms, params):
        param = self.layer_param.power_param
        if param.scale * param.power == 0:
            return [torch.full_like(bottoms[0], param.shift).pow(param.power)]
        x = _affine(bottoms[0], param)
        return [x if param.power == 1 else x.pow(param.power)]


@register("Exp")
class Exp(NeuronLayer):
    """``base`` to the power of ``shift`` (0) + ``scale`` (1) x. Base -1, the default, stands for e."""

    def configure(self, shapes):
        self.log_base = _log_base(self, self.layer_param.exp_param.base)

    def compute(self, bottoms, params):
        x = _affine(bottoms[0], self.layer_param.exp_param)
        return [(x if self.log_base == 1 else x * self.log_base).exp()]


@register("Log")
class Log(NeuronLayer):
    """The logarithm to ``base`` of ``shift`` (0) + ``scale`` (1) x. Base -1, the default, stands for e."""

    gradient_reads_tops = False

    def configure(self, shapes):
        self.log_base = _log_base(self, self.layer_param.log_param.base)
        if self.log_base == 0:
            raise self.error("Inf result: 1/log(base) = 1/log(1); there is no logarithm to base 1")

    def compute(self, bottoms, params):
        y = _affine(bottoms[0], self.layer_param.log_param).log()
        return [y if self.log_base == 1 else y / self.log_base]


def _affine(x: torch.Tensor, param) -> torch.Tensor:
    """``x`` times the scale of ``param`` plus its shift."""
    if param.scale != 1:
        x = x * param.scale
    return x + param.shift if param.shift else x


def _log_base(layer: NeuronLayer, base: float) -> float:
    if base == -1:
        return 1.0
    if not base > 0:
        raise layer.error(f"base must be strictly positive. It is {base:g}; leave it out for e")
    if base == math.inf:
        raise layer.error("Inf result: log(base) = log(inf); give a finite base")
    return math.log(base)
