"""Copies are told from images that are as far from the training set as real ones."""

from __future__ import annotations

import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.metrics.manifold import nearest
from medanomaly.metrics.memorisation import memorisation

RANDOM = np.random.default_rng(0)


def test_copies_are_closer_than_any_unseen_image_and_are_counted() -> None:
    train, unseen = RANDOM.normal(size=(50, 6)), RANDOM.normal(size=(40, 6))
    made = np.concatenate([train[:5], RANDOM.normal(size=(5, 6)) + 9])
    found = memorisation(nearest(made, train)[0], nearest(unseen, train)[0])
    assert found.is_copy.tolist() == [True] * 5 + [False] * 5
    assert found.num_identical == 5
    assert found.closer_than_unseen == pytest.approx(0.5)  # half copies, half farther than all
    near = memorisation(nearest(train[:5] + 1e-3, train)[0], nearest(unseen, train)[0])
    assert near.closer_than_unseen == 1
    assert near.is_copy.all()
    assert near.num_identical == 0


def test_samples_of_the_same_distribution_are_as_far_as_unseen_images() -> None:
    train, unseen, made = (RANDOM.normal(size=(count, 4)) for count in (100, 400, 400))
    found = memorisation(nearest(made, train)[0], nearest(unseen, train)[0])
    assert found.closer_than_unseen == pytest.approx(0.5, abs=0.08)
    assert found.is_copy.mean() < 0.05


def test_ties_count_half_and_farther_samples_not_at_all() -> None:
    distances = np.array([1.0, 2.0, 3.0])
    assert memorisation(np.array([2.0]), distances).closer_than_unseen == pytest.approx(0.5)
    assert memorisation(np.array([0.5, 9.0]), distances).closer_than_unseen == pytest.approx(0.5)
    assert memorisation(np.array([9.0]), distances).closer_than_unseen == 0


def test_an_identical_sample_is_a_copy_even_where_real_images_repeat() -> None:
    assert memorisation(np.array([0.0, 1.0]), np.array([0.0, 0.0])).is_copy.tolist() == [True, False]


def test_nothing_to_compare_with_is_refused() -> None:
    with pytest.raises(InputError, match="unseen_distances is empty"):
        memorisation(np.ones(3), np.ones(0))
