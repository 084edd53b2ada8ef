"""Pooled pixel metrics from score histograms, with a bound on what the bins lose: made for thousands of resamples.

A resample of patients is a weighted sum of their histograms, so 1000 bootstrap values cost one matrix product instead of
1000 sorts of all pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medanomaly.metrics.inputs import Mask, Scores
from medanomaly.metrics.ranking import Ranked
from medanomaly.metrics.region import lesions

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoreBins:
    """Shared bins for all images: bin i holds edges[i - 1] <= score < edges[i]."""

    edges: Scores
    """(k - 1,) ascending."""
    lossless: npt.NDArray[np.bool_]
    """(k,) True where a bin holds one distinct score of the set, so that its ties are real."""


def score_bins(ranked: Ranked, num_bins: int = 4096) -> ScoreBins:
    """Bins at quantiles of the positives and, as many, of the negatives; a score tied more often than that gets its own bin.

    Each bin then holds about 2 / num_bins of the positives or fewer, unless they are tied, so :func:`binned_auroc` errs by
    1 / num_bins or less on the set itself. At most twice ``num_bins`` are made.
    """
    chosen = []
    for values in (ranked.positives, ranked.negatives):
        # Fewer scores than bins would repeat ranks, and a repeat means a tie below.
        num_ranks = min(max(num_bins // 2, 1), values.size)
        chosen.append(values[np.linspace(0, max(values.size - 1, 0), num_ranks).astype(np.int64)])
    quantiles = np.sort(np.concatenate(chosen))
    tied = quantiles[1:][quantiles[1:] == quantiles[:-1]]
    edges = np.unique(np.concatenate([quantiles, np.nextafter(tied, np.inf, dtype=tied.dtype)]))
    lowest, highest = np.full(edges.size + 1, np.inf), np.full(edges.size + 1, -np.inf)
    for values in (ranked.positives, ranked.negatives):
        cuts = np.concatenate([[0], np.searchsorted(values, edges, side="left"), [values.size]])
        filled = cuts[1:] > cuts[:-1]
        lowest[filled] = np.minimum(lowest[filled], values[cuts[:-1][filled]])
        highest[filled] = np.maximum(highest[filled], values[cuts[1:][filled] - 1])
    return ScoreBins(edges, lowest >= highest)


def histogram(bins: ScoreBins, scores: Scores) -> Counts:
    """(k,) how many of the scores (any shape) fall in each bin."""
    where = np.searchsorted(bins.edges, scores.ravel(), side="right")
    return np.bincount(where, minlength=bins.edges.size + 1).astype(np.float64)


def patient_histograms(
    bins: ScoreBins, maps: Sequence[Scores], masks: Sequence[Mask], patient: npt.NDArray[np.int64], within: Sequence[Mask] | None
) -> tuple[Counts, Counts]:
    """(num_patients, k) lesion-pixel counts and the same for normal pixels; ``patient`` is each image's row."""
    positives = np.zeros((int(patient.max()) + 1, bins.edges.size + 1))
    negatives = np.zeros_like(positives)
    for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        region = np.ones(mask.shape, bool) if within is None else within[index]
        positives[patient[index]] += histogram(bins, anomaly_map[mask & region])
        negatives[patient[index]] += histogram(bins, anomaly_map[~mask & region])
    return positives, negatives


def patient_overlaps(
    bins: ScoreBins, maps: Sequence[Scores], masks: Sequence[Mask], patient: npt.NDArray[np.int64]
) -> tuple[Counts, Counts]:
    """(num_patients, k) sums over lesions of their share in each bin, and (num_patients,) lesions; ``patient`` is each image's row."""
    shares = np.zeros((int(patient.max()) + 1, bins.edges.size + 1))
    num_lesions = np.zeros(len(shares))
    for row, anomaly_map, mask in zip(patient, maps, masks, strict=True):
        labels = lesions(mask)[mask]
        areas = np.bincount(labels)
        where = np.searchsorted(bins.edges, anomaly_map[mask], side="right")
        shares[row] += np.bincount(where, weights=1 / areas[labels], minlength=bins.edges.size + 1)
        num_lesions[row] += labels.max(initial=0)
    return shares, num_lesions


def binned_aupro(
    overlaps: Counts, num_lesions: Counts, negatives: Counts, lossless: npt.NDArray[np.bool_], max_fpr: float = 0.3
) -> tuple[Counts, Counts]:
    """Area under the per-region overlap curve with each bin taken as a tie, and a bound on its distance from the exact one.

    Within a bin the curve rises from one corner to the other in some way, and a tie goes straight: over a width w of false-positive
    rate and a rise of d they differ by at most w d / 2, and by w d where the rate's limit cuts the bin. NaN without lesion or normal
    pixel.

    Args:
        overlaps: (..., k) sums over lesions of their share in each bin.
        num_lesions: (...,)
        negatives: (..., k) normal pixels.
        lossless: (k,) bins that are ties.
        max_fpr: where the curve ends.
    """
    num_normal = negatives.sum(axis=-1, keepdims=True)
    known = (num_normal[..., 0] > 0) & (num_lesions > 0)
    # From the highest bin down: rate and overlap at the start and the width and rise of each bin.
    width = np.flip(negatives, -1) / np.maximum(num_normal, 1)
    rise = np.flip(overlaps, -1) / np.maximum(num_lesions, 1)[..., None]
    rate, overlap = np.cumsum(width, axis=-1) - width, np.cumsum(rise, axis=-1) - rise
    part = np.clip((max_fpr - rate) / np.where(width > 0, width, 1), 0, 1)
    area = width * part * (overlap + part * rise / 2)
    loss = width * part * rise * np.maximum(part / 2, 1 - part / 2) * ~lossless[::-1]
    nothing = np.where(known, 0.0, np.nan)
    return area.sum(axis=-1) / max_fpr + nothing, loss.sum(axis=-1) / max_fpr + nothing


def binned_auroc(positives: Counts, negatives: Counts, lossless: npt.NDArray[np.bool_]) -> tuple[Counts, Counts]:
    """AUROC of (..., k) histograms with each bin taken as a tie, and a bound on its distance from the exact one.

    Within a bin a pair counts 1/2 and may truly count 0 or 1: the bound is half the share of pairs that meet in a bin. Both
    are NaN where a class is absent.
    """
    num_pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    num_pairs = np.where(num_pairs > 0, num_pairs, np.nan)
    below = np.cumsum(negatives, axis=-1) - negatives
    value = (positives * (below + negatives / 2)).sum(axis=-1) / num_pairs
    return value, (positives * negatives * ~lossless).sum(axis=-1) / 2 / num_pairs


def binned_average_precision(positives: Counts, negatives: Counts, lossless: npt.NDArray[np.bool_]) -> tuple[Counts, Counts]:
    """Average precision of (..., k) histograms with each bin taken as a tie, and a bound on its distance from the exact one.

    With T positives and F negatives above a bin that holds p and n, the binned precision is (T + p) / (T + p + F + n). At
    best no negative of the bin comes first: (T + p) / (T + p + F). At worst all do, and the j-th positive has
    (T + j) / (T + j + F + n), concave in j, hence at least the mean of its ends. Both are NaN where a class is absent.
    """
    total = positives.sum(axis=-1)
    total = np.where((total > 0) & (negatives.sum(axis=-1) > 0), total, np.nan)
    tp = np.flip(np.cumsum(np.flip(positives, -1), axis=-1), -1)
    fp = np.flip(np.cumsum(np.flip(negatives, -1), axis=-1), -1)
    # Bins without positives have weight 0; the guards only keep 0 / 0 out.
    precision = tp / np.maximum(tp + fp, 1)
    best = tp / np.maximum(tp + fp - negatives, 1)
    first = tp - positives + 1
    worst = (first / (first + fp) + precision) / 2
    loss = positives * ~lossless
    bound = np.maximum((loss * (best - precision)).sum(axis=-1), (loss * (precision - worst)).sum(axis=-1))
    return (positives * precision).sum(axis=-1) / total, bound / total
