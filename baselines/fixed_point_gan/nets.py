"""The two networks of Fixed-Point GAN: a translator between named classes (the papers' G) and a critic (their D).

Shapes follow StarGAN (Choi et al. 2018, arXiv:1711.09020, tables 4 and 5); the residual output is that of Siddiquee et al. 2019
(arXiv:1908.06965). No batch statistics anywhere: what an image gives never depends on its batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + IN(conv(ReLU(IN(conv(x))))), 3 x 3 convolutions, all shapes kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        change: Tensor = self.body(features)
        return features + change


class Translator(nn.Module):
    """G: an image and the class it shall have -> the image as that class, tanh(x + change).

    tanh(x + 0) is not x (tanh(1) = 0.76), so the network has to learn the change that makes x a fixed point. Values of exactly -1 or
    1 would need an infinite one: the translation always lies a little inside of (-1, 1).
    """

    def __init__(self, image_channels: int, num_classes: int, *, base_channels: int, num_res_blocks: int) -> None:
        super().__init__()
        self.image_channels, self.num_classes = image_channels, num_classes
        base = base_channels
        # The biases before an instance norm would be subtracted by it.
        self.change = nn.Sequential(
            nn.Conv2d(image_channels + num_classes, base, 7, padding=3, bias=False),  # (B, base, H, W)
            nn.InstanceNorm2d(base, affine=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(base, 2 * base, 4, stride=2, padding=1, bias=False),  # (B, 2 base, H/2, W/2)
            nn.InstanceNorm2d(2 * base, affine=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * base, 4 * base, 4, stride=2, padding=1, bias=False),  # (B, 4 base, H/4, W/4)
            nn.InstanceNorm2d(4 * base, affine=True),
            nn.ReLU(inplace=True),
            *(ResidualBlock(4 * base) for _ in range(num_res_blocks)),
            nn.ConvTranspose2d(4 * base, 2 * base, 4, stride=2, padding=1, bias=False),  # (B, 2 base, H/2, W/2)
            nn.InstanceNorm2d(2 * base, affine=True),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(2 * base, base, 4, stride=2, padding=1, bias=False),  # (B, base, H, W)
            nn.InstanceNorm2d(base, affine=True),
            nn.ReLU(inplace=True),
            nn.Conv2d(base, image_channels, 7, padding=3),  # (B, C, H, W)
        )

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """x (B, C, H, W) in [-1, 1] and the wanted classes (B,) int64 -> (B, C, H, W) in (-1, 1)."""
        one_hot = F.one_hot(label, self.num_classes).to(x).view(len(x), self.num_classes, 1, 1)
        label_map = one_hot.expand(-1, -1, x.shape[2], x.shape[3])  # (B, K, H, W)
        change: Tensor = self.change(torch.cat([x, label_map], dim=1))
        return torch.tanh(x + change)


class Critic(nn.Module):
    """D: an image -> how real each of its patches looks, and the logits of its class; no norm, as the gradient penalty asks.

    StarGAN's class head is one convolution as large as the last feature map, which ties the network to one image size. Here it is
    the patches' logits averaged: the same convolution with equal weights at all places. A lesion anywhere counts the same.
    """

    def __init__(self, image_channels: int, num_classes: int, *, base_channels: int, num_layers: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = image_channels
        for index in range(num_layers):
            wider = base_channels * 2**index
            layers += [nn.Conv2d(channels, wider, 4, stride=2, padding=1), nn.LeakyReLU(0.01)]  # halves H and W
            channels = wider
        self.features = nn.Sequential(*layers)
        # A bias would cancel in D(real) - D(fake).
        self.source = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        # PyTorch's default would shrink the signal 2.4 times in each layer, and nothing here restores it (He et al. 2015).
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.01)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) -> realness of patches (B, 1, h, w), unbounded, higher = more real; class logits (B, K)."""
        features = self.features(x)
        return self.source(features), self.logits(features).mean(dim=(2, 3))
