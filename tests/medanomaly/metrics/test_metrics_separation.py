from __future__ import annotations

import math

import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.metrics.separation import standardised_difference

SCORES = np.array([0.1, 0.3, 0.5, 0.9])
LABELS = np.array([False, False, True, True])


def test_it_is_the_difference_of_means_over_the_root_of_the_mean_variance() -> None:
    # Means 0.7 and 0.2; variances 0.08 and 0.02.
    assert standardised_difference(SCORES, LABELS) == pytest.approx(0.5 / math.sqrt(0.05))
    assert standardised_difference(SCORES, ~LABELS) == pytest.approx(-0.5 / math.sqrt(0.05))


def test_scale_and_shift_change_nothing() -> None:
    assert standardised_difference(7 * SCORES + 3, LABELS) == pytest.approx(standardised_difference(SCORES, LABELS))


def test_a_larger_group_does_not_weigh_more() -> None:
    many = np.concatenate([np.tile(SCORES[:2], 1000), SCORES[2:]])
    labels = np.arange(len(many)) >= 2000
    # Variances: 0.01 (n / (n - 1) is near 1 for 2000) and 0.08.
    assert standardised_difference(many, labels) == pytest.approx(0.5 / math.sqrt(0.045), rel=1e-3)


def test_it_grows_where_auroc_has_stopped() -> None:
    assert standardised_difference(SCORES + 10 * LABELS, LABELS) > 10 * standardised_difference(SCORES, LABELS)


@pytest.mark.parametrize("labels", [[True] * 4, [False, True, True, True]])
def test_fewer_than_two_images_of_a_group_have_no_spread(labels: list[bool]) -> None:
    assert math.isnan(standardised_difference(SCORES, np.array(labels)))


def test_groups_without_any_spread_have_no_unit() -> None:
    assert math.isnan(standardised_difference(np.array([0.0, 0.0, 1.0, 1.0]), LABELS))


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(InputError):
        standardised_difference(np.array([0.0, np.nan, 1.0, 1.0]), LABELS)
