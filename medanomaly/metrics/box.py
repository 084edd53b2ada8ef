"""Metrics of maps against rectangles around lesions: energy inside, pointing game, overlap of boxes.

A rectangle holds more than the lesion, so none of these is a Dice: they say whether the map points to the right place. Boxes are in
px of the map's own rows and columns. What of a box lies outside of the image does not count, a box that lies outside altogether is no
box, and without a box every number is NaN: an image that nobody annotated has no truth to be measured against.

A map becomes boxes as in Wang et al. 2017 (arXiv:1705.02315): it is thresholded, and a rectangle drawn around each isolated region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from medanomaly.errors import InputError
from medanomaly.metrics.inputs import Mask, Scores, check_fraction, check_scores
from medanomaly.metrics.region import lesions, pointing_game_hit
from medanomaly.types import Box

Edges = npt.NDArray[np.float64]
"""(n, 4) x_min, y_min, x_max, y_max in px."""
IOBB_LEVELS = (0.1, 0.25, 0.5)
"""T(IoBB) at which localization accuracy is reported; Wang et al. 2017 report these among 0.1 to 0.9."""


def visible_edges(boxes: Sequence[Box], shape: tuple[int, int]) -> Edges:
    """The parts of the boxes inside an image of (rows, columns), in their order; a box wholly outside is left out.

    Raises:
        InputError: E_BOX, edges that are not finite or not in order.
    """
    edges = np.array([[box.x_min, box.y_min, box.x_max, box.y_max] for box in boxes], np.float64).reshape(-1, 4)
    if not (np.isfinite(edges).all() and (edges[:, :2] < edges[:, 2:]).all()):
        raise InputError("a box must have finite edges, x_min < x_max and y_min < y_max", code="E_BOX", fix="mend the manifest")
    clipped = np.clip(edges, 0, [shape[1], shape[0], shape[1], shape[0]])
    return clipped[(clipped[:, :2] < clipped[:, 2:]).all(axis=1)]


def inside_boxes(boxes: Sequence[Box], shape: tuple[int, int]) -> Mask:
    """(rows, columns) True on pixels whose centre lies in a box; a box too small for a centre has the pixel it lies in."""
    inside = np.zeros(shape, np.bool_)
    limits = np.array([shape[1], shape[0]])
    for edges in visible_edges(boxes, shape):
        start = np.minimum(np.floor(edges[:2] + 0.5), limits - 1).astype(int)
        stop = np.maximum(np.floor(edges[2:] + 0.5), start + 1).astype(int)
        inside[start[1] : stop[1], start[0] : stop[0]] = True
    return inside


def energy_in_boxes(anomaly_map: Scores, boxes: Sequence[Box]) -> float:
    """Share of the map's sum that lies in the boxes, 0..1 (energy-based pointing game; Wang et al. 2020, arXiv:1910.01279).

    A constant map gives the share of pixels in the boxes, and so does an all-zero one, its limit. NaN without a visible box.

    Raises:
        InputError: E_RANGE, a negative map; and what :func:`check_scores` and :func:`visible_edges` refuse.
    """
    check_scores(anomaly_map, "map", ndim=2)
    if anomaly_map.min(initial=0) < 0:
        raise InputError("a map with negative values has no energy", code="E_RANGE", fix="pass a map >= 0")
    inside = inside_boxes(boxes, _shape(anomaly_map))
    if not inside.any():
        return float("nan")
    total = float(anomaly_map.sum(dtype=np.float64))
    return float(anomaly_map[inside].sum(dtype=np.float64) / total) if total else float(inside.mean())


def pointing_hit(anomaly_map: Scores, boxes: Sequence[Box]) -> float:
    """1 where the map's maximum lies in a box, else 0; tied maxima by the fraction inside; NaN without a visible box.

    Zhang et al. 2016 (arXiv:1608.00507), without their margin of 15 px.
    """
    check_scores(anomaly_map, "map", ndim=2)
    return pointing_game_hit(anomaly_map, inside_boxes(boxes, _shape(anomaly_map)))


def component_edges(flagged: Mask) -> Edges:
    """Rectangles around the 8-connected components of a mask; a component of one pixel gives a box of 1 x 1 px."""
    found = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in find_objects(lesions(flagged))]
    return np.array(found, np.float64).reshape(-1, 4)


def intersections(found: Edges, drawn: Edges) -> npt.NDArray[np.float64]:
    """(num_found, num_drawn) areas in common, px²."""
    low = np.maximum(found[:, None, :2], drawn[None, :, :2])
    high = np.minimum(found[:, None, 2:], drawn[None, :, 2:])
    shared: npt.NDArray[np.float64] = np.clip(high - low, 0, None).prod(axis=2)
    return shared


def areas(edges: Edges) -> npt.NDArray[np.float64]:
    """(n,) px²."""
    area: npt.NDArray[np.float64] = (edges[:, 2:] - edges[:, :2]).prod(axis=1)
    return area


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxMatch:
    """How the rectangles around a thresholded map meet the drawn ones of one image."""

    best_iou: npt.NDArray[np.float64]
    """(num_drawn,) of each visible drawn box: the highest intersection over union with a component's rectangle; 0 = none flagged."""
    best_iobb: npt.NDArray[np.float64]
    """(num_drawn,) the highest intersection over the area of the component's rectangle, IoBB of Wang et al. 2017."""
    found_iobb: npt.NDArray[np.float64]
    """(num_found,) of each component's rectangle: its highest IoBB with a drawn box; 0 where there is none."""

    def detected(self, min_iobb: float) -> npt.NDArray[np.bool_]:
        """(num_drawn,) boxes that a component's rectangle lies in with at least this share of its area.

        A small rectangle inside a large box counts in full: read it beside the IoU.

        Raises:
            InputError: E_RANGE, not in (0, 1].
        """
        check_fraction("min_iobb", min_iobb)
        return self.best_iobb >= min_iobb

    def num_false(self, min_iobb: float) -> int:
        """Component rectangles that match no drawn box at this level: the false positives of Wang et al. 2017.

        Raises:
            InputError: E_RANGE, not in (0, 1].
        """
        check_fraction("min_iobb", min_iobb)
        return int((self.found_iobb < min_iobb).sum())


def match_boxes(anomaly_map: Scores, boxes: Sequence[Box], threshold: float) -> BoxMatch:
    """Rectangles around the components of map > threshold against the drawn boxes, each drawn box by the best component.

    Raises:
        InputError: what :func:`check_scores` and :func:`visible_edges` refuse.
    """
    check_scores(anomaly_map, "map", ndim=2)
    drawn, found = visible_edges(boxes, _shape(anomaly_map)), component_edges(anomaly_map > threshold)
    shared = intersections(found, drawn)
    iou = shared / (areas(found)[:, None] + areas(drawn)[None] - shared)
    iobb = shared / areas(found)[:, None]
    return BoxMatch(
        best_iou=iou.max(axis=0, initial=0),
        best_iobb=iobb.max(axis=0, initial=0),
        found_iobb=iobb.max(axis=1, initial=0),
    )


def _shape(anomaly_map: Scores) -> tuple[int, int]:
    rows, columns = anomaly_map.shape
    return int(rows), int(columns)
