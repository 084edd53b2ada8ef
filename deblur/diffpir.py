"""DiffPIR (Zhu et al. 2023, arXiv:2305.08995): deblurring with a diffusion model as the prior.

Each level takes three steps: the network's clean image, the image nearest to it that explains the measurement, noise again.
The prior works in [-1, 1], the data step in [0, 1].

The published code counts its noisy levels 0..T - 1; here level 0 is clean, so its index i is level i + 1. Its loop ends at its
index 0 and saves the image with that level's noise still on it. Here the last step goes on to level 0, which has no noise: what
comes back is the last image that the data step made, and no network call is wasted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from deblur.blur import DataStep
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import predicted_clean
from medanomaly.errors import ConfigError, InputError
from medanomaly.types import EpsFn, WalkObserver

MIN_NOISE_SD = 0.001
"""The published code's floor of the noise, in [0, 1]: a quarter of an 8-bit gray level."""

LevelGrid = Literal["quadratic", "uniform"]


@dataclass(frozen=True, kw_only=True)
class DiffPirConfig:
    """How an image is restored. The defaults are the published code's for deblurring."""

    num_steps: int = 100
    """Network evaluations, each followed by a data step; 20 is the faster setting."""
    lambda_: float = 7.0
    """Weight of the prior in rho = lambda sigma_n^2 / sigma_bar^2, in the published code's unit: sigma_n of images in [0, 1], but
    sigma_bar = sqrt((1 - alpha_bar) / alpha_bar) of images in [-1, 1]. With both in one unit the same weight is lambda / 4."""
    zeta: float = 0.3
    """Share of fresh noise in each step's noise, as variance: 0 = none, 1 = all."""
    t_start: int | None = None
    """Level that the walk begins at, 1..T; None = T. From a low level, what the blur erased stays erased instead of being made up."""
    grid: LevelGrid = "quadratic"
    """Spacing of the levels: quadratic is denser at low noise."""
    num_samples: int = 1
    """Restorations with different noise that :func:`posterior` averages."""

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.num_samples < 1:
            raise ConfigError(
                f"num_steps and num_samples must be at least 1, got {self.num_steps} and {self.num_samples}", code="E_CONFIG"
            )
        if not (math.isfinite(self.lambda_) and self.lambda_ > 0):
            raise ConfigError(f"lambda_ must be a positive number, got {self.lambda_}", code="E_CONFIG", fix="use 7")
        if not 0 <= self.zeta <= 1:
            raise ConfigError(f"zeta must be in [0, 1], got {self.zeta}", code="E_CONFIG", fix="use 0.3")
        if self.t_start is not None and self.t_start < 1:
            raise ConfigError(f"t_start must be at least 1, got {self.t_start}: level 0 is the clean image", code="E_CONFIG")
        if self.grid not in get_args(LevelGrid):
            raise ConfigError(f"grid must be one of {', '.join(get_args(LevelGrid))}, got {self.grid!r}", code="E_CONFIG")


def levels_of(schedule: NoiseSchedule, config: DiffPirConfig) -> list[int]:
    """The num_steps levels that the network is asked at, downwards from t_start to 1.

    The quadratic grid is the published one, one level up: t_start - int(sqrt(linspace(0, t_start^2, num_steps))), its end at 1.
    That repeats low levels where there are many steps; here a repeated level moves up to the next free one.

    Raises:
        ConfigError: E_CONFIG, t_start above T or more steps than levels.
    """
    top = schedule.num_levels if config.t_start is None else config.t_start
    if top > schedule.num_levels:
        raise ConfigError(
            f"t_start is {top}, the schedule has {schedule.num_levels} levels",
            code="E_CONFIG",
            fix="give a t_start of at most that",
        )
    if config.num_steps > top:
        raise ConfigError(
            f"num_steps is {config.num_steps}, there are {top} levels up to the start", code="E_CONFIG", fix="take fewer steps"
        )
    last = max(config.num_steps - 1, 1)
    if config.grid == "quadratic":
        upwards = [top - math.floor(math.sqrt(top**2 * step / last)) for step in range(config.num_steps)][::-1]
    else:
        upwards = [1 + round((top - 1) * step / last) for step in range(config.num_steps)]
    levels: list[int] = []
    for level in upwards[:-1]:
        levels.append(max(level, levels[-1] + 1 if levels else 1))
    return [*levels, top][::-1]


def noise_floor(noise_sd: float, num_gray_levels: int | None = None) -> float:
    """Standard deviation in [0, 1] of all that the blur model does not explain, at least :data:`MIN_NOISE_SD`.

    Args:
        noise_sd: of the sensor's noise, > 0, in [0, 1] units; 0.5 / 255 is half an 8-bit gray level.
        num_gray_levels: 256 for an image stored with 8 bits, whose rounding adds a variance of step^2 / 12; None = not rounded.

    Raises:
        ConfigError: E_CONFIG, a deviation that is not in (0, 1], or fewer than two gray levels.
    """
    if not 0 < noise_sd <= 1:
        raise ConfigError(
            f"noise_sd must be in (0, 1], got {noise_sd}",
            code="E_CONFIG",
            fix=f"give it in units of [0, 1] images, {MIN_NOISE_SD} where there is next to none",
        )
    if num_gray_levels is None:
        return max(noise_sd, MIN_NOISE_SD)
    if num_gray_levels < 2:
        raise ConfigError(f"num_gray_levels must be at least 2, got {num_gray_levels}", code="E_CONFIG", fix="use 256 for 8 bits")
    return max(math.hypot(noise_sd, 1 / (num_gray_levels - 1) / math.sqrt(12)), MIN_NOISE_SD)


@dataclass(frozen=True, eq=False, kw_only=True)
class Restoration:
    """All that a restoration needs besides the images that it begins at."""

    eps_fn: EpsFn
    """The prior: predicts the noise of x_t, (B, C, H, W) in model space, at level t."""
    data_step: DataStep
    """The measurement; see :data:`deblur.blur.DataStep`."""
    schedule: NoiseSchedule
    """Signal power by level, the one that the prior was trained with."""
    noise_sd: float
    """Of y in [0, 1]; see :func:`noise_floor` for rounded images. Below :data:`MIN_NOISE_SD` that is taken."""
    config: DiffPirConfig
    """Steps, weights and start."""


def diffpir(
    what: Restoration, y_start: Tensor, generators: Sequence[torch.Generator], observer: WalkObserver | None = None
) -> Tensor:
    """One restoration of each image: :func:`diffpir_walk`, brought to [0, 1] and clamped at the end and nowhere between."""
    return to_unit(diffpir_walk(what, y_start, generators, observer)).clamp(0, 1)


@torch.no_grad()
def diffpir_walk(
    what: Restoration, y_start: Tensor, generators: Sequence[torch.Generator], observer: WalkObserver | None = None
) -> Tensor:
    """(B, C, H, W) the last data-consistent image, in model space and not clamped.

    Args:
        what: prior, measurement and settings.
        y_start: (B, C, H, W) about [0, 1], where to begin: the blurred images, or their canvas.
        generators: one an image, so that no image's result depends on its batch; they are advanced.
        observer: called after each step with the level reached, x there and the data-consistent image, both in model space and not
            clamped. At level 0 both are the result.

    Raises:
        ConfigError: E_CONFIG, see :func:`levels_of` and :func:`noise_floor`; or a start level with less noise than y has.
        InputError: E_SHAPE, E_NONFINITE or E_RANGE of y_start; E_NONFINITE where the restoration diverged.
    """
    schedule, config = what.schedule, what.config
    check_measurement(y_start, len(generators))
    sigma, levels = noise_floor(what.noise_sd), levels_of(schedule, config)
    x = renoised(y_start, levels[0], sigma, schedule, generators)
    for t, s in pairwise([*levels, 0]):
        # 1. What the prior makes of x_t.
        x_0 = predicted_clean(x, what.eps_fn(x, t), t, schedule).clamp(-1, 1)
        # 2. The nearest image that explains y.
        rho = config.lambda_ * sigma**2 * schedule.signal(t) ** 2 / schedule.noise(t) ** 2
        x_0 = to_model(what.data_step(to_unit(x_0), rho))
        # 3. Noise again, up to level s: part of it what step 2 says was in x_t, part of it fresh. Level 0 has none.
        eps = (x - schedule.signal(t) * x_0) / schedule.noise(t)
        fresh = noise_like(x, generators)
        x = schedule.signal(s) * x_0 + schedule.noise(s) * (math.sqrt(1 - config.zeta) * eps + math.sqrt(config.zeta) * fresh)
        if observer is not None:
            observer(s, x, x_0)
    if not bool(torch.isfinite(x).all()):
        raise InputError(
            "the restoration holds NaN or infinity",
            code="E_NONFINITE",
            fix="check the prior's weights, and that its schedule is this",
        )
    return x


def renoised(y: Tensor, t: int, noise_sd: float, schedule: NoiseSchedule, generators: Sequence[torch.Generator]) -> Tensor:
    """x_t in model space from the measurement y in [0, 1]: scaled to level t, with as much noise added as its own leaves missing.

    The published code looks up the level whose noise is nearest to y's and takes y for an image of that level; its other form,
    sqrt(alpha_bar) y + sqrt(1 - alpha_bar) n, takes y for clean. Here y's noise is counted as it is, and no level is looked up.

    Raises:
        ConfigError: E_CONFIG, y has more noise than level t.
    """
    missing = schedule.noise(t) ** 2 - schedule.signal(t) ** 2 * (2 * noise_sd) ** 2
    if missing < 0:
        raise ConfigError(
            f"level {t} has less noise than the image, whose noise_sd is {noise_sd:g}", code="E_CONFIG", fix="raise t_start"
        )
    return schedule.signal(t) * to_model(y) + math.sqrt(missing) * noise_like(y, generators)


def noise_like(x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise like x (B, C, H, W), each image's from its own generator.

    Drawn in float32 on the generator's device, so that neither the dtype nor the device of x changes the draws.
    """
    return torch.stack([torch.randn(x.shape[1:], generator=draws, device=draws.device) for draws in generators]).to(x)


def to_model(x: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]."""
    return 2 * x - 1


def to_unit(x: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (x + 1) / 2


def check_measurement(y: Tensor, num_generators: int) -> None:
    """Refuses what is no batch of images around [0, 1], or has another size than there are generators.

    Raises:
        InputError: E_SHAPE, E_NONFINITE or E_RANGE.
    """
    if y.ndim != 4 or y.shape[0] != num_generators or y.numel() == 0 or not y.is_floating_point():
        raise InputError(
            f"the measurement must be floats (B, C, H, W) with B = {num_generators} generators, got {y.dtype} {tuple(y.shape)}",
            code="E_SHAPE",
            fix="add a batch axis with y[None], and give one generator an image",
        )
    if not bool(torch.isfinite(y).all()):
        raise InputError("the measurement holds NaN or infinity", code="E_NONFINITE", fix="leave such images out")
    # Noise may lead out of [0, 1], though never this far.
    if float(y.min()) < -0.5 or float(y.max()) > 1.5:
        raise InputError(
            f"the measurement reaches from {float(y.min()):.3g} to {float(y.max()):.3g}",
            code="E_RANGE",
            fix="scale it to [0, 1]; model space is x / 2 + 1 / 2",
        )
