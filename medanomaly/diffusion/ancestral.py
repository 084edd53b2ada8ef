"""The stochastic way down: DDPM's reverse process on any grid of levels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import predicted_clean
from medanomaly.types import EpsFn, WalkObserver

StepNoise = Callable[[int], Tensor]
"""Level that is left -> noise (B, C, H, W) of variance 1 for that step."""


def ancestral_walk(
    eps_fn: EpsFn,
    x: Tensor,
    levels: Sequence[int],
    schedule: NoiseSchedule,
    noise: StepNoise,
    observer: WalkObserver | None = None,
) -> Tensor:
    """Image at the last of ``levels``, sampled downwards from the first (Ho et al. 2020, arXiv:2006.11239, alg. 2).

    Between neighbours t > s the step is the posterior q(x_s | x_t, x_0) with x_0 as predicted:
    mean = (sqrt(ab_s) beta x_0 + sqrt(ab_t / ab_s) (1 - ab_s) x_t) / (1 - ab_t), variance = beta (1 - ab_s) / (1 - ab_t), where
    beta = 1 - ab_t / ab_s: on a grid that skips levels this is the respaced process (Nichol & Dhariwal 2021, arXiv:2102.09672),
    with the smaller of the two variances of Ho et al. The last step, to level 0, adds no noise.

    Args:
        eps_fn: predicts the noise of x_t at level t.
        x: (B, C, H, W) at ``levels[0]``.
        levels: descending, in 0..T.
        schedule: signal power by level.
        noise: asked once a step, except for the step to level 0.
        observer: called after each step with the level reached, x there, and the predicted clean image.
    """
    for t, s in pairwise(levels):
        if s >= t:
            raise ValueError(f"levels must descend, got {t} before {s}")
        x_0 = predicted_clean(x, eps_fn(x, t), t, schedule)
        kept, clean = schedule.signal(t) / schedule.signal(s), schedule.signal(s)
        beta, total = 1 - kept**2, schedule.noise(t) ** 2
        mean = (clean * beta * x_0 + kept * schedule.noise(s) ** 2 * x) / total
        x = mean if s == 0 else mean + math.sqrt(beta * schedule.noise(s) ** 2 / total) * noise(t)
        if observer is not None:
            observer(s, x, x_0)
    return x
