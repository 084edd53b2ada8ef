"""How sure a classifier is of each generated image, and how many classes it sees in all of them (Inception Score)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from medanomaly.errors import InputError
from medanomaly.metrics.inputs import Scores, check_count
from medanomaly.metrics.jackknife import Estimate, Groups, check_features, grouped_jackknife


@dataclass(frozen=True, slots=True, kw_only=True)
class InceptionScore:
    """The score and the two entropies it is made of."""

    estimate: Estimate
    """1..number of classes."""
    entropy_of_mean: float
    """H(p(y)) in nats: log(classes) where all classes are equally frequent."""
    mean_entropy: float
    """E H(p(y | x)) in nats: 0 where the classifier is sure of every image."""


def inception_score(probabilities: Scores, groups: Groups) -> InceptionScore:
    """exp(E KL(p(y | x) || p(y))) (Salimans et al. 2016, arXiv:1606.03498, section 4), of all images at once.

    Papers mean ten splits, which lowers the number where a split is small; the interval here leaves out groups instead.
    The score never sees a real image: it says what this classifier makes of the samples, so name the classifier beside it.

    Args:
        probabilities: (n, classes) of each image, rows sum to 1.
        groups: as :func:`medanomaly.metrics.jackknife.deal_groups` deals them.

    Raises:
        InputError: E_RANGE, rows that are no probabilities; or no finite (n, classes) array.
    """
    p = check_features(probabilities, "probabilities")
    check_count("groups", len(groups), len(p))
    if (p < 0).any() or not np.allclose(p.sum(axis=1), 1, atol=1e-3):
        raise InputError(
            "probabilities must be >= 0 and sum to 1 in each row", code="E_RANGE", fix="pass the softmax of one-of-many classes"
        )
    p /= p.sum(axis=1, keepdims=True)  # float32 rows miss 1 by a rounding
    num_groups = int(groups.max()) + 1
    sums = np.zeros((num_groups, p.shape[1]))
    np.add.at(sums, groups, p)
    negentropy = np.bincount(groups, xlogy(p, p).sum(axis=1), minlength=num_groups)
    counts = np.bincount(groups, minlength=num_groups)

    def score(kept: npt.NDArray[np.bool_]) -> float:
        mean = sums[kept].sum(axis=0) / counts[kept].sum()
        return math.exp(max(float(negentropy[kept].sum() / counts[kept].sum() - xlogy(mean, mean).sum()), 0.0))

    mean = p.mean(axis=0)
    return InceptionScore(
        estimate=grouped_jackknife(
            score(np.ones(num_groups, bool)),
            [score(np.arange(num_groups) != i) for i in range(num_groups)],
            bounds=(1.0, float(p.shape[1])),
        ),
        entropy_of_mean=-float(xlogy(mean, mean).sum()),
        mean_entropy=-float(negentropy.sum() / len(p)),
    )
