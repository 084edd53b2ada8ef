"""KID against moments of Gaussians, MONAI's MMD with the kernel's own feature map, and zero under the null."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import MMDMetric

from medanomaly.metrics.jackknife import deal_groups, grouped_jackknife
from medanomaly.metrics.kernel_distance import kernel_inception_distance

RANDOM = np.random.default_rng(0)


def groups_of(count: int, num_groups: int = 5) -> np.ndarray:
    return deal_groups([str(index) for index in range(count)], num_groups=num_groups)


def kid(samples: np.ndarray, reference: np.ndarray) -> float:
    return kernel_inception_distance(samples, reference, groups_of(len(samples)), groups_of(len(reference))).estimate.value


def feature_map(y: torch.Tensor) -> torch.Tensor:
    """Explicit features whose inner product is ((a c + b d) / 2 + 1)^3: (z + 1)^3 = 1 + 3 z + 3 z^2 + z^3."""
    a, b = y[:, 0] / math.sqrt(2), y[:, 1] / math.sqrt(2)
    one = [torch.ones_like(a)]
    first = [math.sqrt(3) * value for value in (a, b)]
    second = [math.sqrt(3) * value for value in (a * a, math.sqrt(2) * a * b, b * b)]
    third = [a**3, math.sqrt(3) * a * a * b, math.sqrt(3) * a * b * b, b**3]
    return torch.stack([*one, *first, *second, *third], dim=1)


def test_kid_is_monais_unbiased_mmd_of_the_kernels_feature_map() -> None:
    samples, reference = RANDOM.normal(size=(20, 2)) + 1, RANDOM.normal(size=(20, 2))
    expected = float(MMDMetric(feature_map)(torch.from_numpy(reference), torch.from_numpy(samples)))
    assert kid(samples, reference) == pytest.approx(expected)


def test_kid_of_two_gaussians_is_the_distance_of_their_moments() -> None:
    # d = 1: 3 (1 - 0)^2 + 3 (2 - 1)^2 + (4 - 0)^2 from the first three moments of N(1, 1) and N(0, 1).
    samples, reference = RANDOM.normal(size=(6000, 1)) + 1, RANDOM.normal(size=(5000, 1))
    found = kernel_inception_distance(samples, reference, groups_of(6000, 20), groups_of(5000, 20)).estimate
    assert found.low < 22 < found.high
    assert found.value == pytest.approx(22, rel=0.1)


def test_kid_has_mean_0_under_the_null_at_any_size() -> None:
    values = [kid(RANDOM.normal(size=(6, 3)), RANDOM.normal(size=(9, 3))) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))
    assert min(values) < 0


def test_interval_and_blocks_are_those_of_the_plain_formula() -> None:
    samples, reference = RANDOM.normal(size=(23, 4)) * 1.3, RANDOM.normal(size=(31, 4))
    in_1, in_2 = groups_of(23, 5), groups_of(31, 6)

    def direct(made: np.ndarray, real: np.ndarray) -> float:
        def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return (x @ y.T / 4 + 1) ** 3

        def own(x: np.ndarray) -> float:
            return float((kernel(x, x).sum() - np.trace(kernel(x, x))) / (len(x) * (len(x) - 1)))

        return own(made) + own(real) - 2 * float(kernel(made, real).mean())

    found = kernel_inception_distance(samples, reference, in_1, in_2)
    expected = grouped_jackknife(
        direct(samples, reference),
        [direct(samples[in_1 != group], reference) for group in range(5)],
        [direct(samples, reference[in_2 != group]) for group in range(6)],
    )
    assert found.estimate.value == pytest.approx(expected.value)
    assert found.estimate.standard_error == pytest.approx(expected.standard_error)
    blocks = [direct(samples[in_1 == group], reference[in_2 == group]) for group in range(5)]
    assert found.block_deviation == pytest.approx(np.std(blocks, ddof=1))
    assert found.num_blocks == 5


def test_blocks_of_one_image_have_no_deviation() -> None:
    found = kernel_inception_distance(RANDOM.normal(size=(5, 2)), RANDOM.normal(size=(5, 2)), groups_of(5), groups_of(5))
    assert math.isnan(found.block_deviation)
    assert found.num_blocks == 0
    assert math.isfinite(found.estimate.low)
