"""Precision and recall of point sets that can be drawn on paper, and nearest neighbours that tell copies from near misses."""

from __future__ import annotations

import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.metrics import manifold
from medanomaly.metrics.manifold import nearest, precision_and_recall


def line(*values: float) -> np.ndarray:
    return np.array(values, np.float64)[:, None]


def test_balls_reach_to_the_kth_other_point_and_their_edge_counts() -> None:
    # Radii with k = 1: of the real 0, 1, 3 they are 1, 1, 2; of the samples 2.5, 5, 9 they are 2.5, 2.5, 4.
    found = precision_and_recall(line(2.5, 5, 9), line(0, 1, 3), num_neighbours=1)
    assert found.looks_real.tolist() == [True, True, False]
    assert found.is_covered.tolist() == [True, True, True]
    assert precision_and_recall(line(5.001, 20, 40), line(0, 1, 3), num_neighbours=1).looks_real.tolist() == [False] * 3


def test_with_more_neighbours_balls_grow() -> None:
    assert precision_and_recall(line(5.5, 20, 40), line(0, 1, 3), num_neighbours=2).looks_real.tolist() == [True, False, False]


def test_a_dropped_mode_costs_recall_and_not_precision() -> None:
    random = np.random.default_rng(0)
    left, right = random.normal(size=(40, 2)), random.normal(size=(40, 2)) + 100
    found = precision_and_recall(random.permutation(left)[:30] + 1e-3, np.concatenate([left, right]))
    assert found.looks_real.mean() == 1
    assert 0.4 < found.is_covered.mean() <= 0.5
    assert not found.is_covered[40:].any()


def test_rows_taken_in_parts_are_the_rows_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    samples, reference = random.normal(size=(23, 2)), random.normal(size=(17, 2)) * 0.5
    whole, near = precision_and_recall(samples, reference), nearest(samples, reference)
    monkeypatch.setattr(manifold, "ROWS_AT_ONCE", 4)
    parts = precision_and_recall(samples, reference)
    assert parts.looks_real.tolist() == whole.looks_real.tolist()
    assert parts.is_covered.tolist() == whole.is_covered.tolist()
    assert nearest(samples, reference)[1].tolist() == near[1].tolist()


def test_the_nearest_neighbour_is_exact_for_copies_far_from_the_origin() -> None:
    among = np.random.default_rng(2).normal(size=(10, 4)) + 1e5
    distances, rows = nearest(among[[7, 2]], among)
    assert rows.tolist() == [7, 2]
    assert distances.tolist() == [0, 0]


def test_pairs_that_do_not_count_are_left_out() -> None:
    points = line(0, 1, 5)
    distances, rows = nearest(points, points, excluded=np.eye(3, dtype=bool))
    assert (rows.tolist(), distances.tolist()) == ([1, 0, 1], [1, 1, 4])
    assert nearest(points, points, excluded=np.ones((3, 3), bool))[0].tolist() == [np.inf] * 3


def test_as_many_images_as_neighbours_are_too_few() -> None:
    with pytest.raises(InputError, match="E_TOO_FEW"):
        precision_and_recall(line(1, 2, 3), line(1, 2, 3, 4))
