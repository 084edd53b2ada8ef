"""Noise schedules by signal power: level 0 is the clean image, level T the noisiest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from medanomaly.errors import ConfigError

ScheduleName = Literal["linear", "scaled_linear", "quadratic", "cosine", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Which noise schedule and how many levels."""

    name: ScheduleName = "linear"
    """linear (Ho et al. 2020), scaled_linear (Rombach et al. 2022), quadratic, cosine (Nichol & Dhariwal 2021), sigmoid."""
    num_levels: int = 1000
    """T, the number of noisy levels."""

    def __post_init__(self) -> None:
        if self.name not in BETAS:
            raise ConfigError(f"schedule.name must be one of {', '.join(BETAS)}, got {self.name!r}", code="E_CONFIG")
        if self.num_levels < 2:
            raise ConfigError(f"schedule.num_levels must be at least 2, got {self.num_levels}", code="E_CONFIG")


def linear_betas(num_levels: int) -> Tensor:
    """(T,) beta from 1e-4 to 0.02, rescaled by 1000 / T (Ho et al. 2020, arXiv:2006.11239, section 4)."""
    scale = 1000 / num_levels
    return torch.linspace(scale * 1e-4, min(scale * 0.02, 0.999), num_levels, dtype=torch.float64)


def scaled_linear_betas(num_levels: int) -> Tensor:
    """(T,) beta linear in its square root from 0.00085 to 0.012 (Rombach et al. 2022, arXiv:2112.10752)."""
    scale = 1000 / num_levels
    return torch.linspace((scale * 0.00085) ** 0.5, min(scale * 0.012, 0.999) ** 0.5, num_levels, dtype=torch.float64) ** 2


def quadratic_betas(num_levels: int) -> Tensor:
    """(T,) beta linear in its square root between the linear schedule's ends, 1e-4 and 0.02."""
    scale = 1000 / num_levels
    return torch.linspace((scale * 1e-4) ** 0.5, min(scale * 0.02, 0.999) ** 0.5, num_levels, dtype=torch.float64) ** 2


def cosine_betas(num_levels: int) -> Tensor:
    """(T,) beta from alpha_bar = cos^2, s = 0.008, beta capped at 0.999 (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17)."""
    s = 0.008
    t = torch.arange(num_levels + 1, dtype=torch.float64) / num_levels
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def sigmoid_betas(num_levels: int) -> Tensor:
    """(T,) beta along a sigmoid over [-6, 6] between 1e-4 and 0.02 (as in GeoDiff, Xu et al. 2022, arXiv:2203.02923)."""
    scale = 1000 / num_levels
    ramp = torch.sigmoid(torch.linspace(-6, 6, num_levels, dtype=torch.float64))
    return (scale * 1e-4 + ramp * scale * (0.02 - 1e-4)).clamp(max=0.999)


BETAS: dict[str, Callable[[int], Tensor]] = {
    "linear": linear_betas,
    "scaled_linear": scaled_linear_betas,
    "quadratic": quadratic_betas,
    "cosine": cosine_betas,
    "sigmoid": sigmoid_betas,
}


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """Signal power at each level of the forward process x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps."""

    alpha_bar: Tensor
    """(T + 1,) float64, alpha_bar[0] = 1 (clean), decreasing."""

    def __post_init__(self) -> None:
        alpha_bar = self.alpha_bar
        if alpha_bar.ndim != 1 or alpha_bar[0] != 1 or bool((alpha_bar.diff() >= 0).any()) or bool(alpha_bar[-1] <= 0):
            raise ValueError("alpha_bar must be (T + 1,), start at 1, decrease strictly and stay positive")

    @classmethod
    def from_config(cls, config: ScheduleConfig) -> NoiseSchedule:
        """The schedule a config names."""
        betas = BETAS[config.name](config.num_levels)
        return cls(torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, dim=0)]))

    @classmethod
    def linear(cls, num_levels: int = 1000) -> NoiseSchedule:
        """The seed's schedule."""
        return cls.from_config(ScheduleConfig(name="linear", num_levels=num_levels))

    @property
    def num_levels(self) -> int:
        """T."""
        return len(self.alpha_bar) - 1

    def signal(self, t: int) -> float:
        """sqrt(alpha_bar_t): how much of x_0 is in x_t."""
        return math.sqrt(float(self.alpha_bar[t]))

    def noise(self, t: int) -> float:
        """sqrt(1 - alpha_bar_t): how much of eps is in x_t."""
        return math.sqrt(1.0 - float(self.alpha_bar[t]))

    def grid(self, noise_level: int, num_steps: int) -> list[int]:
        """Levels 0 = l_0 < l_1 < ... < l_n = noise_level, as evenly spaced as integers allow.

        Args:
            noise_level: last level, 1..T.
            num_steps: n, 1..noise_level.
        """
        if not 1 <= noise_level <= self.num_levels:
            raise ConfigError(f"noise_level must be in 1..{self.num_levels}, got {noise_level}", code="E_CONFIG")
        if not 1 <= num_steps <= noise_level:
            raise ConfigError(f"num_steps must be in 1..noise_level={noise_level}, got {num_steps}", code="E_CONFIG")
        return [round(step * noise_level / num_steps) for step in range(num_steps + 1)]

    def add_noise(self, x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t for a level per image.

        Args:
            x_0: (B, C, H, W) clean images.
            eps: as x_0, standard normal.
            t: (B,) int64 levels in 0..T.
        """
        if bool((t < 0).any()) or bool((t > self.num_levels).any()):
            raise ValueError(f"t must be in 0..{self.num_levels}")
        alpha_bar = self.alpha_bar.to(t.device)[t].view(-1, *[1] * (x_0.ndim - 1))
        return (alpha_bar.sqrt().to(x_0) * x_0) + ((1 - alpha_bar).sqrt().to(x_0) * eps)
