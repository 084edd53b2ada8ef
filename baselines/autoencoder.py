"""Denoising autoencoder (Kascenas et al. 2022, "Denoising autoencoders for unsupervised anomaly detection in brain MRI")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from medanomaly.checkpoint import load_weights
from medanomaly.diffusion.inference import for_inference
from medanomaly.errors import ConfigError
from medanomaly.methods.checks import check_classes, check_input, uncalibrated
from medanomaly.rng import initial_weights
from medanomaly.scoring.calibration import HealthyCalibration
from medanomaly.scoring.finish import MapConfig, calibration_of, finish, without_calibration
from medanomaly.scoring.maps import difference_map
from medanomaly.training.average import averaged, weights_of
from medanomaly.training.config import TrainingConfig, learning_rate
from medanomaly.training.optimise import adamw, guarded_step
from medanomaly.types import AnomalyMethod, AnomalyResult, Batch, Share, WalkObserver

NUM_LEVELS = 5
"""Of MONAI's BasicUNet: four halvings."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """A U-Net that removes coarse noise from healthy images, and with it whatever it has never seen."""

    kind: ClassVar[str] = "autoencoder"
    title: ClassVar[str] = "denoising autoencoder"

    classes: tuple[str, ...] = ("healthy", "diseased")
    """Names of the classes of the data set."""
    target: str = "healthy"
    """The class it is trained on, by name."""
    channels: tuple[int, ...] = (32, 32, 64, 128, 256)
    """Channels of the five levels, finest first; each a multiple of ``norm_groups``."""
    norm_groups: int = 8
    """Groups of the group normalisation: unlike batch normalisation it treats every image alone."""
    noise_std: float = 0.4
    """Deviation of the coarse noise in model space, [-1, 1]; the paper's 0.2 is for images in [0, 1]."""
    noise_side: int = 16
    """Side of the grid the noise is drawn on before it is enlarged to the image."""
    map: MapConfig = MapConfig()

    def __post_init__(self) -> None:
        check_classes(self.classes, self.target)
        if len(self.channels) != NUM_LEVELS or any(count % self.norm_groups for count in self.channels):
            raise ConfigError(
                f"method.channels must be {NUM_LEVELS} multiples of norm_groups={self.norm_groups}, got {self.channels}",
                code="E_CONFIG",
            )
        if not 0 < self.noise_std <= 2:
            raise ConfigError(f"method.noise_std must be in (0, 2], got {self.noise_std}", code="E_CONFIG")
        if self.noise_side < 1:
            raise ConfigError(f"method.noise_side must be at least 1, got {self.noise_side}", code="E_CONFIG")
        if self.map.subtract_round_trip:
            raise ConfigError("an autoencoder has no round trip: map.subtract_round_trip must be false", code="E_CONFIG")

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return int(2 ** (NUM_LEVELS - 1))

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """The healthy class alone."""
        return (self.target,)

    def network(self, image_channels: int) -> nn.Module:
        """MONAI's U-Net: two convolutions a level, transposed convolutions up, no normalisation of the output."""
        made: nn.Module = BasicUNet(
            spatial_dims=2,
            in_channels=image_channels,
            out_channels=image_channels,
            features=(*self.channels, self.channels[0]),
            norm=("group", {"num_groups": self.norm_groups}),
            act="swish",
            dropout=0.0,
        )
        return made

    def recipe(self, *, image_channels: int, training: TrainingConfig, device: torch.device) -> AutoencoderRecipe:
        """A fresh training."""
        return AutoencoderRecipe(self, image_channels=image_channels, training=training, device=device)

    def restore(self, weights: dict[str, Tensor], *, image_channels: int, device: torch.device, source: str) -> Autoencoder:
        """The method with trained weights."""
        network = self.network(image_channels)
        load_weights(network, without_calibration(weights), source)
        ready = for_inference(network, device)
        return Autoencoder(self, ready, calibration_of(weights, self.map, source), image_channels=image_channels)


class Autoencoder:
    """The image as the network returns it is the pseudo-healthy twin; no noise is added to look at an image."""

    def __init__(
        self, config: AutoencoderConfig, network: nn.Module, calibration: HealthyCalibration | None, *, image_channels: int
    ) -> None:
        self.config, self.network, self.calibration, self.image_channels = config, network, calibration, image_channels

    @torch.inference_mode()
    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:  # noqa: ARG002 (one pass)
        """Map, score and reconstruction of x (B, C, H, W) in [-1, 1]."""
        check_input(x, self.image_channels, self.config.size_multiple)
        pseudo_healthy = self.network(x).clamp(-1, 1)
        anomaly_map, score = finish(difference_map(x, pseudo_healthy, self.config.map.change), self.config.map, self.calibration)
        return AnomalyResult(anomaly_map=anomaly_map, score=score, pseudo_healthy=pseudo_healthy)


def coarse_noise(x: Tensor, std: float, side: int, generator: torch.Generator, share: Share | None = None) -> Tensor:
    """(B, C, H, W) Gaussian noise on a side x side grid, enlarged bilinearly and shifted by a random number of pixels.

    The shift moves the grid, so that no pixel is always between its nodes. Noise falls on the body alone, which is whatever
    is not the black of padding and background (-1).
    """
    count = len(x) if share is None else share.total
    draw = std * torch.randn((count, x.shape[1], side, side), generator=generator)
    draw = draw if share is None else share.of(draw)
    noise = F.interpolate(draw, size=x.shape[2:], mode="bilinear", align_corners=False)
    rows, columns = (int(torch.randint(0, size, (1,), generator=generator)) for size in x.shape[2:])
    return noise.roll((rows, columns), dims=(2, 3)).to(x) * (x > -1)


class AutoencoderRecipe:
    """Squared error between the clean image and what the network makes of the noisy one."""

    by_share = True
    recomputes = False

    def __init__(self, config: AutoencoderConfig, *, image_channels: int, training: TrainingConfig, device: torch.device) -> None:
        self.config, self.image_channels, self.training, self.device = config, image_channels, training, device
        with initial_weights(training.seed):
            network = config.network(image_channels)
        self.network = network.to(device)
        self.average = averaged(self.network, training.ema_decay)
        self.optimizer = adamw(self.network.parameters(), training)
        self.num_steps_done = 0

    def loss(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mean squared error, model units squared."""
        x = batch.x.to(self.device)
        noisy = x + coarse_noise(x, self.config.noise_std, self.config.noise_side, generator, batch.share)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.training.precision == "bf16"):
            back = network(noisy)
        return F.mse_loss(back.float(), x)

    def step(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """One optimiser step."""
        self.network.train()
        rate = learning_rate(self.num_steps_done, self.training)
        loss = self.loss(self.network, batch, generator)
        done = guarded_step(loss, self.optimizer, rate=rate, grad_clip=self.training.grad_clip)
        self.num_steps_done += 1
        if not done["skipped"]:
            self.average.update_parameters(self.network)
        return {"loss": float(loss.detach())} | done

    @torch.inference_mode()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Loss of the averaged weights on a batch."""
        return {"loss": float(self.loss(self.average.module.eval(), batch, generator))}

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, copied."""
        return weights_of(self.average)

    def method(self) -> AnomalyMethod:
        """The method with the averaged weights; its maps are not calibrated."""
        return uncalibrated(self.config).restore(
            self.weights(), image_channels=self.image_channels, device=self.device, source="this run"
        )

    def state(self) -> dict[str, Any]:
        """Everything a bit-for-bit continuation needs."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "num_steps_done": self.num_steps_done,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo of :meth:`state`."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_steps_done = int(state["num_steps_done"])
