"""From an image and its pseudo-healthy version to an anomaly map, and the filters a map may pass; never rescaled per image."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medanomaly.errors import ConfigError, InputError

Change = Literal["any", "brighter", "darker"]
"""Which pixels may be lesion: changed at all, or brighter (darker) than their pseudo-healthy version."""


def difference_map(x: Tensor, pseudo_healthy: Tensor, change: Change = "any") -> Tensor:
    """How far each pixel moved to become healthy (Wolleb et al. 2022, arXiv:2203.04306).

    Args:
        x: (B, C, H, W) in [-1, 1], the image as the network saw it.
        pseudo_healthy: (B, C, H, W) in [-1, 1], its healthy counterfactual.
        change: brighter: only where x is brighter than its counterfactual, elsewhere 0; darker: the other way round.

    Returns:
        (B, 1, H, W) in [0, 2 C]: absolute difference summed over channels. Not rescaled: maps stay comparable.
    """
    if x.ndim != 4 or x.shape != pseudo_healthy.shape:
        raise InputError(
            f"x is {tuple(x.shape)}, pseudo_healthy {tuple(pseudo_healthy.shape)}; both must be the same (B, C, H, W)",
            code="E_SHAPE",
            fix="add a batch axis with x[None]",
        )
    difference = x - pseudo_healthy
    moved = {"any": difference.abs, "brighter": difference.relu, "darker": (-difference).relu}[change]()
    return moved.sum(dim=1, keepdim=True)


def smooth(anomaly_map: Tensor, sigma_px: float) -> Tensor:
    """Gaussian smoothing of (B, 1, H, W) maps, same shape and total scale; sigma 0 returns a copy.

    The kernel is cut at 4 sigma and sums to 1, borders repeat the edge pixel: scipy's ``gaussian_filter(mode="nearest")``.
    """
    check_map(anomaly_map)
    if not (math.isfinite(sigma_px) and sigma_px >= 0):
        raise ConfigError(f"sigma_px must be >= 0, got {sigma_px}", code="E_RANGE", fix="use 0 for no smoothing")
    radius = int(4 * sigma_px + 0.5)
    if radius == 0:
        return anomaly_map.clone()
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-(offsets**2) / (2 * sigma_px**2))
    kernel = (kernel / kernel.sum()).to(anomaly_map)
    padded = F.pad(anomaly_map, (radius, radius, radius, radius), mode="replicate")
    along_rows = F.conv2d(padded, kernel.reshape(1, 1, 1, -1))  # (B, 1, H + 2 radius, W)
    return F.conv2d(along_rows, kernel.reshape(1, 1, -1, 1))  # (B, 1, H, W)


def median(anomaly_map: Tensor, size: int = 5) -> Tensor:
    """Median of the size x size neighbourhood in (B, 1, H, W) maps, same shape; removes specks and keeps edges.

    ``size`` is odd, in px; borders repeat the edge pixel. Memory: size² times the map.
    """
    check_map(anomaly_map)
    if size < 1 or size % 2 == 0:
        raise ConfigError(f"size must be odd and positive, got {size}", code="E_RANGE", fix="use 5")
    radius = size // 2
    padded = F.pad(anomaly_map, (radius, radius, radius, radius), mode="replicate")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)  # (B, 1, H, W, size, size)
    return windows.flatten(start_dim=-2).median(dim=-1).values


def check_map(anomaly_map: Tensor) -> None:
    """Refuses anything but (B, 1, H, W) float32 or float64 maps.

    Raises:
        InputError: E_SHAPE or E_DTYPE. Half precision makes ties between pixels, which move AUROC by whole percents.
    """
    if anomaly_map.ndim != 4 or anomaly_map.shape[1] != 1:
        raise InputError(
            f"anomaly_map must be (B, 1, H, W), got {tuple(anomaly_map.shape)}", code="E_SHAPE", fix="sum over channels first"
        )
    if anomaly_map.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"anomaly_map must be float32 or float64, got {anomaly_map.dtype}",
            code="E_DTYPE",
            fix="subtract the images in float32",
        )
