from __future__ import annotations

import random

import pytest

from medanomaly.datasets.public.reader_boxes import edges, iou, merged_boxes
from medanomaly.types import Box


def box(x_min: float, y_min: float, x_max: float, y_max: float) -> Box:
    return Box(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max, label="fluid")


def merged(**drawn: list[Box]) -> list[tuple[float, ...]]:
    return [edges(one) for one in merged_boxes(drawn)]


def test_overlap_is_that_of_areas() -> None:
    assert iou(box(0, 0, 4, 4), box(2, 0, 6, 4)) == pytest.approx(8 / 24)
    assert iou(box(0, 0, 4, 4), box(4, 0, 8, 4)) == 0
    assert iou(box(0, 0, 4, 4), box(5, 5, 8, 8)) == 0


def test_overlapping_boxes_of_three_readers_become_their_mean() -> None:
    assert merged(a=[box(0, 0, 10, 10)], b=[box(1, 0, 11, 10)], c=[box(2, 3, 12, 10)]) == [(1, 1, 11, 10)]
    assert merged_boxes({"a": [box(0, 0, 1, 1)]})[0].label == "fluid"


def test_boxes_apart_and_boxes_of_one_reader_stay_apart() -> None:
    assert merged(a=[box(0, 0, 10, 10)], b=[box(6, 0, 16, 10)]) == [(0, 0, 10, 10), (6, 0, 16, 10)]
    assert merged(a=[box(0, 0, 10, 10), box(1, 0, 11, 10)]) == [(0, 0, 10, 10), (1, 0, 11, 10)]
    assert merged(a=[box(0, 0, 10, 10), box(0, 0, 10, 10)]) == [(0, 0, 10, 10)]


def test_an_overlap_of_exactly_one_half_joins() -> None:
    assert merged(a=[box(0, 0, 2, 1)], b=[box(0, 0, 1, 1)]) == [(0, 0, 1.5, 1)]
    assert len(merged(a=[box(0, 0, 2.1, 1)], b=[box(0, 0, 1, 1)])) == 2


def test_the_better_overlap_is_joined_first_and_a_group_has_one_box_a_reader() -> None:
    # b's second box fits a's exactly; its first overlaps a's as well but may not join.
    assert merged(a=[box(0, 0, 10, 10)], b=[box(2, 0, 12, 10), box(0, 0, 10, 10)]) == [(0, 0, 10, 10), (2, 0, 12, 10)]
    # A chain over two of c's boxes stops where it would take both.
    found = merged(a=[box(0, 0, 10, 10)], b=[box(3, 0, 13, 10)], c=[box(0, 0, 10, 10), box(4, 0, 14, 10)])
    assert found == [(0, 0, 10, 10), (3.5, 0, 13.5, 10)]


def test_the_order_of_readers_and_boxes_does_not_matter() -> None:
    rng = random.Random(0)
    drawn = {
        reader: [box(x, y, x + 10, y + 8) for x, y in ((rng.uniform(0, 9), rng.uniform(0, 9)) for _ in range(3))]
        for reader in "abc"
    }
    first = merged_boxes(drawn)
    for _ in range(20):
        shuffled = [(reader, rng.sample(own, len(own))) for reader, own in rng.sample(list(drawn.items()), 3)]
        assert merged_boxes(dict(shuffled)) == first


def test_nothing_drawn_gives_nothing() -> None:
    assert merged_boxes({}) == merged_boxes({"a": []}) == ()
