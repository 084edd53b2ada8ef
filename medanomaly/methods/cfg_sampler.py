"""How the main method walks an image up and down: noise level, steps, guidance, and what makes few steps enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from medanomaly.diffusion.spacing import Spacing
from medanomaly.diffusion.walk import Order
from medanomaly.errors import ConfigError
from medanomaly.methods.checks import check_noise_levels, check_steps


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How an image is translated to healthy."""

    noise_level: int = 500
    """Level L to encode to, 1..T; higher erases larger lesions, and more anatomy (Wolleb et al. 2022, arXiv:2203.04306)."""
    num_steps: int = 100
    """DDIM steps each way; the round-trip error about halves when this doubles."""
    guidance_scale: float = 3.0
    """g in eps_null + g (eps_class - eps_null); a seed command's ``--guidance_scale w`` is g = w + 1."""
    guidance_interval: tuple[int, int] | None = None
    """(low, high) levels inside which g applies; conditional (g = 1) outside. None = everywhere."""
    dynamic_threshold: float | None = None
    """Quantile of |x_0| for dynamic thresholding of the guided half, e.g. 0.995; None = off."""
    noise_levels: tuple[int, ...] | None = None
    """Levels whose maps are averaged, ``noise_level`` among them, each with a walk of its own (``steps_to``); None = ``noise_level``."""
    spacing: Spacing = "uniform"
    """Where the levels of a walk lie: uniform, log_snr, karras or power (:mod:`medanomaly.diffusion.spacing`)."""
    order: Order = 1
    """1 = DDIM; 2 = two-step Adams-Bashforth in eps, at the same cost."""
    delta: bool = False
    """Decode the difference that guidance makes from the way up: the round trip is exact (:mod:`medanomaly.diffusion.delta`)."""
    guidance_every: int = 1
    """The class is asked at every n-th step of the way down, and what it adds is extrapolated between."""
    encode_iterations: int = 0
    """Fixed-point iterations a step of the way up, which bring order 1 nearer to its exact inverse; 0 = none."""

    def __post_init__(self) -> None:
        check_steps(self.noise_level, self.num_steps)
        check_noise_levels(self.noise_levels, self.noise_level)
        if not 0 <= self.guidance_scale <= 50:
            raise ConfigError(f"sampler.guidance_scale must be in 0..50, got {self.guidance_scale}", code="E_CONFIG")
        if self.guidance_interval is not None and not 0 <= self.guidance_interval[0] <= self.guidance_interval[1]:
            raise ConfigError(
                f"sampler.guidance_interval must be 0 <= low <= high, got {self.guidance_interval}", code="E_CONFIG"
            )
        if self.dynamic_threshold is not None and not 0 < self.dynamic_threshold <= 1:
            raise ConfigError(f"sampler.dynamic_threshold must be in (0, 1], got {self.dynamic_threshold}", code="E_CONFIG")
        for name, value, allowed in (("spacing", self.spacing, get_args(Spacing)), ("order", self.order, get_args(Order))):
            if value not in allowed:
                raise ConfigError(f"sampler.{name} must be one of {', '.join(map(str, allowed))}, got {value!r}", code="E_CONFIG")
        if self.guidance_every < 1 or self.encode_iterations < 0:
            raise ConfigError(
                f"sampler.guidance_every must be at least 1 and sampler.encode_iterations at least 0, "
                f"got {self.guidance_every} and {self.encode_iterations}",
                code="E_CONFIG",
            )
        if self.encode_iterations and (self.order != 1 or self.delta):
            raise ConfigError(
                "sampler.encode_iterations inverts the first-order way down only",
                code="E_CONFIG",
                fix="set it to 0, or sampler.order to 1 and sampler.delta to false",
            )

    @property
    def all_levels(self) -> tuple[int, ...]:
        """Every level an image is encoded to, upwards."""
        return tuple(sorted(self.noise_levels)) if self.noise_levels else (self.noise_level,)

    def steps_to(self, level: int) -> int:
        """DDIM steps each way between 0 and ``level``: round(num_steps level / noise_level), at least 1.

        That is the width of the steps to ``noise_level``: with equal numbers of steps instead, maps of different levels would also
        differ by the coarseness of their walks.
        """
        return max(round(self.num_steps * level / self.noise_level), 1)
