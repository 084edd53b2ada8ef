"""What a metric accepts: full-precision finite scores, boolean truth, equal shapes; anything else is refused, never repaired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError

Scores = npt.NDArray[np.floating[Any]]
"""float32 or float64: half precision makes ties that were not there (AUROC 0.758 -> 0.736 in bfloat16)."""
Mask = npt.NDArray[np.bool_]
"""True = lesion (or "measure here")."""


def check_scores(scores: Scores, name: str, ndim: int) -> None:
    """Refuses scores that are not a finite float32 or float64 array of ``ndim`` axes.

    Raises:
        InputError: E_DTYPE, E_SHAPE or E_NONFINITE.
    """
    if not isinstance(scores, np.ndarray) or scores.dtype not in (np.float32, np.float64):
        found = getattr(scores, "dtype", type(scores).__name__)
        raise InputError(
            f"{name} must be a float32 or float64 numpy array, got {found}",
            code="E_DTYPE",
            fix="compute scores in float32 or wider",
        )
    if scores.ndim != ndim:
        raise InputError(
            f"{name} must have {ndim} axes, got shape {scores.shape}", code="E_SHAPE", fix="pass one gray map an image"
        )
    if not np.isfinite(scores).all():
        raise InputError(
            f"{name} holds NaN or infinity", code="E_NONFINITE", fix="find out which step made it; no metric is defined"
        )


def check_mask(mask: Mask | None, name: str, shape: tuple[int, ...]) -> None:
    """Refuses a mask that is absent, not boolean, or not exactly of ``shape`` (broadcasting would hide a mistake).

    Raises:
        InputError: E_NO_MASK, E_DTYPE or E_MASK_SIZE.
    """
    if mask is None:
        raise InputError(
            f"{name} is None, that is, not annotated; it is not an empty mask",
            code="E_NO_MASK",
            fix="leave the image out by its id",
        )
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        found = getattr(mask, "dtype", type(mask).__name__)
        raise InputError(
            f"{name} must be a bool numpy array, got {found}", code="E_DTYPE", fix="say which values mean lesion: mask > 0"
        )
    if mask.shape != shape:
        raise InputError(
            f"{name} has shape {mask.shape}, expected {shape}", code="E_MASK_SIZE", fix="bring both to the native size"
        )


def check_count(name: str, num: int, expected: int) -> None:
    """Refuses a list whose length differs from the number of images.

    Raises:
        InputError: E_COUNT.
    """
    if num != expected:
        raise InputError(
            f"{name} has {num} entries for {expected} images", code="E_COUNT", fix="pass one entry an image, in order"
        )


def check_maps(maps: Sequence[Scores], masks: Sequence[Mask | None], within: Sequence[Mask] | None = None) -> None:
    """Refuses anything but one (H, W) map and one (H, W) mask an image; images may differ in size.

    Raises:
        InputError: see :func:`check_scores`, :func:`check_mask`, :func:`check_count`.
    """
    check_count("masks", len(masks), len(maps))
    if within is not None:
        check_count("within", len(within), len(maps))
    for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        check_scores(anomaly_map, f"map {index}", ndim=2)
        check_mask(mask, f"mask {index}", anomaly_map.shape)
        if within is not None:
            check_mask(within[index], f"within {index}", anomaly_map.shape)


def check_image_scores(scores: Scores, labels: Mask) -> None:
    """Refuses anything but (n,) scores and (n,) bool labels.

    Raises:
        InputError: see :func:`check_scores`, :func:`check_mask`.
    """
    check_scores(scores, "scores", ndim=1)
    check_mask(labels, "labels", scores.shape)


def check_fraction(name: str, value: float) -> None:
    """Refuses a fraction outside (0, 1].

    Raises:
        InputError: E_RANGE.
    """
    if not 0 < value <= 1:
        raise InputError(f"{name} must be in (0, 1], got {value}", code="E_RANGE", fix=f"choose {name} in (0, 1]")
