"""Generated images of each setting beside its numbers, one row a setting, as PNG bytes on white."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medanomaly.errors import InputError
from medanomaly.types import FloatArray
from medanomaly.views.canvas import RgbArray
from medanomaly.views.curves import INK, PALETTE, dress, figure_of, literal, png_of
from medanomaly.views.shown import in_rgb, picture

Estimate = tuple[float, float, float]
"""(value, low, high); NaN where not defined."""
_ROW_INCHES, _PANEL_INCHES = 0.62, 2.0
_REST_INCHES = 0.8
"""Height of title, panel names and tick labels: with it images come out square to a few percent."""
_GAP = 0.06
"""Between images, as a share of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationStrip:
    """One setting."""

    name: str
    images: Sequence[FloatArray]
    """(C, S, S) in [-1, 1] each."""
    estimates: Sequence[Estimate]
    """One a panel."""


def ablation_figure(
    strips: Sequence[AblationStrip], panels: Sequence[str], *, title: str, references: Sequence[float] = ()
) -> bytes:
    """A row a setting: its name, its images, and a dot with its interval in each panel; panels share the rows.

    Dots instead of bars: a bar would have to start at 0, and the differences are small against the numbers.

    Args:
        strips: from top to bottom.
        panels: names of the numbers, from left to right.
        title: first line.
        references: of each panel the number of real images, drawn as a line; NaN = none.

    Raises:
        InputError: E_EMPTY, nothing to draw; E_MALFORMED, another number of estimates than panels.
    """
    if not strips or not all(strip.images for strip in strips):
        raise InputError("no image to draw", code="E_EMPTY", fix="pass at least one for each setting")
    if any(len(strip.estimates) != len(panels) for strip in strips):
        raise InputError("each setting needs one estimate a panel", code="E_MALFORMED", fix="pass NaN where one is not defined")
    most = max(len(strip.images) for strip in strips)
    images_inches = _ROW_INCHES * most
    figure = figure_of(1.4 + images_inches + _PANEL_INCHES * len(panels), _REST_INCHES + _ROW_INCHES * len(strips))
    grid = figure.subplots(
        1, 1 + len(panels), squeeze=False, width_ratios=[images_inches, *[_PANEL_INCHES] * len(panels)], sharey=True
    )[0]
    pictures = grid[0]
    for row, strip in enumerate(strips):
        for column, image in enumerate(strip.images):
            # In units of images, y downwards: the rows are those of the panels.
            edges = (column + _GAP / 2, column + 1 - _GAP / 2, row + 0.5 - _GAP / 2, row - 0.5 + _GAP / 2)
            pictures.imshow(shown(image), extent=edges, interpolation="nearest")
    pictures.set(xlim=(0, most), ylim=(len(strips) - 0.5, -0.5), aspect="auto")
    dress(pictures, "", "generated images, of no patient; not for diagnosis", "")
    pictures.grid(visible=False)
    pictures.set_xticks([])
    pictures.set_yticks(range(len(strips)), [literal(strip.name) for strip in strips])
    for side in pictures.spines.values():
        side.set_visible(False)
    for panel, (axes, name) in enumerate(zip(grid[1:], panels, strict=True)):
        value, low, high = np.array([strip.estimates[panel] for strip in strips], dtype=np.float64).T
        reach = np.nan_to_num(np.stack([value - low, high - value]).clip(min=0))
        axes.errorbar(value, range(len(strips)), xerr=reach, fmt="o", color=PALETTE[0], ms=6, lw=1.5, capsize=3)
        if references and not math.isnan(references[panel]):
            axes.axvline(references[panel], color=PALETTE[1], lw=1.2, ls="--", zorder=1)
        dress(axes, literal(name), "", "")
        axes.tick_params(left=False, labelleft=False)
    note = "   (dots with 95 % intervals; dashed: training images)" if any(not math.isnan(one) for one in references) else ""
    figure.suptitle(literal(title) + note, x=0.01, ha="left", fontsize=11, color=INK)
    return png_of(figure)


def shown(image: FloatArray) -> RgbArray:
    """(H, W, 3) uint8 of (C, H, W) in [-1, 1]."""
    return np.ascontiguousarray(in_rgb(picture(image)))
