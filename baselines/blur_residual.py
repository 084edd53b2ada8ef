"""The second floor: how much a pixel differs from its surroundings."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medanomaly.errors import ConfigError
from medanomaly.scoring.image_score import image_score
from medanomaly.scoring.maps import difference_map, smooth
from medanomaly.types import AnomalyResult, WalkObserver


@dataclass(frozen=True, kw_only=True)
class BlurResidual:
    """|x - blur(x)| as the anomaly map; nothing is learned."""

    blur_px: float = 6.0
    """Sigma of the blur in model px, the scale above which structure counts as normal."""
    sigma_px: float = 1.5
    """Gaussian smoothing of the map in model px; 0 = none."""

    def __post_init__(self) -> None:
        if self.blur_px <= 0:
            raise ConfigError(f"blur_px must be positive, got {self.blur_px}", code="E_CONFIG")

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:  # noqa: ARG002 (nothing to watch)
        """Map = sum over channels of |x - blur(x)|, smoothed; (B, 1, H, W) in [0, 2 C]. The blurred image is no healthy twin."""
        batch, channels, height, width = x.shape
        blurred = smooth((x + 1).clamp(min=0).reshape(batch * channels, 1, height, width), self.blur_px) - 1
        anomaly_map = smooth(difference_map(x, blurred.reshape(x.shape)), self.sigma_px)
        return AnomalyResult(anomaly_map=anomaly_map, score=image_score(anomaly_map))
