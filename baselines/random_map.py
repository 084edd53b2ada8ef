"""The lowest floor: a map that knows nothing. What it scores is chance, by the same code as everything else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medanomaly.rng import image_generator
from medanomaly.scoring.image_score import image_score
from medanomaly.types import AnomalyResult, WalkObserver


@dataclass(frozen=True, kw_only=True)
class RandomMap:
    """Uniform noise as the anomaly map, the same for the same image."""

    seed: int = 0
    """Of the noise, together with the image's values."""

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:  # noqa: ARG002 (nothing to watch)
        """Map (B, 1, H, W) in [0, 1), each pixel drawn independently."""
        drawn = [torch.rand(1, *x.shape[2:], generator=image_generator(self.seed, "random map", image)) for image in x]
        anomaly_map = torch.stack(drawn).to(x.device, x.dtype)
        return AnomalyResult(anomaly_map=anomaly_map, score=image_score(anomaly_map))
