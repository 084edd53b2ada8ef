"""Do two numbers of the same images rise together?"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from medanomaly.metrics.inputs import Scores, check_count, check_scores


def spearman(first: Scores, second: Scores) -> float:
    """Rank correlation (Spearman 1904) of two (n,) arrays, in [-1, 1]; ties get their mean rank.

    NaN for fewer than three images, or where one of the two is the same everywhere: nothing is ranked then.
    """
    check_scores(first, "first", ndim=1)
    check_scores(second, "second", ndim=1)
    check_count("second", len(second), len(first))
    if len(first) < 3:
        return float("nan")
    ranks = np.stack([rankdata(first), rankdata(second)])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    scale = np.sqrt((centred**2).sum(axis=1).prod())
    return float((centred[0] * centred[1]).sum() / scale) if scale > 0 else float("nan")
