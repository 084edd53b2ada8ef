"""Leave-a-group-out intervals against their closed form, and groups that keep a patient together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student_t

from medanomaly.errors import InputError
from medanomaly.metrics.jackknife import check_features, deal_groups, grouped_jackknife


def test_the_jackknife_of_a_mean_is_the_textbooks_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=12)
    without = [float(np.delete(values, index).mean()) for index in range(12)]
    found = grouped_jackknife(float(values.mean()), without)
    error = values.std(ddof=1) / math.sqrt(12)
    assert found.standard_error == pytest.approx(error)
    assert found.high - found.value == pytest.approx(student_t.ppf(0.975, 11) * error)
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_the_variances_of_two_sets_add() -> None:
    first, second = [1.0, 2.0, 4.0], [0.0, 3.0, 5.0, 6.0]
    apart = [grouped_jackknife(0.0, one).standard_error for one in (first, second)]
    both = grouped_jackknife(0.0, first, second)
    assert both.standard_error == pytest.approx(math.hypot(*apart))
    assert both.num_groups == 3


def test_an_interval_ends_where_values_end_and_is_unknown_where_a_value_is() -> None:
    assert grouped_jackknife(0.1, [0.0, 1.0], bounds=(0.0, 1.0)).low == 0.0
    assert grouped_jackknife(0.9, [0.0, 1.0], bounds=(0.0, 1.0)).high == 1.0
    unknown = grouped_jackknife(0.1, [0.0, math.nan])
    assert math.isnan(unknown.low)
    assert math.isnan(unknown.high)
    assert unknown.value == 0.1


def test_a_patients_images_share_a_group_and_groups_are_even() -> None:
    owners = [f"p{index % 13}" for index in range(40)]
    groups = deal_groups(owners, num_groups=5)
    assert all(len({groups[i] for i in range(40) if owners[i] == owner}) == 1 for owner in owners)
    patients = [len({owners[i] for i in range(40) if groups[i] == group}) for group in range(5)]
    assert sorted(patients) == [2, 2, 3, 3, 3]
    assert deal_groups(owners, num_groups=5).tolist() == groups.tolist()
    assert deal_groups(["a", "b", "a"]).max() == 1


def test_one_patient_gives_no_interval() -> None:
    with pytest.raises(InputError, match="E_TOO_FEW"):
        deal_groups(["a", "a"])
    with pytest.raises(ValueError, match="two groups"):
        grouped_jackknife(0.0, [1.0])


@pytest.mark.parametrize(
    ("features", "code"),
    [
        (np.zeros(3), "E_SHAPE"),
        (np.zeros((1, 3)), "E_SHAPE"),
        (np.zeros((3, 0)), "E_SHAPE"),
        (np.array([[1.0, np.nan], [0.0, 0.0]]), "E_NONFINITE"),
        (np.zeros((3, 2), np.int64), "E_DTYPE"),
        (np.zeros((3, 5)), "E_FEATURES"),
    ],
)
def test_what_is_no_table_of_features_is_refused(features: np.ndarray, code: str) -> None:
    with pytest.raises(InputError, match=code):
        check_features(features, "features", width=2)
