"""Fixed-Point GAN as a method: one translation to healthy, and what it changed; and its training, critic and translator in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.fixed_point_gan.losses import LossWeights, critic_loss, translator_loss
from baselines.fixed_point_gan.nets import Critic, Translator
from medanomaly.checkpoint import load_weights
from medanomaly.diffusion.inference import for_inference
from medanomaly.errors import ConfigError
from medanomaly.methods.checks import check_classes, refuse_other_classes, uncalibrated
from medanomaly.rng import initial_weights
from medanomaly.scoring.calibration import HealthyCalibration
from medanomaly.scoring.finish import MapConfig, calibration_of, finish, without_calibration
from medanomaly.scoring.maps import difference_map
from medanomaly.training.average import averaged, weights_of
from medanomaly.training.config import TrainingConfig, learning_rate
from medanomaly.training.optimise import guarded_step
from medanomaly.types import AnomalyMethod, AnomalyResult, Batch, WalkObserver

LOCALIZE_MULTIPLE = 4
"""The translator halves the image twice."""


@dataclass(frozen=True, kw_only=True)
class FixedPointGanConfig:
    """Translation between named classes by a GAN that leaves an image of the wanted class alone."""

    kind: ClassVar[str] = "fixed_point_gan"
    title: ClassVar[str] = "Fixed-Point GAN"

    classes: tuple[str, ...] = ("healthy", "diseased")
    """Names of the classes in the order of the label map's channels."""
    target: str = "healthy"
    """Class an image is translated to, by name."""
    base_channels: int = 128
    """Width of the translator's first layer; four times this in the residual blocks."""
    num_res_blocks: int = 14
    """Residual blocks of the translator."""
    critic_channels: int = 64
    """Width of the critic's first layer, doubled in each further one (arXiv:1711.09020, table 5)."""
    num_critic_layers: int = 6
    """Stride-2 layers of the critic; image sides must be multiples of 2 to this power."""
    n_critic: int = 5
    """Steps of the critic for one of the translator."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's."""
    weights: LossWeights = LossWeights()
    map: MapConfig = MapConfig()

    def __post_init__(self) -> None:
        check_classes(self.classes, self.target)
        for name in ("base_channels", "num_res_blocks", "critic_channels", "num_critic_layers", "n_critic"):
            if getattr(self, name) < 1:
                raise ConfigError(f"method.{name} must be at least 1, got {getattr(self, name)}", code="E_CONFIG")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"method.betas must be in [0, 1), got {self.betas}", code="E_CONFIG")
        if self.map.subtract_round_trip:
            raise ConfigError(
                "map.subtract_round_trip needs a method that encodes and decodes; Fixed-Point GAN translates in one pass",
                code="E_CONFIG",
                fix="leave it false",
            )

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this: the critic's halvings; two pixels are left for the instance norm."""
        return max(2 * LOCALIZE_MULTIPLE, 1 << self.num_critic_layers)

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """All of them."""
        return self.classes

    def translator(self, image_channels: int) -> Translator:
        """The network that is released, freshly drawn."""
        return Translator(image_channels, len(self.classes), base_channels=self.base_channels, num_res_blocks=self.num_res_blocks)

    def critic(self, image_channels: int) -> Critic:
        """The network that only training needs, freshly drawn."""
        return Critic(image_channels, len(self.classes), base_channels=self.critic_channels, num_layers=self.num_critic_layers)

    def recipe(self, *, image_channels: int, training: TrainingConfig, device: torch.device) -> FixedPointGanRecipe:
        """A fresh training of this method, its weights drawn from ``training.seed``."""
        return FixedPointGanRecipe(self, image_channels=image_channels, training=training, device=device)

    def restore(self, weights: dict[str, Tensor], *, image_channels: int, device: torch.device, source: str) -> FixedPointGan:
        """The method with a trained translator (as its recipe's ``weights()`` gave it)."""
        translator = self.translator(image_channels)
        load_weights(translator, without_calibration(weights), source)
        return FixedPointGan(self, for_inference(translator, device), calibration_of(weights, self.map, source))


class FixedPointGan:
    """|x - G(x, healthy)|: what has to change for an image to be healthy."""

    def __init__(
        self, config: FixedPointGanConfig, translator: Translator, calibration: HealthyCalibration | None = None
    ) -> None:
        self.config = config
        self.translator = translator
        self.calibration = calibration

    @torch.inference_mode()
    def translate(self, x: Tensor, class_name: str) -> Tensor:
        """(B, C, H, W) in (-1, 1): x as the class of this name."""
        self._check(x)
        index = self.config.classes.index(class_name)
        translated: Tensor = self.translator(x, torch.full((len(x),), index, dtype=torch.int64, device=x.device))
        return translated

    @torch.inference_mode()
    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:  # noqa: ARG002 (one pass: nothing to watch)
        """Map, score and pseudo-healthy twin of x (B, C, H, W) in [-1, 1]."""
        pseudo_healthy = self.translate(x, self.config.target)
        anomaly_map, score = finish(difference_map(x, pseudo_healthy, self.config.map.change), self.config.map, self.calibration)
        return AnomalyResult(anomaly_map=anomaly_map, score=score, pseudo_healthy=pseudo_healthy)

    def _check(self, x: Tensor) -> None:
        channels = self.translator.image_channels
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"x must be (B, {channels}, H, W), got {tuple(x.shape)}; add a batch axis with x[None]")
        if any(side % LOCALIZE_MULTIPLE or side < 2 * LOCALIZE_MULTIPLE for side in x.shape[2:]):
            raise ValueError(
                f"x must have sides that are multiples of {LOCALIZE_MULTIPLE} and at least {2 * LOCALIZE_MULTIPLE}, "
                f"got {tuple(x.shape[2:])}; pad it first"
            )


class FixedPointGanRecipe:
    """Translator, its moving average, critic, and an optimiser each. Every draw comes from the generator a step is given.

    As in StarGAN, one step is one step of the critic; the translator takes one with every ``n_critic``-th, from the first on, so that
    a logged step of a multiple of ``n_critic`` has the terms of both. All is float32: the gradient penalty is differentiated twice.
    """

    # Its targets are a permutation of the whole batch's labels.
    by_share = False
    recomputes = False

    def __init__(
        self, config: FixedPointGanConfig, *, image_channels: int, training: TrainingConfig, device: torch.device
    ) -> None:
        if training.precision != "fp32":
            raise ConfigError(
                f"training.precision {training.precision} is not for Fixed-Point GAN: its gradient penalty needs second derivatives",
                code="E_CONFIG",
                fix="use --training.precision fp32",
            )
        self.config, self.image_channels, self.training, self.device = config, image_channels, training, device
        with initial_weights(training.seed):
            self.translator = config.translator(image_channels).to(device)
            self.critic = config.critic(image_channels).to(device)
        self.average = averaged(self.translator, training.ema_decay)
        self.translator_optimizer = self._optimizer(self.translator)
        self.critic_optimizer = self._optimizer(self.critic)
        self.num_steps_done = 0
        self.num_critic_steps_waiting = config.n_critic - 1
        """Steps of the critic since the translator's last."""

    def step(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """One step of the critic, and of the translator where it is due; ``loss`` is the critic's.

        A non-finite loss or gradient leaves that network and its optimiser as they were and is returned as ``skipped`` = 1; the
        translator then tries again in the next step, and does not move while the critic is stuck.
        """
        x, label = batch.x.to(self.device), batch.label.to(self.device)
        # Target classes as StarGAN draws them: the batch's own, shuffled.
        wanted = label[torch.randperm(len(x), generator=generator).to(self.device)]
        mix = torch.rand(len(x), generator=generator).to(self.device)
        rate = learning_rate(self.num_steps_done, self.training)
        self.num_steps_done += 1
        with torch.no_grad():
            fake = self.translator(x, wanted)
        terms = critic_loss(self.critic, x, fake, label, mix, self.config.weights)
        done = guarded_step(terms["d_loss"], self.critic_optimizer, rate=rate, grad_clip=self.training.grad_clip)
        values = {name: float(value.detach()) for name, value in terms.items()} | done
        values["loss"] = values["d_loss"]
        if done["skipped"]:
            return values
        self.num_critic_steps_waiting += 1
        if self.num_critic_steps_waiting < self.config.n_critic:
            return values
        with frozen(self.critic):
            terms = translator_loss(self.translator, self.critic, x, label, wanted, self.config.weights)
            done = guarded_step(terms["g_loss"], self.translator_optimizer, rate=rate, grad_clip=self.training.grad_clip)
        if not done["skipped"]:
            self.num_critic_steps_waiting = 0
            self.average.update_parameters(self.translator)
        values |= {name: float(value.detach()) for name, value in terms.items()}
        return values | {"g_grad_norm": done["grad_norm"], "skipped": done["skipped"]}

    @torch.inference_mode()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:  # noqa: ARG002 (nothing is drawn)
        """``loss``: how far the averaged translator is from leaving images of their own class alone, mean |x - G(x, label)|.

        ``cls``: cross-entropy of the critic's class head. Without a draw, so the numbers of a run can be compared.
        """
        x, label = batch.x.to(self.device), batch.label.to(self.device)
        stayed = self.average.module.eval()(x, label)
        _, logits = self.critic(x)
        return {"loss": float(F.l1_loss(stayed, x)), "cls": float(F.cross_entropy(logits, label))}

    def weights(self) -> dict[str, Tensor]:
        """The averaged translator, copied."""
        return weights_of(self.average)

    def method(self) -> AnomalyMethod:
        """The method with the averaged weights; its maps are not calibrated."""
        return uncalibrated(self.config).restore(
            self.weights(), image_channels=self.image_channels, device=self.device, source="this run"
        )

    def state(self) -> dict[str, Any]:
        """Everything a bit-for-bit continuation needs, with the classes so that it cannot swap them."""
        return {
            "classes": list(self.config.classes),
            "translator": self.translator.state_dict(),
            "average": self.average.state_dict(),
            "critic": self.critic.state_dict(),
            "translator_optimizer": self.translator_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "num_steps_done": self.num_steps_done,
            "num_critic_steps_waiting": self.num_critic_steps_waiting,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo of :meth:`state`.

        Raises:
            CheckpointError: the state's classes are not this method's, in this order.
        """
        refuse_other_classes(state["classes"], self.config.classes)
        for name in ("translator", "average", "critic", "translator_optimizer", "critic_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.num_steps_done = int(state["num_steps_done"])
        self.num_critic_steps_waiting = int(state["num_critic_steps_waiting"])

    def _optimizer(self, network: nn.Module) -> torch.optim.AdamW:
        """Adam: AdamW with the settings' weight decay, 0 unless asked for."""
        training = self.training
        return torch.optim.AdamW(
            network.parameters(), lr=training.learning_rate, betas=self.config.betas, weight_decay=training.weight_decay
        )


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside the block no gradient is made for the network's weights; it still passes gradients on to its input."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
