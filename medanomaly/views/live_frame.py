"""Pictures of the live view: a few images of a batch in rows, what is known of each in columns, and the scale of the map."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medanomaly.types import FloatArray
from medanomaly.views.canvas import DARK_GROUND, DIM_TEXT, TEXT, RgbArray
from medanomaly.views.overlay import map_colours
from medanomaly.views.shown import in_rgb, picture

MAX_ROWS = 4
"""Images of a batch that are shown: enough to see a walk, few enough to draw in milliseconds."""
_LEAST_SIDE, _LARGEST_SIDE = 128, 256
_GAP, _HEADER, _FONT = 4, 22, 12
_BAR_WIDTH, _BAR_LABEL = 12, 52


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One property of every shown image."""

    title: str
    cells: Sequence[RgbArray | None]
    """(H, W, 3) uint8 for each row; None = not there yet."""


def image_cells(x: FloatArray) -> tuple[RgbArray, ...]:
    """Pictures of (B, C, H, W) images in model space; what is not finite is black, what lies outside of [-1, 1] is clipped."""
    finite = np.nan_to_num(x, nan=-1.0, posinf=1.0, neginf=-1.0)
    return tuple(sized(in_rgb(picture(one))) for one in finite)


def map_cells(anomaly_map: FloatArray, *, scale_max: float) -> tuple[RgbArray, ...]:
    """Pictures of (B, 1, H, W) maps: 0 is black, ``scale_max`` and above the brightest colour; what is not finite is black."""
    finite = np.nan_to_num(anomaly_map, nan=0.0, posinf=scale_max, neginf=0.0).clip(min=0)
    return tuple(sized(map_colours(one[0], scale_max=scale_max)) for one in finite)


def sized(image: RgbArray) -> RgbArray:
    """The picture at a size to look at: small ones by whole factors, so that a pixel stays a square, large ones down to 256 px."""
    rows, columns = image.shape[:2]
    side = max(rows, columns)
    if side > _LARGEST_SIDE:
        size = (max(1, round(columns * _LARGEST_SIDE / side)), max(1, round(rows * _LARGEST_SIDE / side)))
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    factor = max(1, _LEAST_SIDE // side)
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def sheet(columns: Sequence[Column], *, rows: Sequence[str], scale_max: float | None = None) -> RgbArray:
    """(H, W, 3) uint8 with the columns side by side, their titles above, the rows' names at the left, a colour bar at the right.

    Drawn by Pillow alone: the live view draws in a thread of its own, and matplotlib's fonts must not be shared by threads.

    Args:
        columns: at least one, each with a cell for every row; one cell at least is a picture, all pictures have one size.
        rows: names of the rows.
        scale_max: value of the brightest map colour; None = no colour bar.
    """
    height, width = next(cell.shape[:2] for column in columns for cell in column.cells if cell is not None)
    font = _font()
    left = _GAP + max(round(font.getlength(name)) for name in rows) + _GAP
    right = _GAP + _BAR_WIDTH + _BAR_LABEL if scale_max is not None else 0
    page = Image.new("RGB", (left + len(columns) * (width + _GAP) + right, _HEADER + len(rows) * (height + _GAP)), DARK_GROUND)
    draw = ImageDraw.Draw(page)
    for index, column in enumerate(columns):
        x = left + index * (width + _GAP)
        draw.text((x, 4), column.title, fill=TEXT, font=font)
        for row, cell in enumerate(column.cells):
            if cell is not None:
                page.paste(Image.fromarray(cell), (x, _HEADER + row * (height + _GAP)))
    for row, name in enumerate(rows):
        draw.text((_GAP, _HEADER + row * (height + _GAP)), name, fill=DIM_TEXT, font=font)
    if scale_max is not None:
        x, bottom = left + len(columns) * (width + _GAP) + _GAP, _HEADER + height
        ramp = np.linspace(scale_max, 0, height, dtype=np.float32)[:, None].repeat(_BAR_WIDTH, axis=1)
        page.paste(Image.fromarray(map_colours(ramp, scale_max=scale_max)), (x, _HEADER))
        draw.text((x + _BAR_WIDTH + _GAP, _HEADER), f"≥ {scale_max:.3g}", fill=DIM_TEXT, font=font)
        draw.text((x + _BAR_WIDTH + _GAP, bottom), "0", fill=DIM_TEXT, font=font, anchor="ls")
    return np.asarray(page)


def row_names(shown: int, batch_size: int) -> tuple[str, ...]:
    """What a row is called: its position in the batch, "1 of 8". Never a file or a person."""
    return tuple(f"{index} of {batch_size}" for index in range(1, shown + 1))


def images_shown(shown: int, batch_size: int) -> str:
    """ "image 1 of 1", "images 1-4 of 8"."""
    return f"image 1 of {batch_size}" if shown == 1 else f"images 1-{shown} of {batch_size}"


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    # Loaded here, not shared with canvas.py, whose fonts the main thread draws with.
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), _FONT)
