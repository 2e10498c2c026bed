"""The update rules: what each solver type subtracts from a parameter, given its gradient.

In the formulas w is the parameter, g its gradient (normalised and regularised), h the history,
rate the learning rate times ``lr_mult``; each rule changes h and turns g into what w loses.
"""

from __future__ import annotations

import math

from .errors import CaffeError
from .solver import Solver, solver_type


@solver_type("SGD")
class SGDSolver(Solver):
    """Stochastic gradient descent with momentum: h = m·h + rate·g;  w -= h.

    ``path`` is the solver prototxt.
    """

    history_of_steps = True

    def to_step(self, g, history, rate):
        (h,) = history
        h.mul_(self.proto.momentum).add_(g, alpha=rate)
        g.copy_(h)


@solver_type("Nesterov")
class NesterovSolver(Solver):
    """Nesterov's accelerated gradient: h' = m·h + rate·g;  w -= (1+m)·h' − m·h.

    ``path`` is the solver prototxt.
    """

    history_of_steps = True

    def to_step(self, g, history, rate):
        (h,) = history
        m = self.proto.momentum
        before = h.mul(m)
        h.mul_(m).add_(g, alpha=rate)
        g.copy_(h).mul_(1 + m).sub_(before)


class _NoMomentum(Solver):
    def _init(self, proto, source):
        if proto.momentum:
            raise CaffeError(
                f"{source}: Momentum cannot be used with {self.type}. Remove 'momentum' or set it to 0."
            )
        super()._init(proto, source)


@solver_type("AdaGrad")
class AdaGradSolver(_NoMomentum):
    """AdaGrad: h += g²;  w -= rate·g / (√h + delta).

    ``path`` is the solver prototxt.
    """

    def to_step(self, g, history, rate):
        (h,) = history
        h.addcmul_(g, g)
        g.div_(h.sqrt().add_(self.proto.delta)).mul_(rate)


@solver_type("RMSProp")
class RMSPropSolver(_NoMomentum):
    """RMSProp: h = d·h + (1−d)·g², d = rms_decay;  w -= rate·g / (√h + delta).

    ``path`` is the solver prototxt.
    """

    def to_step(self, g, history, rate):
        (h,) = history
        decay = self.proto.rms_decay
        h.mul_(decay).addcmul_(g, g, value=1 - decay)
        g.div_(h.sqrt().add_(self.proto.delta)).mul_(rate)


@solver_type("AdaDelta")
class AdaDeltaSolver(Solver):
    """AdaDelta: h₁ = m·h₁ + (1−m)·g²;  u = g·√((h₂+delta)/(h₁+delta));  h₂ = m·h₂ + (1−m)·u²;  w -= rate·u.

    ``path`` is the solver prototxt.
    """

    histories = 2

    def to_step(self, g, history, rate):
        h1, h2 = history
        m, delta = self.proto.momentum, self.proto.delta
        h1.mul_(m).addcmul_(g, g, value=1 - m)
        g.mul_(((h2 + delta) / (h1 + delta)).sqrt_())
        h2.mul_(m).addcmul_(g, g, value=1 - m)
        g.mul_(rate)


@solver_type("Adam")
class AdamSolver(Solver):
    """Adam: m₁ = β₁·m₁ + (1−β₁)·g;  v = β₂·v + (1−β₂)·g²;  w -= rate·√(1−β₂ᵗ)/(1−β₁ᵗ) · m₁/(√v + delta).

    β₁ is ``momentum``, β₂ ``momentum2``, t the number of this update, from 1. ``path`` is the
    solver prototxt.
    """

    histories = 2

    def to_step(self, g, history, rate):
        m1, v = history
        beta1, beta2, t = self.proto.momentum, self.proto.momentum2, self.iter + 1
        m1.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        correction = math.sqrt(1 - beta2**t) / (1 - beta1**t)
        g.copy_(m1).div_(v.sqrt().add_(self.proto.delta)).mul_(rate * correction)
