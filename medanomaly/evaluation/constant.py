"""An image of one value has nothing in it to be found: its map is zero, whatever a method would make of it."""

from __future__ import annotations

import torch
from torch import Tensor

from medanomaly.types import AnomalyResult


def constant_images(x: Tensor) -> Tensor:
    """(B,) bool: every channel of the image (B, C, H, W) has one value."""
    flat = x.flatten(2)  # (B, C, H W)
    return (flat.amin(dim=2) == flat.amax(dim=2)).all(dim=1)


def blank_where_constant(x: Tensor, result: AnomalyResult) -> AnomalyResult:
    """The result with map, score and spread 0, and the image itself as its healthy twin, where the image is constant.

    Args:
        x: (B, C, H, W) what the method saw; constant = every channel of the image has one value.
        result: what it answered.
    """
    constant = constant_images(x)
    if not bool(constant.any()):
        return result
    where = constant.view(-1, 1, 1, 1).to(result.anomaly_map.device)
    twin, spread = result.pseudo_healthy, result.map_std
    return AnomalyResult(
        anomaly_map=result.anomaly_map.masked_fill(where, 0.0),
        score=result.score.masked_fill(where.flatten(), 0.0),
        pseudo_healthy=None if twin is None else torch.where(where, x.to(twin), twin),
        map_std=None if spread is None else spread.masked_fill(where, 0.0),
    )
