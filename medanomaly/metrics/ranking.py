"""AUROC and average precision of any scored positives and negatives, exact under ties: one sort, integer counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medanomaly.metrics.inputs import Mask, Scores


@dataclass(frozen=True, slots=True)
class Ranked:
    """Scores of the two classes, each sorted ascending; higher should mean positive."""

    positives: Scores
    """(P,)"""
    negatives: Scores
    """(N,)"""

    @property
    def single_class(self) -> bool:
        """True where one of the classes is absent, so that no ranking metric is defined."""
        return self.positives.size == 0 or self.negatives.size == 0


def rank(scores: Scores, labels: Mask) -> Ranked:
    """Sorts (n,) scores into the positives and the negatives that (n,) labels name."""
    return Ranked(np.sort(scores[labels]), np.sort(scores[~labels]))


def auroc(ranked: Ranked) -> float:
    """P(positive scores above negative) + P(tie) / 2: the area under the ROC curve (Mann and Whitney 1947); 0..1.

    Pairs are counted in integers, so the result is exact to the last division. NaN when a class is absent.
    """
    if ranked.single_class:
        return float("nan")
    below = int(np.searchsorted(ranked.negatives, ranked.positives, side="left").sum(dtype=np.int64))
    below_or_tied = int(np.searchsorted(ranked.negatives, ranked.positives, side="right").sum(dtype=np.int64))
    return (below + below_or_tied) / (2 * ranked.positives.size * ranked.negatives.size)


def average_precision(ranked: Ranked) -> float:
    """Sum over thresholds of precision times the recall gained there, tied scores being one threshold; 0..1.

    Same definition as scikit-learn, whose value without positives is 0.0: here it is NaN when a class is absent.
    Random scores give the prevalence, not 0.5.
    """
    if ranked.single_class:
        return float("nan")
    # Recall changes only at the scores of positives, so the negatives are looked up and never merged.
    thresholds, tied = np.unique(ranked.positives, return_counts=True)
    true_positives = np.cumsum(tied[::-1])[::-1]
    false_positives = ranked.negatives.size - np.searchsorted(ranked.negatives, thresholds, side="left")
    precision = true_positives / (true_positives + false_positives)
    return float(np.dot(tied, precision) / ranked.positives.size)
