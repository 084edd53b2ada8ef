"""One number for every noise level and guidance scale that was tried, as PNG bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medanomaly.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPanel:
    """One picture of one checkpoint."""

    row: str
    """Name of the checkpoint."""
    title: str
    """What the numbers are."""
    noise_levels: Sequence[int]
    """Of the rows, upwards."""
    guidance_scales: Sequence[float]
    """Of the columns."""
    values: Sequence[Sequence[float]]
    """A number for each row and column; NaN = not defined or not tried."""
    marked: tuple[int, int] | None = None
    """(row, column) that was chosen."""


def grid_figure(panels: Sequence[GridPanel]) -> bytes:
    """A PNG with a row of panels for each checkpoint; every cell shows its number, the chosen one has a frame.

    Colours run from the lowest to the highest number of each panel and only order its cells: the numbers are to be read.

    Raises:
        InputError: E_EMPTY, no panel.
    """
    if not panels:
        raise InputError("no panel to draw", code="E_EMPTY", fix="pass at least one")
    names = list(dict.fromkeys(panel.row for panel in panels))
    by_row = [[panel for panel in panels if panel.row == name] for name in names]
    width, height = max(len(row) for row in by_row), len(by_row)
    figure = Figure(figsize=(3.6 * width, 3.0 * height), dpi=144, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(height, width, squeeze=False)
    for axes_row, row in zip(grid, by_row, strict=True):
        for axes in axes_row[len(row) :]:
            axes.set_visible(False)
        for axes, panel in zip(axes_row, row, strict=False):
            draw(axes, panel, with_name=len(names) > 1)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def draw(axes: Any, panel: GridPanel, *, with_name: bool) -> None:
    """One panel on matplotlib axes, the lowest noise level at the bottom."""
    values = np.array(panel.values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    axes.imshow(values, origin="lower", aspect="auto", cmap="viridis", vmin=low, vmax=high if high > low else low + 1)
    for (row, column), value in np.ndenumerate(values):
        text = "n/a" if math.isnan(value) else f"{value:.3f}"
        # Viridis is light above two thirds.
        ink = "black" if math.isnan(value) or value > low + 0.6 * (high - low) else "white"
        weight = "bold" if panel.marked == (row, column) else "normal"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9, fontweight=weight)
    if panel.marked is not None:
        row, column = panel.marked
        frame = (
            [column - 0.5, column + 0.5, column + 0.5, column - 0.5, column - 0.5],
            [row - 0.5] * 2 + [row + 0.5] * 2 + [row - 0.5],
        )
        axes.plot(*frame, color="#d55e00", lw=3, clip_on=False)
    axes.set_xticks(range(len(panel.guidance_scales)), [f"{scale:g}" for scale in panel.guidance_scales])
    axes.set_yticks(range(len(panel.noise_levels)), [str(level) for level in panel.noise_levels])
    name = panel.row.replace("$", r"\$")
    axes.set_title(f"{name}: {panel.title}" if with_name else panel.title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel("guidance scale g", fontsize=9)
    axes.set_ylabel("noise level", fontsize=9)
