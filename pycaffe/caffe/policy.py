"""Learning-rate policies."""

from __future__ import annotations

import math

from .errors import CaffeError
from .log import logger

POLICIES = ("exp", "fixed", "inv", "multistep", "poly", "sigmoid", "step")


class LearningRate:
    """The learning rate by iteration, under the policy of a solver prototxt.

    With base = base_lr and i = iteration:  fixed base;  step base·gamma^⌊i/stepsize⌋;
    exp base·gamma^i;  inv base·(1+gamma·i)^−power;  multistep base·gamma^s, s the number of
    stepvalues passed (it grows by at most one per call);  poly base·(1−i/max_iter)^power;
    sigmoid base/(1+exp(−gamma·(i−stepsize))). ``current_step`` is s, which snapshots keep.
    """

    def __init__(self, proto, source: str):
        self.proto, self.source = proto, source
        self.current_step = 0

    def __call__(self, iteration: int) -> float:
        """The rate at ``iteration``; CaffeError when the policy is unknown or its fields do not fit."""
        proto = self.proto
        base, gamma, policy = proto.base_lr, proto.gamma, proto.lr_policy
        if policy not in POLICIES:
            raise CaffeError(
                f"{self.source}: Unknown learning rate policy: {policy} (known: {', '.join(POLICIES)})"
            )
        if policy == "fixed":
            return base
        if policy != "poly" and gamma < 0:
            raise CaffeError(
                f"{self.source}: gamma must be at least 0 for lr_policy {policy}, found {gamma:g}"
            )
        if policy in ("step", "sigmoid") and proto.stepsize <= 0:
            raise CaffeError(
                f"{self.source}: stepsize must be greater than 0 for lr_policy {policy}, found {proto.stepsize}"
            )
        if policy == "step":
            self.current_step = iteration // proto.stepsize
            return base * gamma**self.current_step
        if policy == "exp":
            return base * gamma**iteration
        if policy == "inv":
            return base * (1 + gamma * iteration) ** -proto.power
        if policy == "multistep":
            if self.current_step < len(proto.stepvalue) and iteration >= proto.stepvalue[self.current_step]:
                self.current_step += 1
                logger.info("MultiStep Status: Iteration %d, step = %d", iteration, self.current_step)
            return base * gamma**self.current_step
        if policy == "poly":
            return base * (1 - iteration / proto.max_iter) ** proto.power
        return base / (1 + math.exp(-gamma * (iteration - proto.stepsize)))
