"""Drawing surfaces whose pixels can be counted: a figure of an exact size, its RGB array, and PNG bytes of either."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageFont

RgbArray = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, sRGB."""

# A reading room is dark: pure white beside a radiograph would blind the reader to faint gray differences.
DARK_GROUND = (13, 16, 20)
TEXT = "#d9dee5"
DIM_TEXT = "#8d97a5"
TICK = (141, 151, 165)
PREDICTED = (0, 229, 255)
"""Cyan: on neither the gray scale nor the inferno map, so an outline stays visible on any pixel."""
REFERENCE = (255, 210, 0)
"""Yellow: told from cyan with any common colour deficiency, and drawn in its own column besides."""

_FAMILY = "DejaVu Sans"  # Comes with matplotlib: the same letters, and the same widths, on every machine.
_DPI = 64  # A power of two: width / 64 * 64 is exact, so a figure never loses a pixel to rounding.


def blank(width_px: int, height_px: int, ground: tuple[int, int, int] = DARK_GROUND) -> Any:
    """Matplotlib figure of exactly (height_px, width_px) pixels in one colour; pyplot's global state is not touched."""
    figure = Figure(figsize=(width_px / _DPI, height_px / _DPI), dpi=_DPI, facecolor=hex_colour(ground))
    FigureCanvasAgg(figure)
    return figure


def put_text(figure: Any, x_px: float, y_px: float, text: str, *, size_px: float, colour: str = TEXT, **style: Any) -> Any:
    """Write text at (x_px, y_px) counted from the top left corner; ``$`` is drawn as it is, never as mathematics."""
    width, height = figure.get_size_inches() * _DPI
    style = {"va": "top", "ha": "left", **style}
    return figure.text(
        x_px / width,
        1 - y_px / height,
        text,
        color=colour,
        fontsize=size_px * 72 / _DPI,
        parse_math=False,
        family=_FAMILY,
        **style,
    )


def text_width(text: str, *, size_px: float, weight: str = "normal") -> float:
    """Width in px that :func:`put_text` gives the longest line of the text, to about a pixel."""
    font = _font(size_px, weight)
    return max((float(font.getlength(line)) for line in text.splitlines()), default=0.0)


def wrapped(text: str, *, width_px: float, lines: int, size_px: float, weight: str = "normal") -> str:
    """Text broken between words, or within a word that is too long, to fit a box; what is left over becomes an ellipsis.

    Args:
        text: its own line breaks are kept.
        width_px: width of the box.
        lines: height of the box in lines, at least 1.
        size_px: letter size.
        weight: as in :func:`put_text`.
    """

    def fits(line: str) -> bool:
        return text_width(line, size_px=size_px, weight=weight) <= width_px

    broken: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            if fits(f"{line} {word}".strip()):
                line = f"{line} {word}".strip()
                continue
            if line:
                broken.append(line)
            line = word
            while not fits(line) and len(line) > 1:
                count = next((n for n in range(min(len(line), int(width_px)), 1, -1) if fits(line[:n])), 1)
                broken.append(line[:count])
                line = line[count:]
        broken.append(line)
    if len(broken) > lines:
        last = broken[lines - 1]
        while last and not fits(last + "…"):
            last = last[:-1]
        broken = [*broken[: lines - 1], last + "…"]
    return "\n".join(broken)


@functools.cache
def _font(size_px: float, weight: str) -> Any:
    return ImageFont.truetype(findfont(FontProperties(family=_FAMILY, weight=weight)), size_px)


def pixels_of(figure: Any) -> RgbArray:
    """The figure as (H, W, 3) uint8."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()


def png_bytes(image: npt.NDArray[np.uint8]) -> bytes:
    """PNG of (H, W) gray or (H, W, 3) RGB uint8, without time stamp or other metadata: equal pixels give equal bytes."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, format="PNG")
    return stream.getvalue()


def hex_colour(rgb: tuple[int, int, int]) -> str:
    """``#rrggbb`` of three values in 0..255."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)
