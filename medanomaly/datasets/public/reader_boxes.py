"""Boxes that several readers drew on one image, as one set: the same lesion drawn twice becomes one box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from medanomaly.types import Box

MIN_IOU = 0.5
"""Two readers' boxes with at least this intersection over union are taken for the same lesion (the limit of PASCAL VOC)."""


def merged_boxes(drawn: Mapping[str, Sequence[Box]], min_iou: float = MIN_IOU) -> tuple[Box, ...]:
    """One box for each group of overlapping boxes of different readers: the mean of their edges, each reader weighted equally.

    Pairs are joined from the highest overlap down; a group never holds two boxes of one reader, who meant two lesions by them.
    A box that nobody else drew stays as it is.

    Args:
        drawn: reader -> boxes; the order of neither matters.
        min_iou: overlap that makes two boxes one, (0, 1].

    Returns:
        Boxes sorted by their edges.
    """
    boxes = sorted(
        ((reader, box) for reader, own in drawn.items() for box in dict.fromkeys(own)), key=lambda pair: (edges(pair[1]), pair[0])
    )
    groups = [{index} for index in range(len(boxes))]
    overlaps = [
        (-iou(boxes[a][1], boxes[b][1]), a, b) for a, b in combinations(range(len(boxes)), 2) if boxes[a][0] != boxes[b][0]
    ]
    for overlap, a, b in sorted(overlaps):
        joined = groups[a] | groups[b]
        if -overlap >= min_iou and len({boxes[i][0] for i in joined}) == len(joined):
            for index in joined:
                groups[index] = joined
    means = [mean_box([boxes[i][1] for i in sorted(group)]) for index, group in enumerate(groups) if index == min(group)]
    return tuple(sorted(means, key=edges))


def mean_box(boxes: Sequence[Box]) -> Box:
    """The box of the mean edges, with the label of the first."""
    x_min, y_min, x_max, y_max = (sum(values) / len(boxes) for values in zip(*map(edges, boxes), strict=True))
    return Box(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max, label=boxes[0].label)


def edges(box: Box) -> tuple[float, float, float, float]:
    """(x_min, y_min, x_max, y_max) px."""
    return box.x_min, box.y_min, box.x_max, box.y_max


def iou(one: Box, other: Box) -> float:
    """Intersection over union, 0..1."""
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (area(one) + area(other) - shared)


def area(box: Box) -> float:
    """px²."""
    return (box.x_max - box.x_min) * (box.y_max - box.y_min)
