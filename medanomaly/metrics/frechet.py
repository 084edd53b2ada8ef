"""Frechet distance between two sets of features (FID)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medanomaly.metrics.inputs import Scores, check_count
from medanomaly.metrics.jackknife import Estimate, Groups, check_features, grouped_jackknife

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrechetDistance:
    """FID with what it is made of."""

    estimate: Estimate
    mean_term: float
    """|m_1 - m_2|^2: how far the centres are apart."""
    covariance_term: float
    """Tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)): how different the spreads are."""
    num_features: int
    caution: str
    """What to print beside the number; "" = nothing."""


def frechet_distance(mean_1: Array, covariance_1: Array, mean_2: Array, covariance_2: Array) -> tuple[float, float]:
    """(mean term, covariance term), both >= 0, of the squared 2-Wasserstein distance between two Gaussians (Dowson & Landau 1982).

    Args:
        mean_1, mean_2: (d,).
        covariance_1, covariance_2: (d, d), symmetric and positive semi-definite; a singular one is fine.
    """
    return _distance(mean_1 - mean_2, _root(covariance_1), covariance_1, covariance_2)


def frechet_inception_distance(
    samples: Scores,
    reference: Scores,
    sample_groups: Groups,
    reference_groups: Groups,
) -> FrechetDistance:
    """FID (Heusel et al. 2017, arXiv:1706.08500, eq. 6): the Frechet distance of Gaussians fitted to two sets of features.

    Covariances divide by n - 1. MONAI's ``FIDMetric`` computes the same from a general matrix square root, which turns complex
    where a covariance is singular (fewer images than features); here only symmetric matrices are taken apart.
    FID falls with n even for perfect samples, so only numbers of the same n can be compared.

    Args:
        samples: (n, d) features of generated images.
        reference: (m, d) features of real images, by the same extractor.
        sample_groups, reference_groups: as :func:`medanomaly.metrics.jackknife.deal_groups` deals them.

    Raises:
        InputError: features that are no finite (n, d) array, or of different width.
    """
    real = check_features(reference, "reference features")
    made = check_features(samples, "sample features", width=real.shape[1])
    check_count("sample_groups", len(sample_groups), len(made))
    check_count("reference_groups", len(reference_groups), len(real))
    centre = real.mean(axis=0)  # The distance does not change, and the sums of squares keep their digits.
    moments = _Moments(made - centre, sample_groups), _Moments(real - centre, reference_groups)
    (mean_1, covariance_1), (mean_2, covariance_2) = moments[0].fitted(None), moments[1].fitted(None)
    root_1, root_2 = _root(covariance_1), _root(covariance_2)
    mean_term, covariance_term = _distance(mean_1 - mean_2, root_1, covariance_1, covariance_2)
    # The other set's root stays the same while a group is left out: one matrix a group is taken apart instead of two.
    fewer = [moments[0].fitted(group) for group in range(moments[0].num_groups)]
    without_samples = [sum(_distance(mean - mean_2, root_2, covariance_2, covariance)) for mean, covariance in fewer]
    fewer = [moments[1].fitted(group) for group in range(moments[1].num_groups)]
    without_reference = [sum(_distance(mean_1 - mean, root_1, covariance_1, covariance)) for mean, covariance in fewer]
    return FrechetDistance(
        estimate=grouped_jackknife(mean_term + covariance_term, without_samples, without_reference, bounds=(0.0, math.inf)),
        mean_term=mean_term,
        covariance_term=covariance_term,
        num_features=real.shape[1],
        caution=few_images(len(made), len(real), real.shape[1]),
    )


def few_images(num_samples: int, num_reference: int, num_features: int) -> str:
    """What to say where a covariance cannot be fitted: below d + 1 images it is singular, and the distance far too large; else ""."""
    least = num_features + 1
    short = [
        f"{count} {name}" for count, name in ((num_samples, "samples"), (num_reference, "reference images")) if count < least
    ]
    if not short:
        return ""
    return (
        f"{' and '.join(short)} for {num_features} features: FID needs {least} of each, or its covariance is singular; read KID"
    )


class _Moments:
    """Sums of features and of their products, so that a group is left out by subtraction."""

    def __init__(self, features: Array, groups: Groups) -> None:
        self.features, self.groups = features, groups
        self.num_groups = int(groups.max()) + 1
        self.total, self.products = features.sum(axis=0), features.T @ features

    def fitted(self, left_out: int | None) -> tuple[Array, Array]:
        """(mean, covariance) without one group; None = of all."""
        removed = self.features[self.groups == left_out] if left_out is not None else self.features[:0]
        count = len(self.features) - len(removed)
        mean = (self.total - removed.sum(axis=0)) / count
        covariance = (self.products - removed.T @ removed - count * np.outer(mean, mean)) / max(count - 1, 1)
        return mean, covariance


def _root(covariance: Array) -> Array:
    """(d, d) symmetric square root; eigenvalues that rounding made negative count as 0."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    root: Array = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root


def _distance(shift: Array, root: Array, covariance: Array, other: Array) -> tuple[float, float]:
    """Both terms from a root of one covariance: C_1 C_2 has the eigenvalues of the symmetric C_1^(1/2) C_2 C_1^(1/2)."""
    product = root @ other @ root
    overlap = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(min=0)).sum()
    return float(shift @ shift), max(float(np.trace(covariance) + np.trace(other) - 2 * overlap), 0.0)
