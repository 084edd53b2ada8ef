"""Classifier-free guidance that asks for the class at some steps only."""

from __future__ import annotations

from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import sigma
from medanomaly.types import EpsFn


def held_guidance(eps_class: EpsFn, eps_null: EpsFn, guidance_scale: float, schedule: NoiseSchedule, every: int) -> EpsFn:
    """eps_null + g (eps_class - eps_null), the difference asked at every ``every``-th step and extrapolated between.

    The difference changes slowly along a walk. Between two questions it goes on along the line, in sigma = noise / signal, through
    the last two answers; after the first answer it is held. The function remembers: make one for each walk.

    Args:
        eps_class: predictor conditioned on the target class.
        eps_null: predictor conditioned on the null class.
        guidance_scale: g; 0 = unconditional, 1 = conditional.
        schedule: signal power by level.
        every: 1 = every step, which is :func:`medanomaly.diffusion.guidance.classifier_free`.
    """
    answers: list[tuple[float, Tensor]] = []
    count = 0

    def eps_fn(x_t: Tensor, t: int) -> Tensor:
        nonlocal count
        eps = eps_null(x_t, t)
        now = sigma(t, schedule)
        if count % every == 0:
            answers[:] = [*answers[-1:], (now, eps_class(x_t, t) - eps)]
        count += 1
        return eps + guidance_scale * line(answers, now)

    return eps_fn


def line(points: list[tuple[float, Tensor]], at: float) -> Tensor:
    """The value at ``at`` of the line through the last two points; of a single one, its value."""
    (place, value), (before, earlier) = points[-1], points[0]
    if place == before:
        return value
    return value + (at - place) / (place - before) * (value - earlier)
