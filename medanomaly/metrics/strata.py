"""Dice by lesion size: a mean over all images hides that small lesions are missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.metrics.inputs import Mask, check_count, check_mask


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeStrata:
    """Mean Dice of the images with small, medium and large lesion area."""

    edges: tuple[float, float]
    """small <= edges[0] < medium <= edges[1] < large, in the unit of the areas given; NaN without a lesion."""
    mean_dice: tuple[float, float, float]
    """Each 0..1; NaN for an empty stratum."""
    num_images: tuple[int, int, int]
    num_without_lesion: int
    """Images that belong to no stratum."""


def lesion_areas(masks: Sequence[Mask], spacings_mm: Sequence[tuple[float, float]] | None = None) -> npt.NDArray[np.float64]:
    """(n,) lesion area of each image: mm² with the (row, column) spacing of each, px without.

    Areas in px are comparable only where all images have the same spacing.
    """
    for index, mask in enumerate(masks):
        check_mask(mask, f"mask {index}", np.shape(mask))
    num_px = np.array([int(mask.sum()) for mask in masks], np.float64)
    if spacings_mm is None:
        return num_px
    check_count("spacings_mm", len(spacings_mm), len(masks))
    return num_px * np.array([row * column for row, column in spacings_mm], np.float64)


def dice_by_lesion_size(
    dice: npt.NDArray[np.float64], areas: npt.NDArray[np.float64], edges: tuple[float, float] | None = None
) -> SizeStrata:
    """Mean Dice in the terciles of lesion area.

    Args:
        dice: (n,) Dice of each image, from ``pixel.dice_per_image``.
        areas: (n,) from :func:`lesion_areas`.
        edges: tercile edges of another set, so that two sets can be compared; None computes them on the images with a lesion.

    Raises:
        InputError: E_COUNT for unequal lengths; E_NONFINITE for an undefined Dice of an image that has a lesion.
    """
    check_count("areas", len(areas), len(dice))
    present = areas > 0
    sizes, values = areas[present], dice[present]
    if not np.isfinite(values).all():
        raise InputError(
            "dice is undefined for an image with a lesion", code="E_NONFINITE", fix="pass dice and areas of the same images"
        )
    if edges is None:
        first, second = np.quantile(sizes, [1 / 3, 2 / 3]) if sizes.size else (np.nan, np.nan)
        edges = float(first), float(second)
    stratum = np.searchsorted(np.array(edges), sizes, side="left")
    groups = [values[stratum == which] for which in range(3)]
    small, medium, large = (float(group.mean()) if group.size else float("nan") for group in groups)
    return SizeStrata(
        edges=edges,
        mean_dice=(small, medium, large),
        num_images=(groups[0].size, groups[1].size, groups[2].size),
        num_without_lesion=int((~present).sum()),
    )
