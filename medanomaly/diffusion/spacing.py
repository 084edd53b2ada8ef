"""Where the levels of a walk lie: few steps are worth more where the path bends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError

Spacing = Literal["uniform", "log_snr", "karras", "power"]
"""uniform in level; log_snr: uniform in log(signal / noise) (Lu et al. 2022, arXiv:2206.00927); karras: uniform in sigma^(1/7),
sigma = noise / signal (Karras et al. 2022, arXiv:2206.00364, eq. 5); power: level = L (i / n)^1.5."""

RHO = 7.0
"""Karras et al. 2022, table 1."""
POWER = 1.5

Floats = npt.NDArray[np.float64]


def spaced_levels(schedule: NoiseSchedule, noise_level: int, num_steps: int, spacing: Spacing = "uniform") -> list[int]:
    """Levels 0 = l_0 < l_1 < ... < l_n = noise_level.

    Whole numbers, so near level 0, where a fine grid would ask for fractions, neighbours are one level apart.

    Args:
        schedule: signal power by level.
        noise_level: last level, 1..T.
        num_steps: n, 1..noise_level.
        spacing: how they lie between.

    Raises:
        ConfigError: E_CONFIG, a level, a number of steps or a spacing that cannot be.
    """
    if spacing not in get_args(Spacing):
        raise ConfigError(f"sampler.spacing must be one of {', '.join(get_args(Spacing))}, got {spacing!r}", code="E_CONFIG")
    even = schedule.grid(noise_level, num_steps)
    if spacing == "uniform" or num_steps == 1:
        return even
    if spacing == "power":
        wanted = noise_level * (np.arange(num_steps + 1) / num_steps) ** POWER
    else:
        sigma = np.array([schedule.noise(t) / schedule.signal(t) for t in range(1, noise_level + 1)])
        to, back = TRANSFORMS[spacing]
        # Level 0 has no noise at all: the first step leads from it to the least noisy level.
        between = back(np.linspace(to(sigma[0]), to(sigma[-1]), num_steps))
        wanted = np.concatenate([[0.0], np.interp(between, sigma, np.arange(1, noise_level + 1))])
    return distinct(wanted, noise_level)


TRANSFORMS: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "log_snr": (np.log, np.exp),
    "karras": (lambda sigma: sigma ** (1 / RHO), lambda value: value**RHO),
}
"""sigma -> what is spaced evenly, and back."""


def distinct(wanted: Floats, last: int) -> list[int]:
    """Rising whole numbers from 0 to ``last`` nearest to the rising ``wanted``; len(wanted) <= last + 1."""
    steps = len(wanted) - 1
    levels = [0]
    for index in range(1, steps + 1):
        near = math.floor(wanted[index] + 0.5)
        levels.append(min(max(near, levels[-1] + 1), last - (steps - index)))
    return levels
