"""Where the bits of a diffusion model's bound lie: its terms over the noise levels. PNG bytes on white."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.views.curves import PALETTE, dress, figure_of, literal, png_of


def bound_figure(
    levels: npt.NDArray[np.int64],
    terms: npt.NDArray[np.float64],
    *,
    decoder: float,
    title: str = "",
    strata: Sequence[tuple[int, int]],
) -> bytes:
    """Mean term of each range of levels, and the decoder's at level 1, over the level, both axes logarithmic.

    Args:
        levels: (images, ranges) levels that were drawn.
        terms: (images, ranges) bits/dim there; their mean may be below 0 by rounding only, and is then not drawn.
        decoder: mean of L_0.
        title: above the picture.
        strata: (first, last) level of each range, drawn as the width of its line.

    Raises:
        InputError: E_EMPTY, no image or no range.
    """
    if not terms.size:
        raise InputError("no terms to draw", code="E_EMPTY", fix="pass at least one image")
    figure = figure_of(6.4, 4.0)
    axes = figure.subplots()
    means, places = terms.mean(axis=0), levels.mean(axis=0)
    shown = means > 0
    axes.plot(places[shown], means[shown], "o-", color=PALETTE[0], ms=3, lw=1.2)
    low, high = (np.array(ends, dtype=np.float64) for ends in zip(*strata, strict=True))
    axes.hlines(means[shown], low[shown], high[shown], color=PALETTE[0], lw=1.2)
    axes.plot([1], [decoder], "s", color=PALETTE[1], ms=6)
    axes.annotate("decoder, L_0", (1, decoder), xytext=(8, 0), textcoords="offset points", fontsize=9, va="center")
    axes.set(xscale="log", yscale="log")
    dress(axes, literal(title), "noise level t", "L at level t, bits/dim a level")
    return png_of(figure)
