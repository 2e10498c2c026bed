"""Learning-rate policies."""

from __future__ import annotations

import math

import numpy as np

from .errors import CaffeError
from .log import logger

POLICIES = ("exp", "fixed", "inv", "multistep", "poly", "sigmoid", "step")


class LearningRate:
    """The learning rate by iteration, under the policy of a solver's ``proto``; ``source`` names its file in errors.

    With base = base_lr and i = iteration:  fixed base;  step base·gamma^⌊i/stepsize⌋;
    exp base·gamma^i;  inv base·(1+gamma·i)^−power;  multistep base·gamma^s, s the number of
    stepvalues passed (it grows by at most one per call);  poly base·(1−i/max_iter)^power;
    sigmoid base/(1+exp(−gamma·(i−stepsize))). ``current_step`` is s, which snapshots keep.
    """

    def __init__(self, proto, source: str):
        self.proto, self.source = proto, source
        self.current_step = 0

    def __call__(self, iteration: int) -> float:
        """The rate at ``iteration``.

        Raises CaffeError when the policy is unknown, its fields do not fit, or the formula gives no
        finite number, as poly beyond max_iter.
        """
        proto = self.proto
        gamma, policy = proto.gamma, proto.lr_policy
        if policy not in POLICIES:
            raise self._error(f"Unknown learning rate policy: {policy} (known: {', '.join(POLICIES)})")
        if policy not in ("fixed", "poly") and gamma < 0:
            raise self._error(f"gamma must be at least 0 for lr_policy {policy}, found {gamma:g}")
        if policy in ("step", "sigmoid") and proto.stepsize <= 0:
            raise self._error(
                f"stepsize must be greater than 0 for lr_policy {policy}, found {proto.stepsize}"
            )
        with np.errstate(all="ignore"):
            rate = float(proto.base_lr * self._factor(policy, np.float64(gamma), iteration))
        if not math.isfinite(rate):
            raise self._error(
                f"the learning rate at iteration {iteration} is {rate} (lr_policy {policy}, base_lr {proto.base_lr:g}, "
                f"gamma {gamma:g}, power {proto.power:g}, max_iter {proto.max_iter}). poly ends at max_iter, and exp "
                "and inv need numbers that do not overflow"
            )
        return rate

    def _factor(self, policy: str, gamma: np.float64, i: int):
        """The rate at iteration ``i`` as a multiple of base_lr."""
        proto = self.proto
        if policy == "step":
            self.current_step = i // proto.stepsize
        if policy == "multistep":
            if self.current_step < len(proto.stepvalue) and i >= proto.stepvalue[self.current_step]:
                self.current_step += 1
                logger.info("MultiStep Status: Iteration %d, step = %d", i, self.current_step)
        if policy in ("step", "multistep"):
            return gamma**self.current_step
        if policy == "exp":
            return gamma**i
        if policy == "inv":
            return (1 + gamma * i) ** -proto.power
        if policy == "poly":
            return (1 - np.float64(i) / proto.max_iter) ** proto.power
        if policy == "sigmoid":
            return 1 / (1 + np.exp(-gamma * (i - proto.stepsize)))
        return 1.0

    def _error(self, message: str) -> CaffeError:
        return CaffeError(f"{self.source}: {message}")
