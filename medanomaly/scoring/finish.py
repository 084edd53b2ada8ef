"""The last steps of every method: from its raw map to the map and the score that are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from medanomaly.errors import ConfigError
from medanomaly.scoring.calibration import HealthyCalibration
from medanomaly.scoring.image_score import image_score
from medanomaly.scoring.maps import Change, median, smooth

CALIBRATION = ("calibration.mean", "calibration.std", "calibration.num_images")
"""Tensors of a healthy calibration beside the weights of a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """From two images to a map and a score."""

    change: Change = "any"
    """Which changes count: any, or only pixels brighter (darker) than their pseudo-healthy version, where the disease is known to be."""
    subtract_round_trip: bool = False
    """Subtract what encode and decode with the null class change by themselves (one more decode)."""
    median_px: int = 0
    """Side of a median filter on the map in model px, odd; 0 = none."""
    smooth_px: float = 0.0
    """Sigma of a Gaussian on the map in model px; 0 = none."""
    healthy_z: bool = False
    """Give the map in deviations above the mean of healthy validation maps, pixel by pixel; the calibration is made after training."""
    image_score: Literal["top1", "mean", "max"] = "top1"
    """Image score: mean of the top 1 % of the map, its mean, or its maximum."""

    @property
    def unit(self) -> str:
        """What the map's numbers are, for colour bars."""
        if self.healthy_z:
            return "deviations above the healthy mean"
        raw = {
            "any": "|x - pseudo-healthy|",
            "brighter": "x - pseudo-healthy where > 0",
            "darker": "pseudo-healthy - x where > 0",
        }
        return f"{raw[self.change]}, model units"

    def __post_init__(self) -> None:
        if self.change not in get_args(Change):
            raise ConfigError(f"map.change must be {', '.join(get_args(Change))}, got {self.change!r}", code="E_CONFIG")
        if self.median_px < 0 or (self.median_px and self.median_px % 2 == 0):
            raise ConfigError(f"map.median_px must be 0 or odd, got {self.median_px}", code="E_CONFIG")
        if not 0 <= self.smooth_px < math.inf:
            raise ConfigError(f"map.smooth_px must be finite and not negative, got {self.smooth_px}", code="E_CONFIG")


def finish(anomaly_map: Tensor, config: MapConfig, calibration: HealthyCalibration | None) -> tuple[Tensor, Tensor]:
    """The (B, 1, H, W) map after the filters and the calibration that the settings name, and the (B,) image score of it."""
    if config.median_px:
        anomaly_map = median(anomaly_map, config.median_px)
    if config.smooth_px:
        anomaly_map = smooth(anomaly_map, config.smooth_px)
    if calibration is not None:
        anomaly_map = calibration.z_map(anomaly_map)
    return anomaly_map, image_score(anomaly_map, config.image_score)


def finished_deviation(raw_maps: Sequence[Tensor], config: MapConfig, calibration: HealthyCalibration | None) -> Tensor | None:
    """(B, 1, H, W) sample deviation (n - 1), pixel by pixel, of the finished maps; None for fewer than two.

    Each raw (B, 1, H, W) map is filtered and calibrated as the one that is compared, so the deviation has that map's unit.
    """
    if len(raw_maps) < 2:
        return None
    return torch.stack([finish(one, config, calibration)[0] for one in raw_maps]).std(dim=0, correction=1)


def calibration_tensors(calibration: HealthyCalibration) -> dict[str, Tensor]:
    """A calibration as tensors to keep beside the weights."""
    count = torch.tensor(calibration.num_images, dtype=torch.int64)
    return dict(zip(CALIBRATION, (calibration.mean, calibration.std, count), strict=True))


def calibration_of(weights: Mapping[str, Tensor], config: MapConfig, source: str) -> HealthyCalibration | None:
    """The calibration that lies beside the weights of ``source``; None where the settings ask for none.

    Raises:
        ConfigError: E_CALIBRATION, the settings ask for one that is not there.
    """
    if not config.healthy_z:
        return None
    if not weights.keys() >= set(CALIBRATION):
        raise ConfigError(
            f"{source} holds no healthy calibration, which map.healthy_z needs",
            code="E_CALIBRATION",
            fix="run its `medanomaly train` command again with --method.map.healthy_z true: only the calibration is made",
        )
    mean, std, count = (weights[name] for name in CALIBRATION)
    return HealthyCalibration(mean=mean, std=std, num_images=int(count))


def without_calibration(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights alone."""
    return {name: value for name, value in weights.items() if name not in CALIBRATION}
