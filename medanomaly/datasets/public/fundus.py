"""The round picture of a fundus photograph: found, cut out and brought to one size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage

from medanomaly.types import BoolArray, FloatArray

FloatTable = npt.NDArray[np.float64]

SEARCH_SIDE = 256
"""The disc is looked for in block means of at most so many px: enough for half a percent of its radius."""
DARKEST = 8.0
"""Grey level of 0..255 below which nothing is retina: sensor and compression noise of the surround."""
RELATIVE = 0.1
"""The retina is brighter than this share of the picture's 99th percentile, also where that is dim."""
MIN_SHARE, MAX_SHARE = 0.05, 0.98
"""Share of bright pixels outside of which there is no disc to speak of, or no surround to cut away."""
MIN_EDGE_PX = 20
"""Fewest points of the rim, of the search picture, that a circle is trusted from."""
MAX_RESIDUAL = 0.03
"""Largest median distance of the rim from the circle, as a share of the radius."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disc:
    """A circle in px of the photograph; pixel (0, 0) covers 0..1 each way."""

    row: float
    column: float
    radius: float


def find_disc(pixels: FloatArray) -> Disc | None:
    """The circle that bounds the bright disc; None where no dark surround is, or what is bright is no disc.

    The largest bright region is taken for the retina; those points of its rim that do not lie on the border of
    the photograph lie on the circle, also where the camera cut the disc above and below. The circle is fitted by least squares
    (Kasa 1976) to these, again and again without the points far from it: notches, text and bright borders fall out.

    Args:
        pixels: (3, H, W) in 0..255.
    """
    step = math.ceil(max(pixels.shape[1:]) / SEARCH_SIDE)
    bright = block_mean(np.maximum(np.maximum(pixels[0], pixels[1]), pixels[2]), step)
    regions, count = ndimage.label(bright > max(DARKEST, RELATIVE * float(np.percentile(bright, 99))))
    if count == 0:
        return None
    sizes = np.bincount(regions.ravel())
    retina: BoolArray = regions == 1 + int(np.argmax(sizes[1:]))
    if not MIN_SHARE <= retina.mean() <= MAX_SHARE:
        return None
    rim = rim_points(retina)
    fitted = fit_circle(rim)
    if fitted is None:
        return None
    row, column, radius = fitted
    residual = float(np.median(np.abs(np.hypot(rim[:, 0] - row, rim[:, 1] - column) - radius)))
    is_plausible = 0.1 * max(retina.shape) < radius < math.hypot(*retina.shape) and residual < MAX_RESIDUAL * radius
    return Disc(row=row * step, column=column * step, radius=radius * step) if is_plausible else None


def rim_points(region: BoolArray) -> FloatTable:
    """(N, 2) row and column of the outer edge, met from all four sides, the border of the picture left out."""
    points = []
    for is_turned in (False, True):
        plane = region.T if is_turned else region
        lines = np.flatnonzero(plane.any(axis=1))
        width = plane.shape[1]
        first, last = plane[lines].argmax(axis=1), width - plane[lines][:, ::-1].argmax(axis=1)
        for along in (first, last):
            inside = (along > 0) & (along < width)
            pair = (lines[inside] + 0.5, along[inside])
            points.append(np.stack(pair[::-1] if is_turned else pair, axis=1).astype(np.float64))
    return np.concatenate(points)


def fit_circle(points: FloatTable) -> tuple[float, float, float] | None:
    """(row, column, radius) of the circle most of the points lie on; None with too few of them."""
    kept = points
    for _ in range(8):
        if len(kept) < MIN_EDGE_PX:
            return None
        # |p|^2 = 2 c p + (r^2 - |c|^2) is linear in the centre c and in the bracket.
        design = np.column_stack([2 * kept, np.ones(len(kept))])
        row, column, rest = np.linalg.lstsq(design, (kept**2).sum(axis=1), rcond=None)[0]
        squared = rest + row**2 + column**2
        if not squared > 0:
            return None
        radius = math.sqrt(squared)
        distance = np.abs(np.hypot(points[:, 0] - row, points[:, 1] - column) - radius)
        kept = points[distance <= max(1.5, 2.5 * float(np.median(distance)))]
    return float(row), float(column), radius


def fundus_picture(pixels: FloatArray, disc: Disc | None, side: int, colour: Literal["rgb", "green"]) -> npt.NDArray[np.uint8]:
    """The disc's bounding square at no more than ``side`` px, black outside of the circle; uncut where there is no disc.

    Args:
        pixels: (3, H, W) in 0..255.
        disc: of :func:`find_disc`.
        side: longest side of the result, px; a smaller photograph is not enlarged.
        colour: "green" gives the green plane, in which vessels and blood contrast most.

    Returns:
        (S, S, 3) or (S, S), antialiased.
    """
    planes = pixels[1:2] if colour == "green" else pixels
    if disc is not None:
        planes = square_around(planes, disc)
    scale = min(1.0, side / max(planes.shape[1:]))
    size = [max(1, round(scale * length)) for length in planes.shape[1:]]
    # Antialiased as everywhere here; a size that is the same is left alone.
    resized = F.interpolate(torch.from_numpy(planes)[None], size, mode="bilinear", antialias=True)[0].numpy()
    if disc is not None:
        grid = np.arange(size[0]) + 0.5 - size[0] / 2
        resized = resized * (np.hypot(grid[:, None], grid[None, :]) <= size[0] / 2)
    written = np.clip(np.rint(resized), 0, 255).astype(np.uint8)
    return written[0] if colour == "green" else np.moveaxis(written, 0, 2)


def square_around(planes: FloatArray, disc: Disc) -> FloatArray:
    """(C, S, S) the square of whole px around the disc, black where it leaves the photograph."""
    side = max(1, round(2 * disc.radius))
    top, left = round(disc.row - side / 2), round(disc.column - side / 2)
    square = np.zeros((len(planes), side, side), np.float32)
    rows = slice(max(0, top), min(planes.shape[1], top + side))
    columns = slice(max(0, left), min(planes.shape[2], left + side))
    square[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = planes[:, rows, columns]
    return square


def block_mean(plane: FloatArray, step: int) -> FloatArray:
    """Means of ``step`` x ``step`` px; what is left over at the right and below is dropped."""
    rows, columns = plane.shape[0] // step, plane.shape[1] // step
    means: FloatArray = plane[: rows * step, : columns * step].reshape(rows, step, columns, step).mean(axis=(1, 3))
    return means
