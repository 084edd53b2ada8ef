"""From one pixel grid to another: exact area averages when reducing, bilinear when enlarging; masks, boxes and spacing alike."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from medanomaly.types import BoolArray, Box, FloatArray

Fit = Literal["pad", "stretch", "crop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Which rectangle of a native image an output square shows, in native px; pixel (0, 0) covers 0..1 each way."""

    native_size: tuple[int, int]
    """(rows, columns) of the source."""
    start: tuple[int, int]
    """First row and column shown; negative where the square is padded."""
    shown: tuple[int, int]
    """Rows and columns shown, padding included."""
    size: int
    """Side of the output square, px."""

    @property
    def step(self) -> tuple[float, float]:
        """Native rows and columns that become one output pixel."""
        return self.shown[0] / self.size, self.shown[1] / self.size


def extent_of(native_size: tuple[int, int], size: int, fit: Fit) -> Extent:
    """What a square of ``size`` px shows of an image.

    "pad": all of it, centred in a square of its longest side, as :func:`medanomaly.datasets.transforms.to_model` does; "crop": the
    centred square of its shortest side; "stretch": all of it, rows and columns scaled by different factors.
    """
    rows, columns = native_size
    if fit == "stretch":
        return Extent(native_size=native_size, start=(0, 0), shown=native_size, size=size)
    side = max(rows, columns) if fit == "pad" else min(rows, columns)
    # Floor division towards zero: a padded square begins where to_model's begins.
    start = tuple(-((side - length) // 2) if fit == "pad" else (length - side) // 2 for length in native_size)
    return Extent(native_size=native_size, start=(start[0], start[1]), shown=(side, side), size=size)


@functools.lru_cache(maxsize=256)
def axis_weights(native: int, start: int, shown: int, size: int) -> csr_array:
    """(size, native) float32: row i holds the share of each source pixel in output pixel i, along one axis.

    Reducing: the part of output pixel i that each source pixel covers (box filter with exact fractions). Enlarging: bilinear
    between pixel centres, the edge of the square repeated. Rows sum to 1; less where padding is covered, which is black.
    """
    step = shown / size
    targets = np.arange(size)
    if shown >= size:
        low, high = start + targets * step, start + (targets + 1) * step
        width = int(np.ceil(step)) + 1
        sources = np.floor(low).astype(np.int64)[:, None] + np.arange(width)
        weights = (np.minimum(high[:, None], sources + 1) - np.maximum(low[:, None], sources)).clip(min=0) / step
    else:
        centre = (start + (targets + 0.5) * step - 0.5).clip(start, start + shown - 1)
        first = np.floor(centre).astype(np.int64)
        sources = np.stack([first, first + 1], axis=1)
        weights = np.stack([first + 1 - centre, centre - first], axis=1)
    rows = np.broadcast_to(targets[:, None], sources.shape)
    kept = (sources >= 0) & (sources < native) & (weights > 0)
    return csr_array((weights[kept].astype(np.float32), (rows[kept], sources[kept])), shape=(size, native))


def resample(pixels: FloatArray, extent: Extent) -> tuple[FloatArray, FloatArray]:
    """An image on the output grid.

    Args:
        pixels: (C, H, W) finite, H and W as ``extent.native_size``; what lies outside of the image counts as 0.

    Returns:
        ((C, S, S) float32, (S, S) share of each output pixel that lies on the image, in [0, 1]).
    """
    down, across = (
        axis_weights(extent.native_size[axis], extent.start[axis], extent.shown[axis], extent.size) for axis in (0, 1)
    )
    planes = [(across @ np.ascontiguousarray((down @ plane).T)).T for plane in pixels]  # (S, W) -> (W, S) -> (S, S)
    inside = np.outer(down.sum(axis=1), across.sum(axis=1)).clip(0, 1)
    return np.ascontiguousarray(planes, dtype=np.float32), inside.astype(np.float32)


def resample_mask(mask: BoolArray, extent: Extent) -> BoolArray:
    """(S, S) bool: the source pixel under the centre of each output pixel; False where that is padding."""
    result = np.zeros((extent.size, extent.size), dtype=np.bool_)
    places = []
    for axis in (0, 1):
        source = np.floor(extent.start[axis] + (np.arange(extent.size) + 0.5) * extent.step[axis]).astype(np.int64)
        target = np.flatnonzero((source >= 0) & (source < extent.native_size[axis]))
        places.append((target, source[target]))
    (rows, native_rows), (columns, native_columns) = places
    result[np.ix_(rows, columns)] = mask[np.ix_(native_rows, native_columns)]
    return result


def resample_boxes(boxes: Sequence[Box] | None, extent: Extent) -> tuple[Box, ...] | None:
    """Boxes in px of the output, cut at its border; what lies outside of it altogether is dropped.

    None and () stay what they are. Where no box is left the result is None, not annotated: () would say that there is no lesion, of
    an image whose lesion may reach beyond its box or is outside of the crop.
    """
    if boxes is None:
        return None
    (row_step, column_step), (top, left) = extent.step, extent.start
    moved = []
    for box in boxes:
        x_min, x_max = ((edge - left) / column_step for edge in (box.x_min, box.x_max))
        y_min, y_max = ((edge - top) / row_step for edge in (box.y_min, box.y_max))
        x_min, y_min, x_max, y_max = (min(max(edge, 0.0), float(extent.size)) for edge in (x_min, y_min, x_max, y_max))
        if x_min < x_max and y_min < y_max:
            moved.append(Box(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max, label=box.label))
    return tuple(moved) if moved or not boxes else None


def boxes_lost(boxes: Sequence[Box] | None, extent: Extent) -> tuple[str, ...]:
    """A note where boxes lie outside of what is shown."""
    num_left = len(resample_boxes(boxes, extent) or ())
    if not boxes or num_left == len(boxes):
        return ()
    then = "" if num_left else "; boxes are left blank (not annotated)"
    return (f"W_BOX_LOST: {len(boxes) - num_left} of {len(boxes)} boxes lie outside of what is shown{then}",)


def resample_spacing(spacing_mm: tuple[float, float] | None, extent: Extent) -> tuple[float, float] | None:
    """(row, column) distance between the centres of output pixels in mm; None stays None."""
    return None if spacing_mm is None else (spacing_mm[0] * extent.step[0], spacing_mm[1] * extent.step[1])
