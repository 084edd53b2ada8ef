"""A classifier of noisy images: the encoder half of the U-Net, told the noise level."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.networks.nets.diffusion_model_unet import DiffusionModelEncoder
from torch import Tensor, nn

from medanomaly.diffusion.guidance import LogProbFn
from medanomaly.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Shape of the encoder (Dhariwal & Nichol 2021, arXiv:2105.05233, section 4)."""

    channels: tuple[int, ...] = (32, 64, 64, 96)
    """Channels per level, finest first; each a multiple of ``norm_groups``."""
    attention: tuple[bool, ...] = (False, False, True, True)
    """Self-attention per level."""
    num_res_blocks: int = 1
    """Residual blocks per level."""
    head_channels: int = 32
    """Channels per attention head."""
    norm_groups: int = 16
    """Groups of the group normalisation."""

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.attention):
            raise ConfigError("classifier.channels and classifier.attention must have one entry a level each", code="E_CONFIG")
        if any(count % self.norm_groups for count in self.channels):
            raise ConfigError(
                f"classifier.channels must be multiples of norm_groups={self.norm_groups}, got {self.channels}", code="E_CONFIG"
            )

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this: every level halves."""
        return int(2 ** len(self.channels))


class NoisyClassifier(nn.Module):
    """Class scores of x_t at level t.

    MONAI's encoder ends in a linear layer over all positions, which binds it to one image size, and in dropout that draws from
    the global generator. Here the positions are averaged instead (as guided-diffusion's "adaptive" pool does).
    """

    def __init__(self, config: ClassifierConfig, *, image_channels: int, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.classes = classes
        self.width = config.channels[-1]
        self.encoder = DiffusionModelEncoder(
            spatial_dims=2,
            in_channels=image_channels,
            out_channels=1,
            input_shape=(config.size_multiple,) * 2,
            num_res_blocks=(config.num_res_blocks,) * len(config.channels),
            channels=config.channels,
            attention_levels=config.attention,
            norm_num_groups=config.norm_groups,
            norm_eps=1e-5,
            num_head_channels=config.head_channels,
        )
        self.encoder.out = nn.Identity()
        self.head = nn.Sequential(nn.GroupNorm(config.norm_groups, self.width), nn.SiLU(), nn.Linear(self.width, len(classes)))

    def features(self, x_t: Tensor, t: Tensor) -> Tensor:
        """(B, width) numbers that the last layer reads, of x_t (B, C, H, W) at levels t (B,) in 0..T."""
        # The encoder's own table of levels starts at level 1; level 0 asks its first row.
        flat = self.encoder(x_t, t.clamp(min=1) - 1)
        pooled = flat.reshape(len(x_t), self.width, -1).mean(dim=2)  # (B, width)
        read: Tensor = self.head[:-1](pooled)
        return read

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """(B, classes) scores before softmax or sigmoid, of x_t (B, C, H, W) at levels t (B,) in 0..T."""
        scores: Tensor = self.head[-1](self.features(x_t, t))
        return scores


def class_index(name: str, classes: Sequence[str]) -> int:
    """Position of a class by name.

    Raises:
        ConfigError: E_CLASS with the nearest known name.
    """
    if name not in classes:
        near = difflib.get_close_matches(name, classes, n=1)
        raise ConfigError(
            f"class {name!r} is unknown; this classifier knows {', '.join(classes)}",
            code="E_CLASS",
            fix=f"did you mean {near[0]!r}?" if near else "",
        )
    return list(classes).index(name)


def log_prob_of(classifier: NoisyClassifier, name: str) -> LogProbFn:
    """Log-probability of one of the classes that exclude each other, by name, for guidance.

    Raises:
        ConfigError: the classifier does not know the class.
    """
    column = class_index(name, classifier.classes)

    def log_prob(x_t: Tensor, t: int) -> Tensor:
        levels = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)
        return F.log_softmax(classifier(x_t, levels).float(), dim=1)[:, column]

    return log_prob
