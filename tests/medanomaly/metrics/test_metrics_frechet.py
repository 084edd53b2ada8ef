"""FID against the closed form of Gaussians, MONAI's answer, and what a singular covariance does to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import FIDMetric
from scipy.linalg import sqrtm

from medanomaly.errors import InputError
from medanomaly.metrics.frechet import few_images, frechet_distance, frechet_inception_distance
from medanomaly.metrics.jackknife import deal_groups, grouped_jackknife

RANDOM = np.random.default_rng(0)


def groups_of(count: int, num_groups: int = 5) -> np.ndarray:
    return deal_groups([str(index) for index in range(count)], num_groups=num_groups)


def fid(samples: np.ndarray, reference: np.ndarray) -> float:
    return frechet_inception_distance(samples, reference, groups_of(len(samples)), groups_of(len(reference))).estimate.value


def with_moments(count: int, mean: np.ndarray, covariance: np.ndarray, seed: int) -> np.ndarray:
    """Draws whose sample mean and sample covariance are exactly these."""
    draws = np.random.default_rng(seed).normal(size=(count, len(mean)))
    draws -= draws.mean(axis=0)
    white = draws @ np.linalg.inv(np.linalg.cholesky(np.cov(draws.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def random_covariance(width: int, seed: int) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(width, width))
    return factor @ factor.T + 0.1 * np.eye(width)


def test_the_distance_of_gaussians_with_equal_axes_is_that_of_their_means_and_deviations() -> None:
    mean, deviations = np.array([1.0, -2.0, 0.5]), (np.array([1.0, 2.0, 0.3]), np.array([0.5, 2.0, 1.0]))
    mean_term, covariance_term = frechet_distance(mean, np.diag(deviations[0] ** 2), np.zeros(3), np.diag(deviations[1] ** 2))
    assert mean_term == pytest.approx(5.25)
    assert covariance_term == pytest.approx(0.5**2 + 0.7**2)


def test_the_distance_of_gaussians_with_crossing_axes_needs_the_true_matrix_root() -> None:
    first, second = random_covariance(4, 1), random_covariance(4, 2)
    expected = np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(np.zeros(4), first, np.zeros(4), second) == pytest.approx((0, expected))


def test_fid_of_features_with_known_moments_is_the_closed_form() -> None:
    mean, first, second = np.array([3.0, 0.0, -1.0]), random_covariance(3, 3), random_covariance(3, 4)
    expected = sum(frechet_distance(mean, first, np.zeros(3), second))
    assert fid(with_moments(40, mean, first, 5), with_moments(70, np.zeros(3), second, 6)) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated:DeprecationWarning")
def test_fid_is_monais_where_no_covariance_is_singular() -> None:
    samples, reference = RANDOM.normal(size=(50, 6)) * 2 + 1, RANDOM.normal(size=(60, 6))
    expected = float(FIDMetric()(torch.from_numpy(samples), torch.from_numpy(reference)))
    assert fid(samples, reference) == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_distance_0_from_itself() -> None:
    features = RANDOM.normal(size=(30, 5))
    assert fid(features, features.copy()) == pytest.approx(0, abs=1e-9)


def test_features_far_from_the_origin_keep_their_digits() -> None:
    samples, reference = RANDOM.normal(size=(30, 5)) * 1.5, RANDOM.normal(size=(40, 5))
    assert fid(samples + 1e7, reference + 1e7) == pytest.approx(fid(samples, reference), rel=1e-5)


def test_fewer_images_than_features_give_a_finite_number_and_a_caution() -> None:
    samples, reference = RANDOM.normal(size=(8, 20)).astype(np.float32), RANDOM.normal(size=(9, 20)).astype(np.float32)
    found = frechet_inception_distance(samples, reference, groups_of(8), groups_of(9))
    assert np.isfinite(found.estimate.value)
    assert found.estimate.value > 0
    assert "8 samples and 9 reference images for 20 features: FID needs 21 of each" in found.caution
    assert few_images(21, 21, 20) == ""
    assert few_images(20, 21, 20).startswith("20 samples for 20 features")


def test_the_interval_is_that_of_leaving_out_each_group_and_fitting_anew() -> None:
    samples, reference = RANDOM.normal(size=(30, 3)) * 1.5, RANDOM.normal(size=(25, 3))
    in_1, in_2 = groups_of(30, 6), groups_of(25, 5)

    def direct(made: np.ndarray, real: np.ndarray) -> float:
        return sum(frechet_distance(made.mean(axis=0), np.cov(made.T), real.mean(axis=0), np.cov(real.T)))

    expected = grouped_jackknife(
        direct(samples, reference),
        [direct(samples[in_1 != group], reference) for group in range(6)],
        [direct(samples, reference[in_2 != group]) for group in range(5)],
    )
    found = frechet_inception_distance(samples, reference, in_1, in_2).estimate
    assert found.value == pytest.approx(expected.value)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-6)


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"sample features have 4 features an image, the other set has 3.*E_FEATURES"):
        fid(np.zeros((5, 4)), np.zeros((5, 3)))
