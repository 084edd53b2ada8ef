"""Distance between outlines: overlap says how much is right, not how far off the rest is."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

from medanomaly.metrics.inputs import Mask, check_mask


def hausdorff95(predicted: Mask, truth: Mask) -> float:
    """95 % Hausdorff distance of two masks in px: of the two directions the larger 95th percentile of outline to outline.

    The maximum itself hangs on a single pixel; the percentile is the customary one (Taha & Hanbury 2015,
    doi:10.1186/s12880-015-0068-x). NaN where either mask is empty, which is not a distance of 0: count such images apart.

    Args:
        predicted: (H, W) bool.
        truth: (H, W) bool.

    Raises:
        InputError: see :func:`medanomaly.metrics.inputs.check_mask`.
    """
    check_mask(predicted, "predicted", np.shape(predicted))
    check_mask(truth, "truth", predicted.shape)
    if not predicted.any() or not truth.any():
        return float("nan")
    ours, theirs = outline(predicted), outline(truth)
    there = distance_transform_edt(~theirs)[ours]
    back = distance_transform_edt(~ours)[theirs]
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def outline(mask: Mask) -> Mask:
    """Pixels of (H, W) ``mask`` with a side on the outside; the image's border is outside."""
    inner: Mask = binary_erosion(mask)
    return mask & ~inner
