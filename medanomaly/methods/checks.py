"""What every method checks in the same words: its classes, its sampler, its input, the state it continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor

from medanomaly.errors import CheckpointError, ConfigError

Config = TypeVar("Config", bound=Any)


def check_classes(classes: Sequence[str], target: str) -> None:
    """Two or more different names, the target among them.

    Raises:
        ConfigError: E_CONFIG or E_CLASS.
    """
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise ConfigError(f"method.classes must be two or more different names, got {tuple(classes)}", code="E_CONFIG")
    if target not in classes:
        raise ConfigError(f"method.target {target!r} is not one of method.classes {', '.join(classes)}", code="E_CLASS")


def check_steps(noise_level: int, num_steps: int) -> None:
    """A walk needs at least one step, and no more than there are levels.

    Raises:
        ConfigError: E_CONFIG.
    """
    if not 0 < num_steps <= noise_level:
        raise ConfigError(f"sampler.num_steps must be in 1..noise_level={noise_level}, got {num_steps}", code="E_CONFIG")


def check_noise_levels(noise_levels: Sequence[int] | None, noise_level: int) -> None:
    """Levels to average over: different, at least 1, the one that the settings are given at among them; None = that one alone.

    Raises:
        ConfigError: E_CONFIG.
    """
    if noise_levels is None:
        return
    if noise_level not in noise_levels:
        raise ConfigError(
            f"sampler.noise_levels must hold sampler.noise_level={noise_level}, got {tuple(noise_levels)}",
            code="E_CONFIG",
            fix="name both: num_steps and the pseudo-healthy image belong to noise_level",
        )
    if len(set(noise_levels)) != len(noise_levels) or min(noise_levels) < 1:
        raise ConfigError(f"sampler.noise_levels must be different and at least 1, got {tuple(noise_levels)}", code="E_CONFIG")


def check_level(noise_level: int, num_levels: int) -> None:
    """The schedule has to reach the level.

    Raises:
        ConfigError: E_CONFIG.
    """
    if noise_level > num_levels:
        raise ConfigError(f"sampler.noise_level must be at most schedule.num_levels={num_levels}", code="E_CONFIG")


def check_input(x: Tensor, channels: int, multiple: int) -> None:
    """A batch of images that the network can take.

    Raises:
        ValueError: not (B, channels, H, W), or sides that are no multiples of ``multiple``.
    """
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"x must be (B, {channels}, H, W), got {tuple(x.shape)}; add a batch axis with x[None]")
    if x.shape[2] % multiple or x.shape[3] % multiple:
        raise ValueError(f"x must have sides that are multiples of {multiple}, got {tuple(x.shape[2:])}; pad it first")


def refuse_other_classes(saved: Sequence[str], own: Sequence[str]) -> None:
    """A training goes on with the classes it began with, in their order.

    Raises:
        CheckpointError: E_CONFIG_MISMATCH.
    """
    if list(saved) != list(own):
        raise CheckpointError(
            f"the saved classes are {', '.join(saved)}, the method's {', '.join(own)}",
            code="E_CONFIG_MISMATCH",
            fix="use a new output folder",
        )


def uncalibrated(config: Config) -> Config:
    """The same method config with maps that are not calibrated: what a recipe can make before there is a calibration."""
    return replace(config, map=replace(config.map, healthy_z=False))
