"""The stochastic way down: DDPM's reverse process on any grid of levels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medanomaly.diffusion.reverse import StepNoise, posterior_step, reverse_walk
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.types import EpsFn, WalkObserver


def ancestral_walk(
    eps_fn: EpsFn,
    x: Tensor,
    levels: Sequence[int],
    schedule: NoiseSchedule,
    noise: StepNoise,
    observer: WalkObserver | None = None,
) -> Tensor:
    """Image at the last of ``levels``, sampled downwards from the first (Ho et al. 2020, arXiv:2006.11239, alg. 2).

    With the smaller of the two variances of Ho et al. (:func:`posterior_step`). The last step, to level 0, adds no noise.

    Args:
        eps_fn: predicts the noise of x_t at level t.
        x: (B, C, H, W) at ``levels[0]``.
        levels: descending, in 0..T.
        schedule: signal power by level.
        noise: asked once a step, except for the step to level 0.
        observer: called after each step with the level reached, x there, and the predicted clean image.
    """
    return reverse_walk(posterior_step(eps_fn, schedule), x, levels, noise, observer)
