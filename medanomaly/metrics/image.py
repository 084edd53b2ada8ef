"""Metrics of one score an image against one label an image. An image is called anomalous where score > threshold.

Scores are (n,) float32 or float64, labels (n,) bool with True = anomalous. NaN where a metric is not defined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.metrics import ranking
from medanomaly.metrics.inputs import Mask, Scores, check_fraction, check_image_scores, check_scores


def image_auroc(scores: Scores, labels: Mask) -> float:
    """Exact AUROC over images, 0..1; NaN where a class is absent."""
    check_image_scores(scores, labels)
    return ranking.auroc(ranking.rank(scores, labels))


def image_average_precision(scores: Scores, labels: Mask) -> float:
    """Exact average precision over images, 0..1; NaN where a class is absent."""
    check_image_scores(scores, labels)
    return ranking.average_precision(ranking.rank(scores, labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """Counts at one threshold, and the ratios made of them; a ratio without a denominator is NaN."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def accuracy(self) -> float:
        """(TP + TN) / n; NaN without images."""
        num_images = self.true_positives + self.false_positives + self.false_negatives + self.true_negatives
        return _ratio(self.true_positives + self.true_negatives, num_images)

    @property
    def precision(self) -> float:
        """TP / (TP + FP): of the images called anomalous, how many are; NaN where none is called."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN): of the anomalous images, how many are called; NaN where there are none. Also sensitivity."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP): of the healthy images, how many are not called; NaN where there are none."""
        return _ratio(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN): 0 where one of the two sides is empty, NaN where both are."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else float("nan")


def classify(scores: Scores, labels: Mask, threshold: float) -> Classification:
    """Counts of score > threshold against the labels."""
    check_image_scores(scores, labels)
    called = scores > threshold
    return Classification(
        true_positives=int((called & labels).sum()),
        false_positives=int((called & ~labels).sum()),
        false_negatives=int((~called & labels).sum()),
        true_negatives=int((~called & ~labels).sum()),
    )


def sensitivity_at_specificity(scores: Scores, labels: Mask, specificity: float = 0.95) -> float:
    """Highest sensitivity of a threshold with at least this specificity, 0..1, no interpolation; NaN where a class is absent.

    The threshold is read off the same images: it describes the ranking, it is not a sensitivity to expect in use.
    """
    check_image_scores(scores, labels)
    check_fraction("specificity", specificity)
    ranked = ranking.rank(scores, labels)
    if ranked.single_class:
        return float("nan")
    # 0.55 * 100 is 55.00000000000001: without the tolerance one healthy image too many would be required.
    num_below = max(int(np.ceil(specificity * ranked.negatives.size - 1e-9)), 1)
    threshold = ranked.negatives[num_below - 1]
    return float((ranked.positives > threshold).mean())


def expected_calibration_error(probabilities: Scores, labels: Mask, num_bins: int = 10) -> float:
    """Mean gap between predicted probability and observed frequency, 0..1 (Naeini et al. 2015), ``num_bins`` bins of equal width.

    Only for scores that claim to be probabilities of "anomalous": values outside [0, 1] are refused. NaN without images.
    """
    check_image_scores(probabilities, labels)
    if num_bins < 1:
        raise InputError(f"num_bins must be at least 1, got {num_bins}", code="E_RANGE", fix="use 10")
    if probabilities.size == 0:
        return float("nan")
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise InputError(
            "probabilities must be in [0, 1]", code="E_RANGE", fix="calibrate the image score first, do not rescale it"
        )
    bins = np.minimum((probabilities * num_bins).astype(np.int64), num_bins - 1)
    # n_b / n times |mean probability - frequency| is the absolute difference of the two sums, over n.
    gaps = np.bincount(bins, probabilities, num_bins) - np.bincount(bins, labels, num_bins)
    return float(np.abs(gaps).sum() / probabilities.size)


def false_positive_area(healthy_maps: Sequence[Scores], threshold: float) -> npt.NDArray[np.float64]:
    """(n,) fraction of each healthy image's pixels above the threshold, 0..1: the false alarms that Dice cannot show."""
    for index, anomaly_map in enumerate(healthy_maps):
        check_scores(anomaly_map, f"map {index}", ndim=2)
    return np.array([(anomaly_map > threshold).mean() for anomaly_map in healthy_maps], np.float64)
