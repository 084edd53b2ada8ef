"""Line figures of a run: ROC and precision-recall, loss, score histograms. Each returns PNG bytes on white."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medanomaly.errors import InputError

Values = Sequence[float] | npt.NDArray[Any]
Curve = tuple[Values, Values, Values, Values]
"""(fpr, tpr, recall, precision), each a list of numbers in [0, 1]; the first two and the last two have equal length."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe & Ito 2008 (jfly.uni-koeln.de/color): safe with any colour deficiency; its yellow left out, too light on white."""
_DASHES = ("-", "--", ":", "-.")
INK, _RULE = "#22262b", "#c9ced6"


def roc_pr_figure(curves: Mapping[str, Curve], *, prevalence: float | None = None, of: str = "") -> bytes:
    """ROC and precision-recall curves side by side, one colour and dash per name (readable without colour).

    Precision-recall is drawn as steps: straight lines between its points promise precision no threshold reaches
    (Davis & Goadrich 2006).

    Args:
        curves: name -> (fpr, tpr, recall, precision); put n and the area with its interval into the name.
        prevalence: share of positives, drawn as chance level of the precision-recall plot.
        of: what is ranked, for the titles, e.g. "pixels".

    Raises:
        InputError: no curve, unequal lengths, or values outside [0, 1].
    """
    if not curves:
        raise InputError("no curve to draw", code="E_EMPTY", fix="pass at least one named curve")
    columns = min(2, len(curves))
    # The legend grows downwards: the axes keep their size.
    figure = figure_of(9.0, 4.3 + 0.21 * max(math.ceil(len(curves) / columns) - 2, 0))
    roc, precision_recall = figure.subplots(1, 2)
    roc.plot([0, 1], [0, 1], color=_RULE, lw=1.2, zorder=1)
    if prevalence is not None:
        precision_recall.axhline(prevalence, color=_RULE, lw=1.2, zorder=1)
    for index, (name, curve) in enumerate(curves.items()):
        colour, dash = PALETTE[index % len(PALETTE)], _DASHES[index % len(_DASHES)]
        fpr, tpr, recall, precision = (_unit_interval(values, name) for values in curve)
        if len(fpr) != len(tpr) or len(recall) != len(precision):
            raise InputError(f"curve {name!r} has coordinates of unequal length", code="E_MALFORMED", fix="pass matching x and y")
        roc.plot(fpr, tpr, dash, color=colour, lw=1.8, label=literal(name))
        # scikit-learn lists recall from 1 down to 0; the steps run to the right, each at the precision of its right end.
        rightwards = slice(None, None, -1 if recall[0] > recall[-1] else 1)
        precision_recall.plot(recall[rightwards], precision[rightwards], dash, color=colour, lw=1.8, drawstyle="steps-pre")
    suffix = f", {of}" if of else ""
    dress(roc, "ROC" + suffix, "1 − specificity (false positive rate)", "sensitivity (true positive rate)")
    dress(precision_recall, "Precision-recall" + suffix, "recall (sensitivity)", "precision (positive predictive value)")
    for axes in (roc, precision_recall):
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=INK)
    return png_of(figure)


def loss_figure(
    steps: Values, values: Values, *, name: str = "Training loss", validation: tuple[Values, Values] = ((), ())
) -> bytes:
    """A loss against the optimiser step: every value thin, a trailing mean over 1/50 of them bold, validation as points.

    The axis turns logarithmic where the values are positive and span more than a factor of 20. Values that are not finite
    leave a gap and are counted in the title, because they are the first thing to know about a run.

    Args:
        steps: (N,) increasing step numbers.
        values: (N,) loss, any unit.
        name: what is drawn.
        validation: (steps, losses) on held-out images, the same unit; values that are not finite leave a gap.

    Raises:
        InputError: lengths differ or nothing to draw.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or x.size == 0:
        raise InputError(
            f"steps {x.shape} and values {y.shape} must be equal lists", code="E_MALFORMED", fix="pass one value per step"
        )
    known = np.isfinite(y)
    figure = figure_of(7.2, 3.9)
    axes = figure.subplots()
    axes.plot(x, np.where(known, y, np.nan), color=PALETTE[5], lw=0.8, alpha=0.8, marker="." if known.sum() < 40 else None)
    if known.sum() >= 100:
        window = int(known.sum()) // 50
        mean = np.convolve(y[known], np.full(window, 1 / window), mode="valid")
        axes.plot(x[known][window - 1 :], mean, color=PALETTE[0], lw=1.8, label=f"mean of the last {window} values")
    if len(validation[0]):
        axes.plot(*validation, "o-", color=PALETTE[1], lw=1.2, ms=4, label="validation")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    if known.any() and y[known].min() > 0 and y[known].max() > 20 * y[known].min():
        axes.set_yscale("log")
    lost = int((~known).sum())
    dress(axes, literal(name) + (f" ({lost} of {y.size} values not finite)" if lost else ""), "optimiser step", "loss")
    return png_of(figure)


def histogram_figure(
    healthy: Values, diseased: Values, *, threshold: float | None = None, score_name: str = "image score"
) -> bytes:
    """Image scores of healthy and diseased images over shared bins, each group as a share of itself; n is in the legend.

    Args:
        healthy: (N,) finite scores of images labelled healthy.
        diseased: (M,) finite scores of the others.
        threshold: image-level operating point, drawn as a line.
        score_name: label of the horizontal axis.

    Raises:
        InputError: both groups empty, or a score is not finite.
    """
    groups = {"healthy": np.asarray(healthy, dtype=np.float64), "diseased": np.asarray(diseased, dtype=np.float64)}
    together = np.concatenate(list(groups.values()))
    if together.size == 0:
        raise InputError("no score to draw", code="E_EMPTY", fix="pass the scores of at least one group")
    if not np.isfinite(together).all():
        raise InputError("scores hold NaN or infinity", code="E_NONFINITE", fix="exclude failed images and report how many")
    edges = np.histogram_bin_edges(together, bins=int(np.clip(np.sqrt(together.size) * 1.5, 8, 60)))
    figure = figure_of(7.2, 3.9)
    axes = figure.subplots()
    for (name, scores), colour, hatch in zip(groups.items(), PALETTE, ("", "///"), strict=False):
        if scores.size:
            share = np.histogram(scores, bins=edges)[0] / scores.size
            axes.stairs(share, edges, fill=True, facecolor=colour + "40", edgecolor=colour, hatch=hatch, lw=0)
            axes.stairs(share, edges, color=colour, lw=1.8, label=f"{name} (n = {scores.size})")
    if threshold is not None:
        axes.axvline(threshold, color=INK, lw=1.4, ls="--", label=f"operating point {threshold:.3g}")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    dress(axes, "Image scores", literal(score_name), "share of the group's images")
    return png_of(figure)


def line_figure(steps: Values, values: Values, *, name: str) -> bytes:
    """One number against the optimiser step, logarithmic as :func:`loss_figure`.

    Raises:
        InputError: lengths differ or nothing to draw.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or x.size == 0:
        raise InputError(
            f"steps {x.shape} and values {y.shape} must be equal lists", code="E_MALFORMED", fix="pass one value a step"
        )
    figure = figure_of(7.2, 3.9)
    axes = figure.subplots()
    axes.plot(x, np.where(np.isfinite(y), y, np.nan), color=PALETTE[0], lw=1.2)
    known = y[np.isfinite(y)]
    if known.size and known.min() > 0 and known.max() > 20 * known.min():
        axes.set_yscale("log")
    dress(axes, literal(name), "optimiser step", "")
    return png_of(figure)


def scores_figure(scores: Values, *, score_name: str = "image score") -> bytes:
    """How the scores of images of unknown label are spread; each bin as a number of images.

    Raises:
        InputError: no score, or one that is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise InputError("scores must be finite, at least one", code="E_NONFINITE", fix="leave failed images out")
    figure = figure_of(7.2, 3.9)
    axes = figure.subplots()
    bins = int(np.clip(np.sqrt(values.size) * 1.5, 8, 60))
    axes.hist(values, bins=bins, color=PALETTE[0] + "40", edgecolor=PALETTE[0], lw=1.2)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    dress(axes, f"Image scores (n = {values.size})", literal(score_name), "images")
    return png_of(figure)


def figure_of(width_inches: float, height_inches: float) -> Any:
    """An empty white figure outside of pyplot's global state."""
    figure = Figure(figsize=(width_inches, height_inches), dpi=144, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Any, title: str, x_label: str, y_label: str) -> None:
    """Quiet axes: no box, a light grid under the data."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel(x_label, fontsize=9.5, color=INK)
    axes.set_ylabel(y_label, fontsize=9.5, color=INK)
    axes.tick_params(labelsize=9, color=_RULE, labelcolor=INK)
    axes.grid(color="#eceff3", lw=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_RULE)


def _unit_interval(values: Values, name: str) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not ((array >= 0) & (array <= 1)).all():
        raise InputError(
            f"curve {name!r} must be lists of numbers in [0, 1]", code="E_RANGE", fix="pass rates, not counts or percent"
        )
    return array


def literal(text: str) -> str:
    """Text that matplotlib draws as it is: ``$`` would start mathematics, and a leading underscore hides a legend entry."""
    hair_space = "\u200a" if text.startswith("_") else ""
    return hair_space + text.replace("$", r"\$")


def png_of(figure: Any) -> bytes:
    """The figure as PNG, without the name of the program that made it."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
