"""Noise-start diffusion (Wyatt et al. 2022, AnoDDPM): noise an image part of the way, denoise it with a model of healthy images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from baselines.simplex import simplex_noise
from medanomaly.checkpoint import load_weights
from medanomaly.diffusion.ancestral import ancestral_walk
from medanomaly.diffusion.inference import for_inference
from medanomaly.diffusion.schedule import NoiseSchedule, ScheduleConfig
from medanomaly.diffusion.unet import Denoiser, NetworkConfig, condition
from medanomaly.errors import ConfigError
from medanomaly.methods.checks import check_classes, check_input, check_level, check_steps, uncalibrated
from medanomaly.methods.recipe import DiffusionTrainer, NoiseFn, gaussian_noise
from medanomaly.rng import image_generator, initial_weights
from medanomaly.scoring.calibration import HealthyCalibration
from medanomaly.scoring.finish import MapConfig, calibration_of, finish, finished_deviation, without_calibration
from medanomaly.scoring.maps import difference_map
from medanomaly.training.config import TrainingConfig
from medanomaly.types import AnomalyMethod, AnomalyResult, WalkObserver

NOISES: dict[str, NoiseFn] = {"gaussian": gaussian_noise, "simplex": simplex_noise}


@dataclass(frozen=True, kw_only=True)
class NoiseStartSamplerConfig:
    """How far an image is noised and how it comes back."""

    noise_level: int = 250
    """Level the image is noised to, 1..T."""
    num_steps: int = 250
    """Steps of the way back; fewer than ``noise_level`` skip levels."""
    num_samples: int = 1
    """Draws of the noise whose reconstructions are averaged."""
    seed: int = 0
    """Of the noise; with it and the image the answer is fixed."""

    def __post_init__(self) -> None:
        check_steps(self.noise_level, self.num_steps)
        if self.num_samples < 1:
            raise ConfigError(f"sampler.num_samples must be at least 1, got {self.num_samples}", code="E_CONFIG")


@dataclass(frozen=True, kw_only=True)
class NoiseStartConfig:
    """Diffusion on healthy images alone, with Gaussian or simplex noise."""

    kind: ClassVar[str] = "noise_start"
    title: ClassVar[str] = "noise-start DDPM"

    classes: tuple[str, ...] = ("healthy", "diseased")
    """Names of the classes of the data set."""
    target: str = "healthy"
    """The class it is trained on, by name."""
    noise: Literal["gaussian", "simplex"] = "gaussian"
    """Noise of training and sampling; simplex has structure at many scales."""
    network: NetworkConfig = NetworkConfig(learn_sigma=False)
    schedule: ScheduleConfig = ScheduleConfig()
    sampler: NoiseStartSamplerConfig = NoiseStartSamplerConfig()
    map: MapConfig = MapConfig()

    def __post_init__(self) -> None:
        check_classes(self.classes, self.target)
        check_level(self.sampler.noise_level, self.schedule.num_levels)
        if self.noise not in NOISES:
            raise ConfigError(f"method.noise must be one of {', '.join(NOISES)}, got {self.noise!r}", code="E_CONFIG")
        if self.network.learn_sigma:
            raise ConfigError("noise-start sampling uses the fixed variance: network.learn_sigma must be false", code="E_CONFIG")
        if self.map.subtract_round_trip:
            raise ConfigError("noise-start sampling has no round trip: map.subtract_round_trip must be false", code="E_CONFIG")

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return self.network.size_multiple

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """The healthy class alone."""
        return (self.target,)

    def recipe(self, *, image_channels: int, training: TrainingConfig, device: torch.device) -> NoiseStartRecipe:
        """A fresh training."""
        return NoiseStartRecipe(self, image_channels=image_channels, training=training, device=device)

    def restore(self, weights: dict[str, Tensor], *, image_channels: int, device: torch.device, source: str) -> NoiseStart:
        """The method with trained weights."""
        denoiser = Denoiser(self.network, image_channels=image_channels, classes=())
        load_weights(denoiser, without_calibration(weights), source)
        return NoiseStart(self, for_inference(denoiser, device), calibration_of(weights, self.map, source))


class NoiseStart:
    """Forward noise to the level, ancestral sampling back, compare. The noise of an image depends on its pixels and the seed."""

    def __init__(self, config: NoiseStartConfig, denoiser: Denoiser, calibration: HealthyCalibration | None = None) -> None:
        self.config, self.denoiser, self.calibration = config, denoiser, calibration
        self.schedule = NoiseSchedule.from_config(config.schedule)
        self.levels = self.schedule.grid(config.sampler.noise_level, config.sampler.num_steps)[::-1]

    @torch.inference_mode()
    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        """Map, score and reconstruction of x (B, C, H, W) in [-1, 1]."""
        check_input(x, self.denoiser.image_channels, self.config.size_multiple)
        sampler = self.config.sampler
        draws = [image_generator(sampler.seed, "noise start", image) for image in x]
        made = [self.reconstruct(x, draws, observer) for _ in range(sampler.num_samples)]
        pseudo_healthy = torch.stack(made).mean(dim=0)
        settings, calibration = self.config.map, self.calibration
        anomaly_map, score = finish(difference_map(x, pseudo_healthy, settings.change), settings, calibration)
        # The map is that of the mean reconstruction; the deviation is between the maps of the single ones.
        map_std = finished_deviation([difference_map(x, one, settings.change) for one in made], settings, calibration)
        return AnomalyResult(anomaly_map=anomaly_map, score=score, pseudo_healthy=pseudo_healthy, map_std=map_std)

    def reconstruct(self, x: Tensor, draws: list[torch.Generator], observer: WalkObserver | None) -> Tensor:
        """(B, C, H, W) in [-1, 1]: one sample of what a healthy image with this coarse structure looks like."""
        noise_fn = NOISES[self.config.noise]

        def noise(_level: int) -> Tensor:
            return torch.cat([noise_fn((1, *x.shape[1:]), generator) for generator in draws]).to(x)

        level = self.levels[0]
        x_t = self.schedule.signal(level) * x + self.schedule.noise(level) * noise(level)
        eps_fn = condition(self.denoiser, None, self.schedule)
        return ancestral_walk(eps_fn, x_t, self.levels, self.schedule, noise, observer).clamp(-1, 1)


class NoiseStartRecipe(DiffusionTrainer):
    """Training on healthy images with the chosen noise; the network has no class but the null class."""

    def __init__(self, config: NoiseStartConfig, *, image_channels: int, training: TrainingConfig, device: torch.device) -> None:
        self.config, self.image_channels = config, image_channels
        with initial_weights(training.seed):
            denoiser = Denoiser(config.network, image_channels=image_channels, classes=())
        super().__init__(
            denoiser,
            NoiseSchedule.from_config(config.schedule),
            training,
            p_uncond=1.0,
            bound_weight=0.0,
            device=device,
            noise=NOISES[config.noise],
        )

    def method(self) -> AnomalyMethod:
        """The method with the averaged weights; its maps are not calibrated."""
        return uncalibrated(self.config).restore(
            self.weights(), image_channels=self.image_channels, device=self.device, source="this run"
        )
