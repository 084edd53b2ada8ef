"""Guidance as functions from noise predictors to noise predictors, or from steps to steps: the sampler never hears of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from medanomaly.diffusion.reverse import ReverseFn, ReverseStep, StepFn
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import predicted_clean
from medanomaly.types import EpsFn

LogProbFn = Callable[[Tensor, int], Tensor]
"""(x_t (B, C, H, W), t in 0..T) -> (B,) log-probability of a class."""
EpsPairFn = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(x_t (B, C, H, W), t in 0..T) -> the noise predicted for a class and for the null class."""


def classifier_free(eps_class: EpsFn, eps_null: EpsFn, guidance_scale: float) -> EpsFn:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, eq. 6): eps_null + g (eps_class - eps_null).

    Args:
        eps_class: predictor conditioned on the target class.
        eps_null: predictor conditioned on the null class.
        guidance_scale: g; 0 = unconditional, 1 = conditional, > 1 = extrapolated. The paper's w is g - 1.
    """

    return classifier_free_pair(lambda x_t, t: (eps_class(x_t, t), eps_null(x_t, t)), guidance_scale)


def classifier_free_pair(eps_pair: EpsPairFn, guidance_scale: float) -> EpsFn:
    """The same from one function that answers for both classes, which may ask the network for both at once."""

    def eps_fn(x_t: Tensor, t: int) -> Tensor:
        eps_class, eps_null = eps_pair(x_t, t)
        return eps_null + guidance_scale * (eps_class - eps_null)

    return eps_fn


def classifier_free_reverse(reverse_class: ReverseFn, reverse_null: ReverseFn, guidance_scale: float) -> ReverseFn:
    """The same for models with a learned variance, which stays that of the class, as in DiT (arXiv:2212.09748).

    Scales of 0 and 1 ask one of the two alone.
    """
    if guidance_scale in (0, 1):
        return reverse_class if guidance_scale else reverse_null

    def reverse_fn(x_t: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        eps, v = reverse_class(x_t, t)
        return classifier_free(lambda _x, _t: eps, lambda x, level: reverse_null(x, level)[0], guidance_scale)(x_t, t), v

    return reverse_fn


def classifier_guided(eps_fn: EpsFn, log_prob: LogProbFn, scale: float, schedule: NoiseSchedule) -> EpsFn:
    """Classifier guidance (Dhariwal & Nichol 2021, arXiv:2105.05233, alg. 2): eps - sqrt(1 - alpha_bar_t) s grad log p(class | x_t, t).

    Args:
        eps_fn: unconditional predictor.
        log_prob: (x_t, t) -> (B,) log-probability of the target class; must be differentiable in x_t and treat images alone.
        scale: s; 0 = unguided, 100 in Wolleb et al. 2022 (arXiv:2203.04306).
        schedule: signal power by level.
    """

    def guided(x_t: Tensor, t: int) -> Tensor:
        return eps_fn(x_t, t) - schedule.noise(t) * scale * gradient_of(log_prob, x_t, t)

    return guided


def classifier_shifted(step_fn: StepFn, log_prob: LogProbFn, scale: float) -> StepFn:
    """Classifier guidance of steps that draw (Dhariwal & Nichol 2021, arXiv:2105.05233, alg. 1): mean + s variance grad log p.

    Args:
        step_fn: steps of the unguided process; one without a variance is not moved.
        log_prob: as of :func:`classifier_guided`; asked at the level that is left.
        scale: s; 0 = unguided.
    """

    def step(x_t: Tensor, t: int, s: int) -> ReverseStep:
        plain = step_fn(x_t, t, s)
        return replace(plain, mean=plain.mean + scale * plain.variance * gradient_of(log_prob, x_t, t))

    return step


def gradient_of(log_prob: LogProbFn, x_t: Tensor, t: int) -> Tensor:
    """(B, C, H, W) gradient of each image's log-probability by its own pixels, without a graph."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(log_prob(x, t).sum(), x)
    return gradient


def on_noise(reverse_fn: ReverseFn, change: Callable[[EpsFn], EpsFn]) -> ReverseFn:
    """``reverse_fn`` with its noise, not its variance, changed by any of the functions here, which may ask for the noise once."""

    def changed(x_t: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        eps, v = reverse_fn(x_t, t)
        return change(lambda _x, _t: eps)(x_t, t), v

    return changed


def within_levels(guided: EpsFn, plain: EpsFn, interval: tuple[int, int]) -> EpsFn:
    """``guided`` for levels in [low, high], ``plain`` elsewhere (Kynkaanniemi et al. 2024, arXiv:2404.07724)."""
    low, high = interval

    def eps_fn(x_t: Tensor, t: int) -> Tensor:
        return guided(x_t, t) if low <= t <= high else plain(x_t, t)

    return eps_fn


def static_thresholding(eps_fn: EpsFn, schedule: NoiseSchedule) -> EpsFn:
    """Noise whose predicted x_0 is clamped to [-1, 1] (Ho et al. 2020; "static" in Saharia et al. 2022, arXiv:2205.11487, 2.3).

    Args:
        eps_fn: predictor to correct.
        schedule: signal power by level; t must be at least 1.
    """

    def thresholded(x_t: Tensor, t: int) -> Tensor:
        x_0 = predicted_clean(x_t, eps_fn(x_t, t), t, schedule).clamp(-1, 1)
        return (x_t - schedule.signal(t) * x_0) / schedule.noise(t)

    return thresholded


def dynamic_thresholding(eps_fn: EpsFn, schedule: NoiseSchedule, quantile: float = 0.995) -> EpsFn:
    """Noise whose predicted x_0 is clamped to a per-image quantile of |x_0| and rescaled (Saharia et al. 2022, arXiv:2205.11487, 2.3).

    Images whose quantile is at most 1 are left alone but for values beyond [-1, 1].

    Args:
        eps_fn: predictor to correct.
        schedule: signal power by level; t must be at least 1.
        quantile: in (0, 1].
    """

    def thresholded(x_t: Tensor, t: int) -> Tensor:
        x_0 = predicted_clean(x_t, eps_fn(x_t, t), t, schedule)
        limit = torch.quantile(x_0.abs().flatten(1), quantile, dim=1).clamp(min=1).view(-1, 1, 1, 1)
        x_0 = x_0.clamp(-limit, limit) / limit
        return (x_t - schedule.signal(t) * x_0) / schedule.noise(t)

    return thresholded
