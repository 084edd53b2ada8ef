"""Kernel distance between two sets of features (KID): unbiased at any number of images, unlike FID."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medanomaly.metrics.inputs import Scores, check_count
from medanomaly.metrics.jackknife import Estimate, Groups, check_features, grouped_jackknife

Array = npt.NDArray[np.float64]
DEGREE = 3
ROWS_AT_ONCE = 1024
"""Rows of the kernel matrix that are in memory together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelDistance:
    """KID with the scatter of its blocks."""

    estimate: Estimate
    block_deviation: float
    """Standard deviation (n - 1) of the distance over disjoint blocks, what papers print behind the number; NaN below two blocks."""
    num_blocks: int
    """Blocks with at least two images of each set."""


def kernel_inception_distance(
    samples: Scores,
    reference: Scores,
    sample_groups: Groups,
    reference_groups: Groups,
) -> KernelDistance:
    """KID (Binkowski et al. 2018, arXiv:1801.01401, section 3): unbiased squared MMD with the kernel (x . y / d + 1)^3.

    Its mean is 0 where both sets come from one distribution, so single values may be negative. The unbiased estimator is
    Gretton et al. 2012, eq. 3. MONAI's ``MMDMetric`` has a linear kernel and wants sets of equal size; the tests give it the
    kernel's explicit feature map and compare.

    Args:
        samples: (n, d) features of generated images.
        reference: (m, d) features of real images, by the same extractor.
        sample_groups, reference_groups: as :func:`medanomaly.metrics.jackknife.deal_groups` deals them; the groups that both
            have are also the blocks.

    Raises:
        InputError: features that are no finite (n, d) array, or of different width.
    """
    real = check_features(reference, "reference features")
    made = check_features(samples, "sample features", width=real.shape[1])
    check_count("sample_groups", len(sample_groups), len(made))
    check_count("reference_groups", len(reference_groups), len(real))
    count_1, count_2 = np.bincount(sample_groups), np.bincount(reference_groups)
    within_1, within_2 = _sums_within(made, sample_groups), _sums_within(real, reference_groups)
    between = _sums_between(made, sample_groups, real, reference_groups)

    def distance(kept_1: npt.NDArray[np.bool_], kept_2: npt.NDArray[np.bool_]) -> float:
        n, m = count_1[kept_1].sum(), count_2[kept_2].sum()
        if n < 2 or m < 2:
            return float("nan")
        own_1 = within_1[np.ix_(kept_1, kept_1)].sum() / (n * (n - 1))
        own_2 = within_2[np.ix_(kept_2, kept_2)].sum() / (m * (m - 1))
        return float(own_1 + own_2 - 2 * between[np.ix_(kept_1, kept_2)].sum() / (n * m))

    all_1, all_2 = np.ones(len(count_1), bool), np.ones(len(count_2), bool)
    blocks = min(len(count_1), len(count_2))
    of_blocks = np.array([distance(np.arange(len(count_1)) == i, np.arange(len(count_2)) == i) for i in range(blocks)])
    defined = of_blocks[~np.isnan(of_blocks)]
    return KernelDistance(
        estimate=grouped_jackknife(
            distance(all_1, all_2),
            [distance(np.arange(len(count_1)) != i, all_2) for i in range(len(count_1))],
            [distance(all_1, np.arange(len(count_2)) != i) for i in range(len(count_2))],
        ),
        block_deviation=float(defined.std(ddof=1)) if len(defined) > 1 else float("nan"),
        num_blocks=len(defined),
    )


def _sums_between(first: Array, first_groups: Groups, second: Array, second_groups: Groups) -> Array:
    """(groups, groups) sums of the kernel over pairs of one image of each set."""
    one_hot = np.eye(int(second_groups.max()) + 1)[second_groups]  # (m, groups)
    sums = np.zeros((int(first_groups.max()) + 1, one_hot.shape[1]))
    for start in range(0, len(first), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        kernel = (first[rows] @ second.T / first.shape[1] + 1) ** DEGREE  # (rows, m)
        np.add.at(sums, first_groups[rows], kernel @ one_hot)
    return sums


def _sums_within(features: Array, groups: Groups) -> Array:
    """The same within one set, where an image is not paired with itself."""
    sums = _sums_between(features, groups, features, groups)
    itself = ((features**2).sum(axis=1) / features.shape[1] + 1) ** DEGREE
    sums[np.diag_indices_from(sums)] -= np.bincount(groups, itself)
    return sums
