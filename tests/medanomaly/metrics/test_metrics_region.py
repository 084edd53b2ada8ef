from __future__ import annotations

import math

import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.metrics.region import FROC_RATES, froc, lesion_recall, lesions, match, pointing_game_hit


def squares(*corners: tuple[int, int], side: int = 3, shape: tuple[int, int] = (20, 20)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for row, column in corners:
        mask[row : row + side, column : column + side] = True
    return mask


def test_pixels_that_touch_at_a_corner_are_one_lesion() -> None:
    assert lesions(np.eye(5, dtype=bool)).max() == 1
    assert lesions(squares((0, 0), (10, 10))).max() == 2


def test_a_lesion_is_hit_and_a_stray_component_is_a_false_positive() -> None:
    hit, num_false = match(squares((0, 0), (15, 15)), squares((0, 1), (8, 8)))
    assert (hit.tolist(), num_false) == ([True, False], 1)


def test_one_component_over_the_whole_image_hits_nothing() -> None:
    hit, num_false = match(np.ones((20, 20), bool), squares((2, 2)))
    assert (hit.tolist(), num_false) == ([False], 1)


def test_the_overlap_that_makes_a_match_is_the_stated_iou() -> None:
    # 3 x 3 squares shifted by two columns share 3 of 15 pixels.
    predicted, truth = squares((0, 2)), squares((0, 0))
    assert match(predicted, truth, min_iou=0.2)[0].tolist() == [True]
    assert match(predicted, truth, min_iou=0.21)[0].tolist() == [False]
    with pytest.raises(InputError):
        match(predicted, truth, min_iou=0)


def test_recall_pools_lesions_and_not_images() -> None:
    truth = [squares((0, 0), (0, 10), (10, 0)), squares((5, 5))]
    maps = [squares((0, 0)).astype(np.float32), squares((5, 5)).astype(np.float32)]
    assert lesion_recall(maps, truth, 0.5) == 2 / 4


def test_recall_without_a_lesion_is_undefined() -> None:
    assert math.isnan(lesion_recall([np.ones((20, 20), np.float32)], [squares()], 0.5))


def ladder() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """One image with lesions at heights 4 and 2 and a false alarm at 3, one healthy image with a false alarm at 1."""
    first = 4.0 * squares((0, 0)) + 2.0 * squares((10, 0)) + 3.0 * squares((0, 10))
    second = 1.0 * squares((5, 5))
    return [first.astype(np.float32), second.astype(np.float32)], [squares((0, 0), (10, 0)), squares()]


def test_froc_counts_hits_and_false_alarms_at_each_threshold() -> None:
    curve = froc(*ladder(), thresholds=[0.5, 1.5, 2.5, 3.5, 4.5])
    np.testing.assert_array_equal(curve.thresholds, [4.5, 3.5, 2.5, 1.5, 0.5])
    np.testing.assert_array_equal(curve.sensitivity, [0, 0.5, 0.5, 1, 1])
    np.testing.assert_array_equal(curve.false_positives_per_image, [0, 0, 0.5, 0.5, 1])
    assert (curve.num_images, curve.num_lesions) == (2, 2)


def test_froc_mean_is_taken_at_an_eighth_to_eight_false_alarms() -> None:
    curve = froc(*ladder(), thresholds=[0.5, 1.5, 2.5, 3.5, 4.5])
    assert [curve.sensitivity_at(rate) for rate in FROC_RATES] == [0.5, 0.5, 1, 1, 1, 1, 1]
    assert curve.mean_sensitivity == pytest.approx(6 / 7)


def test_froc_finds_its_own_thresholds() -> None:
    curve = froc(*ladder())
    assert curve.sensitivity_at(0.25) == 0.5
    assert curve.mean_sensitivity == pytest.approx(6 / 7)


def test_froc_without_a_lesion_is_undefined_and_still_counts_false_alarms() -> None:
    curve = froc([squares((5, 5)).astype(np.float32)], [squares()], thresholds=[0.5])
    assert math.isnan(curve.mean_sensitivity)
    assert np.isnan(curve.sensitivity).all()
    np.testing.assert_array_equal(curve.false_positives_per_image, [1])


def test_the_pointing_game_asks_where_the_maximum_is() -> None:
    anomaly_map = np.zeros((20, 20), np.float32)
    anomaly_map[1, 1] = 1
    assert pointing_game_hit(anomaly_map, squares((0, 0))) == 1
    assert pointing_game_hit(anomaly_map, squares((10, 10))) == 0
    assert math.isnan(pointing_game_hit(anomaly_map, squares()))


def test_a_constant_map_points_by_chance_and_not_at_its_first_pixel() -> None:
    assert pointing_game_hit(np.zeros((20, 20), np.float32), squares((0, 0))) == 9 / 400
