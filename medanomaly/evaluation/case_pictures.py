"""What a report shows of one image: original, pseudo-healthy, map, heatmap with its contour, outlines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medanomaly.evaluation.folder import Case
from medanomaly.metrics import pixel
from medanomaly.types import BoolArray, FloatArray
from medanomaly.views.canvas import PREDICTED, REFERENCE, png_bytes
from medanomaly.views.overlay import draw_outline, map_colours, map_overlay
from medanomaly.views.report import CaseView, shown_factor
from medanomaly.views.sheet import fitting_cell, strongest_in_cell
from medanomaly.views.shown import ground, in_rgb, picture

MAX_SIDE_PX = 384
"""Larger images are shrunk by whole factors for the page, maps and masks by their maximum; the files in the folder stay as they are."""
ORIGINAL, TWIN = "original", "pseudo-healthy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How all maps of a section are drawn."""

    threshold: float | None
    """Operating point in map units; None = no contours."""
    scale_max: float
    """Value of the brightest colour."""


def case_view(case: Case, caption: str, scale: Scale, *, facts: tuple[tuple[str, str], ...] = ()) -> CaseView:
    """Pictures of one case. Small images keep their pixels as squares; lines on them are thin all the same.

    Args:
        case: arrays at one size.
        caption: must not identify the patient.
        scale: the section's.
        facts: shown beside the score, after the Dice where there is one.
    """
    threshold, flagged = scale.threshold, None
    if threshold is not None:
        # Measured on the full arrays, before anything is shrunk for the page.
        flagged = case.anomaly_map > threshold
        facts = (*overlap(flagged, case.reference), ("flagged", f"{flagged.sum()} px, {100 * flagged.mean():.1f} %"), *facts)
    small = fitting(case)
    images = {ORIGINAL: png_bytes(picture(small.pixels))}
    if small.pseudo_healthy is not None:
        images[TWIN] = png_bytes(picture(small.pseudo_healthy))
    images["difference map"] = png_bytes(map_colours(small.anomaly_map, scale_max=scale.scale_max))
    if threshold is not None:
        overlay = map_overlay(small.pixels, small.anomaly_map, threshold=threshold, scale_max=scale.scale_max, outline=False)
        over = grown(small.anomaly_map > threshold)
        images["heatmap"] = png_bytes(draw_outline(grown(overlay), over, PREDICTED, thickness_px=1))
        images["outlines"] = png_bytes(outlines(grown(in_rgb(ground(small.pixels))), over, small.reference))
    return CaseView(
        caption=caption,
        score=case.score,
        label=case.label,
        images=images,
        facts=facts,
        compare=(ORIGINAL, TWIN) if TWIN in images else None,
    )


def overlap(flagged: BoolArray, reference: BoolArray | None) -> tuple[tuple[str, str], ...]:
    """(("Dice", "0.830"),) of an image with a lesion; () of others: an overlap with nothing is no number to rank by, the area is."""
    if reference is None or not reference.any():
        return ()
    return (("Dice", f"{pixel.dice(flagged, reference):.3f}"),)


def outlines(gray: Any, flagged: BoolArray, reference: BoolArray | None) -> Any:
    """The image in gray with the annotator's contour where there is one, and over it the predicted one.

    Args:
        gray: (H, W, 3) uint8, grown for the page.
        flagged: (H, W), of the same size.
        reference: not grown yet; None = not annotated.
    """
    drawn = gray
    if reference is not None and reference.any():
        drawn = draw_outline(drawn, grown(reference), REFERENCE, thickness_px=1)
    return draw_outline(drawn, flagged, PREDICTED, thickness_px=1)


def fitting(case: Case) -> Case:
    """The case at a size that a page can hold."""

    def image(values: FloatArray) -> FloatArray:
        return fitting_cell(values.astype(np.float32), MAX_SIDE_PX)

    return replace(
        case,
        pixels=image(case.pixels),
        pseudo_healthy=None if case.pseudo_healthy is None else image(case.pseudo_healthy),
        anomaly_map=strongest_in_cell(case.anomaly_map, MAX_SIDE_PX),
        reference=None if case.reference is None else strongest_in_cell(case.reference, MAX_SIDE_PX),
    )


def grown(image: Any) -> Any:
    """(H, W) or (H, W, 3) with each pixel as large as the page will show it, so that a line drawn on it is one screen pixel wide."""
    factor = shown_factor(max(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
