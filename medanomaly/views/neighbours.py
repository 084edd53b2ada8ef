"""Generated images above the training images nearest to them: the eye decides what a distance cannot. PNG bytes on white."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medanomaly.errors import InputError
from medanomaly.types import FloatArray
from medanomaly.views.curves import INK, figure_of, png_of
from medanomaly.views.shown import picture


def neighbour_figure(samples: Sequence[FloatArray], neighbours: Sequence[FloatArray], distances: Sequence[float]) -> bytes:
    """A column for each pair: the sample, its nearest training image below it, and their distance in feature space.

    Args:
        samples: (C, H, W) in [-1, 1] each.
        neighbours: as many, of the same size.
        distances: as many.

    Raises:
        InputError: E_EMPTY or E_COUNT.
    """
    if not samples:
        raise InputError("no sample to draw", code="E_EMPTY", fix="pass at least one")
    if not len(samples) == len(neighbours) == len(distances):
        raise InputError("samples, neighbours and distances differ in number", code="E_COUNT", fix="pass one of each a pair")
    figure = figure_of(max(1.2 * len(samples), 3.6), 3.2)
    grid = figure.subplots(2, len(samples), squeeze=False)
    for column, (sample, neighbour, distance) in enumerate(zip(samples, neighbours, distances, strict=True)):
        for axes, image in zip(grid[:, column], (sample, neighbour), strict=True):
            shown = picture(np.asarray(image, dtype=np.float32))
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        grid[1, column].set_xlabel(f"{distance:.3g}", fontsize=8, color=INK)
    grid[0, 0].set_ylabel("sample", fontsize=9, color=INK)
    grid[1, 0].set_ylabel("nearest training", fontsize=9, color=INK)
    return png_of(figure)
