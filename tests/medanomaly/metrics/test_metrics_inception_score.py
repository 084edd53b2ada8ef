"""Inception Score of classifiers whose answer is known: perfect, constant, and one by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.metrics.inception_score import inception_score
from medanomaly.metrics.jackknife import deal_groups, grouped_jackknife


def groups_of(count: int) -> np.ndarray:
    return deal_groups([str(index) for index in range(count)], num_groups=4)


def test_a_sure_classifier_that_sees_all_classes_equally_gives_their_number() -> None:
    found = inception_score(np.eye(7, dtype=np.float32)[np.arange(28) % 7], groups_of(28))
    assert found.estimate.value == pytest.approx(7)
    assert found.estimate.high == 7
    assert found.entropy_of_mean == pytest.approx(math.log(7))
    assert found.mean_entropy == pytest.approx(0)


def test_a_constant_classifier_gives_1_and_so_does_one_class_for_all() -> None:
    constant = inception_score(np.tile([0.2, 0.5, 0.3], (12, 1)), groups_of(12))
    assert constant.estimate.value == pytest.approx(1)
    assert constant.estimate.low == 1
    assert constant.mean_entropy == pytest.approx(constant.entropy_of_mean)
    assert inception_score(np.tile([0.0, 1.0], (12, 1)), groups_of(12)).estimate.value == pytest.approx(1)


def test_the_score_is_the_mean_divergence_from_the_mean_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    mean = p.mean(axis=0)
    expected = math.exp(np.mean([sum(row * np.log(row / mean)) for row in p]))
    found = inception_score(p, groups_of(3))
    assert found.estimate.value == pytest.approx(expected)
    assert found.estimate.value == pytest.approx(math.exp(found.entropy_of_mean - found.mean_entropy))


def test_the_interval_is_that_of_leaving_out_each_group() -> None:
    p = np.random.default_rng(0).dirichlet([0.3, 0.5, 0.2], size=30)
    groups = groups_of(30)

    def direct(rows: np.ndarray) -> float:
        return math.exp(float((rows * np.log(rows / rows.mean(axis=0))).sum(axis=1).mean()))

    expected = grouped_jackknife(direct(p), [direct(p[groups != group]) for group in range(4)])
    assert inception_score(p, groups).estimate.standard_error == pytest.approx(expected.standard_error)


@pytest.mark.parametrize("rows", [[[0.5, 0.6], [0.5, 0.5]], [[-0.1, 1.1], [0.5, 0.5]]])
def test_what_is_no_probability_is_refused(rows: list[list[float]]) -> None:
    with pytest.raises(InputError, match="E_RANGE"):
        inception_score(np.array(rows), groups_of(2))
