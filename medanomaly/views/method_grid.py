"""The same cases under several methods: rows are cases, columns the image, the reference and each method's map on its own scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medanomaly.errors import InputError
from medanomaly.types import BoolArray, FloatArray
from medanomaly.views.canvas import (
    DIM_TEXT,
    PREDICTED,
    REFERENCE,
    TEXT,
    RgbArray,
    blank,
    hex_colour,
    pixels_of,
    png_bytes,
    put_text,
    wrapped,
)
from medanomaly.views.checks import check_map, check_scale
from medanomaly.views.overlay import draw_outline, map_colours
from medanomaly.views.sheet import fitting_cell, grown_to_cell, strongest_in_cell
from medanomaly.views.shown import ground, in_rgb, picture

_MARGIN, _GAP, _CAPTION_WIDTH = 20, 8, 128
_HEADING_TOP, _HEADING_HEIGHT, _BAR_HEIGHT = 82, 64, 38


@dataclass(frozen=True, slots=True, kw_only=True)
class GridMethod:
    """One column of maps."""

    name: str
    maps: tuple[FloatArray, ...]
    """(H, W) >= 0, one a case, of that case's size."""
    threshold: float | None
    """Contours are drawn where map > threshold; None = none."""
    scale_max: float
    """Value of the brightest colour: one for all of this method's maps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridCase:
    """One row."""

    caption: str
    """Must not identify the patient."""
    pixels: FloatArray
    """(C, H, W) in [-1, 1]."""
    reference: BoolArray | None


def method_grid(cases: Sequence[GridCase], methods: Sequence[GridMethod], *, title: str, cell_px: int = 256) -> bytes:
    """PNG of the grid. Scales differ between columns, because the methods' numbers mean different things, and stand above them.

    Args:
        cases: rows, top to bottom.
        methods: columns, left to right.
        title: first line.
        cell_px: side of a cell.

    Raises:
        InputError: no case, no method, or another number of maps than cases.
        ConfigError: a scale that cannot be drawn.
    """
    if not cases or not methods or any(len(method.maps) != len(cases) for method in methods):
        raise InputError("a grid needs cases, and a map of each under every method", code="E_MALFORMED", fix="give both")
    lefts = [_MARGIN + _CAPTION_WIDTH + index * (cell_px + _GAP) for index in range(2 + len(methods))]
    first_row = _HEADING_TOP + _HEADING_HEIGHT + _BAR_HEIGHT
    figure = blank(lefts[-1] + cell_px + _MARGIN, first_row + len(cases) * (cell_px + _GAP) + _MARGIN - _GAP)
    wide = lefts[-1] + cell_px - _MARGIN
    put_text(figure, _MARGIN, 14, wrapped(title, width_px=wide, lines=1, size_px=19, weight="bold"), size_px=19, weight="bold")
    said = "Each method's map has its own scale, the same for all cases. Cyan: map above its threshold. Not for diagnosis."
    put_text(figure, _MARGIN, 42, wrapped(said, width_px=wide, lines=2, size_px=13), size_px=13, colour=DIM_TEXT)
    for left, heading, colour in zip(lefts, ("Image", "Reference"), (TEXT, hex_colour(REFERENCE)), strict=False):
        put_text(figure, left, _HEADING_TOP + 4, heading, size_px=13.5, colour=colour, linespacing=1.2)
    placed: list[tuple[int, int, RgbArray]] = []
    for left, method in zip(lefts[2:], methods, strict=True):
        placed += _head(figure, left, method, cell_px)
    for row, case in enumerate(cases):
        top = first_row + row * (cell_px + _GAP)
        caption = wrapped(case.caption, width_px=_CAPTION_WIDTH - 14, lines=cell_px // 20, size_px=13)
        put_text(figure, _MARGIN, top + 4, caption, size_px=13, linespacing=1.35)
        if case.reference is None:
            place = (lefts[1] + cell_px / 2, top + cell_px / 2)
            put_text(figure, *place, "not annotated", size_px=13, colour=DIM_TEXT, ha="center", va="center")
        for left, cell in zip(lefts, _cells(case, [(one, one.maps[row]) for one in methods], cell_px), strict=True):
            if cell is not None:
                placed.append((top + (cell_px - cell.shape[0]) // 2, left + (cell_px - cell.shape[1]) // 2, cell))
    page = pixels_of(figure)
    for top, left, image in placed:
        page[top : top + image.shape[0], left : left + image.shape[1]] = image
    return png_bytes(page)


def _head(figure: object, left: int, method: GridMethod, cell_px: int) -> list[tuple[int, int, RgbArray]]:
    """Write a column's name and scale; the colour bar and its threshold mark, to be placed."""
    check_scale(method.threshold or 0.0, max(method.scale_max, method.threshold or 0.0))
    name = wrapped(method.name, width_px=cell_px - 12, lines=2, size_px=13.5)
    put_text(figure, left, _HEADING_TOP + 4, name, size_px=13.5, linespacing=1.2)
    top = _HEADING_TOP + _HEADING_HEIGHT
    ramp = np.repeat(np.linspace(0, method.scale_max, cell_px, dtype=np.float32)[None], 10, axis=0)
    put_text(figure, left, top + 14, "0", size_px=11.5, colour=DIM_TEXT)
    put_text(figure, left + cell_px, top + 14, f"≥ {method.scale_max:.3g}", size_px=11.5, colour=DIM_TEXT, ha="right")
    placed = [(top, left, map_colours(ramp, scale_max=method.scale_max))]
    if method.threshold is not None:
        x = left + min(round((cell_px - 1) * method.threshold / method.scale_max), cell_px - 2)
        placed.append((top - 2, x, np.full((14, 2, 3), PREDICTED, dtype=np.uint8)))
        said = f"threshold {method.threshold:.3g}"
        put_text(figure, left, top - 20, said, size_px=11.5, colour=hex_colour(PREDICTED))
    return placed


def _cells(case: GridCase, maps: Sequence[tuple[GridMethod, FloatArray]], cell_px: int) -> list[RgbArray | None]:
    """Image, reference and maps of one row, enlarged by whole factors or shrunk to fit; None = nothing to place."""
    fitting = fitting_cell(case.pixels, cell_px)
    cells: list[RgbArray | None] = [grown_to_cell(in_rgb(picture(fitting)), cell_px)]
    gray = grown_to_cell(in_rgb(ground(fitting)), cell_px)
    if case.reference is None:
        cells.append(None)
    else:
        cells.append(
            draw_outline(gray, grown_to_cell(strongest_in_cell(case.reference, cell_px), cell_px), REFERENCE, thickness_px=2)
        )
    for method, anomaly_map in maps:
        check_map(anomaly_map, size=case.pixels.shape[-2:])
        strongest = strongest_in_cell(anomaly_map, cell_px)
        drawn = grown_to_cell(map_colours(strongest, scale_max=method.scale_max), cell_px)
        level = math.inf if method.threshold is None else method.threshold
        cells.append(draw_outline(drawn, grown_to_cell(strongest > level, cell_px), PREDICTED, thickness_px=2))
    return cells
