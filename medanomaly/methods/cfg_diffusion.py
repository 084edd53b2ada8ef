"""The method: encode an image with the null class, decode it guided towards healthy, and look at what changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from medanomaly.checkpoint import load_weights
from medanomaly.diffusion.delta import EncodePath, delta_walk, encode_path
from medanomaly.diffusion.guidance import classifier_free_pair, dynamic_thresholding, within_levels
from medanomaly.diffusion.held import held_guidance
from medanomaly.diffusion.inference import for_inference
from medanomaly.diffusion.schedule import NoiseSchedule, ScheduleConfig
from medanomaly.diffusion.spacing import spaced_levels
from medanomaly.diffusion.unet import Denoiser, NetworkConfig, condition, condition_pair
from medanomaly.diffusion.walk import ddim_walk, implicit_walk
from medanomaly.errors import ConfigError
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.checks import (
    check_classes,
    check_input,
    check_level,
    refuse_other_classes,
    uncalibrated,
)
from medanomaly.methods.recipe import DiffusionTrainer
from medanomaly.rng import initial_weights
from medanomaly.scoring.calibration import HealthyCalibration
from medanomaly.scoring.finish import MapConfig, calibration_of, finish, finished_deviation, without_calibration
from medanomaly.scoring.maps import difference_map
from medanomaly.training.config import TrainingConfig
from medanomaly.types import AnomalyMethod, AnomalyResult, EpsFn, WalkObserver


@dataclass(frozen=True, kw_only=True)
class CfgDiffusionConfig:
    """Classifier-free-guidance diffusion between named classes."""

    kind: ClassVar[str] = "cfg_diffusion"
    title: ClassVar[str] = "CFG diffusion"

    classes: tuple[str, ...] = ("healthy", "diseased")
    """Names of the classes in the order of the embedding's rows."""
    target: str = "healthy"
    """Class an image is translated to, by name."""
    p_uncond: float = 0.1
    """Probability that a training label becomes the null class."""
    bound_weight: float = 1e-3
    """lambda of the variational term that trains the variance (arXiv:2102.09672)."""
    network: NetworkConfig = NetworkConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    sampler: SamplerConfig = SamplerConfig()
    map: MapConfig = MapConfig()

    def __post_init__(self) -> None:
        check_classes(self.classes, self.target)
        if not 0 <= self.p_uncond <= 1:
            raise ConfigError(f"method.p_uncond must be in [0, 1], got {self.p_uncond}", code="E_CONFIG")
        check_level(self.sampler.all_levels[-1], self.schedule.num_levels)

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return self.network.size_multiple

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """All of them."""
        return self.classes

    def recipe(self, *, image_channels: int, training: TrainingConfig, device: torch.device) -> CfgDiffusionRecipe:
        """A fresh training of this method, its weights drawn from ``training.seed``."""
        return CfgDiffusionRecipe(self, image_channels=image_channels, training=training, device=device)

    def restore(self, weights: dict[str, Tensor], *, image_channels: int, device: torch.device, source: str) -> CfgDiffusion:
        """The method with trained weights (as its recipe's ``weights()`` gave them)."""
        denoiser = Denoiser(self.network, image_channels=image_channels, classes=self.classes)
        load_weights(denoiser, without_calibration(weights), source)
        return CfgDiffusion(self, for_inference(denoiser, device), calibration_of(weights, self.map, source))


@dataclass(frozen=True, slots=True)
class Encoded:
    """Images at a noise level."""

    levels: Sequence[int]
    """Of the walk up, the last the one reached."""
    latent: Tensor
    """(B, C, H, W) there."""
    path: EncodePath | None = None
    """The way there, where it is decoded as a difference from it."""


class CfgDiffusion:
    """Pseudo-healthy translation by guided DDIM inversion."""

    def __init__(self, config: CfgDiffusionConfig, denoiser: Denoiser, calibration: HealthyCalibration | None = None) -> None:
        self.config = config
        self.denoiser = denoiser
        self.calibration = calibration
        self.schedule = NoiseSchedule.from_config(config.schedule)
        self.levels = self.grid(config.sampler.noise_level)

    def grid(self, noise_level: int) -> list[int]:
        """Levels of the walk to ``noise_level``, 0 first."""
        sampler = self.config.sampler
        return spaced_levels(self.schedule, noise_level, sampler.steps_to(noise_level), sampler.spacing)

    def variant(
        self,
        *,
        sampler: SamplerConfig | None = None,
        map_config: MapConfig | None = None,
        calibration: HealthyCalibration | None = None,
    ) -> CfgDiffusion:
        """The same network with other settings.

        A healthy calibration belongs to the settings it was made with, so none is carried over.

        Raises:
            ConfigError: E_CALIBRATION, the map settings ask for a calibration and none is given.
        """
        config = replace(self.config, sampler=sampler or self.config.sampler, map=map_config or self.config.map)
        if config.map.healthy_z and calibration is None:
            raise ConfigError(
                "map.healthy_z needs a calibration made with these settings", code="E_CALIBRATION", fix="pass calibration"
            )
        return CfgDiffusion(config, self.denoiser, calibration)

    def guided(self) -> EpsFn:
        """Noise predictor of one walk of the decoding half; it may remember (``guidance_every``), so each walk has its own."""
        sampler = self.config.sampler
        target = condition(self.denoiser, self.config.target, self.schedule)
        if sampler.guidance_every == 1:
            pair = condition_pair(self.denoiser, self.config.target, self.schedule)
            eps_fn = classifier_free_pair(pair, sampler.guidance_scale)
        else:
            null = condition(self.denoiser, None, self.schedule)
            eps_fn = held_guidance(target, null, sampler.guidance_scale, self.schedule, sampler.guidance_every)
        if sampler.guidance_interval is not None:
            eps_fn = within_levels(eps_fn, target, sampler.guidance_interval)
        if sampler.dynamic_threshold is not None:
            eps_fn = dynamic_thresholding(eps_fn, self.schedule, sampler.dynamic_threshold)
        return eps_fn

    @torch.inference_mode()
    def encode(self, x: Tensor, observer: WalkObserver | None = None) -> Encoded:
        """(B, C, H, W) x at the noise level, with the null class and no guidance."""
        return self.walk_up(x, self.levels, observer)

    def walk_up(self, x: Tensor, levels: Sequence[int], observer: WalkObserver | None = None) -> Encoded:
        """x at the last of ``levels``, from the first."""
        null, sampler = condition(self.denoiser, None, self.schedule), self.config.sampler
        if sampler.delta:
            path = encode_path(null, x, levels, self.schedule, observer, order=sampler.order)
            return Encoded(levels, path.images[-1], path)
        if sampler.encode_iterations:
            walked = implicit_walk(null, x, levels, self.schedule, observer, iterations=sampler.encode_iterations)
        else:
            walked = ddim_walk(null, x, levels, self.schedule, observer, order=sampler.order)
        return Encoded(levels, walked)

    @torch.inference_mode()
    def latents(self, x: Tensor, observer: WalkObserver | None = None) -> Iterator[Encoded]:
        """x at each of the sampler's levels, upwards.

        A first-order walk that begins like the one before goes on from its end: with steps of one width the network is asked once for
        both. Walks that look back, of second order or for a delta decode, begin anew.
        """
        sampler = self.config.sampler
        last = Encoded([0], x)
        for noise_level in sampler.all_levels:
            levels = self.grid(noise_level)
            if sampler.order != 1 or sampler.delta or levels[: len(last.levels)] != last.levels:
                last = Encoded([0], x)
            walked = self.walk_up(last.latent, levels[len(last.levels) - 1 :], observer)
            last = Encoded(levels, walked.latent, walked.path)
            yield last

    @torch.inference_mode()
    def decode(self, encoded: Encoded, eps_fn: EpsFn, observer: WalkObserver | None = None) -> Tensor:
        """(B, C, H, W) image in [-1, 1] from what :meth:`encode` gave, clamped once at the end."""
        order = self.config.sampler.order
        if encoded.path is not None:
            return delta_walk(eps_fn, encoded.path, self.schedule, observer, order=order).clamp(-1, 1)
        return ddim_walk(eps_fn, encoded.latent, encoded.levels[::-1], self.schedule, observer, order=order).clamp(-1, 1)

    def reconstruct(self, encoded: Encoded) -> Tensor:
        """(B, C, H, W) in [-1, 1]: decoded with the null class and no guidance."""
        return self.decode(encoded, condition(self.denoiser, None, self.schedule))

    def round_trip(self, x: Tensor) -> Tensor:
        """(B, C, H, W) what encode and decode with the null class make of x: the noise floor under every map."""
        return self.reconstruct(self.encode(x))

    @torch.inference_mode()
    def translate(self, x: Tensor, encoded: Encoded, observer: WalkObserver | None = None) -> tuple[Tensor, Tensor]:
        """(raw map (B, 1, H, W), pseudo-healthy (B, C, H, W)) of x, which was encoded to this."""
        pseudo_healthy = self.decode(encoded, self.guided(), observer)
        raw_map = difference_map(x, pseudo_healthy, self.config.map.change)
        if self.config.map.subtract_round_trip:
            unguided = self.reconstruct(encoded)
            raw_map = (raw_map - difference_map(x, unguided, self.config.map.change)).clamp(min=0)
        return raw_map, pseudo_healthy

    def finished(self, raw_maps: Sequence[Tensor], pseudo_healthy: Tensor) -> AnomalyResult:
        """The result from one raw (B, 1, H, W) map a level: the mean is filtered and calibrated, then scored."""
        settings, calibration = self.config.map, self.calibration
        anomaly_map, score = finish(torch.stack(tuple(raw_maps)).mean(dim=0), settings, calibration)
        map_std = finished_deviation(raw_maps, settings, calibration)
        return AnomalyResult(anomaly_map=anomaly_map, score=score, pseudo_healthy=pseudo_healthy, map_std=map_std)

    def from_latent(self, x: Tensor, latent: Encoded) -> AnomalyResult:
        """What localize gives for x at ``sampler.noise_level`` alone, from what :meth:`encode` gave of it."""
        raw_map, pseudo_healthy = self.translate(x, latent)
        return self.finished([raw_map], pseudo_healthy)

    @torch.inference_mode()
    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        """Map, score and pseudo-healthy twin of x (B, C, H, W) in [-1, 1]; the twin is that of ``sampler.noise_level``."""
        check_input(x, self.denoiser.image_channels, self.config.size_multiple)
        raw_maps, twin = [], x
        for encoded in self.latents(x, observer):
            raw_map, pseudo_healthy = self.translate(x, encoded, observer)
            raw_maps.append(raw_map)
            twin = pseudo_healthy if encoded.levels[-1] == self.config.sampler.noise_level else twin
        return self.finished(raw_maps, twin)


class CfgDiffusionRecipe(DiffusionTrainer):
    """Training of the method: the shared diffusion step with this method's classes."""

    def __init__(
        self, config: CfgDiffusionConfig, *, image_channels: int, training: TrainingConfig, device: torch.device
    ) -> None:
        self.config, self.image_channels = config, image_channels
        with initial_weights(training.seed):
            denoiser = Denoiser(config.network, image_channels=image_channels, classes=config.classes)
        super().__init__(
            denoiser,
            NoiseSchedule.from_config(config.schedule),
            training,
            p_uncond=config.p_uncond,
            bound_weight=config.bound_weight,
            device=device,
        )

    def method(self) -> AnomalyMethod:
        """The method with the averaged weights; its maps are not calibrated."""
        return uncalibrated(self.config).restore(
            self.weights(), image_channels=self.image_channels, device=self.device, source="this run"
        )

    def state(self) -> dict[str, Any]:
        """As the trainer's, with the classes so that a continuation cannot swap them."""
        return super().state() | {"classes": list(self.config.classes)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo of :meth:`state`.

        Raises:
            CheckpointError: the state's classes are not this method's, in this order.
        """
        refuse_other_classes(state["classes"], self.config.classes)
        super().load_state(state)
