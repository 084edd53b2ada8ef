"""One number an image from its map."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from medanomaly.errors import ConfigError
from medanomaly.scoring.maps import check_map


def top_percent(pixels: Tensor) -> Tensor:
    """Mean of the highest 1 % of (B, H W) pixels, at least one: small lesions count, single noisy pixels hardly do."""
    return pixels.topk(max(pixels.shape[1] // 100, 1), dim=1).values.mean(dim=1)


def mean(pixels: Tensor) -> Tensor:
    """Mean of (B, H W) pixels."""
    return pixels.mean(dim=1)


def maximum(pixels: Tensor) -> Tensor:
    """Highest of (B, H W) pixels."""
    return pixels.amax(dim=1)


IMAGE_SCORES: dict[str, Callable[[Tensor], Tensor]] = {"top1": top_percent, "mean": mean, "max": maximum}


def image_score(anomaly_map: Tensor, rule: str = "top1") -> Tensor:
    """(B,) score of (B, 1, H, W) maps by a rule of ``IMAGE_SCORES``; higher is worse.

    Raises:
        ConfigError: E_CHOICE for an unknown rule.
    """
    check_map(anomaly_map)
    if rule not in IMAGE_SCORES:
        raise ConfigError(f"unknown image score {rule!r}", code="E_CHOICE", fix=f"choose one of {', '.join(IMAGE_SCORES)}")
    return IMAGE_SCORES[rule](anomaly_map.flatten(start_dim=1))
