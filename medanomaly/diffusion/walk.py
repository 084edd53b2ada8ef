"""The DDIM walk: one deterministic path between noise levels, up (encode) and down (decode)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.types import EpsFn, WalkObserver

Order = Literal[1, 2]
"""Of a walk: 1 = DDIM; 2 = two-step Adams-Bashforth on the noise, at DDIM's cost."""


def predicted_clean(x_t: Tensor, eps: Tensor, t: int, schedule: NoiseSchedule) -> Tensor:
    """x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t) (Song et al. 2021, arXiv:2010.02502, eq. 9)."""
    return (x_t - schedule.noise(t) * eps) / schedule.signal(t)


def sigma(t: int, schedule: NoiseSchedule) -> float:
    """noise / signal: the time in which the walk is an ordinary differential equation, d(x / signal) = eps d sigma."""
    return schedule.noise(t) / schedule.signal(t)


def ddim_walk(
    eps_fn: EpsFn,
    x: Tensor,
    levels: Sequence[int],
    schedule: NoiseSchedule,
    observer: WalkObserver | None = None,
    *,
    order: Order = 1,
) -> Tensor:
    """Image at the last of ``levels``, walked from the first by DDIM with eta = 0 (Song et al. 2021, arXiv:2010.02502, eq. 12-13).

    The same list, reversed, decodes what it encoded: the noise is asked at the level a step leaves, in both directions. Nothing
    is clamped on the way, which would break the inversion. DDIM is Euler's method in :func:`sigma`; order 2 is the two-step
    Adams-Bashforth method for steps of any width (Hairer, Norsett & Wanner 1993, III.5), whose first step is Euler's.

    Args:
        eps_fn: predicts the noise of x_t at level t; asked once a step.
        x: (B, C, H, W) image at ``levels[0]``.
        levels: at least one level in 0..T, neighbours distinct.
        schedule: signal power by level.
        observer: called after each step with the level reached, x there, and the predicted clean image.
        order: 1 or 2.
    """
    memory = Multistep(order)
    for t, s in pairwise(levels):
        eps = memory.slope(eps_fn(x, t), sigma(s, schedule) - sigma(t, schedule))
        x_0 = predicted_clean(x, eps, t, schedule)
        x = schedule.signal(s) * x_0 + schedule.noise(s) * eps
        if observer is not None:
            observer(s, x, x_0)
    return x


def implicit_walk(
    eps_fn: EpsFn,
    x: Tensor,
    levels: Sequence[int],
    schedule: NoiseSchedule,
    observer: WalkObserver | None = None,
    *,
    iterations: int,
) -> Tensor:
    """The way up that DDIM's way down undoes: the noise of a step is that of the level it reaches, found by fixed-point iteration.

    A step of :func:`ddim_walk` down from s to t uses eps(x_s, s). Its inverse solves x_s = step(x_t, eps(x_s, s)), here from DDIM's own
    guess with ``iterations`` more questions a step (backward DDIM with fixed-point iterations: Meiri et al. 2023, arXiv:2312.12540).

    Args:
        eps_fn: predicts the noise of x_t at level t; asked 1 + ``iterations`` times a step.
        x: (B, C, H, W) image at ``levels[0]``.
        levels: rising, neighbours distinct.
        schedule: signal power by level.
        observer: called after each step with the level reached, x there, and the predicted clean image.
        iterations: at least 0; 0 is :func:`ddim_walk`.
    """
    for t, s in pairwise(levels):
        eps = eps_fn(x, t)
        for iteration in range(iterations + 1):
            x_0 = predicted_clean(x, eps, t, schedule)
            reached = schedule.signal(s) * x_0 + schedule.noise(s) * eps
            if iteration < iterations:
                eps = eps_fn(reached, s)
        x = reached
        if observer is not None:
            observer(s, x, x_0)
    return x


class Multistep:
    """The slope of a step from this point's and the last one's."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.last: tuple[Tensor, float] | None = None

    def slope(self, eps: Tensor, step: float) -> Tensor:
        """eps + step / (2 last step) (eps - last eps), or eps alone at the first step and for order 1."""
        last, self.last = self.last, (eps, step)
        if self.order == 1 or last is None:
            return eps
        return eps + step / (2 * last[1]) * (eps - last[0])
