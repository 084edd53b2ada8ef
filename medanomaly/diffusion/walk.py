"""The DDIM walk: one deterministic path between noise levels, up (encode) and down (decode)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.types import EpsFn, WalkObserver


def predicted_clean(x_t: Tensor, eps: Tensor, t: int, schedule: NoiseSchedule) -> Tensor:
    """x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t) (Song et al. 2021, arXiv:2010.02502, eq. 9)."""
    return (x_t - schedule.noise(t) * eps) / schedule.signal(t)


def ddim_walk(
    eps_fn: EpsFn, x: Tensor, levels: Sequence[int], schedule: NoiseSchedule, observer: WalkObserver | None = None
) -> Tensor:
    """Image at the last of ``levels``, walked from the first by DDIM with eta = 0 (Song et al. 2021, arXiv:2010.02502, eq. 12-13).

    The same list, reversed, decodes what it encoded: the noise is asked at the level a step leaves, in both directions. Nothing
    is clamped on the way, which would break the inversion.

    Args:
        eps_fn: predicts the noise of x_t at level t.
        x: (B, C, H, W) image at ``levels[0]``.
        levels: at least one level in 0..T, neighbours distinct.
        schedule: signal power by level.
        observer: called after each step with the level reached, x there, and the predicted clean image.
    """
    for t, s in pairwise(levels):
        eps = eps_fn(x, t)
        x_0 = predicted_clean(x, eps, t, schedule)
        x = schedule.signal(s) * x_0 + schedule.noise(s) * eps
        if observer is not None:
            observer(s, x, x_0)
    return x
