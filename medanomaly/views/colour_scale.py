"""A lying colour bar to stand above many images that share one scale: what a colour means, in which unit, and where the threshold is."""

from __future__ import annotations

import numpy as np

from medanomaly.views.canvas import (
    DIM_TEXT,
    PREDICTED,
    TICK,
    blank,
    hex_colour,
    pixels_of,
    png_bytes,
    put_text,
    text_width,
    wrapped,
)
from medanomaly.views.checks import check_scale
from medanomaly.views.overlay import map_colours, scale_ticks

_MARGIN, _BAR, _FONT = 24, 14, 13.0


def colour_scale(scale_max: float, threshold: float | None, *, unit: str, width_px: int = 480) -> bytes:
    """PNG of a map's colours from 0 to ``scale_max``.

    Args:
        scale_max: value of the brightest colour; labelled with >= because larger values are clipped to it.
        threshold: operating point in the same unit, marked in cyan; None = there is none.
        unit: what the numbers are, in at most two lines above the bar.
        width_px: of the picture.

    Raises:
        ConfigError: a scale that cannot be drawn.
    """
    check_scale(threshold or 0.0, scale_max)
    inner = width_px - 2 * _MARGIN
    heading = wrapped(f"Difference map: {unit}", width_px=inner, lines=2, size_px=_FONT)
    named_at = 10 + 18 * (heading.count("\n") + 1)
    top = named_at + (20 if threshold is not None else 4)
    figure = blank(width_px, top + _BAR + 30)
    put_text(figure, _MARGIN, 8, heading, size_px=_FONT, colour=DIM_TEXT, linespacing=1.25)
    marks = [(scale_max, f"≥ {scale_max:.3g}")]
    marks += [(value, f"{value:.4g}") for value in scale_ticks(scale_max, keep_clear=-scale_max, gap=64 * scale_max / inner)]
    for value, label in marks:
        x = _MARGIN + (inner - 1) * value / scale_max
        put_text(figure, x, top + _BAR + 7, label, size_px=_FONT - 1, colour=DIM_TEXT, ha="center")
    if threshold is not None:
        label = f"threshold {threshold:.4g}"
        half = text_width(label, size_px=_FONT) / 2
        at = _MARGIN + (inner - 1) * threshold / scale_max
        x = min(max(at, _MARGIN + half), width_px - _MARGIN - half)
        put_text(figure, x, named_at - 2, label, size_px=_FONT, colour=hex_colour(PREDICTED), ha="center")
    page = pixels_of(figure)
    ramp = np.repeat(np.linspace(0, scale_max, inner, dtype=np.float32)[None], _BAR, axis=0)
    page[top : top + _BAR, _MARGIN : _MARGIN + inner] = map_colours(ramp, scale_max=scale_max)
    for value, _ in marks:
        x = _MARGIN + round((inner - 1) * value / scale_max)
        page[top + _BAR : top + _BAR + 4, x] = TICK
    if threshold is not None:
        x = _MARGIN + round((inner - 1) * threshold / scale_max)
        page[top - 3 : top + _BAR + 3, x : x + 2] = PREDICTED
    return png_bytes(page)
