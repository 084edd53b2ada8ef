"""What a picture may be made of: finite planes of one size, maps that are not negative, a scale that holds the threshold."""

from __future__ import annotations

import math

import numpy as np

from medanomaly.errors import ConfigError, InputError
from medanomaly.types import FloatArray


def check_plane(values: FloatArray, name: str) -> None:
    """Raise InputError unless the values are (H, W), not empty and finite."""
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"{name} must be (H, W) and not empty, got {values.shape}", code="E_GEOMETRY", fix="pass one gray plane")
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds NaN or infinity", code="E_NONFINITE", fix="find the step that made it; do not draw it")


def check_image(values: FloatArray, name: str) -> None:
    """Raise InputError unless the values are (H, W) or (C, H, W), not empty and finite."""
    if values.ndim not in (2, 3) or values.size == 0:
        raise InputError(
            f"{name} must be (H, W) or (C, H, W) and not empty, got {values.shape}",
            code="E_GEOMETRY",
            fix="pass one image, channels first",
        )
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds NaN or infinity", code="E_NONFINITE", fix="find the step that made it; do not draw it")


def check_map(anomaly_map: FloatArray, *, size: tuple[int, ...] | None = None) -> None:
    """Raise InputError unless the map is a finite plane >= 0, of the given (H, W) where one is given."""
    check_plane(anomaly_map, "anomaly_map")
    if size is not None and anomaly_map.shape != size:
        raise InputError(
            f"anomaly_map is {anomaly_map.shape}, pixels are {size}",
            code="E_GEOMETRY",
            fix="bring the map to the image's size first",
        )
    if anomaly_map.min() < 0:
        raise InputError(f"anomaly_map goes down to {anomaly_map.min():g}", code="E_RANGE", fix="maps are >= 0 by contract")


def check_scale(threshold: float, scale_max: float) -> None:
    """Raise ConfigError unless 0 <= threshold <= scale_max and 0 < scale_max, all finite."""
    if not (0 <= threshold <= scale_max and 0 < scale_max < math.inf):
        raise ConfigError(
            f"need 0 <= threshold <= scale_max and 0 < scale_max, got threshold {threshold:g} and scale_max {scale_max:g}",
            code="E_RANGE",
            fix="choose a scale_max above the operating point, the same for all images",
        )
