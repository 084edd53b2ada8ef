"""Steps down the noise levels as distributions: what one step draws from, and the walk that draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import predicted_clean
from medanomaly.types import EpsFn, WalkObserver

StepNoise = Callable[[int], Tensor]
"""Level that is left -> noise (B, C, H, W) of variance 1 for that step."""

ReverseFn = Callable[[Tensor, int], tuple[Tensor, Tensor | None]]
"""(x_t, t) -> (eps, v): the predicted noise, and where the network learned it the place of the variance between its bounds
(Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 15; v = -1 is the posterior's, v = 1 is beta); both (B, C, H, W)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseStep:
    """p(x_s | x_t), a Gaussian, as a model predicts it."""

    mean: Tensor
    """(B, C, H, W)."""
    variance: Tensor | float
    """(B, C, H, W), or one number for all pixels; 0 = nothing is drawn."""
    x_0: Tensor
    """(B, C, H, W) predicted clean image."""


StepFn = Callable[[Tensor, int, int], ReverseStep]
"""(x_t, t, s) with s < t -> the step from level t to level s."""


def reverse_walk(
    step_fn: StepFn, x: Tensor, levels: Sequence[int], noise: StepNoise, observer: WalkObserver | None = None
) -> Tensor:
    """Image at the last of ``levels``, drawn step by step from the first.

    Args:
        step_fn: distribution of a step.
        x: (B, C, H, W) at ``levels[0]``.
        levels: descending, in 0..T.
        noise: asked once a step that has a variance; never for the step to level 0, whose mean is taken.
        observer: called after each step with the level reached, x there, and the predicted clean image.
    """
    for t, s in pairwise(levels):
        if s >= t:
            raise ValueError(f"levels must descend, got {t} before {s}")
        step = step_fn(x, t, s)
        x = step.mean
        if s > 0:
            if isinstance(step.variance, Tensor):
                x = x + step.variance.sqrt() * noise(t)
            elif step.variance > 0:
                x = x + math.sqrt(step.variance) * noise(t)
        if observer is not None:
            observer(s, x, step.x_0)
    return x


def posterior_step(eps_fn: EpsFn, schedule: NoiseSchedule) -> StepFn:
    """Steps with the posterior q(x_s | x_t, x_0) at the predicted x_0 (Ho et al. 2020, arXiv:2006.11239, eq. 6-7).

    mean = (sqrt(ab_s) beta x_0 + sqrt(ab_t / ab_s) (1 - ab_s) x_t) / (1 - ab_t), variance = beta (1 - ab_s) / (1 - ab_t), where
    beta = 1 - ab_t / ab_s: on a grid that skips levels this is the respaced process (Nichol & Dhariwal 2021, arXiv:2102.09672).
    """

    def step(x: Tensor, t: int, s: int) -> ReverseStep:
        x_0 = predicted_clean(x, eps_fn(x, t), t, schedule)
        mean, low, _ = posterior(x, x_0, t, s, schedule)
        return ReverseStep(mean=mean, variance=low, x_0=x_0)

    return step


def beta_step(eps_fn: EpsFn, schedule: NoiseSchedule) -> StepFn:
    """As :func:`posterior_step` with the larger variance, beta, which is right for data of variance 1 (Ho et al. 2020, section 3.2)."""

    def step(x: Tensor, t: int, s: int) -> ReverseStep:
        x_0 = predicted_clean(x, eps_fn(x, t), t, schedule)
        mean, _, beta = posterior(x, x_0, t, s, schedule)
        return ReverseStep(mean=mean, variance=beta, x_0=x_0)

    return step


def learned_step(reverse_fn: ReverseFn, schedule: NoiseSchedule) -> StepFn:
    """As :func:`posterior_step` with the variance that the network learned, between the two in the logarithm.

    On a grid that skips levels its bounds are those of the wider step (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 15 and 19).

    Raises:
        ValueError: the model predicts no variance.
    """

    def step(x: Tensor, t: int, s: int) -> ReverseStep:
        eps, v = reverse_fn(x, t)
        if v is None:
            raise ValueError("this model predicts no variance")
        x_0 = predicted_clean(x, eps, t, schedule)
        mean, low, beta = posterior(x, x_0, t, s, schedule)
        if s == 0:
            return ReverseStep(mean=mean, variance=0.0, x_0=x_0)
        fraction = (v + 1) / 2
        variance = torch.exp(fraction * math.log(beta) + (1 - fraction) * math.log(low))
        return ReverseStep(mean=mean, variance=variance, x_0=x_0)

    return step


def ddim_step(eps_fn: EpsFn, schedule: NoiseSchedule, eta: float) -> StepFn:
    """DDIM's steps (Song et al. 2021, arXiv:2010.02502, eq. 12 and 16): eta = 0 draws nothing, eta = 1 is :func:`posterior_step`."""

    def step(x: Tensor, t: int, s: int) -> ReverseStep:
        eps = eps_fn(x, t)
        x_0 = predicted_clean(x, eps, t, schedule)
        beta = 1 - (schedule.signal(t) / schedule.signal(s)) ** 2
        variance = eta**2 * beta * schedule.noise(s) ** 2 / schedule.noise(t) ** 2
        mean = schedule.signal(s) * x_0 + math.sqrt(schedule.noise(s) ** 2 - variance) * eps
        return ReverseStep(mean=mean, variance=variance, x_0=x_0)

    return step


def posterior(x_t: Tensor, x_0: Tensor, t: int, s: int, schedule: NoiseSchedule) -> tuple[Tensor, float, float]:
    """(mean of q(x_s | x_t, x_0), its variance, beta): the last two are the bounds of a reverse step's variance."""
    kept, clean = schedule.signal(t) / schedule.signal(s), schedule.signal(s)
    beta, total = 1 - kept**2, schedule.noise(t) ** 2
    mean = (clean * beta * x_0 + kept * schedule.noise(s) ** 2 * x_t) / total
    return mean, beta * schedule.noise(s) ** 2 / total, beta
