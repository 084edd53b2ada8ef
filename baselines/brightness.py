"""The first floor: how bright a pixel is. On FLAIR it is hard to beat (Meissen et al. 2021, arXiv:2109.06540)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medanomaly.scoring.image_score import image_score
from medanomaly.scoring.maps import smooth
from medanomaly.types import AnomalyResult, WalkObserver


@dataclass(frozen=True, kw_only=True)
class Brightness:
    """Smoothed brightness as the anomaly map; nothing is learned."""

    sigma_px: float = 1.5
    """Gaussian smoothing in model px; 0 = none."""

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:  # noqa: ARG002 (nothing to watch)
        """Map = mean over channels of (x + 1) / 2, smoothed; (B, 1, H, W) in [0, 1]."""
        anomaly_map = smooth(((x + 1) / 2).clamp(min=0).mean(dim=1, keepdim=True), self.sigma_px)
        return AnomalyResult(anomaly_map=anomaly_map, score=image_score(anomaly_map))
