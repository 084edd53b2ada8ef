"""Fast solvers of the way down: images in tens of evaluations instead of a thousand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from medanomaly.diffusion.reverse import StepNoise
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import predicted_clean
from medanomaly.types import EpsFn, WalkObserver


def dpm_solver_walk(
    eps_fn: EpsFn,
    x: Tensor,
    levels: Sequence[int],
    schedule: NoiseSchedule,
    observer: WalkObserver | None = None,
    *,
    eta: float = 0.0,
    noise: StepNoise | None = None,
) -> Tensor:
    """Image at the last of ``levels`` by DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, alg. 2): order 2, one evaluation a step.

    With lambda = log(sqrt(ab) / sqrt(1 - ab)) and h its growth, a step from t to s is

        x_s = exp(-eta h) (sigma_s / sigma_t) x_t + alpha_s (1 - exp(-(1 + eta) h)) D + sigma_s sqrt(1 - exp(-2 eta h)) noise,

    where D extrapolates the predicted x_0 of this step and the one before linearly in lambda to the middle of the step. At eta = 0 this
    is DDIM's path; at eta = 1 it is the paper's SDE-DPM-Solver++(2M), whose first-order step is DDPM's posterior; between, the same
    exponential integrator of the process with eta times that noise. The first step knows no step before, and level 0 has lambda =
    infinity: there D = x_0.

    Args:
        eps_fn: predicts the noise of x_t at level t.
        x: (B, C, H, W) at ``levels[0]``.
        levels: descending, in 0..T.
        schedule: signal power by level.
        observer: called after each step with the level reached, x there, and the predicted clean image.
        eta: at least 0; how much is drawn on the way. What is drawn covers what the model got wrong before.
        noise: asked once a step where eta > 0, except for the step to level 0.
    """
    before: Tensor | None = None
    growth_before = 0.0
    for t, s in pairwise(levels):
        if s >= t:
            raise ValueError(f"levels must descend, got {t} before {s}")
        x_0 = predicted_clean(x, eps_fn(x, t), t, schedule)
        if s == 0:
            x = x_0
        else:
            growth = half_log_snr(schedule, s) - half_log_snr(schedule, t)
            extrapolated = x_0
            if before is not None:
                weight = growth / (2 * growth_before)  # 1 / (2 r) of the paper
                extrapolated = (1 + weight) * x_0 - weight * before
            kept = math.exp(-eta * growth) * schedule.noise(s) / schedule.noise(t)
            x = kept * x - schedule.signal(s) * math.expm1(-(1 + eta) * growth) * extrapolated
            if eta > 0:
                if noise is None:
                    raise ValueError("eta > 0 needs noise")
                x = x + schedule.noise(s) * math.sqrt(-math.expm1(-2 * eta * growth)) * noise(t)
            before, growth_before = x_0, growth
        if observer is not None:
            observer(s, x, x_0)
    return x


def half_log_snr(schedule: NoiseSchedule, t: int) -> float:
    """lambda_t = log(sqrt(ab_t) / sqrt(1 - ab_t)) of a level in 1..T."""
    return math.log(schedule.signal(t) / schedule.noise(t))
