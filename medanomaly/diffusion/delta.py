"""Decoding as a difference from the way up: what guidance changes is walked, and all the rest is kept as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import Multistep, Order, ddim_walk, predicted_clean, sigma
from medanomaly.types import EpsFn, WalkObserver


@dataclass(frozen=True, slots=True)
class EncodePath:
    """The whole way up, with what the network said on it."""

    levels: tuple[int, ...]
    """Rising, 0 first."""
    images: tuple[Tensor, ...]
    """(B, C, H, W) at each level."""
    eps: tuple[Tensor, ...]
    """(B, C, H, W) noise predicted at each level, the last among them."""


def encode_path(
    eps_fn: EpsFn,
    x: Tensor,
    levels: Sequence[int],
    schedule: NoiseSchedule,
    observer: WalkObserver | None = None,
    *,
    order: Order = 1,
) -> EncodePath:
    """The walk of :func:`ddim_walk` up ``levels``, remembered; asks once more than it, at the last level."""
    images: list[Tensor] = []
    asked: list[Tensor] = []

    def remembered(x_t: Tensor, t: int) -> Tensor:
        images.append(x_t)
        asked.append(eps_fn(x_t, t))
        return asked[-1]

    last = ddim_walk(remembered, x, levels, schedule, observer, order=order)
    remembered(last, levels[-1])
    return EncodePath(tuple(levels), tuple(images), tuple(asked))


def delta_walk(
    eps_fn: EpsFn, path: EncodePath, schedule: NoiseSchedule, observer: WalkObserver | None = None, *, order: Order = 1
) -> Tensor:
    """(B, C, H, W) at level 0: the way down with ``eps_fn``, as the way up plus a difference.

    With z = x / signal and sigma = noise / signal both ways obey dz = eps d sigma. Their difference d starts at 0 and obeys
    d d = (eps_fn(z_up + d) - eps_up) d sigma, so discretisation errors that both ways share cancel, and where ``eps_fn`` is the
    function that encoded, d stays 0: the round trip is exact by construction, for any number of steps.

    Args:
        eps_fn: predicts the noise on the way down; asked at every level but 0.
        path: the way up.
        schedule: signal power by level.
        observer: called after each step with the level reached, x there, and the predicted clean image.
        order: 1 or 2, as for :func:`ddim_walk`.
    """
    memory = Multistep(order)
    x, difference = path.images[-1], torch.zeros_like(path.images[-1])
    for index in range(len(path.levels) - 1, 0, -1):
        t, s = path.levels[index], path.levels[index - 1]
        eps = eps_fn(x, t)
        step = sigma(s, schedule) - sigma(t, schedule)
        x_0 = predicted_clean(x, eps, t, schedule)
        difference = difference + step * memory.slope(eps - path.eps[index], step)
        x = path.images[index - 1] + schedule.signal(s) * difference
        if observer is not None:
            observer(s, x, x_0)
    return x
