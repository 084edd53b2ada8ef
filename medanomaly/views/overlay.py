"""One image with its anomaly map on top, in colours that mean the same number on every image."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator
from skimage.morphology import isotropic_dilation
from skimage.segmentation import find_boundaries

from medanomaly.errors import ConfigError, InputError
from medanomaly.files import atomic_write
from medanomaly.types import BoolArray, FloatArray
from medanomaly.views.canvas import (
    DARK_GROUND,
    DIM_TEXT,
    PREDICTED,
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
from medanomaly.views.checks import check_map, check_scale
from medanomaly.views.shown import ground, in_rgb, shown_channel
from medanomaly.views.side_marker import side_markers

COLOUR_MAP = "inferno"
"""Perceptually uniform and monotone in lightness: reads correctly in gray print and with any colour deficiency."""

# At the operating point the colour must be seen; at the top of the scale the anatomy must still show through.
_ALPHA_AT_THRESHOLD, _ALPHA_AT_TOP = 0.45, 0.85
_MIN_BAR_HEIGHT = 160
_MIN_FONT, _LINE_PX = 11.0, 15
_LEAST_HEADING_LINES, _MAX_HEADING_LINES = 3, 6


def map_colours(anomaly_map: FloatArray, *, scale_max: float) -> RgbArray:
    """(H, W) map >= 0 to (H, W, 3): 0 is black, ``scale_max`` and everything above it the brightest colour."""
    check_map(anomaly_map)
    check_scale(0.0, scale_max)
    index = np.rint(np.clip(anomaly_map.astype(np.float64) / scale_max, 0, 1) * 255).astype(np.intp)
    table = np.asarray(matplotlib.colormaps[COLOUR_MAP](np.arange(256), bytes=True), dtype=np.uint8)
    return table[index, :3]


def map_overlay(
    pixels: FloatArray, anomaly_map: FloatArray, *, threshold: float, scale_max: float, outline: bool = True
) -> RgbArray:
    """Gray image with the map's colours where the map exceeds the operating point, untouched elsewhere.

    The side marker of a film stays as it is, whatever the map says of it (:func:`medanomaly.views.side_marker.side_markers`).
    A colour image is laid under the map as its luma, and of other channels the first (:func:`medanomaly.views.shown.ground`).

    Colour depends on the map's value and ``scale_max`` only, never on the other pixels, so two overlays can be compared.

    Args:
        pixels: (C, H, W) or (H, W) float in [-1, 1].
        anomaly_map: (H, W) float >= 0, same size.
        threshold: operating point in the map's unit; pixels with map > threshold are flagged, as scoring counts them.
        scale_max: value of the brightest colour, one for all images of a run; larger values are clipped.
        outline: draw the flagged region's contour just outside it, 1 px thick per 512 px of image side.

    Returns:
        (H, W, 3) uint8, native rows and columns.

    Raises:
        InputError: sizes differ, values are not finite, or the map is negative.
        ConfigError: not 0 <= threshold <= scale_max with scale_max > 0.
    """
    shown = ground(pixels)
    gray = in_rgb(shown)
    check_map(anomaly_map, size=pixels.shape[-2:])
    check_scale(threshold, scale_max)
    flagged = anomaly_map > float(threshold)
    span = scale_max - threshold
    rise = np.clip((anomaly_map.astype(np.float64) - threshold) / span, 0, 1) if span > 0 else 1.0
    alpha = np.where(flagged, _ALPHA_AT_THRESHOLD + (_ALPHA_AT_TOP - _ALPHA_AT_THRESHOLD) * rise, 0.0)[..., None]
    blended = np.rint((1 - alpha) * gray + alpha * map_colours(anomaly_map, scale_max=scale_max)).astype(np.uint8)
    painted = draw_outline(blended, flagged, PREDICTED) if outline else blended
    if flagged.any() and (pixels.ndim == 2 or len(pixels) == 1):
        lettering = side_markers(shown)
        painted[lettering] = gray[lettering]
    return painted


def draw_outline(image: RgbArray, mask: BoolArray, colour: tuple[int, int, int], *, thickness_px: int | None = None) -> RgbArray:
    """Copy of (H, W, 3) with the mask's contour in one colour, outside the mask so that no flagged pixel is covered.

    Args:
        image: (H, W, 3) uint8; not changed.
        mask: (H, W), True inside.
        colour: red, green, blue in 0..255.
        thickness_px: None = 1 px per 512 px of image side, rounded, at least 1.

    Raises:
        InputError: sizes differ.
    """
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"mask is {mask.shape}, image is {image.shape[:2]}", code="E_MASK_SIZE", fix="give both at the same size"
        )
    outlined = image.copy()
    if mask.any():
        edge = find_boundaries(mask, mode="outer")
        thickness = thickness_px or max(1, round(max(mask.shape) / 512))
        if thickness > 1:
            edge = isotropic_dilation(edge, thickness - 1) & ~mask
        outlined[edge] = colour
    return outlined


def colour_bar(scale_max: float, threshold: float, height: int, *, unit: str = "") -> RgbArray:
    """Legend of :func:`map_overlay`: its colours over mid-gray against the map's value, the operating point marked.

    Args:
        scale_max: value at the top; labelled with >= because larger values are clipped to it.
        threshold: operating point, same unit; below it the bar shows the bare gray that the overlay leaves untouched.
        height: px, at least 160 so that labels stay legible.
        unit: what the numbers are, e.g. "absolute difference, model units"; written above the bar, in three
            lines and one more for each 15 px above the least height, at most six.

    Returns:
        (height, W, 3) uint8 on a dark ground.

    Raises:
        ConfigError: scale or height that cannot be drawn.
    """
    check_scale(threshold, scale_max)
    if height < _MIN_BAR_HEIGHT:
        raise ConfigError(f"a colour bar needs at least {_MIN_BAR_HEIGHT} px, got {height}", code="E_SIZE", fix="draw it higher")
    font = max(_MIN_FONT, height / 40)
    heading = wrapped(unit, width_px=10 * font, lines=_heading_lines(height), size_px=font)
    labels = [f"≥ {scale_max:.4g}", f"{threshold:.4g}", "threshold", heading]
    width = math.ceil(max(text_width(label, size_px=font) for label in labels if label) + 4.6 * font)
    top = round((1.0 + 1.35 * (heading.count("\n") + 1 if heading else 0)) * font) + 2
    bottom = height - round(font)
    left, right = round(font), round(2.4 * font)

    figure = blank(width, height)
    if heading:
        put_text(figure, left, 0.5 * font, heading, size_px=font, colour=DIM_TEXT, linespacing=1.2)
    rows, threshold_label = bottom - top, f"{threshold:.4g}\nthreshold"
    value_per_px = scale_max / rows
    # Near the top of the scale the operating point's label moves down beside its line; the line stays where it belongs.
    label_at = min(threshold, scale_max - 1.7 * font * value_per_px)
    marks = [(scale_max, f"≥ {scale_max:.4g}")]
    marks += [(v, f"{v:.4g}") for v in scale_ticks(scale_max, keep_clear=label_at, gap=1.7 * font * value_per_px)]
    for value, label in [*marks, (label_at, threshold_label)]:
        y = bottom - value / value_per_px
        colour = hex_colour(PREDICTED) if label is threshold_label else DIM_TEXT
        put_text(figure, right + 0.9 * font, y, label, size_px=font, colour=colour, va="center_baseline", linespacing=1.1)
    drawn = pixels_of(figure)

    ramp = np.repeat(np.linspace(scale_max, 0, rows, dtype=np.float32)[:, None], right - left, axis=1)
    drawn[top:bottom, left:right] = map_overlay(
        np.zeros_like(ramp), ramp, threshold=threshold, scale_max=scale_max, outline=False
    )
    thick = max(1, round(font / 12))
    lines = [(value, right, TICK) for value, _ in marks] + [(threshold, left, PREDICTED)]
    for value, start, rgb in lines:
        y_line = min(bottom - thick, max(top, round(bottom - value / value_per_px - thick / 2)))
        drawn[y_line : y_line + thick, start : round(right + 0.5 * font)] = rgb
    return drawn


def _heading_lines(height: int) -> int:
    """Lines of a unit that leave a bar of this height room for its ticks."""
    return min(_MAX_HEADING_LINES, _LEAST_HEADING_LINES + (height - _MIN_BAR_HEIGHT) // _LINE_PX)


def scale_ticks(scale_max: float, *, keep_clear: float, gap: float) -> list[float]:
    """Round values from 0 up to scale_max, at least ``gap`` apart and away from scale_max and the marked value."""
    count = max(1, min(6, int(scale_max / gap)))
    candidates = [float(value) for value in MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(0, scale_max)]
    return [v for v in candidates if 0 <= v <= scale_max - gap and abs(v - keep_clear) >= gap]


def overlay_figure(
    path: Path, pixels: FloatArray, anomaly_map: FloatArray, *, threshold: float, scale_max: float, unit: str
) -> None:
    """Write a PNG with the overlay at native size in the top left corner, pixel for pixel, and its colour bar at the right.

    Args:
        path: file to write, whole or not at all.
        pixels: (C, H, W) or (H, W) float in [-1, 1]; which of several channels is seen is written above the bar.
        anomaly_map: (H, W) float >= 0.
        threshold: operating point in the map's unit.
        scale_max: value of the brightest colour.
        unit: what the map's numbers are; drawn above the bar.

    Raises:
        InputError, ConfigError: as :func:`map_overlay`.
        ResourceError: the file cannot be written.
    """
    overlay = map_overlay(pixels, anomaly_map, threshold=threshold, scale_max=scale_max)
    rows, columns = overlay.shape[:2]
    channel = shown_channel(1 if pixels.ndim == 2 else len(pixels))
    heading = f"{unit}\n{channel}" if channel else unit
    num_lines = wrapped(heading, width_px=10 * _MIN_FONT, lines=_MAX_HEADING_LINES, size_px=_MIN_FONT).count("\n") + 1
    least = _MIN_BAR_HEIGHT + _LINE_PX * max(0, num_lines - _LEAST_HEADING_LINES)
    legend = colour_bar(scale_max, threshold, max(rows, least), unit=heading)
    page = np.empty((legend.shape[0], columns + legend.shape[1], 3), dtype=np.uint8)
    page[:] = DARK_GROUND
    page[:rows, :columns] = overlay
    page[:, columns:] = legend
    with atomic_write(path) as stream:
        stream.write(png_bytes(page))
