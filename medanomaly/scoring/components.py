"""Removal of specks from a predicted mask, by area in mm² where the spacing is known and in px otherwise."""

from __future__ import annotations

import math

import numpy as np
from skimage.measure import label

from medanomaly.errors import ConfigError, InputError
from medanomaly.types import BoolArray


def area_in_px(area_mm2: float, spacing_mm: tuple[float, float]) -> int:
    """Fewest whole pixels that cover at least ``area_mm2``, given the (row, column) spacing in mm."""
    if not (math.isfinite(area_mm2) and area_mm2 >= 0):
        raise ConfigError(f"area_mm2 must be >= 0, got {area_mm2}", code="E_RANGE", fix="use 0 to keep every component")
    if not all(math.isfinite(side) and side > 0 for side in spacing_mm):
        raise InputError(f"spacing_mm must be positive, got {spacing_mm}", code="E_RANGE", fix="give the area in px instead")
    # 2.7 mm² at 0.3 mm is 30.000000000000004 px: rounding must not ask for one more.
    return math.ceil(area_mm2 / (spacing_mm[0] * spacing_mm[1]) - 1e-9)


def remove_small(mask: BoolArray, min_px: int) -> BoolArray:
    """(H, W) bool mask without its 8-connected components of fewer than ``min_px`` pixels; a new array.

    Raises:
        InputError: E_SHAPE or E_DTYPE for anything but a 2-D bool mask.
        ConfigError: E_RANGE for a negative ``min_px``.
    """
    if mask.ndim != 2:
        raise InputError(f"mask must be (H, W), got {mask.shape}", code="E_SHAPE", fix="filter one image at a time")
    if mask.dtype != np.bool_:
        raise InputError(f"mask must be bool, got {mask.dtype}", code="E_DTYPE", fix="threshold the map first")
    if min_px < 0:
        raise ConfigError(f"min_px must be >= 0, got {min_px}", code="E_RANGE", fix="use 0 to keep every component")
    components = label(mask, connectivity=2)
    kept = np.bincount(components.ravel()) >= min_px
    kept[:1] = False  # background
    return np.asarray(kept[components], np.bool_)
