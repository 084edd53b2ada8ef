"""Generated images side by side, a block for each label, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medanomaly.errors import InputError
from medanomaly.types import FloatArray
from medanomaly.views.canvas import DIM_TEXT, RgbArray, blank, pixels_of, png_bytes, put_text, text_width, wrapped
from medanomaly.views.shown import in_rgb, picture, shown_channel

COLUMNS = 8
MOST_SHOWN = 64
"""Images on a grid, shared by the labels; each has a row at least."""
_LEAST_CELL_PX = 96
_MARGIN, _GAP, _BLOCK_GAP, _TOP = 20, 4, 12, 68
_LEAST_WIDTH = 480


@dataclass(frozen=True, slots=True, kw_only=True)
class GridBlock:
    """The images of one label."""

    name: str
    images: Sequence[FloatArray]
    """(C, H, W) in [-1, 1] each, all of one size; the first are shown."""


def sample_grid(blocks: Sequence[GridBlock], *, title: str) -> bytes:
    """A PNG: blocks from top to bottom, each with its name at the left and up to eight images a line.

    Small images grow by a whole factor, so that a pixel stays a square. Gray is gray, three channels are colours, of other numbers
    the first is shown.

    Args:
        blocks: at least one image each, all of one size.
        title: first line.

    Raises:
        InputError: E_EMPTY, no image.
    """
    if not blocks or not all(block.images for block in blocks):
        raise InputError("no image to draw", code="E_EMPTY", fix="pass at least one for each label")
    most = max(COLUMNS, MOST_SHOWN // len(blocks) // COLUMNS * COLUMNS)
    shown = [[cell(image) for image in block.images[:most]] for block in blocks]
    side_y, side_x = shown[0][0].shape[:2]
    columns = min(COLUMNS, max(len(cells) for cells in shown))
    left = _MARGIN + min(180, 12 + max(round(text_width(block.name, size_px=14)) for block in blocks))
    width = max(left + columns * (side_x + _GAP) + _MARGIN, _LEAST_WIDTH)
    lines = [-(-len(cells) // columns) for cells in shown]
    tops = [_TOP + sum(lines[:index]) * (side_y + _GAP) + index * _BLOCK_GAP for index in range(len(blocks))]
    height = tops[-1] + lines[-1] * (side_y + _GAP) + _MARGIN
    figure = blank(width, height)
    style = {"size_px": 18.0, "weight": "bold"}
    put_text(figure, _MARGIN, 14, wrapped(title, width_px=width - 2 * _MARGIN, lines=1, **style), **style)  # type: ignore[arg-type]
    parts = ["Generated images, of no patient. Not for diagnosis.", shown_channel(len(blocks[0].images[0]))]
    hidden = [f"{len(cells)} of {len(block.images)}" for block, cells in zip(blocks, shown, strict=True)]
    if any(len(cells) < len(block.images) for block, cells in zip(blocks, shown, strict=True)):
        parts.append(f"Shown of each label: {', '.join(dict.fromkeys(hidden))}.")
    said = wrapped(" ".join(part for part in parts if part), width_px=width - 2 * _MARGIN, lines=1, size_px=13)
    put_text(figure, _MARGIN, 40, said, size_px=13, colour=DIM_TEXT)
    for block, top in zip(blocks, tops, strict=True):
        put_text(figure, _MARGIN, top + 4, wrapped(block.name, width_px=left - _MARGIN - 8, lines=4, size_px=14), size_px=14)
    page = pixels_of(figure)
    for top, cells in zip(tops, shown, strict=True):
        for index, image in enumerate(cells):
            y, x = top + index // columns * (side_y + _GAP), left + index % columns * (side_x + _GAP)
            page[y : y + side_y, x : x + side_x] = image
    return png_bytes(page)


def cell(image: FloatArray) -> RgbArray:
    """(H, W, 3) uint8 of (C, H, W) in [-1, 1], at least 96 px high by a whole factor."""
    factor = -(-_LEAST_CELL_PX // image.shape[1])
    return np.ascontiguousarray(in_rgb(picture(image)).repeat(factor, axis=0).repeat(factor, axis=1))
