"""Metrics of anomaly maps against lesion masks, pixel by pixel. A pixel is called anomalous where map > threshold.

Maps are (H, W) float32 or float64 and masks (H, W) bool at the source's resolution; images may differ in size. ``within``
keeps only the pixels where it is True: a body mask (background that is black in every image makes any AUROC look good), or the
image area of a padded map. Every function raises InputError for a mask that is None, non-boolean or of another shape, for
NaN, infinite or half-precision scores, and returns NaN where the metric is not defined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medanomaly.metrics import ranking
from medanomaly.metrics.inputs import Mask, Scores, check_count, check_fraction, check_maps, check_mask
from medanomaly.metrics.region import lesions

PIXELS_AT_ONCE = 2**20
"""Of the normal pixels of a set, on the way to a curve."""


def pooled(maps: Sequence[Scores], masks: Sequence[Mask], within: Sequence[Mask] | None = None) -> ranking.Ranked:
    """Scores of all lesion pixels and all other pixels of a set, sorted, with no rescaling of any image."""
    check_maps(maps, masks, within)
    positives = masks if within is None else [mask & region for mask, region in zip(masks, within, strict=True)]
    negatives = [~mask for mask in masks] if within is None else [~mask & one for mask, one in zip(masks, within, strict=True)]
    return ranking.Ranked(_sorted(maps, positives), _sorted(maps, negatives))


def _sorted(maps: Sequence[Scores], chosen: Sequence[Mask]) -> Scores:
    """(n,) scores of the chosen pixels of all maps, ascending; filled and sorted in place: a set has gigabytes of them."""
    found = np.empty(sum(int(one.sum()) for one in chosen), np.result_type(np.float32, *maps))
    start = 0
    for anomaly_map, one in zip(maps, chosen, strict=True):
        values = anomaly_map[one]
        found[start : start + values.size] = values
        start += values.size
    found.sort()
    return found


def pixel_auroc(maps: Sequence[Scores], masks: Sequence[Mask], within: Sequence[Mask] | None = None) -> float:
    """Exact AUROC over the pooled pixels of all images, 0..1; NaN where there is no lesion pixel or no normal pixel."""
    return ranking.auroc(pooled(maps, masks, within))


def pixel_average_precision(maps: Sequence[Scores], masks: Sequence[Mask], within: Sequence[Mask] | None = None) -> float:
    """Exact average precision over the pooled pixels of all images, 0..1; NaN as for :func:`pixel_auroc`.

    Quote it with :func:`prevalence`, which is what random scores reach.
    """
    return ranking.average_precision(pooled(maps, masks, within))


def prevalence(masks: Sequence[Mask], within: Sequence[Mask] | None = None) -> float:
    """Fraction of the pooled pixels that are lesion, 0..1; NaN where there is no pixel."""
    if within is not None:
        check_count("within", len(within), len(masks))
    regions = [np.ones(np.shape(mask), bool) for mask in masks] if within is None else within
    for index, (mask, region) in enumerate(zip(masks, regions, strict=True)):
        check_mask(mask, f"mask {index}", region.shape)
    num_pixels = sum(int(region.sum()) for region in regions)
    num_lesion = sum(int((mask & region).sum()) for mask, region in zip(masks, regions, strict=True))
    return num_lesion / num_pixels if num_pixels else float("nan")


def dice(predicted: Mask, truth: Mask) -> float:
    """2 |A and B| / (|A| + |B|) of two (H, W) masks, 0..1 (Dice 1945).

    Both empty: NaN (nothing to find, nothing found; count such images apart). Only one of them empty: 0.
    """
    _check_prediction(predicted, truth)
    total = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / total if total else float("nan")


def iou(predicted: Mask, truth: Mask) -> float:
    """|A and B| / |A or B| of two (H, W) masks, 0..1 (Jaccard 1901); empty masks as in :func:`dice`."""
    _check_prediction(predicted, truth)
    union = int((predicted | truth).sum())
    return int((predicted & truth).sum()) / union if union else float("nan")


def dice_per_image(maps: Sequence[Scores], masks: Sequence[Mask], threshold: float) -> npt.NDArray[np.float64]:
    """(n,) Dice of each image at one threshold; NaN where truth and prediction are both empty, 0 where only one is.

    A mean over these must say how many are NaN; false alarms on healthy images are counted by
    ``image.false_positive_area``, not by Dice.
    """
    check_maps(maps, masks)
    return np.array([dice(m > threshold, mask) for m, mask in zip(maps, masks, strict=True)], np.float64)


def _check_prediction(predicted: Mask, truth: Mask) -> None:
    check_mask(predicted, "predicted", np.shape(predicted))
    check_mask(truth, "truth", predicted.shape)


def best_dice_threshold(maps: Sequence[Scores], masks: Sequence[Mask], num_candidates: int = 200) -> float:
    """Threshold with the highest mean per-image Dice over the images that have a lesion; NaN where none has.

    Candidates are map values. The first round takes about ``num_candidates`` quantiles, drawn alike from the lesion pixels and
    from all pixels of every image so that small lesions and small images count; each next round takes as many on either side
    of the best so far, up to its neighbours, until no value lies between them. The result is the maximum over all thresholds
    where no image has more than ``num_candidates`` pixels and the set no more distinct values, else a local one. It is placed
    midway to the next larger map value: the predicted masks are the same and new images have room on both sides.

    This is a fit: on test images the result is an oracle and must be called one.
    """
    check_maps(maps, masks)
    if num_candidates < 1:
        raise ValueError(f"num_candidates must be at least 1, got {num_candidates}")
    lesion = [np.sort(m[mask]) for m, mask in zip(maps, masks, strict=True) if mask.any()]
    whole = [np.sort(m, axis=None) for m, mask in zip(maps, masks, strict=True) if mask.any()]
    if not lesion:
        return float("nan")
    dtype = np.result_type(*whole).type
    # Below every value, all pixels are called: the best rule where lesions fill their images.
    best = np.nextafter(dtype(min(values[0] for values in whole)), dtype(-np.inf))
    low, high = dtype(-np.inf), dtype(np.inf)
    while True:
        sides = [_values_between([*lesion, *whole], *ends, num_candidates) for ends in ((low, best), (best, high))]
        if not any(side.size for side in sides):
            break
        candidates = np.concatenate([sides[0], [best], sides[1]])
        place = int(np.argmax(_mean_dice(lesion, whole, candidates)))
        low = candidates[place - 1] if place > 0 else low
        high = candidates[place + 1] if place + 1 < len(candidates) else high
        best = candidates[place]
    larger = [values[np.searchsorted(values, best, side="right")] for values in whole if values[-1] > best]
    midway = dtype((float(best) + float(min(larger))) / 2) if larger else best
    return float(midway if larger and midway < min(larger) else best)


def _values_between(images: list[Scores], low: np.floating[Any], high: np.floating[Any], num: int) -> Scores:
    """About ``num`` distinct values strictly between the two, spread by rank, ascending; empty only where there are none."""
    parts = [values[np.searchsorted(values, low, side="right") : np.searchsorted(values, high, side="left")] for values in images]
    return _evenly(np.unique(np.concatenate([_evenly(values, num) for values in parts])), num)


def _evenly(values: Scores, num: int) -> Scores:
    if len(values) <= num:
        return values
    chosen: Scores = values[np.linspace(0, len(values) - 1, num).round().astype(np.int64)]
    return chosen


def _mean_dice(lesion: list[Scores], whole: list[Scores], thresholds: Scores) -> npt.NDArray[np.float64]:
    """(k,) mean over images of the Dice of map > threshold, from each image's sorted lesion and sorted whole values."""
    total = np.zeros(len(thresholds))
    for inside, values in zip(lesion, whole, strict=True):
        hit = len(inside) - np.searchsorted(inside, thresholds, side="right")
        called = len(values) - np.searchsorted(values, thresholds, side="right")
        total += 2 * hit / (called + len(inside))
    return total / len(lesion)


def aupro(maps: Sequence[Scores], masks: Sequence[Mask], max_fpr: float = 0.3) -> float:
    """Area under the per-region overlap curve up to a false-positive rate, divided by that rate; 0..1.

    Bergmann et al. 2021 (IJCV, "The MVTec Anomaly Detection Dataset"), sec. 5: overlap is averaged over lesions (8-connected
    components of the masks, each with equal weight), the rate is taken over the normal pixels of all images, and the last segment
    is cut by linear interpolation. Exact under ties. Random scores give max_fpr / 2. NaN without lesion or normal pixel.
    """
    return aupro_of(pooled(maps, masks), maps, masks, max_fpr)


def aupro_of(ranked: ranking.Ranked, maps: Sequence[Scores], masks: Sequence[Mask], max_fpr: float = 0.3) -> float:
    """:func:`aupro` of maps whose pixels are sorted already (:func:`pooled`)."""
    check_fraction("max_fpr", max_fpr)
    weights = [np.empty(0)]
    for mask in masks:
        labels = lesions(mask)
        weights.append(1 / np.bincount(labels.ravel())[labels[mask]])
    scores = np.concatenate([np.empty(0, np.float32), *(m[mask] for m, mask in zip(maps, masks, strict=True))])
    normal = ranked.negatives[::-1]
    if scores.size == 0 or normal.size == 0:
        return float("nan")
    order = np.argsort(scores, kind="stable")
    covered = np.concatenate([[0.0], np.cumsum(np.concatenate(weights)[order])])
    scores, covered = scores[order], covered / covered[-1]

    def overlap(threshold: Scores, *, including: bool) -> npt.NDArray[np.float64]:
        """Mean overlap of the lesions with map > threshold, or map >= threshold where the tied pixels count."""
        return np.asarray(1 - covered[np.searchsorted(scores, threshold, side="left" if including else "right")])

    # The curve's trapezoids, one for each normal pixel: tied pixels share one chord, so each adds that chord's mean height.
    allowed = max_fpr * normal.size
    last = normal[min(int(allowed), normal.size - 1)]
    num_before = int((normal > last).sum())
    area = 0.0
    # In parts: a set has a hundred million normal pixels, and each needs some numbers on the way.
    for start in range(0, num_before, PIXELS_AT_ONCE):
        some = normal[start : min(start + PIXELS_AT_ONCE, num_before)]
        area += float((overlap(some, including=False) + overlap(some, including=True)).sum()) / 2
    left, right = float(overlap(last, including=False)), float(overlap(last, including=True))
    part = min((allowed - num_before) / int((normal == last).sum()), 1.0)
    area += (allowed - num_before) * (left + part * (right - left) / 2)
    return area / allowed
