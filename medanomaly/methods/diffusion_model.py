"""A diffusion model that is no localizer: what images look like, without classes or by class. The deblurring prior, and a generator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from medanomaly.checkpoint import load_checkpoint, load_weights
from medanomaly.diffusion.guidance import classifier_free_reverse
from medanomaly.diffusion.inference import for_inference
from medanomaly.diffusion.reverse import ReverseFn
from medanomaly.diffusion.schedule import NoiseSchedule, ScheduleConfig
from medanomaly.diffusion.unet import Denoiser, NetworkConfig, condition, condition_with_variance
from medanomaly.errors import CheckpointError, ConfigError
from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig
from medanomaly.methods.checks import refuse_other_classes
from medanomaly.methods.experiment import DIFFUSION_MODEL, ExperimentOf, ModelConfig, header_read, kind_of
from medanomaly.methods.recipe import DiffusionTrainer
from medanomaly.rng import initial_weights
from medanomaly.scoring.finish import without_calibration
from medanomaly.training.config import TrainingConfig
from medanomaly.types import EpsFn


@dataclass(frozen=True, kw_only=True)
class DiffusionModelConfig:
    """Diffusion on all images of a set (Ho et al. 2020, arXiv:2006.11239), or by class with label dropping (arXiv:2207.12598)."""

    kind: ClassVar[str] = DIFFUSION_MODEL
    title: ClassVar[str] = "diffusion model"

    classes: tuple[str, ...] = ()
    """Names of the classes; () = unconditional: every image is learned from, whatever its label, and without one too."""
    p_uncond: float = 0.1
    """Probability that a training label becomes the null class; without classes all do."""
    bound_weight: float = 1e-3
    """lambda of the variational term that trains the variance, where ``network.learn_sigma`` (arXiv:2102.09672)."""
    network: NetworkConfig = NetworkConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) == 1 or "" in self.classes:
            raise ConfigError(
                f"method.classes must be empty or two or more different names, got {self.classes}",
                code="E_CONFIG",
                fix="leave it empty for an unconditional model",
            )
        if not 0 <= self.p_uncond < 1:
            raise ConfigError(f"method.p_uncond must be in [0, 1), got {self.p_uncond}", code="E_CONFIG")
        if not self.bound_weight >= 0:
            raise ConfigError(f"method.bound_weight must not be negative, got {self.bound_weight}", code="E_CONFIG")

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return self.network.size_multiple

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """All of them; none without classes, where every image is learned from."""
        return self.classes

    def recipe(self, *, image_channels: int, training: TrainingConfig, device: torch.device) -> DiffusionModelRecipe:
        """A fresh training of this model, its weights drawn from ``training.seed``."""
        return DiffusionModelRecipe(self, image_channels=image_channels, training=training, device=device)


class DiffusionModelRecipe(DiffusionTrainer):
    """The shared diffusion step; without classes every label is dropped."""

    def __init__(
        self, config: DiffusionModelConfig, *, image_channels: int, training: TrainingConfig, device: torch.device
    ) -> None:
        self.config = config
        with initial_weights(training.seed):
            denoiser = Denoiser(config.network, image_channels=image_channels, classes=config.classes)
        super().__init__(
            denoiser,
            NoiseSchedule.from_config(config.schedule),
            training,
            p_uncond=config.p_uncond if config.classes else 1.0,
            bound_weight=config.bound_weight,
            device=device,
        )

    def state(self) -> dict[str, Any]:
        """As the trainer's, with the classes so that a continuation cannot swap them."""
        return super().state() | {"classes": list(self.config.classes)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo of :meth:`state`.

        Raises:
            CheckpointError: the state's classes are not this model's, in this order.
        """
        refuse_other_classes(state["classes"], self.config.classes)
        super().load_state(state)


class DenoiserConfig(ModelConfig, Protocol):
    """Config of something whose weights are those of one denoiser."""

    @property
    def network(self) -> NetworkConfig:
        """Shape of the denoiser."""

    @property
    def schedule(self) -> ScheduleConfig:
        """Noise it was trained on."""

    @property
    def p_uncond(self) -> float:
        """How often it was trained without its class, where it has classes."""


DENOISERS: dict[str, type[DenoiserConfig]] = {config.kind: config for config in (DiffusionModelConfig, CfgDiffusionConfig)}
"""Kinds of checkpoints that hold a diffusion model, alone or as part of a method."""
NOTES = {
    DiffusionModelConfig.kind: "",
    CfgDiffusionConfig.kind: "the null class of a CFG checkpoint: a model of all its training images, trained on {:.0%} of its draws",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A trained diffusion model with everything its checkpoint says about it."""

    denoiser: Denoiser
    """In eval mode, its weights without gradients."""
    schedule: NoiseSchedule
    experiment: ExperimentOf[DenoiserConfig]
    """How it was trained; ``preprocess`` says what images it knows."""
    provenance: dict[str, Any]
    """Data, step, versions, licence; ``datasets.seen`` compares images with what it has seen."""
    note: str
    """What a person should know of where the model comes from; "" = nothing."""

    @property
    def config(self) -> DenoiserConfig:
        """Classes, network and schedule."""
        return self.experiment.method

    def eps_fn(self, label: str | None = None) -> EpsFn:
        """Noise predictor of a class by name; None = of all images (the null class).

        Raises:
            ConfigError: E_CLASS, a class it does not have, or None where training never dropped a label.
        """
        self.refuse_unlearned(label)
        return condition(self.denoiser, label, self.schedule)

    def reverse_fn(self, label: str | None = None, guidance_scale: float = 1.0) -> ReverseFn:
        """The same with the learned variance, if any, and with classifier-free guidance: 0 = the null class, 1 = the class alone.

        Raises:
            ConfigError: as :meth:`eps_fn`, of the class and where it is asked of the null class.
        """
        for asked in {label, None if guidance_scale != 1 else label}:
            self.refuse_unlearned(asked)
        null = condition_with_variance(self.denoiser, None, self.schedule)
        if label is None:
            return null
        return classifier_free_reverse(condition_with_variance(self.denoiser, label, self.schedule), null, guidance_scale)

    def refuse_unlearned(self, label: str | None) -> None:
        """ConfigError E_CLASS for a class of a model without any, and for None where training never dropped a label."""
        if label is not None and not self.config.classes:
            raise ConfigError(
                f"this model has no classes, so no {label!a}",
                code="E_CLASS",
                fix="leave the class out, or use a conditional model",
            )
        if label is None and self.config.classes and self.config.p_uncond == 0:
            raise ConfigError(
                "this model was trained with p_uncond = 0, so it knows no image without a class",
                code="E_CLASS",
                fix=f"name one of {', '.join(self.config.classes)}",
            )


def load_diffusion_model(path: Path, device: torch.device) -> LoadedModel:
    """The denoiser of a diffusion model's checkpoint, or of a CFG method's, whose null class is a model of all images.

    Args:
        path: ``model.safetensors`` or its folder.
        device: where the network goes.

    Raises:
        CheckpointError: E_KIND, the checkpoint holds no such model; or what :func:`load_checkpoint` and ``load_weights`` refuse.
    """
    checkpoint = load_checkpoint(path)
    kind = kind_of(checkpoint.header)
    if kind is not None and kind not in DENOISERS:
        raise CheckpointError(
            f"is a {kind!a} checkpoint, from which no diffusion model can be taken",
            code="E_KIND",
            path=path,
            fix="use a diffusion model (`medanomaly train gray64-prior`) or a cfg_diffusion checkpoint",
        )
    with header_read(path):
        experiment = ExperimentOf.from_dict(checkpoint.header["experiment"], DENOISERS)
        provenance = dict(checkpoint.header.get("provenance", {}))
    config = experiment.method
    denoiser = Denoiser(config.network, image_channels=experiment.preprocess.channels, classes=config.classes)
    load_weights(denoiser, without_calibration(checkpoint.tensors), str(path))
    return LoadedModel(
        denoiser=for_inference(denoiser, device).requires_grad_(False),
        schedule=NoiseSchedule.from_config(config.schedule),
        experiment=experiment,
        provenance=provenance,
        note=NOTES[config.kind].format(config.p_uncond),
    )
