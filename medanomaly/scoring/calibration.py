"""What a healthy image's map looks like, pixel by pixel, so that a map can be read in deviations from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from medanomaly.errors import InputError
from medanomaly.scoring.maps import check_map

FLOOR_FRACTION = 0.1
"""Share of the mean deviation added to every pixel's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HealthyCalibration:
    """Mean and deviation of healthy validation maps at each pixel."""

    mean: Tensor
    """(H, W) float32."""
    std: Tensor
    """(H, W) float32, sample deviation (n - 1)."""
    num_images: int

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.mean.shape != self.std.shape:
            raise InputError(
                f"mean is {tuple(self.mean.shape)}, std {tuple(self.std.shape)}; both must be the same (H, W)",
                code="E_SHAPE",
                fix="fit the calibration again",
            )
        if not (torch.isfinite(self.mean).all() and torch.isfinite(self.std).all() and (self.std >= 0).all()):
            raise InputError("mean or std is not finite, or std is negative", code="E_NONFINITE", fix="fit the calibration again")

    @classmethod
    def from_healthy_maps(cls, maps: Iterable[Tensor]) -> HealthyCalibration:
        """Statistics of two or more (1, H, W) maps of healthy validation images, one at a time (Welford 1962), in float64.

        Raises:
            InputError: fewer than two maps, unequal shapes, half precision, NaN or infinity.
        """
        mean, squares, num = torch.zeros(0), torch.zeros(0), 0
        for healthy_map in maps:
            check_map(healthy_map[None])
            value = healthy_map[0].double()
            if not torch.isfinite(value).all():
                raise InputError(
                    f"healthy map {num} holds NaN or infinity", code="E_NONFINITE", fix="leave out the image that made it"
                )
            if num == 0:
                mean, squares = torch.zeros_like(value), torch.zeros_like(value)
            elif value.shape != mean.shape:
                raise InputError(
                    f"healthy map {num} is {tuple(value.shape)}, the first is {tuple(mean.shape)}",
                    code="E_SHAPE",
                    fix="calibrate in model space, where all maps have one size",
                )
            num += 1
            before = value - mean
            mean = mean + before / num
            squares = squares + before * (value - mean)
        if num < 2:
            raise InputError(
                f"a deviation needs two healthy maps, got {num}", code="E_EMPTY", fix="add healthy validation images"
            )
        return cls(mean=mean.float(), std=(squares / (num - 1)).sqrt().float(), num_images=num)

    @property
    def std_floor(self) -> float:
        """Added to every std: a tenth of its mean over the image, at least 1e-6.

        Corners outside the body hardly vary between healthy images; without a floor the least noise there would outscore
        any lesion. Tied to the mean, it scales with the maps.
        """
        return max(FLOOR_FRACTION * float(self.std.double().mean()), 1e-6)

    def z_map(self, anomaly_map: Tensor) -> Tensor:
        """(B, 1, H, W) map in healthy deviations above the healthy mean, >= 0: max((map - mean) / (std + std_floor), 0).

        The same for every image, so maps stay comparable; device and dtype follow the map.
        """
        check_map(anomaly_map)
        if anomaly_map.shape[2:] != self.mean.shape:
            raise InputError(
                f"maps are {tuple(anomaly_map.shape[2:])}, the calibration is {tuple(self.mean.shape)}",
                code="E_SHAPE",
                fix="use the calibration fitted at this model size",
            )
        return ((anomaly_map - self.mean.to(anomaly_map)) / (self.std.to(anomaly_map) + self.std_floor)).clamp(min=0)
