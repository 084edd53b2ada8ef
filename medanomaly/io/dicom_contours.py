"""A mask's outlines as polygons in the coordinates of DICOM graphics, few and short enough for one object."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from skimage.measure import approximate_polygon, find_contours

from medanomaly.types import BoolArray

MAX_POINTS = 8000
"""Of one polygon: GraphicData counts its bytes in 16 bits, so 8,191 pairs of 4-byte floats end it (PS3.5 section 7.1.2)."""
MAX_CONTOURS = 300
"""Of one image: a mask of speckles is no drawing."""
_TOLERANCE_PX = 0.25
_PIECE = 100


def contours_of(mask: BoolArray) -> tuple[list[npt.NDArray[np.float64]], int]:
    """Closed polygons around the flagged pixels, the largest first, within a pixel of their edges; holes have polygons of their own.

    Args:
        mask: (H, W), True = flagged.

    Returns:
        Up to ``MAX_CONTOURS`` arrays (n, 2) of x and y in pixels, (0, 0) = top left corner of the first pixel and (W, H) = bottom right
        corner of the last (PS3.3 section C.10.5), the first point repeated at the end; and how many there are in all.
    """
    # A margin, so that what touches the border is closed there: its index 0 lies half a pixel outside of the image's corner.
    lines = find_contours(np.pad(mask, 1).astype(np.float64), 0.5)
    limits = np.array(mask.shape[::-1], np.float64)
    polygons = [np.clip(simplified(line)[:, ::-1] - 0.5, 0, limits) for line in lines]
    ranked = sorted((polygon for polygon in polygons if len(polygon) > 3), key=area_px, reverse=True)
    return ranked[:MAX_CONTOURS], len(ranked)


def simplified(line: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The closed polygon without points that lie on it anyway (Douglas and Peucker 1973), with at most ``MAX_POINTS``.

    Piece by piece: on a comb the algorithm takes away one tooth at a time, which is quadratic in the length.
    """
    pieces = [approximate_polygon(line[start : start + _PIECE + 1], _TOLERANCE_PX) for start in range(0, len(line) - 1, _PIECE)]
    short = np.concatenate([*(piece[:-1] for piece in pieces), line[-1:]])
    if len(short) > MAX_POINTS:
        # Of an edge that no drawing can follow, every second, third, ... corner.
        short = np.concatenate([short[:-1][:: math.ceil(len(short) / (MAX_POINTS - 1))], short[-1:]])
    return np.asarray(short, np.float64)


def area_px(polygon: npt.NDArray[np.float64]) -> float:
    """Area inside a closed polygon (n, 2)."""
    x, y = polygon.T
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
