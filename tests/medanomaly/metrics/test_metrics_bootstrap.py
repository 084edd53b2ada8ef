from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.metrics.bootstrap import (
    Interval,
    PooledMetric,
    align,
    holm_correction,
    paired_permutation_test,
    patient_bootstrap,
    pooled_pixel_bootstrap,
    pooled_pixel_bootstraps,
)
from medanomaly.metrics.pixel import aupro, pixel_auroc, pixel_average_precision


def clustered(rng: np.random.Generator, num_patients: int, per_patient: int = 5) -> tuple[np.ndarray, list[str]]:
    """Values with true mean 0 and intraclass correlation 0.6."""
    values = math.sqrt(0.6) * rng.normal(size=(num_patients, 1)) + math.sqrt(0.4) * rng.normal(size=(num_patients, per_patient))
    return values.ravel(), [f"p{row}" for row in range(num_patients) for _ in range(per_patient)]


def coverage(num_sets: int, num_patients: int, num_resamples: int, *, by_patient: bool) -> float:
    rng = np.random.default_rng(5)
    num_covered = 0
    for seed in range(num_sets):
        values, patients = clustered(rng, num_patients)
        units = patients if by_patient else [str(index) for index in range(len(values))]
        interval = patient_bootstrap(lambda i, v=values: float(v[i].mean()), units, num_resamples=num_resamples, seed=seed)
        num_covered += interval.low <= 0 <= interval.high
    return num_covered / num_sets


def test_resampling_patients_covers_the_truth_and_resampling_images_does_not() -> None:
    assert 0.9 <= coverage(120, 60, 150, by_patient=True) <= 0.99
    assert coverage(40, 60, 150, by_patient=False) < 0.85


@pytest.mark.slow
def test_coverage_at_one_hundred_patients_is_nominal() -> None:
    assert 0.93 <= coverage(400, 100, 400, by_patient=True) <= 0.97
    assert coverage(400, 100, 400, by_patient=False) < 0.93


def test_a_patient_is_drawn_with_all_images_or_not_at_all() -> None:
    patients = ["b", "a", "b", "c", "b"]
    seen = []

    def record(images: np.ndarray) -> float:
        seen.append(np.bincount(images, minlength=5))
        return 0.0

    interval = patient_bootstrap(record, patients, num_resamples=50)
    assert all(count[0] == count[2] == count[4] and count[0] + count[1] + count[3] == 3 for count in seen)
    assert len({tuple(count) for count in seen}) > 5
    assert (interval.num_images, interval.num_patients, interval.num_resamples) == (5, 3, 50)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values, patients = clustered(np.random.default_rng(0), 20)
    first, again, other = (patient_bootstrap(lambda i: float(values[i].mean()), patients, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_undefined_resamples_are_counted_and_never_read_as_zero() -> None:
    values = np.array([0.9, np.nan, np.nan])

    def mean_of_defined(images: np.ndarray) -> float:
        found = values[images][~np.isnan(values[images])]
        return float(found.mean()) if found.size else math.nan

    interval = patient_bootstrap(mean_of_defined, ["a", "b", "c"], num_resamples=400)
    # P(patient a is never drawn) = (2 / 3)^3 = 0.296.
    assert 0.2 * 400 < interval.num_undefined < 0.4 * 400
    assert (interval.low, interval.high) == (0.9, 0.9)
    assert "undefined on" in interval.caution


def test_a_statistic_that_is_never_defined_has_no_interval() -> None:
    interval = patient_bootstrap(lambda _: math.nan, ["a", "b"], num_resamples=10)
    assert interval.num_undefined == 10
    assert all(math.isnan(number) for number in (interval.value, interval.low, interval.high))


def test_one_patient_has_a_value_and_no_interval() -> None:
    interval = patient_bootstrap(lambda i: float(len(i)), ["a", "a"], num_resamples=10)
    assert interval.value == 2
    assert math.isnan(interval.low)
    with pytest.raises(InputError, match="no images"):
        patient_bootstrap(lambda _: 0.0, [])


def test_few_patients_come_with_a_caution() -> None:
    def interval(num_patients: int) -> Interval:
        return patient_bootstrap(lambda _: 0.0, [str(row) for row in range(num_patients)], num_resamples=5)

    assert interval(29).caution == "29 patients: coverage below nominal likely"
    assert interval(30).caution == ""


def pixels(num_patients: int) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    rng = np.random.default_rng(8)
    patients = [f"p{row // 2}" for row in range(2 * num_patients)]
    masks = [rng.random((12, 10 + row % 3)) < rng.uniform(0, 0.2) for row in range(len(patients))]
    maps = [(rng.random(mask.shape) + rng.uniform(0, 0.8) * mask).astype(np.float32) for mask in masks]
    return maps, masks, patients


@pytest.mark.parametrize(
    ("name", "exact"), [("auroc", pixel_auroc), ("average_precision", pixel_average_precision), ("aupro", aupro)]
)
@pytest.mark.parametrize("num_bins", [16, 4096])
def test_pooled_pixels_resample_as_the_exact_metric_does_within_the_stated_error(
    name: PooledMetric, exact: object, num_bins: int
) -> None:
    maps, masks, patients = pixels(12)

    def statistic(images: np.ndarray) -> float:
        return exact([maps[i] for i in images], [masks[i] for i in images])  # type: ignore[operator, no-any-return]

    slow = patient_bootstrap(statistic, patients, num_resamples=80, seed=3)
    fast = pooled_pixel_bootstrap(maps, masks, patients, name, num_bins=num_bins, num_resamples=80, seed=3)
    assert fast.value == slow.value
    assert abs(fast.low - slow.low) <= fast.end_error + 1e-12
    assert abs(fast.high - slow.high) <= fast.end_error + 1e-12
    assert fast.low < fast.value < fast.high
    assert (fast.end_error < 0.005) == (num_bins == 4096)


def test_metrics_that_share_their_histograms_are_those_made_alone() -> None:
    maps, masks, patients = pixels(6)
    names: list[PooledMetric] = ["aupro", "auroc", "average_precision"]
    together = pooled_pixel_bootstraps(maps, masks, patients, names, num_resamples=130)
    assert together == [pooled_pixel_bootstrap(maps, masks, patients, name, num_resamples=130) for name in names]
    with pytest.raises(ValueError, match="aupro is of whole images"):
        pooled_pixel_bootstrap(maps, masks, patients, "aupro", within=masks)


def test_pooled_resamples_without_a_lesion_are_counted_as_undefined() -> None:
    maps = [np.random.default_rng(row).random((6, 6)).astype(np.float32) for row in range(4)]
    masks = [np.zeros((6, 6), bool) for _ in maps]
    masks[0][2, 2] = True
    interval = pooled_pixel_bootstrap(maps, masks, list("abcd"), "auroc", num_resamples=300)
    # (3 / 4)^4 = 0.316
    assert 0.24 * 300 < interval.num_undefined < 0.39 * 300
    none = pooled_pixel_bootstrap(maps, [np.zeros((6, 6), bool)] * 4, list("abcd"), "auroc", num_resamples=20)
    assert none.num_undefined == 20
    assert math.isnan(none.value)
    assert math.isnan(none.low)


def test_pooled_pixels_outside_the_body_do_not_count() -> None:
    maps, masks, patients = pixels(6)
    padded = [np.pad(m, 9) for m in maps], [np.pad(m, 9) for m in masks]
    body = [np.pad(np.ones(m.shape, bool), 9) for m in masks]
    inside = pooled_pixel_bootstrap(*padded, patients, "auroc", within=body, num_resamples=50)
    assert inside == pooled_pixel_bootstrap(maps, masks, patients, "auroc", num_resamples=50)


@pytest.mark.parametrize("num_patients", [1, 3, 5, 8])
def test_the_exact_test_is_the_enumeration_of_all_swaps(num_patients: int) -> None:
    rng = np.random.default_rng(num_patients)
    patients = [f"p{row}" for row in range(num_patients)] + ["p0", "p0"]
    a, b = rng.normal(0.3, 1, len(patients)), rng.normal(0, 1, len(patients))
    result = paired_permutation_test(a, b, patients)
    names = sorted(set(patients))
    extremes = []
    for swapped in product([False, True], repeat=num_patients):
        swap = dict(zip(names, swapped, strict=True))
        gaps = [(y - x) if swap[patient] else (x - y) for x, y, patient in zip(a, b, patients, strict=True)]
        extremes.append(abs(float(np.mean(gaps))) >= abs(float(np.mean(a - b))) - 1e-12)
    assert result.exact
    assert result.difference == pytest.approx(float(np.mean(a - b)))
    assert result.p_value == np.mean(extremes)


def test_five_patients_can_never_reach_five_percent() -> None:
    result = paired_permutation_test(np.full(5, 0.9), np.zeros(5), list("abcde"))
    assert result.p_value == result.smallest_p == 0.0625


def test_a_sampled_p_value_is_never_zero() -> None:
    result = paired_permutation_test(np.ones(40), np.zeros(40), [str(row) for row in range(40)], num_permutations=999)
    assert not result.exact
    assert result.p_value == result.smallest_p == 1 / 1000


def test_equal_methods_give_p_of_one() -> None:
    for num in (6, 30):
        values = np.linspace(0, 1, num)
        assert paired_permutation_test(values, values, [str(row) for row in range(num)]).p_value == 1


def test_sampled_and_exact_p_values_agree() -> None:
    rng = np.random.default_rng(1)
    gaps = rng.normal(0.4, 1, 13)
    sampled = paired_permutation_test(gaps, np.zeros(13), [str(row) for row in range(13)], num_permutations=20_000)
    signs = np.array(list(product([1, -1], repeat=13)))
    assert sampled.p_value == pytest.approx((np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-12).mean(), abs=0.015)


def test_type_one_error_is_nominal_when_images_of_a_patient_agree() -> None:
    rng = np.random.default_rng(2)
    p_values = []
    for _ in range(500):
        values, patients = clustered(rng, 10, per_patient=4)
        p_values.append(paired_permutation_test(values, np.zeros_like(values), patients).p_value)
    assert 0.03 <= np.mean(np.array(p_values) <= 0.05) <= 0.07


def test_pairs_with_an_undefined_value_are_left_out_and_counted() -> None:
    a, b = np.array([1.0, np.nan, 0.5, 0.7]), np.array([0.5, 0.1, np.nan, 0.6])
    result = paired_permutation_test(a, b, list("wxyz"))
    assert (result.num_images, result.num_patients, result.num_undefined) == (2, 2, 2)
    assert result.difference == pytest.approx(0.3)
    nothing = paired_permutation_test(np.array([np.nan]), np.array([1.0]), ["a"])
    assert math.isnan(nothing.p_value)
    assert nothing.num_undefined == 1


def test_methods_are_compared_on_the_same_images_only() -> None:
    np.testing.assert_array_equal(align(["x", "y", "z"], ["z", "x", "y"]), [1, 2, 0])
    with pytest.raises(InputError, match="E_IDS"):
        align(["x", "y"], ["x", "z"])
    with pytest.raises(InputError, match="E_DUPLICATE_ID"):
        align(["x", "y"], ["x", "x"])
    with pytest.raises(InputError, match="E_COUNT"):
        paired_permutation_test(np.zeros(3), np.zeros(2), list("abc"))


def test_holm_correction_by_hand() -> None:
    np.testing.assert_allclose(holm_correction([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm_correction([0.6, 0.5]), [1.0, 1.0])
    assert holm_correction([]).size == 0


def test_a_comparison_without_a_p_value_still_counts_in_the_correction() -> None:
    np.testing.assert_allclose(holm_correction([0.01, math.nan, 0.02]), [0.03, math.nan, 0.04])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm_correction([1.2])
