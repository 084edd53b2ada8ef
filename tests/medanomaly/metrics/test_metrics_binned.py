from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medanomaly.metrics.binned import (
    binned_aupro,
    binned_auroc,
    binned_average_precision,
    histogram,
    patient_histograms,
    patient_overlaps,
    score_bins,
)
from medanomaly.metrics.pixel import aupro, pooled
from medanomaly.metrics.ranking import Ranked, auroc, average_precision, rank

PAIRS = [(binned_auroc, auroc), (binned_average_precision, average_precision)]


def ranked(seed: int, num: int = 3000, levels: int | None = None) -> Ranked:
    rng = np.random.default_rng(seed)
    labels = rng.random(num) < 0.05
    scores = rng.normal(size=num) + 1.5 * labels
    return rank((np.round(scores * levels) if levels else scores).astype(np.float32), labels)


@pytest.mark.parametrize(("approximate", "exact"), PAIRS)
@pytest.mark.parametrize("num_bins", [2, 8, 64, 4096])
@pytest.mark.parametrize("levels", [1, 20, None])
def test_the_exact_value_lies_within_the_stated_bound(
    approximate: Callable[..., tuple[float, float]], exact: Callable[[Ranked], float], num_bins: int, levels: int | None
) -> None:
    for seed in range(20):
        scores = ranked(seed, levels=levels)
        bins = score_bins(scores, num_bins)
        value, bound = approximate(histogram(bins, scores.positives), histogram(bins, scores.negatives), bins.lossless)
        assert abs(value - exact(scores)) <= bound + 1e-12


def test_the_auroc_bound_is_one_over_the_number_of_bins_without_ties() -> None:
    scores = ranked(1, num=60_000)
    for num_bins in (16, 256, 2048):
        bins = score_bins(scores, num_bins)
        _, bound = binned_auroc(histogram(bins, scores.positives), histogram(bins, scores.negatives), bins.lossless)
        assert 0 < bound <= 1 / num_bins * (1 + num_bins / scores.positives.size)


@pytest.mark.parametrize(("approximate", "exact"), PAIRS)
def test_few_distinct_scores_lose_nothing(
    approximate: Callable[..., tuple[float, float]], exact: Callable[[Ranked], float]
) -> None:
    scores = ranked(2, levels=3)
    bins = score_bins(scores, 1024)
    value, bound = approximate(histogram(bins, scores.positives), histogram(bins, scores.negatives), bins.lossless)
    assert bound == 0
    assert value == pytest.approx(exact(scores), abs=1e-12)


def test_a_score_shared_by_most_pixels_gets_a_bin_of_its_own() -> None:
    scores = ranked(3)
    clipped = [np.where(values > 0.5, values, 0).astype(np.float32) for values in (scores.positives, scores.negatives)]
    close_to_zero = np.linspace(0.001, 0.01, 4, dtype=np.float32)
    mostly_zero = Ranked(np.sort(clipped[0]), np.sort(np.concatenate([clipped[1], close_to_zero])))
    assert (mostly_zero.positives == 0).mean() > 0.1
    bins = score_bins(mostly_zero, 256)
    _, bound = binned_auroc(histogram(bins, mostly_zero.positives), histogram(bins, mostly_zero.negatives), bins.lossless)
    assert bound < 1 / 256


def test_an_absent_class_is_undefined_in_both() -> None:
    bins = score_bins(ranked(0), 16)
    some, none = np.ones(bins.lossless.size), np.zeros(bins.lossless.size)
    for approximate, _ in PAIRS:
        values, _ = approximate(np.stack([some, none]), np.stack([none, some]), bins.lossless)
        assert np.isnan(values).all()


def test_every_pixel_is_counted_once_under_its_patient() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((6, 7)).astype(np.float32), rng.random((3, 4)).astype(np.float32), rng.random((5, 5)).astype(np.float32)]
    masks = [m > 0.8 for m in maps]
    within = [m > 0.2 for m in maps]
    bins = score_bins(rank(maps[0].ravel(), masks[0].ravel()), 8)
    positives, negatives = patient_histograms(bins, maps, masks, np.array([0, 1, 0]), within)
    assert positives.sum(axis=1).tolist() == [masks[0].sum() + masks[2].sum(), masks[1].sum()]
    assert (positives + negatives).sum() == sum(int(region.sum()) for region in within)


@pytest.mark.parametrize("levels", [2, 30, None])
@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("num_bins", [8, 64, 4096])
def test_the_exact_region_overlap_lies_within_the_stated_bound(num_bins: int, max_fpr: float, levels: int | None) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        masks = [rng.random((20, 20)) < share for share in (0.02, 0.1, 0.0)]
        maps = [rng.random((20, 20)) + 0.5 * mask for mask in masks]
        maps = [(np.round(one * levels) if levels else one).astype(np.float32) for one in maps]
        bins = score_bins(pooled(maps, masks), num_bins)
        patient = np.arange(3)
        shares, num_lesions = patient_overlaps(bins, maps, masks, patient)
        _, normal = patient_histograms(bins, maps, masks, patient, None)
        value, bound = binned_aupro(shares.sum(0), num_lesions.sum(), normal.sum(0), bins.lossless, max_fpr)
        assert abs(value - aupro(maps, masks, max_fpr)) <= bound + 1e-12
        if levels == 2 or num_bins == 4096:
            assert bound < 1e-3, "ties, and bins of one pixel each, lose nothing"


def test_region_overlap_without_a_lesion_or_a_normal_pixel_is_undefined() -> None:
    lossless = np.ones(2, bool)
    value, bound = binned_aupro(np.zeros(2), np.array(0.0), np.array([1.0, 2.0]), lossless)
    assert np.isnan(value)
    assert np.isnan(bound)
    assert np.isnan(binned_aupro(np.ones(2), np.array(2.0), np.zeros(2), lossless)[0])
