"""Classifier-guided DDIM (Wolleb et al. 2022, arXiv:2203.04306): an unconditional model, steered by a classifier of noisy images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from medanomaly.checkpoint import load_weights
from medanomaly.classifiers.loss import noised, one_of_many
from medanomaly.classifiers.network import ClassifierConfig, NoisyClassifier, log_prob_of
from medanomaly.diffusion.guidance import classifier_guided
from medanomaly.diffusion.inference import for_inference
from medanomaly.diffusion.schedule import NoiseSchedule, ScheduleConfig
from medanomaly.diffusion.unet import Denoiser, NetworkConfig, condition
from medanomaly.diffusion.walk import ddim_walk
from medanomaly.errors import ConfigError
from medanomaly.methods.checks import (
    check_classes,
    check_input,
    check_level,
    check_steps,
    refuse_other_classes,
    uncalibrated,
)
from medanomaly.methods.recipe import DiffusionTrainer
from medanomaly.rng import initial_weights
from medanomaly.scoring.calibration import HealthyCalibration
from medanomaly.scoring.finish import MapConfig, calibration_of, finish
from medanomaly.scoring.maps import difference_map
from medanomaly.training.average import averaged, weights_of
from medanomaly.training.config import TrainingConfig, learning_rate
from medanomaly.training.optimise import adamw, guarded_step
from medanomaly.types import AnomalyMethod, AnomalyResult, Batch, EpsFn, WalkObserver

DENOISER, CLASSIFIER = "denoiser.", "classifier."
"""Prefixes of the two networks' weights in a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class GradientSamplerConfig:
    """How an image is translated along the classifier's gradient."""

    noise_level: int = 500
    """Level L to encode to, 1..T."""
    num_steps: int = 100
    """DDIM steps each way."""
    gradient_scale: float = 100.0
    """s of the paper; 0 = unguided."""

    def __post_init__(self) -> None:
        check_steps(self.noise_level, self.num_steps)
        if not 0 <= self.gradient_scale <= 10_000:
            raise ConfigError(f"sampler.gradient_scale must be in 0..10000, got {self.gradient_scale}", code="E_CONFIG")


@dataclass(frozen=True, kw_only=True)
class ClassifierDdimConfig:
    """Classifier-guided DDIM between named classes."""

    kind: ClassVar[str] = "classifier_ddim"
    title: ClassVar[str] = "classifier-guided DDIM"

    classes: tuple[str, ...] = ("healthy", "diseased")
    """Names of the classes in the order of the classifier's outputs."""
    target: str = "healthy"
    """Class an image is translated to, by name."""
    bound_weight: float = 1e-3
    """lambda of the variational term that trains the variance (arXiv:2102.09672)."""
    network: NetworkConfig = NetworkConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    sampler: GradientSamplerConfig = GradientSamplerConfig()
    map: MapConfig = MapConfig()

    def __post_init__(self) -> None:
        check_classes(self.classes, self.target)
        check_level(self.sampler.noise_level, self.schedule.num_levels)

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return max(self.network.size_multiple, self.classifier.size_multiple)

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """All of them."""
        return self.classes

    def networks(self, image_channels: int) -> tuple[Denoiser, NoisyClassifier]:
        """The unconditional denoiser, whose only class is the null class, and the classifier."""
        denoiser = Denoiser(self.network, image_channels=image_channels, classes=())
        return denoiser, NoisyClassifier(self.classifier, image_channels=image_channels, classes=self.classes)

    def recipe(self, *, image_channels: int, training: TrainingConfig, device: torch.device) -> ClassifierDdimRecipe:
        """A fresh training of both networks."""
        return ClassifierDdimRecipe(self, image_channels=image_channels, training=training, device=device)

    def restore(self, weights: dict[str, Tensor], *, image_channels: int, device: torch.device, source: str) -> ClassifierDdim:
        """The method with trained weights."""
        denoiser, classifier = self.networks(image_channels)
        for network, prefix in ((denoiser, DENOISER), (classifier, CLASSIFIER)):
            own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
            load_weights(network, own, source)
            for_inference(network, device).requires_grad_(False)
        return ClassifierDdim(self, denoiser, classifier, calibration_of(weights, self.map, source))


class ClassifierDdim:
    """Encode without guidance, decode along the gradient of log p(target | x_t), compare."""

    def __init__(
        self,
        config: ClassifierDdimConfig,
        denoiser: Denoiser,
        classifier: NoisyClassifier,
        calibration: HealthyCalibration | None = None,
    ) -> None:
        self.config, self.denoiser, self.classifier, self.calibration = config, denoiser, classifier, calibration
        self.schedule = NoiseSchedule.from_config(config.schedule)
        self.levels = self.schedule.grid(config.sampler.noise_level, config.sampler.num_steps)

    def unguided(self) -> EpsFn:
        """The unconditional noise predictor."""
        return condition(self.denoiser, None, self.schedule)

    # No inference_mode in this class: its tensors could not enter the classifier's gradient.
    @torch.no_grad()
    def encode(self, x: Tensor, observer: WalkObserver | None = None) -> Tensor:
        """(B, C, H, W) latent at the noise level."""
        return ddim_walk(self.unguided(), x, self.levels, self.schedule, observer)

    @torch.no_grad()
    def decode(self, latent: Tensor, eps_fn: EpsFn, observer: WalkObserver | None = None) -> Tensor:
        """(B, C, H, W) image in [-1, 1] from a latent, clamped once at the end."""
        return ddim_walk(eps_fn, latent, self.levels[::-1], self.schedule, observer).clamp(-1, 1)

    def round_trip(self, x: Tensor) -> Tensor:
        """(B, C, H, W) what encode and decode without guidance make of x: the noise floor under every map."""
        return self.decode(self.encode(x), self.unguided())

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        """Map, score and pseudo-healthy twin of x (B, C, H, W) in [-1, 1]."""
        check_input(x, self.denoiser.image_channels, self.config.size_multiple)
        latent = self.encode(x, observer)
        guided = classifier_guided(
            self.unguided(),
            log_prob_of(self.classifier, self.config.target),
            self.config.sampler.gradient_scale,
            self.schedule,
        )
        pseudo_healthy = self.decode(latent, guided, observer)
        change = self.config.map.change
        anomaly_map = difference_map(x, pseudo_healthy, change)
        if self.config.map.subtract_round_trip:
            unguided = self.decode(latent, self.unguided())
            anomaly_map = (anomaly_map - difference_map(x, unguided, change)).clamp(min=0)
        anomaly_map, score = finish(anomaly_map, self.config.map, self.calibration)
        return AnomalyResult(anomaly_map=anomaly_map, score=score, pseudo_healthy=pseudo_healthy)


class ClassifierDdimRecipe:
    """One optimiser step of each network on the same batch: the denoiser's loss, and cross-entropy at a level drawn uniformly."""

    by_share = recomputes = True

    def __init__(
        self, config: ClassifierDdimConfig, *, image_channels: int, training: TrainingConfig, device: torch.device
    ) -> None:
        self.config, self.image_channels, self.training, self.device = config, image_channels, training, device
        with initial_weights(training.seed):
            denoiser, classifier = config.networks(image_channels)
        self.schedule = NoiseSchedule.from_config(config.schedule)
        self.diffusion = DiffusionTrainer(
            denoiser, self.schedule, training, p_uncond=1.0, bound_weight=config.bound_weight, device=device
        )
        self.classifier = classifier.to(device)
        self.average = averaged(self.classifier, training.ema_decay)
        self.optimizer = adamw(self.classifier.parameters(), training)

    def cross_entropy(self, classifier: torch.nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Loss of noisy images at levels 1..T, and the share of them that is named right."""
        x_0, label = batch.x.to(self.device), batch.label.to(self.device)
        x_t, t = noised(x_0, self.schedule, generator, batch.share)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.training.precision == "bf16"):
            scores = classifier(x_t, t).float()
        return one_of_many(scores, label)

    def step(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Both steps; ``skipped`` where either loss was not finite."""
        rate = learning_rate(self.diffusion.num_steps_done, self.training)
        values = self.diffusion.step(batch, generator)
        self.classifier.train()
        entropy, accuracy = self.cross_entropy(self.classifier, batch, generator)
        done = guarded_step(entropy, self.optimizer, rate=rate, grad_clip=self.training.grad_clip)
        if not done["skipped"]:
            self.average.update_parameters(self.classifier)
        values |= {
            "cross_entropy": float(entropy.detach()),
            "accuracy": float(accuracy),
            "classifier_grad_norm": done["grad_norm"],
        }
        return values | {"skipped": max(values["skipped"], done["skipped"])}

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Losses of the averaged weights on a batch."""
        values = self.diffusion.validate(batch, generator)
        entropy, accuracy = self.cross_entropy(self.average.module.eval(), batch, generator)
        return values | {"cross_entropy": float(entropy), "accuracy": float(accuracy)}

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights of both networks."""
        return {
            **{DENOISER + name: value for name, value in self.diffusion.weights().items()},
            **{CLASSIFIER + name: value for name, value in weights_of(self.average).items()},
        }

    def method(self) -> AnomalyMethod:
        """The method with the averaged weights; its maps are not calibrated."""
        return uncalibrated(self.config).restore(
            self.weights(), image_channels=self.image_channels, device=self.device, source="this run"
        )

    def state(self) -> dict[str, Any]:
        """Everything a bit-for-bit continuation needs."""
        return {
            "diffusion": self.diffusion.state(),
            "classifier": self.classifier.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "classes": list(self.config.classes),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo of :meth:`state`."""
        refuse_other_classes(state["classes"], self.config.classes)
        self.diffusion.load_state(state["diffusion"])
        self.classifier.load_state_dict(state["classifier"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
