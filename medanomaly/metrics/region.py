"""Metrics that count lesions instead of pixels: recall, FROC, pointing game. Lesions are 8-connected components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.measure import label

from medanomaly.metrics.inputs import Mask, Scores, check_fraction, check_maps, check_mask, check_scores

FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
"""False positives an image at which a FROC curve is summarised (LUNA16; Setio et al. 2017, arXiv:1612.08012)."""


def lesions(mask: Mask) -> npt.NDArray[np.int64]:
    """(H, W) component numbers of a mask: 0 outside, 1..n inside, pixels that touch at a corner being one lesion."""
    check_mask(mask, "mask", np.shape(mask))
    return np.asarray(label(mask, connectivity=2), np.int64)


def match(predicted: Mask, truth: Mask, min_iou: float = 0.1) -> tuple[npt.NDArray[np.bool_], int]:
    """Which lesions of one image are hit, (num_lesions,), and how many predicted components are false positives.

    A predicted component and a lesion match where their IoU is at least ``min_iou``; a lesion with a match is hit, a component
    without one is a false positive. IoU rather than "any pixel in common": one component over the whole image
    would otherwise hit every lesion at no false positive.
    """
    check_fraction("min_iou", min_iou)
    check_mask(predicted, "predicted", np.shape(truth))
    return _match(lesions(predicted), lesions(truth), min_iou)


def _match(found: npt.NDArray[np.int64], real: npt.NDArray[np.int64], min_iou: float) -> tuple[npt.NDArray[np.bool_], int]:
    """:func:`match` of two component images."""
    num_found, num_real = int(found.max(initial=0)), int(real.max(initial=0))
    shared = np.bincount((found * (num_real + 1) + real).ravel(), minlength=(num_found + 1) * (num_real + 1))
    shared = shared.reshape(num_found + 1, num_real + 1)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    matched = shared[1:, 1:] >= min_iou * union[1:, 1:]
    return matched.any(axis=0), int((~matched.any(axis=1)).sum())


def lesion_recall(maps: Sequence[Scores], masks: Sequence[Mask], threshold: float, min_iou: float = 0.1) -> float:
    """Fraction of all lesions hit by map > threshold, 0..1, by the rule of :func:`match`; NaN where there is no lesion."""
    check_maps(maps, masks)
    hits = [match(m > threshold, mask, min_iou)[0] for m, mask in zip(maps, masks, strict=True)]
    pooled = np.concatenate([np.empty(0, bool), *hits])
    return float(pooled.mean()) if pooled.size else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrocCurve:
    """Lesion sensitivity against false alarms, one point a threshold, thresholds descending."""

    thresholds: npt.NDArray[np.float64]
    """(k,)"""
    false_positives_per_image: npt.NDArray[np.float64]
    """(k,) predicted components that match no lesion, mean over all images, healthy ones included."""
    sensitivity: npt.NDArray[np.float64]
    """(k,) fraction of all lesions hit; NaN where the set has no lesion."""
    num_images: int
    num_lesions: int

    def sensitivity_at(self, rate: float) -> float:
        """Highest sensitivity among thresholds with at most ``rate`` false positives an image; 0 where no threshold has so few.

        Components merge as a threshold falls, so the raw curve may turn back; this is its envelope.
        """
        if self.num_lesions == 0:
            return float("nan")
        return float(self.sensitivity[self.false_positives_per_image <= rate].max(initial=0.0))

    @property
    def mean_sensitivity(self) -> float:
        """Mean of :meth:`sensitivity_at` over ``FROC_RATES``, 0..1; NaN where the set has no lesion."""
        return float(np.mean([self.sensitivity_at(rate) for rate in FROC_RATES]))


def froc_thresholds(maps: Sequence[Scores], num: int) -> Scores:
    """(at most num,) pooled quantiles that call from one pixel of the set to half of all pixels anomalous, evenly in log area."""
    pooled = np.concatenate([np.empty(0, np.float32), *(m.ravel() for m in maps)])
    pooled.sort()
    ranks = np.geomspace(1, max(pooled.size / 2, 1), num).round().astype(np.int64)
    levels: Scores = np.unique(pooled[::-1][np.minimum(ranks, pooled.size - 1)]) if pooled.size else pooled
    return levels


def froc(
    maps: Sequence[Scores],
    masks: Sequence[Mask],
    thresholds: Sequence[float] | None = None,
    *,
    num_thresholds: int = 64,
    min_iou: float = 0.1,
) -> FrocCurve:
    """Free-response ROC (Bunch et al. 1978): lesions hit against false components an image, by the rule of :func:`match`.

    Args:
        maps: (H, W) each, images with and without lesions.
        masks: (H, W) bool each.
        thresholds: where to measure; None takes ``num_thresholds`` pooled quantiles that call from one pixel of the set to half
            of all pixels anomalous, spaced evenly in log area, since lesions are a small part of an image.
        num_thresholds: how many, where ``thresholds`` is None. Cost is one labelling an image and threshold.
        min_iou: IoU that makes a match, (0, 1].
    """
    check_maps(maps, masks)
    check_fraction("min_iou", min_iou)
    levels = froc_thresholds(maps, num_thresholds) if thresholds is None else np.asarray(thresholds, np.float64)
    levels = np.unique(levels)[::-1]
    num_hit, num_false = np.zeros(len(levels)), np.zeros(len(levels))
    num_lesions = 0
    for anomaly_map, mask in zip(maps, masks, strict=True):
        real = lesions(mask)
        num_lesions += int(real.max(initial=0))
        for column, threshold in enumerate(levels):
            hit, false = _match(lesions(anomaly_map > threshold), real, min_iou)
            num_hit[column] += hit.sum()
            num_false[column] += false
    return FrocCurve(
        thresholds=levels.astype(np.float64),
        false_positives_per_image=num_false / len(maps) if maps else np.full(len(levels), np.nan),
        sensitivity=num_hit / num_lesions if num_lesions else np.full(len(levels), np.nan),
        num_images=len(maps),
        num_lesions=num_lesions,
    )


def pointing_game_hit(anomaly_map: Scores, mask: Mask) -> float:
    """1 where the map's maximum lies in the (H, W) mask, else 0; NaN for an empty mask (Zhang et al. 2016, arXiv:1608.00507).

    Tied maxima count by the fraction of them in the mask, so that a constant map scores the prevalence and not the luck
    of its first pixel.
    """
    check_scores(anomaly_map, "map", ndim=2)
    check_mask(mask, "mask", anomaly_map.shape)
    return float(mask[anomaly_map == anomaly_map.max()].mean()) if mask.any() else float("nan")
