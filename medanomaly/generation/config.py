"""How images are drawn: sampler, steps, variance, thresholding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.spacing import spaced_levels
from medanomaly.errors import ConfigError

SamplerName = Literal["ddpm", "ddim", "dpm-solver++"]
VarianceName = Literal["auto", "learned", "posterior", "beta"]
SpacingName = Literal["auto", "uniform", "log_snr", "karras", "power"]
ThresholdName = Literal["static", "dynamic", "none"]
DEFAULT_STEPS = {"ddim": 100, "dpm-solver++": 20}
"""Steps where none are asked for; DDPM takes every level."""
QUANTILE = 0.995
"""Of dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487)."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How an image is drawn from noise."""

    sampler: SamplerName = "dpm-solver++"
    """ddpm: ancestral (Ho et al. 2020). ddim: deterministic at eta 0 (Song et al. 2021). dpm-solver++: 2M (Lu et al. 2022)."""
    num_steps: int | None = None
    """Network evaluations an image (twice as many with classifier-free guidance); None = every level, 100 or 20 by sampler."""
    eta: float | None = None
    """Of ddim and dpm-solver++: 0 = nothing is drawn on the way, 1 = as much as ddpm with the posterior's variance. None = 0 for ddim,
    1 for dpm-solver++: what is drawn covers what the model gets wrong at the noisiest levels, which a path without noise keeps."""
    variance: VarianceName = "auto"
    """Of ddpm: learned, posterior or beta; auto = learned where the model has one, else posterior."""
    spacing: SpacingName = "auto"
    """Of the levels, see ``diffusion.spacing``; auto = log_snr for dpm-solver++, uniform for the others."""
    threshold: ThresholdName = "static"
    """Of the predicted x_0: clamped to [-1, 1], scaled by a quantile (keeps guided images from saturating), or let be."""

    def __post_init__(self) -> None:
        kinds = {"sampler": SamplerName, "variance": VarianceName, "spacing": SpacingName, "threshold": ThresholdName}
        for name, kind in kinds.items():
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!a}", code="E_CONFIG"
                )
        if self.num_steps is not None and self.num_steps < 2:
            raise ConfigError(f"num_steps must be at least 2, got {self.num_steps}", code="E_CONFIG")
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise ConfigError(f"eta must be in 0..1, got {self.eta}", code="E_CONFIG")
        if self.eta is not None and self.sampler == "ddpm":
            raise ConfigError("eta belongs to ddim and dpm-solver++, not to ddpm", code="E_CONFIG", fix="leave it out")
        if self.variance != "auto" and self.sampler != "ddpm":
            raise ConfigError(f"variance belongs to ddpm, not to {self.sampler}", code="E_CONFIG", fix="use --sampler ddpm")

    def resolved(self, schedule: NoiseSchedule, *, has_variance: bool) -> SamplingConfig:
        """The same with nothing left to be decided, for a model of this schedule.

        Raises:
            ConfigError: E_CONFIG, more steps than levels, or a learned variance of a model that has none.
        """
        steps = DEFAULT_STEPS.get(self.sampler, schedule.num_levels) if self.num_steps is None else self.num_steps
        if self.num_steps is None:
            steps = min(steps, schedule.num_levels)
        if steps > schedule.num_levels:
            raise ConfigError(
                f"num_steps must be at most {schedule.num_levels}, the model's levels, got {steps}", code="E_CONFIG"
            )
        if self.variance == "learned" and not has_variance:
            raise ConfigError("this model has not learned a variance", code="E_CONFIG", fix="use --variance posterior or beta")
        variance = self.variance
        if variance == "auto" and self.sampler == "ddpm":
            variance = "learned" if has_variance else "posterior"
        spacing = self.spacing
        if spacing == "auto":
            spacing = "log_snr" if self.sampler == "dpm-solver++" else "uniform"
        eta = 1.0 if self.sampler == "dpm-solver++" else 0.0
        eta = eta if self.eta is None else self.eta
        return replace(self, num_steps=steps, eta=None if self.sampler == "ddpm" else eta, variance=variance, spacing=spacing)

    def levels(self, schedule: NoiseSchedule) -> list[int]:
        """Levels T > ... > 0 of a resolved config."""
        if self.num_steps is None or self.spacing == "auto":
            raise ValueError("resolve the config first")
        return spaced_levels(schedule, schedule.num_levels, self.num_steps, self.spacing)[::-1]
