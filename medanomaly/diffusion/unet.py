"""The denoiser: MONAI's diffusion U-Net with named classes and one more row for the null class."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

from medanomaly.diffusion.guidance import EpsPairFn
from medanomaly.diffusion.loss import Prediction, eps_from_output
from medanomaly.diffusion.recompute import levels_recomputed
from medanomaly.diffusion.reverse import ReverseFn
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError
from medanomaly.types import EpsFn, Share

MAX_COUNT = 65536
JOINT_PIXELS = {"cpu": 32768, "cuda": 1 << 20}
"""Up to so many pixels a batch of two classes is faster than two batches: 8 images of 64 x 64 on a CPU core, where it was measured
(docs/performance.md); 16 of 256 x 256 on a GPU, where it was not, and smaller batches leave most of the device idle."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Shape of the U-Net (Dhariwal & Nichol 2021, arXiv:2105.05233)."""

    channels: tuple[int, ...] = (32, 64, 96, 96)
    """Channels per level, finest first; each a multiple of ``norm_groups``."""
    attention: tuple[bool, ...] = (False, False, False, True)
    """Self-attention per level."""
    num_res_blocks: int = 1
    """Residual blocks per level."""
    head_channels: int = 32
    """Channels per attention head; the seed's single head is the channel count itself."""
    norm_groups: int = 16
    """Groups of the group normalisation."""
    dropout: float = 0.0
    """Dropout in the residual blocks, before their second convolution."""
    learn_sigma: bool = True
    """Predict the reverse variance too (2C output channels)."""
    prediction: Prediction = "eps"
    """What the mean channels mean: eps or v."""

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.attention):
            raise ConfigError("network.channels and network.attention must have one entry a level each", code="E_CONFIG")
        counts = (*self.channels, self.num_res_blocks, self.head_channels, self.norm_groups)
        if not self.channels or not 1 <= min(counts) <= max(counts) <= MAX_COUNT:
            raise ConfigError(
                f"network.channels, num_res_blocks, head_channels and norm_groups must be in 1..{MAX_COUNT}, got {counts}",
                code="E_CONFIG",
            )
        if any(count % self.norm_groups for count in self.channels):
            raise ConfigError(
                f"network.channels must be multiples of norm_groups={self.norm_groups}, got {self.channels}", code="E_CONFIG"
            )
        # The block in the middle always has attention.
        attended = [count for count, is_on in zip(self.channels, self.attention, strict=True) if is_on] + [self.channels[-1]]
        if any(count % self.head_channels for count in attended):
            raise ConfigError(
                f"network.channels with attention, and the last, must be multiples of head_channels={self.head_channels}, "
                f"got {attended}",
                code="E_CONFIG",
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"network.dropout must be in [0, 1), got {self.dropout}", code="E_CONFIG")
        if self.prediction not in ("eps", "v"):
            raise ConfigError(f"network.prediction must be eps or v, got {self.prediction!r}", code="E_CONFIG")

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this."""
        return int(2 ** (len(self.channels) - 1))


class Denoiser(nn.Module):
    """Noise predictor by level and class. The null class is the last row of the embedding (Peebles & Xie 2023, arXiv:2212.09748)."""

    def __init__(self, config: NetworkConfig, *, image_channels: int, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.config = config
        self.image_channels = image_channels
        self.classes = classes
        self.net = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=image_channels,
            out_channels=image_channels * (2 if config.learn_sigma else 1),
            channels=config.channels,
            attention_levels=config.attention,
            num_res_blocks=config.num_res_blocks,
            num_head_channels=config.head_channels,
            norm_num_groups=config.norm_groups,
            norm_eps=1e-5,
            num_class_embeds=len(classes) + 1,
            # scaled_dot_product_attention: the same numbers up to rounding, no (pixels, pixels) matrix in memory.
            use_flash_attention=True,
        )
        self.dropout_generator: torch.Generator | None = None
        self.dropout_share: Share | None = None
        self.recompute = False
        """Gradient checkpointing while training (:mod:`medanomaly.diffusion.recompute`)."""
        if config.dropout > 0:
            for module in self.net.modules():
                if type(module).__name__ == "DiffusionUNetResnetBlock":
                    module.conv2.register_forward_pre_hook(self._drop)

    def _drop(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """MONAI's residual blocks have no dropout; this puts it before their second convolution, drawn from our generator."""
        if not self.training:
            return inputs
        if self.dropout_generator is None:
            raise RuntimeError("a denoiser with dropout needs dropout_generator while training")
        x, *rest = inputs
        share = self.dropout_share
        shape = x.shape if share is None else (share.total, *x.shape[1:])
        draw = torch.rand(shape, generator=self.dropout_generator, device=self.dropout_generator.device)
        draw = (draw if share is None else share.of(draw)).to(x.device)
        return (x * (draw >= self.config.dropout) / (1 - self.config.dropout), *rest)

    @property
    def null_index(self) -> int:
        """Row of the null class."""
        return len(self.classes)

    def index(self, name: str | None) -> int:
        """Row of a class by name; None is the null class.

        Raises:
            ConfigError: the name is not one of the classes this network was trained on.
        """
        if name is None:
            return self.null_index
        if name not in self.classes:
            raise ConfigError(f"class {name!r} is unknown; this network knows {', '.join(self.classes)}", code="E_CLASS")
        return self.classes.index(name)

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Network output for levels t.

        Args:
            x_t: (B, C, H, W).
            t: (B,) int64 levels in 0..T; the network's own table starts at level 1, and level 0 asks its first row.
            label: (B,) int64 rows of the class embedding.

        Returns:
            (B, C or 2C, H, W): mean channels, then variance channels when learn_sigma.
        """
        recomputing = self.recompute and self.training and torch.is_grad_enabled()
        with levels_recomputed(self.net, self.dropout_generator) if recomputing else nullcontext():
            output: Tensor = self.net(x_t, timesteps=t.clamp(min=1) - 1, class_labels=label)
        return output


def condition(denoiser: Denoiser, name: str | None, schedule: NoiseSchedule) -> EpsFn:
    """Noise predictor of a denoiser for one class by name; None is the null class."""
    reverse_fn = condition_with_variance(denoiser, name, schedule)
    return lambda x_t, t: reverse_fn(x_t, t)[0]


def condition_pair(denoiser: Denoiser, name: str, schedule: NoiseSchedule) -> EpsPairFn:
    """Noise predictor for a class by name and for the null class, asked as one batch where that is faster."""
    one, null = condition(denoiser, name, schedule), condition(denoiser, None, schedule)
    rows = (denoiser.index(name), denoiser.null_index)

    def eps_pair(x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        if 2 * x_t[:, 0].numel() > JOINT_PIXELS.get(x_t.device.type, 0):
            return one(x_t, t), null(x_t, t)
        both = torch.cat((x_t, x_t))
        labels = torch.cat([torch.full((len(x_t),), row, dtype=torch.int64, device=x_t.device) for row in rows])
        eps, _ = asked(denoiser, both, t, labels, schedule)
        return eps[: len(x_t)], eps[len(x_t) :]

    return eps_pair


def condition_with_variance(denoiser: Denoiser, name: str | None, schedule: NoiseSchedule) -> ReverseFn:
    """The same with the variance channels, from one evaluation; they are None where the network has not learned any."""
    row = denoiser.index(name)

    def reverse_fn(x_t: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        labels = torch.full((len(x_t),), row, dtype=torch.int64, device=x_t.device)
        return asked(denoiser, x_t, t, labels, schedule)

    return reverse_fn


def asked(denoiser: Denoiser, x_t: Tensor, t: int, labels: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor | None]:
    """(noise, variance channels or None) of images (B, C, H, W) at one level, each with its row of the class embedding."""
    levels, channels = torch.full_like(labels, t), denoiser.image_channels
    output = denoiser(x_t, levels, labels)
    eps = eps_from_output(output[:, :channels], x_t, levels, schedule, denoiser.config.prediction)
    return eps, output[:, channels:] if denoiser.config.learn_sigma else None
