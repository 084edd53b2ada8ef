from __future__ import annotations

import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.metrics.box import (
    component_edges,
    energy_in_boxes,
    inside_boxes,
    match_boxes,
    pointing_hit,
    visible_edges,
)
from medanomaly.types import Box

SHAPE = (10, 20)


def box(x_min: float, y_min: float, x_max: float, y_max: float) -> Box:
    return Box(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)


def blank(value: float = 0) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def filled(*boxes: Box, value: float = 1) -> np.ndarray:
    return inside_boxes(boxes, SHAPE).astype(np.float32) * np.float32(value)


def test_a_box_covers_columns_by_x_and_rows_by_y() -> None:
    inside = inside_boxes([box(3, 1, 7, 4)], SHAPE)
    assert inside.sum() == 12
    assert inside[1:4, 3:7].all()


def test_a_pixel_belongs_to_a_box_by_its_centre_and_a_tiny_box_has_one_pixel() -> None:
    assert inside_boxes([box(0.4, 0, 2.6, 1)], SHAPE)[0].nonzero()[0].tolist() == [0, 1, 2]
    assert inside_boxes([box(0.6, 0, 2.4, 1)], SHAPE)[0].nonzero()[0].tolist() == [1]
    assert np.argwhere(inside_boxes([box(5.1, 3.1, 5.2, 3.2)], SHAPE)).tolist() == [[3, 5]]
    assert np.argwhere(inside_boxes([box(19.9, 9.9, 20, 10)], SHAPE)).tolist() == [[9, 19]]


def test_overlapping_boxes_count_their_pixels_once() -> None:
    assert inside_boxes([box(0, 0, 4, 4), box(2, 2, 6, 6)], SHAPE).sum() == 16 + 16 - 4


def test_what_lies_outside_of_the_image_does_not_count() -> None:
    drawn = [box(-5, -5, 2, 2), box(18, 8, 99, 99), box(30, 0, 40, 5), box(20, 0, 25, 5)]
    assert visible_edges(drawn, SHAPE).tolist() == [[0, 0, 2, 2], [18, 8, 20, 10]]
    assert inside_boxes(drawn, SHAPE).sum() == 8


@pytest.mark.parametrize("wrong", [box(3, 0, 3, 2), box(0, 4, 2, 1), box(0, 0, np.inf, 1), box(np.nan, 0, 1, 1)])
def test_edges_out_of_order_or_not_finite_are_refused(wrong: Box) -> None:
    with pytest.raises(InputError, match="E_BOX"):
        visible_edges([wrong], SHAPE)


def test_energy_is_the_share_of_the_sum_inside() -> None:
    drawn = [box(0, 0, 2, 1)]
    anomaly_map = blank()
    anomaly_map[0, 0], anomaly_map[5, 5] = 3, 1
    assert energy_in_boxes(anomaly_map, drawn) == pytest.approx(0.75)
    assert energy_in_boxes(filled(*drawn), drawn) == 1
    assert energy_in_boxes(blank(1) - filled(*drawn), drawn) == 0
    assert energy_in_boxes(anomaly_map * 1000, drawn) == pytest.approx(0.75)


@pytest.mark.parametrize("value", [0, 0.3])
def test_a_map_that_points_nowhere_scores_the_share_of_pixels_in_boxes(value: float) -> None:
    drawn = [box(0, 0, 4, 5)]
    assert energy_in_boxes(blank(value), drawn) == pytest.approx(0.1)
    assert pointing_hit(blank(value), drawn) == pytest.approx(0.1)


def test_a_negative_or_unmeasurable_map_is_refused() -> None:
    with pytest.raises(InputError, match="E_RANGE"):
        energy_in_boxes(blank(-1), [box(0, 0, 1, 1)])
    for function in (energy_in_boxes, pointing_hit, lambda m, b: match_boxes(m, b, 0.5)):
        with pytest.raises(InputError, match="E_NONFINITE"):
            function(blank(np.nan), [box(0, 0, 1, 1)])
        with pytest.raises(InputError, match="E_SHAPE"):
            function(blank()[None], [box(0, 0, 1, 1)])


def test_the_pointing_game_is_won_inside_any_box_and_shared_by_ties() -> None:
    anomaly_map = blank()
    anomaly_map[9, 19] = 2
    assert pointing_hit(anomaly_map, [box(0, 0, 1, 1), box(18, 8, 20, 10)]) == 1
    assert pointing_hit(anomaly_map, [box(0, 0, 1, 1)]) == 0
    anomaly_map[0, 0] = anomaly_map[4, 4] = 2
    assert pointing_hit(anomaly_map, [box(0, 0, 1, 1)]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("boxes", [(), (box(50, 50, 60, 60),)])
def test_without_a_visible_box_nothing_is_defined(boxes: tuple[Box, ...]) -> None:
    anomaly_map = filled(box(0, 0, 3, 3))
    assert np.isnan(energy_in_boxes(anomaly_map, boxes))
    assert np.isnan(pointing_hit(anomaly_map, boxes))
    match = match_boxes(anomaly_map, boxes, 0.5)
    assert match.best_iou.shape == match.detected(0.1).shape == (0,)
    assert match.num_false(0.1) == 1


def test_a_rectangle_is_drawn_around_each_region_that_touches_at_corners() -> None:
    flagged = np.zeros(SHAPE, np.bool_)
    flagged[1, 1] = flagged[2, 2] = True
    flagged[8, 10:13] = True
    assert component_edges(flagged).tolist() == [[1, 1, 3, 3], [10, 8, 13, 9]]
    assert component_edges(np.zeros(SHAPE, np.bool_)).shape == (0, 4)


def test_iou_and_iobb_are_those_of_the_rectangles() -> None:
    # A ring: the region has 12 px, its rectangle 4 x 4; the drawn box is 4 x 8.
    anomaly_map = filled(box(2, 2, 6, 6)) - filled(box(3, 3, 5, 5))
    match = match_boxes(anomaly_map, [box(4, 2, 12, 6)], 0.5)
    assert match.best_iou.tolist() == pytest.approx([8 / (16 + 32 - 8)])
    assert match.best_iobb.tolist() == pytest.approx([0.5])


def test_each_drawn_box_takes_its_best_region_and_the_others_are_false() -> None:
    anomaly_map = filled(box(0, 0, 4, 4), box(10, 0, 14, 4), box(6, 8, 7, 9))
    match = match_boxes(anomaly_map, [box(0, 0, 4, 4), box(12, 0, 16, 4), box(16, 6, 20, 10)], 0.5)
    assert match.best_iou.tolist() == pytest.approx([1, 8 / 24, 0])
    assert match.detected(0.5).tolist() == [True, True, False]
    assert match.detected(0.51).tolist() == [True, False, False]
    assert (match.num_false(0.5), match.num_false(0.51)) == (1, 2)


def test_a_small_region_in_a_large_box_is_found_by_iobb_and_not_by_iou() -> None:
    match = match_boxes(filled(box(5, 5, 6, 6)), [box(0, 0, 20, 10)], 0.5)
    assert match.best_iobb.tolist() == [1]
    assert match.best_iou.tolist() == pytest.approx([1 / 200])


def test_nothing_flagged_finds_nothing_and_raises_no_false_box() -> None:
    match = match_boxes(blank(0.5), [box(0, 0, 4, 4)], 0.5)
    assert match.best_iou.tolist() == match.best_iobb.tolist() == [0]
    assert not match.detected(0.1).any()
    assert match.num_false(0.1) == 0


@pytest.mark.parametrize("level", [0, -0.1, 1.1])
def test_a_level_outside_of_0_to_1_is_refused(level: float) -> None:
    match = match_boxes(blank(), [box(0, 0, 4, 4)], 0.5)
    for function in (match.detected, match.num_false):
        with pytest.raises(InputError, match="E_RANGE"):
            function(level)


def test_iou_agrees_with_counting_pixels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y, u, v = rng.integers(0, 8, 4)
        found, drawn = box(x, y, x + 3, y + 2), box(u, v, u + 5, v + 2)
        one, other = inside_boxes([found], SHAPE), inside_boxes([drawn], SHAPE)
        match = match_boxes(one.astype(np.float32), [drawn], 0.5)
        assert match.best_iou[0] == pytest.approx((one & other).sum() / (one | other).sum())
        assert match.best_iobb[0] == pytest.approx((one & other).sum() / one.sum())
