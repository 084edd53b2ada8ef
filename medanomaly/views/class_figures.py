"""How well a classifier names images: its numbers over the noise level, and which class it takes for which. PNG bytes on white."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.views.curves import INK, PALETTE, dress, figure_of, literal, png_of

Curve = Sequence[tuple[float, float, float]]
"""(value, low, high) at each noise level, NaN where undefined."""
_MARKERS = ("o", "s", "^", "D", "v")


def classifier_figure(
    percents: Sequence[float],
    curves: Mapping[str, Curve],
    *,
    classes: Sequence[str],
    confusion: npt.NDArray[np.int64] | None = None,
    by_class: Curve = (),
    level_text: str = "",
    title: str = "",
) -> bytes:
    """Two panels: numbers over the noise level with their intervals, and at one level the confusion matrix or each class's number.

    Args:
        percents: noise levels, percent of the schedule.
        curves: name -> a value at each of them, 0..1.
        classes: names.
        confusion: (classes, classes) images, a row a true class; None = classes do not exclude each other.
        by_class: AUROC of each class, where there is no confusion matrix.
        level_text: which level the second panel is of.
        title: above the first panel.

    Raises:
        InputError: E_EMPTY, no level or no class; E_MALFORMED, lists of unequal length.
    """
    if not percents or not classes or not curves:
        raise InputError("nothing to draw", code="E_EMPTY", fix="pass at least one level, class and curve")
    if any(len(curve) != len(percents) for curve in curves.values()) or len(by_class) not in (0, len(classes)):
        raise InputError("curves must have a value a level, and a number a class", code="E_MALFORMED", fix="pass equal lists")
    side = max(4.2, 0.30 * len(classes) + 1.6)
    figure = figure_of(5.2 + side, side)
    left, right = figure.subplots(1, 2, width_ratios=[5.2, side])
    for index, (name, curve) in enumerate(curves.items()):
        value, low, high = np.array(curve, dtype=np.float64).T
        colour = PALETTE[index % len(PALETTE)]
        reach = np.stack([value - low, high - value]).clip(min=0)
        left.errorbar(
            percents, value, yerr=np.nan_to_num(reach), fmt=f"{_MARKERS[index % 5]}-", color=colour, ms=5, lw=1.4, capsize=3,
            label=literal(name),
        )  # fmt: skip
    left.set(ylim=(-0.02, 1.02))
    left.legend(frameon=False, fontsize=9, labelcolor=INK)
    dress(left, literal(title), "noise level, % of the schedule", "")
    if confusion is not None:
        _matrix(right, confusion, classes)
        dress(right, f"Images named, {level_text}", "named", "true")
        right.grid(visible=False)
    else:
        _by_class(right, by_class, classes)
        dress(right, f"AUROC by class, {level_text}", "", "")
    return png_of(figure)


def _matrix(axes: Any, confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    """Counts, shaded by their share of the true class."""
    rows = confusion.sum(axis=1, keepdims=True)
    share = np.divide(confusion, rows, out=np.zeros(confusion.shape), where=rows > 0)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    size = 8 if len(classes) <= 12 else 6
    for row, column in np.ndindex(*confusion.shape):
        if confusion[row, column]:
            colour = "white" if share[row, column] > 0.55 else INK
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=size, color=colour)
    ticks, names = range(len(classes)), [literal(name) for name in classes]
    turned = 0 if max(map(len, classes)) <= 3 else 60
    axes.set_xticks(
        ticks, names, rotation=turned, ha="center" if not turned else "right", rotation_mode="anchor" if turned else None
    )
    axes.set_yticks(ticks, names)


def _by_class(axes: Any, by_class: Curve, classes: Sequence[str]) -> None:
    """A point with its interval a class; a class without a number says so."""
    for row, (value, low, high) in enumerate(by_class):
        if np.isnan(value):
            axes.text(0.02, row, "undefined", va="center", fontsize=8, color="#8a919c")
            continue
        if not np.isnan(low):
            axes.plot([low, high], [row, row], "-", color=PALETTE[0], lw=1.4)
        axes.plot([value], [row], "o", color=PALETTE[0], ms=5)
    axes.axvline(0.5, color="#c9ced6", lw=1.2, zorder=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(classes) - 0.5, -0.5))
    axes.set_yticks(range(len(classes)), [literal(name) for name in classes])
