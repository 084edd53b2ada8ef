"""A contact sheet: many cases on one page, one row each, all in one colour scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medanomaly.errors import ConfigError, InputError
from medanomaly.files import atomic_write
from medanomaly.types import BoolArray, FloatArray
from medanomaly.views.canvas import (
    DIM_TEXT,
    PREDICTED,
    REFERENCE,
    TEXT,
    TICK,
    RgbArray,
    blank,
    hex_colour,
    pixels_of,
    png_bytes,
    put_text,
    text_width,
    wrapped,
)
from medanomaly.views.checks import check_image, check_map, check_scale
from medanomaly.views.overlay import draw_outline, map_colours, scale_ticks
from medanomaly.views.shown import ground, in_rgb, picture, shown_channel

_MARGIN, _GAP, _CAPTION_WIDTH = 20, 8, 176
_TITLE_HEIGHT, _HEADING_HEIGHT = 78, 26
_MIN_CELL = 192
_MAX_HEIGHT = 2**16 - 1  # What matplotlib's Agg canvas can hold.


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetCase:
    """One row of the sheet; all arrays have the same H and W."""

    caption: str
    """Shown beside the row. The caller makes it; it must not identify the patient."""
    pixels: FloatArray
    """(C, H, W) or (H, W) in [-1, 1]."""
    anomaly_map: FloatArray
    """(H, W) >= 0."""
    pseudo_healthy: FloatArray | None = None
    """As pixels; None = the method makes none."""
    reference: BoolArray | None = None
    """(H, W), True = lesion by the annotator; None = not annotated."""


def contact_sheet(
    path: Path,
    cases: Sequence[SheetCase],
    *,
    threshold: float,
    scale_max: float,
    unit: str,
    title: str = "",
    cell_px: int = 256,
) -> None:
    """Write a PNG: rows are cases; columns are original, pseudo-healthy, difference map, predicted and reference outline.

    A column that no case can fill is left out; a single missing image says why. Small images grow by whole factors with
    nearest neighbour, so every source pixel stays a visible square. Images larger than a cell shrink by whole factors:
    images by the block's mean, map and masks by the block's maximum, so that no small finding disappears. Colour images are
    shown in colour, and as gray where an outline is drawn; of other channels the first is shown, which the sheet says.

    Args:
        path: file to write, whole or not at all.
        cases: rows, top to bottom; sizes may differ between cases.
        threshold: operating point in the map's unit; flagged where map > threshold.
        scale_max: value of the brightest colour, one for the whole sheet.
        unit: what the map's numbers are.
        title: first line of the sheet; may be empty.
        cell_px: side of an image cell, at least 192 so that headings stay apart.

    Raises:
        InputError: no case, or a case whose arrays differ in size, are not finite, or negative in the map.
        ConfigError: a scale or cell size that cannot be drawn.
        ResourceError: the file cannot be written.
    """
    if not cases:
        raise InputError("a contact sheet needs at least one case", code="E_EMPTY", fix="pass the cases to draw")
    if cell_px < _MIN_CELL:
        raise ConfigError(f"cell_px must be at least {_MIN_CELL}, got {cell_px}", code="E_SIZE", fix="leave the default of 256")
    check_scale(threshold, scale_max)
    columns = _columns(cases)
    lefts = [_MARGIN + _CAPTION_WIDTH + index * (cell_px + _GAP) for index in range(len(columns))]
    first_row = _TITLE_HEIGHT + _HEADING_HEIGHT
    width, height = lefts[-1] + cell_px + _MARGIN, first_row + len(cases) * (cell_px + _GAP) + _MARGIN - _GAP
    if height > _MAX_HEIGHT:
        raise InputError(
            f"{len(cases)} cases need {height} px, a sheet has at most {_MAX_HEIGHT}", code="E_LIMIT", fix="make several sheets"
        )
    bar_left = max(lefts[0], width - _MARGIN - 420)
    figure = blank(width, height)
    heading_style: dict[str, Any] = {"size_px": 19.0, "weight": "bold"}
    put_text(figure, _MARGIN, 16, wrapped(title, width_px=bar_left - 2 * _MARGIN, lines=1, **heading_style), **heading_style)
    put_text(figure, _MARGIN, 44, "Research use only, not for diagnosis", size_px=13, colour=DIM_TEXT)
    # Room enough for the longest text: the captions' column has no heading.
    for text in sorted({shown_channel(1 if case.pixels.ndim == 2 else len(case.pixels)) for case in cases} - {""})[:1]:
        put_text(figure, _MARGIN, _TITLE_HEIGHT + 4, text, size_px=13, colour=DIM_TEXT)
    for left, (heading, colour) in zip(lefts, columns.items(), strict=True):
        put_text(figure, left, _TITLE_HEIGHT + 4, heading, size_px=13.5, colour=colour)

    placed: list[tuple[int, int, RgbArray]] = []
    for row, case in enumerate(cases):
        top = first_row + row * (cell_px + _GAP)
        caption = wrapped(case.caption, width_px=_CAPTION_WIDTH - 16, lines=cell_px // 20, size_px=13.5)
        put_text(figure, _MARGIN, top + 4, caption, size_px=13.5, linespacing=1.35)
        cells = _cells(case, threshold=threshold, scale_max=scale_max, cell_px=cell_px)
        for left, heading in zip(lefts, columns, strict=True):
            cell = cells[heading]
            if isinstance(cell, str):
                put_text(
                    figure, left + cell_px / 2, top + cell_px / 2, cell, size_px=13, colour=DIM_TEXT, ha="center", va="center"
                )
            else:
                placed.append((top + (cell_px - cell.shape[0]) // 2, left + (cell_px - cell.shape[1]) // 2, cell))
    placed += _bar(figure, bar_left, width - _MARGIN - 24, threshold=threshold, scale_max=scale_max, unit=unit)

    page = pixels_of(figure)
    for top, left, image in placed:
        page[top : top + image.shape[0], left : left + image.shape[1]] = image
    with atomic_write(path) as stream:
        stream.write(png_bytes(page))


_ORIGINAL, _HEALTHY, _DIFFERENCE = "Original", "Pseudo-healthy", "Difference map"
_PREDICTED, _REFERENCE = "Predicted outline", "Reference outline"


def _columns(cases: Sequence[SheetCase]) -> dict[str, str]:
    """Headings, left to right, with the colour they are written in (an outline's heading has the outline's colour)."""
    headings = {_ORIGINAL: TEXT}
    if any(case.pseudo_healthy is not None for case in cases):
        headings[_HEALTHY] = TEXT
    headings |= {_DIFFERENCE: TEXT, _PREDICTED: hex_colour(PREDICTED)}
    if any(case.reference is not None for case in cases):
        headings[_REFERENCE] = hex_colour(REFERENCE)
    return headings


def _cells(case: SheetCase, *, threshold: float, scale_max: float, cell_px: int) -> dict[str, RgbArray | str]:
    """One image per heading, or the words to write where there is none."""
    check_image(case.pixels, "pixels")
    size = case.pixels.shape[-2:]
    check_map(case.anomaly_map, size=size)
    for name, array, shape in (
        ("pseudo_healthy", case.pseudo_healthy, case.pixels.shape),
        ("reference", case.reference, size),
    ):
        if array is not None and array.shape != shape:
            raise InputError(
                f"{name} is {array.shape}, pixels are {case.pixels.shape}",
                code="E_GEOMETRY",
                fix="give a case's arrays at one size",
            )
    fitting, strongest = fitting_cell(case.pixels, cell_px), strongest_in_cell(case.anomaly_map, cell_px)
    gray = grown_to_cell(in_rgb(ground(fitting)), cell_px)
    predicted = grown_to_cell(strongest > threshold, cell_px)
    reference = None if case.reference is None else grown_to_cell(strongest_in_cell(case.reference, cell_px), cell_px)
    return {
        _ORIGINAL: grown_to_cell(in_rgb(picture(fitting)), cell_px),
        _HEALTHY: "none made"
        if case.pseudo_healthy is None
        else grown_to_cell(in_rgb(picture(fitting_cell(case.pseudo_healthy, cell_px))), cell_px),
        _DIFFERENCE: grown_to_cell(map_colours(strongest, scale_max=scale_max), cell_px),
        # Outlines come after enlarging: a thin line beside the finding, not a wall of source pixels around it.
        _PREDICTED: draw_outline(gray, predicted, PREDICTED, thickness_px=2),
        _REFERENCE: "not annotated" if reference is None else draw_outline(gray, reference, REFERENCE, thickness_px=2),
    }


def fitting_cell(pixels: FloatArray, cell_px: int) -> FloatArray:
    """(C, H, W) or (H, W) shrunk to fit the cell, by the mean of each block."""
    planes = pixels[None] if pixels.ndim == 2 else pixels
    return np.stack([_shrunk(plane, cell_px, np.mean) for plane in planes])


def strongest_in_cell(plane: npt.NDArray[Any], cell_px: int) -> npt.NDArray[Any]:
    """(H, W) map or mask shrunk to fit the cell by the largest value of each block: a small finding does not disappear."""
    return _shrunk(plane, cell_px, np.max)


def _shrunk(plane: npt.NDArray[Any], cell_px: int, reduce: Any) -> npt.NDArray[Any]:
    """(H, W) reduced in square blocks by the smallest whole factor that fits the cell; unchanged where it fits already."""
    factor = math.ceil(max(plane.shape) / cell_px)
    if factor == 1:
        return plane
    # Edge padding: the last, incomplete block must not be darkened by zeros that are in no image.
    padded = np.pad(plane, [(0, -side % factor) for side in plane.shape], mode="edge")
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    return np.asarray(reduce(blocks, axis=(1, 3)))


def grown_to_cell(image: npt.NDArray[Any], cell_px: int) -> npt.NDArray[Any]:
    """(H, W) or (H, W, 3) enlarged by the largest whole factor that fits the cell: each pixel becomes a square."""
    factor = max(1, cell_px // max(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _bar(figure: Any, left: int, right: int, *, threshold: float, scale_max: float, unit: str) -> list[tuple[int, int, RgbArray]]:
    """Write the labels of the sheet's horizontal colour bar and return the images to place: ramp and tick lines."""
    top, thickness, width = 42, 11, right - left
    # A long unit stands alone: the column's heading says what it is of.
    named = f"Difference map: {unit}"
    heading = named if text_width(named, size_px=13) <= width else wrapped(unit, width_px=width, lines=1, size_px=13)
    put_text(figure, left, 7, heading, size_px=13, colour=DIM_TEXT)
    ramp = np.repeat(np.linspace(0, scale_max, width, dtype=np.float32)[None], thickness, axis=0)
    placed = [(top, left, map_colours(ramp, scale_max=scale_max))]
    marks = [(scale_max, f"≥ {scale_max:.4g}")]
    marks += [(value, f"{value:.4g}") for value in scale_ticks(scale_max, keep_clear=-scale_max, gap=60 * scale_max / width)]
    for value, label in marks:
        x = left + round((width - 1) * value / scale_max)
        placed.append((top + thickness, x, np.full((4, 1, 3), TICK, dtype=np.uint8)))
        put_text(figure, x, top + thickness + 5, label, size_px=12, colour=DIM_TEXT, ha="center")
    # The operating point is named above the bar: there it can stand anywhere without meeting a tick's label.
    x = left + round((width - 1) * threshold / scale_max)
    side = "left" if x < left + 45 else "right" if x > right - 45 else "center"
    put_text(figure, x, top - 17, f"threshold {threshold:.4g}", size_px=12, colour=hex_colour(PREDICTED), ha=side)
    return [*placed, (top - 3, x, np.full((thickness + 3, 1, 3), PREDICTED, dtype=np.uint8))]
