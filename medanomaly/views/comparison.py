"""Dice of several methods in figures that can be read without colour: by image, and by size of the lesion. PNG bytes on white."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.rng import numpy_generator
from medanomaly.views.curves import INK, PALETTE, dress, figure_of, literal, png_of

Values = npt.NDArray[np.float64]
Estimate = tuple[float, float, float]
"""(value, low, high); NaN where not defined."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


def dice_box_figure(values: Mapping[str, Values], *, name: str = "Dice of each image with a lesion") -> bytes:
    """Box plots, one row a method, with every image as a point: quartiles, median, whiskers to 1.5 interquartile ranges (Tukey 1977).

    Args:
        values: method -> (n,) Dice in [0, 1]; NaN is left out and the n of the row is what remains.
        name: title.

    Raises:
        InputError: no method.
    """
    if not values:
        raise InputError("no method to draw", code="E_EMPTY", fix="pass at least one named method")
    figure = figure_of(7.2, 1.3 + 0.52 * len(values))
    axes = figure.subplots()
    kept = {title: found[np.isfinite(found)] for title, found in values.items()}
    for index, (title, found) in enumerate(kept.items()):
        colour = PALETTE[index % len(PALETTE)]
        # Points are spread up and down at random only so that they can be seen; the same each time.
        spread = numpy_generator(0, "points of a box plot", title).uniform(-0.2, 0.2, found.size)
        axes.plot(found, index + spread, ".", color=colour, ms=3, alpha=0.35, zorder=1)
        axes.boxplot(
            found,
            positions=[index],
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            medianprops={"color": INK, "lw": 2},
            boxprops={"color": colour, "lw": 1.6},
            whiskerprops={"color": colour, "lw": 1.4},
            capprops={"color": colour, "lw": 1.4},
        )
    axes.set_yticks(range(len(kept)), [f"{literal(title)} (n = {found.size})" for title, found in kept.items()])
    axes.set(ylim=(len(kept) - 0.4, -0.6), xlim=(-0.02, 1.02))
    dress(axes, literal(name), "Dice at the validation threshold", "")
    return png_of(figure)


def dice_by_size_figure(
    estimates: Mapping[str, Sequence[Estimate]], groups: Sequence[str], *, name: str = "Mean Dice by size of the lesion"
) -> bytes:
    """Means with intervals, grouped by size, one marker and colour a method.

    Args:
        estimates: method -> an estimate for each group.
        groups: names of the groups, from left to right.
        name: title.

    Raises:
        InputError: no method, or another number of estimates than groups.
    """
    if not estimates or any(len(found) != len(groups) for found in estimates.values()):
        raise InputError("each method needs one estimate a group", code="E_MALFORMED", fix="pass NaN where one is not defined")
    figure = figure_of(8.2, 4.4)
    axes = figure.subplots()
    offsets = np.linspace(-0.36, 0.36, len(estimates)) if len(estimates) > 1 else np.zeros(1)
    for index, (title, found) in enumerate(estimates.items()):
        value, low, high = np.array(found, dtype=np.float64).T
        reach = np.nan_to_num(np.stack([value - low, high - value]).clip(min=0))
        axes.errorbar(
            np.arange(len(groups)) + offsets[index],
            value,
            yerr=reach,
            fmt=_MARKERS[index % len(_MARKERS)],
            color=PALETTE[index % len(PALETTE)],
            ms=6,
            lw=1.5,
            capsize=3,
            label=literal(title),
        )
    for edge in range(1, len(groups)):
        axes.axvline(edge - 0.5, color="#c9ced6", lw=1)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set(xlim=(-0.5, len(groups) - 0.5))
    axes.set_ylim(bottom=0)
    dress(axes, literal(name), "", "Dice (mean, 95 % interval over patients)")
    columns: Any = min(3, len(estimates))
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=INK)
    return png_of(figure)
