"""Reliability diagram: predicted probability against what was so, with how many images each point stands on. PNG bytes on white."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medanomaly.errors import InputError
from medanomaly.views.curves import INK, PALETTE, dress, figure_of, literal, png_of

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_RULE = "#c9ced6"


def reliability_figure(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """Points with intervals over the diagonal of perfect calibration, and the number of images of each below.

    Args:
        curves: name -> probability, frequency, low, high (each 0..1) and count, of equal length.

    Raises:
        InputError: no curve, unequal lengths, or a share outside of [0, 1].
    """
    if not curves:
        raise InputError("no curve to draw", code="E_EMPTY", fix="pass at least one named curve")
    figure = figure_of(6.0, 6.2 + 0.21 * len(curves))
    top, bottom = figure.subplots(2, 1, height_ratios=[3.6, 1], sharex=True)
    top.plot([0, 1], [0, 1], color=_RULE, lw=1.2, zorder=1)
    most = 0.0
    for index, (name, curve) in enumerate(curves.items()):
        values = [np.asarray(curve[key], dtype=np.float64) for key in ("probability", "frequency", "low", "high", "count")]
        if len({one.shape for one in values}) != 1 or values[0].ndim != 1 or values[0].size == 0:
            raise InputError(f"curve {name!r} has lists of unequal length", code="E_MALFORMED", fix="give one value a bin")
        probability, frequency, low, high, count = values
        if not all(((one >= 0) & (one <= 1)).all() for one in values[:4]):
            raise InputError(f"curve {name!r} must hold shares in [0, 1]", code="E_RANGE", fix="pass shares, not counts")
        colour = PALETTE[index % len(PALETTE)]
        reach = np.stack([frequency - low, high - frequency]).clip(min=0)
        # Side by side by a hair, so that two methods with one probability do not hide each other.
        place = probability + 0.006 * (index - (len(curves) - 1) / 2)
        marker = _MARKERS[index % len(_MARKERS)]
        top.errorbar(place, frequency, yerr=reach, fmt=f"{marker}-", color=colour, ms=6, lw=1.3, capsize=3, label=literal(name))
        bottom.plot(place, count, marker, color=colour, ms=5)
        bottom.vlines(place, 0, count, color=colour, lw=1.3)
        most = max(most, float(count.max()))
    dress(top, "Calibration, images", "", "share that is diseased")
    dress(bottom, "", "predicted probability of disease", "images")
    top.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    bottom.set(ylim=(0, 1.15 * most))
    figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=9, labelcolor=INK)
    return png_of(figure)
