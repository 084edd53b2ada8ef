"""How far apart two groups of images lie in one number, in units of their spread."""

from __future__ import annotations

import math

from medanomaly.metrics.inputs import Mask, Scores, check_image_scores


def standardised_difference(scores: Scores, labels: Mask) -> float:
    """Mean of the positives less mean of the negatives, over sqrt((variance of the positives + variance of the negatives) / 2).

    Sample variances (n - 1); the two groups weigh the same whatever their sizes (Cohen 1988, d for unequal variances). Scaling or
    shifting all scores changes nothing, and unlike AUROC it does not stop growing once the groups are apart. NaN where a group has
    fewer than two images, or where nothing varies.

    Args:
        scores: (n,) float32 or float64.
        labels: (n,) bool.
    """
    check_image_scores(scores, labels)
    above, below = scores[labels].astype("float64"), scores[~labels].astype("float64")
    if len(above) < 2 or len(below) < 2:
        return float("nan")
    spread = math.sqrt((above.var(ddof=1) + below.var(ddof=1)) / 2)
    return float((above.mean() - below.mean()) / spread) if spread > 0 else float("nan")
