"""From noise to images: one function for every sampler, each image by its own generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from medanomaly.diffusion.guidance import (
    LogProbFn,
    classifier_guided,
    classifier_shifted,
    dynamic_thresholding,
    on_noise,
    static_thresholding,
)
from medanomaly.diffusion.reverse import (
    ReverseFn,
    StepFn,
    beta_step,
    ddim_step,
    learned_step,
    posterior_step,
    reverse_walk,
)
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.solvers import dpm_solver_walk
from medanomaly.errors import ConfigError
from medanomaly.generation.config import QUANTILE, SamplingConfig
from medanomaly.types import EpsFn, WalkObserver


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """A classifier's say in the sampling."""

    log_prob: LogProbFn
    """(x_t, t) -> (B,) log-probability of what is wanted; differentiable, and each image by itself."""
    scale: float
    """s; 1 = the posterior of the classifier (Dhariwal & Nichol 2021, arXiv:2105.05233), larger = sharper."""


@torch.no_grad()  # not inference_mode: its tensors could not enter the classifier's gradient
def sample(
    reverse_fn: ReverseFn,
    shape: Sequence[int],
    schedule: NoiseSchedule,
    config: SamplingConfig,
    generators: Sequence[torch.Generator],
    *,
    guide: Guide | None = None,
    observer: WalkObserver | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Images drawn from noise at level T.

    A guide moves the mean of DDPM's steps (arXiv:2105.05233, alg. 1) and the noise of the others (alg. 2). Thresholding is of the
    guided x_0, but where the mean is moved, of the one before.

    Args:
        reverse_fn: the model, classifier-free guidance included.
        shape: (C, H, W) of an image.
        schedule: the model's.
        config: with nothing left to be decided (``SamplingConfig.resolved``).
        generators: one an image: an image depends on its own, never on its batch. They may live on another device.
        guide: of a classifier; None = none.
        observer: called after each step with the level reached, x there, and the predicted clean image.
        device: where the model is; None = the CPU.

    Returns:
        (B, C, H, W) float32 in [-1, 1], B = len(generators), clamped once at the end.

    Raises:
        ConfigError: E_NONFINITE, the images are not finite: guidance too strong, or a broken model.
    """
    levels = config.levels(schedule)

    def noise(_level: int) -> Tensor:
        drawn = [torch.randn(tuple(shape), generator=one, device=one.device) for one in generators]
        return torch.stack([one.to(device or "cpu") for one in drawn])

    start = noise(schedule.num_levels)
    if config.sampler == "ddpm":
        step_fn = ddpm_step(thresholded(reverse_fn, config, schedule), config, schedule)
        if guide is not None:
            step_fn = classifier_shifted(step_fn, guide.log_prob, guide.scale)
        x = reverse_walk(step_fn, start, levels, noise, observer)
    else:
        guided = reverse_fn
        if guide is not None:
            steer = partial(classifier_guided, log_prob=guide.log_prob, scale=guide.scale, schedule=schedule)
            guided = on_noise(reverse_fn, steer)
        eps_fn = noise_of(thresholded(guided, config, schedule))
        eta = 0.0 if config.eta is None else config.eta
        if config.sampler == "ddim":
            x = reverse_walk(ddim_step(eps_fn, schedule, eta), start, levels, noise, observer)
        else:
            x = dpm_solver_walk(eps_fn, start, levels, schedule, observer, eta=eta, noise=noise)
    if not bool(x.isfinite().all()):
        raise ConfigError("the images are not finite", code="E_NONFINITE", fix="guide less, or take more steps")
    return x.clamp(-1, 1)


def ddpm_step(reverse_fn: ReverseFn, config: SamplingConfig, schedule: NoiseSchedule) -> StepFn:
    """Steps of DDPM with the variance of a resolved config."""
    if config.variance == "learned":
        return learned_step(reverse_fn, schedule)
    fixed = {"posterior": posterior_step, "beta": beta_step}[config.variance]
    return fixed(noise_of(reverse_fn), schedule)


def thresholded(reverse_fn: ReverseFn, config: SamplingConfig, schedule: NoiseSchedule) -> ReverseFn:
    """The model with the thresholding of a config."""
    limits: dict[str, Callable[[EpsFn], EpsFn]] = {
        "static": partial(static_thresholding, schedule=schedule),
        "dynamic": partial(dynamic_thresholding, schedule=schedule, quantile=QUANTILE),
    }
    return on_noise(reverse_fn, limits[config.threshold]) if config.threshold in limits else reverse_fn


def noise_of(reverse_fn: ReverseFn) -> EpsFn:
    """The predicted noise alone."""
    return lambda x_t, t: reverse_fn(x_t, t)[0]
