from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from medanomaly.errors import InputError
from medanomaly.metrics.correlation import spearman


def test_it_is_scipys_number_with_and_without_ties() -> None:
    random = np.random.default_rng(0)
    for first, second in ((random.random(40), random.random(40)), (random.integers(0, 5, 40) / 1.0, random.random(40))):
        assert spearman(first, second) == pytest.approx(float(spearmanr(first, second).statistic), abs=1e-12)


def test_only_the_order_counts() -> None:
    values = np.array([3.0, 1.0, 2.0, 10.0])
    assert spearman(values, np.exp(values)) == pytest.approx(1)
    assert spearman(values, -values) == pytest.approx(-1)


def test_nothing_is_ranked_among_two_or_equal_values() -> None:
    assert math.isnan(spearman(np.array([1.0, 2.0]), np.array([1.0, 2.0])))
    assert math.isnan(spearman(np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])))


def test_lists_of_other_lengths_and_what_is_no_number_are_refused() -> None:
    with pytest.raises(InputError):
        spearman(np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="E_NONFINITE"):
        spearman(np.array([1.0, np.nan, 2.0]), np.zeros(3))
