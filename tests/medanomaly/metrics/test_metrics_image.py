from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score, roc_curve

from medanomaly.errors import InputError
from medanomaly.metrics.image import (
    Classification,
    classify,
    expected_calibration_error,
    false_positive_area,
    image_auroc,
    image_average_precision,
    sensitivity_at_specificity,
)


def scored(seed: int, num: int = 60, levels: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(num) < 0.4
    labels[:2] = True, False
    return np.floor((rng.random(num) + 0.4 * labels) * levels).astype(np.float32), labels


def test_ranking_metrics_agree_with_sklearn() -> None:
    for seed in range(50):
        scores, labels = scored(seed)
        assert abs(image_auroc(scores, labels) - roc_auc_score(labels, scores)) <= 1e-12
        assert abs(image_average_precision(scores, labels) - average_precision_score(labels, scores)) <= 1e-12


@pytest.mark.parametrize("labels", [np.zeros(4, bool), np.ones(4, bool)])
def test_one_class_leaves_every_ranking_metric_undefined(labels: np.ndarray) -> None:
    scores = np.arange(4, dtype=np.float32)
    for metric in (image_auroc, image_average_precision, sensitivity_at_specificity):
        assert math.isnan(metric(scores, labels))


def test_precision_and_recall_are_not_swapped() -> None:
    # Four images called, one of them anomalous; two anomalous images in all.
    counts = Classification(true_positives=1, false_positives=3, false_negatives=1, true_negatives=5)
    assert (counts.precision, counts.recall) == (1 / 4, 1 / 2)
    assert (counts.accuracy, counts.specificity, counts.f1) == (6 / 10, 5 / 8, 2 / 6)


def test_counts_agree_with_sklearn_and_the_threshold_itself_is_not_called() -> None:
    scores, labels = scored(3)
    found, called = classify(scores, labels, 7.0), scores > 7
    assert (scores == 7).any()
    assert found.precision == pytest.approx(precision_score(labels, called))
    assert found.recall == pytest.approx(recall_score(labels, called))
    assert found.f1 == pytest.approx(f1_score(labels, called))


def test_ratios_without_a_denominator_are_undefined() -> None:
    scores = np.array([1, 2], np.float32)
    none_called = classify(scores, np.array([True, False]), 9.0)
    assert math.isnan(none_called.precision)
    assert (none_called.recall, none_called.f1) == (0, 0)
    nothing_there = classify(scores, np.array([False, False]), 9.0)
    assert math.isnan(nothing_there.recall)
    assert math.isnan(nothing_there.f1)


def test_sensitivity_at_specificity_is_the_best_point_of_the_roc_curve() -> None:
    for seed in range(50):
        scores, labels = scored(seed)
        for wanted in (0.55, 0.9, 0.95, 1.0):
            fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
            best = tpr[1 - fpr >= wanted - 1e-9].max()
            assert sensitivity_at_specificity(scores, labels, wanted) == pytest.approx(best, abs=1e-12)


def test_fifty_five_percent_of_a_hundred_healthy_images_is_fifty_five() -> None:
    scores = np.append(np.arange(100), 54.5).astype(np.float32)
    assert sensitivity_at_specificity(scores, np.arange(101) == 100, 0.55) == 1


def test_calibration_error_of_two_bins_by_hand() -> None:
    probabilities = np.array([0.1, 0.3, 0.8, 1.0])
    labels = np.array([False, True, True, True])
    assert expected_calibration_error(probabilities, labels, num_bins=2) == pytest.approx((2 * 0.3 + 2 * 0.1) / 4)


def test_calibrated_probabilities_have_no_error_and_overconfident_ones_do() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(200_000)
    labels = rng.random(200_000) < probabilities
    assert expected_calibration_error(probabilities, labels) < 0.01
    assert expected_calibration_error(np.round(probabilities), labels) > 0.2


def test_calibration_error_refuses_scores_that_are_no_probabilities() -> None:
    with pytest.raises(InputError, match="E_RANGE"):
        expected_calibration_error(np.array([0.5, 1.5]), np.array([True, False]))
    assert math.isnan(expected_calibration_error(np.empty(0), np.empty(0, bool)))


def test_false_positive_area_is_the_share_of_each_healthy_image() -> None:
    maps = [np.array([[0.0, 1.0]], np.float32), np.full((3, 3), 0.5, np.float32)]
    np.testing.assert_array_equal(false_positive_area(maps, 0.5), [0.5, 0.0])
