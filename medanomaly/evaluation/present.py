"""Evaluation folders as sections of a report: tables, curves, and every kept case as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medanomaly.evaluation.folder import Case, EvaluationFolder
from medanomaly.evaluation.tables import cell, comparison, same_images
from medanomaly.types import BoolArray, FloatArray
from medanomaly.views.canvas import PREDICTED, REFERENCE, png_bytes
from medanomaly.views.curves import histogram_figure, roc_pr_figure
from medanomaly.views.overlay import draw_outline, map_colours, map_overlay
from medanomaly.views.report import CaseView, Section, Table
from medanomaly.views.sheet import SheetCase, contact_sheet
from medanomaly.views.shown import ground, in_rgb, picture, shown_channel


def case_view(case: Case, index: int, *, threshold: float | None, scale_max: float) -> CaseView:
    """Original, pseudo-healthy, map, mask and outline of one case."""
    images = {"original": png_bytes(picture(case.pixels))}
    if case.pseudo_healthy is not None:
        images["pseudo-healthy"] = png_bytes(picture(case.pseudo_healthy))
    images["difference map"] = png_bytes(map_colours(case.anomaly_map, scale_max=scale_max))
    if threshold is not None:
        flagged = case.anomaly_map > threshold
        images["mask"] = png_bytes(flagged.astype(np.uint8) * 255)
        overlay = map_overlay(case.pixels, case.anomaly_map, threshold=threshold, scale_max=scale_max, outline=False)
        images["heatmap"] = png_bytes(overlay)
        images["outline"] = png_bytes(outlines(ground(case.pixels), flagged, case.reference))
    return CaseView(caption=f"case {index + 1}", score=case.score, label=case.label, images=images)


def outlines(gray: Any, flagged: BoolArray, reference: BoolArray | None) -> Any:
    """The original in gray with the predicted contour, and the annotator's where there is one."""
    drawn = in_rgb(gray)
    if reference is not None and reference.any():
        drawn = draw_outline(drawn, reference, REFERENCE)
    return draw_outline(drawn, flagged, PREDICTED)


def section(folder: EvaluationFolder) -> Section:
    """One data set of a report."""
    content = folder.content
    columns, rows, notes = comparison(content["methods"])
    display = content["display"]
    counts = content["counts"]
    intro = (
        f"{counts['num_images']} test images of {counts['num_patients']} patients: {counts['num_diseased']} diseased, "
        f"{counts['num_healthy']} healthy; {counts['num_with_lesion']} with a lesion mask."
    )
    boxed = counts.get("num_with_boxes", 0)
    if boxed:
        intro += f" {boxed} images have boxes drawn around lesions, which the box numbers count."
    if counts["num_diseased_without_mask"] and not boxed:
        intro += f" {counts['num_diseased_without_mask']} diseased images have no mask: only image-level numbers count them."
    if display["criterion"]:
        intro += f" Masks and outlines: map > {display['threshold']:.3f} ({display['criterion']})."
    intro += " Cases are chosen by a hash of their id, not by result. Outlines: cyan = predicted, yellow = annotated."
    intro += f" All maps of this section share one colour scale, 0 to {display['scale_max']:.3f} ({display['unit']})."
    intro += channels_text(len(folder.cases[0].pixels)) if folder.cases else ""
    views = [
        case_view(case, index, threshold=display["threshold"], scale_max=display["scale_max"])
        for index, case in enumerate(folder.cases)
    ]
    return Section(
        title=content["title"],
        intro=intro,
        tables=[Table(title=same_images(counts), columns=columns, rows=rows, notes=notes)],
        figures=figures(content),
        cases=views,
    )


def channels_text(num_channels: int) -> str:
    """A sentence on what the pictures show of images that are not gray; "" for gray ones."""
    if num_channels == 1:
        return ""
    if channel := shown_channel(num_channels):
        return f" Images have {num_channels} channels: {channel}; the map is over all of them."
    return " Heatmaps and outlines lie on the image in gray: all colour in them is a mark."


def figures(content: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Image-level curves and the distribution of the main method's score."""
    made = []
    curves = {name: curve for name, curve in content["curves"].items() if curve}
    if curves:
        named = {}
        for method in content["methods"]:
            found = {row["name"]: row for row in method["measured"]}.get("image AUROC")
            if method["name"] in curves:
                curve = curves[method["name"]]
                title = f"{method['name']}, AUROC {cell(found)}"
                named[title] = tuple(np.array(curve[key]) for key in ("fpr", "tpr", "recall", "precision"))
        counts = content["counts"]
        share = counts["num_diseased"] / max(counts["num_diseased"] + counts["num_healthy"], 1)
        made.append(("Image level: is this image diseased?", roc_pr_figure(named, prevalence=share)))  # type: ignore[arg-type]
    scores = content["scores"]
    if scores["healthy"] and scores["diseased"]:
        main = content["methods"][0]
        point = next((p["value"] for p in main["operating_points"] if p["criterion"].startswith("image")), None)
        picture = histogram_figure(np.array(scores["healthy"]), np.array(scores["diseased"]), threshold=point)
        made.append((f"Image scores of {main['name']}", picture))
    return made


def summary(folder: EvaluationFolder) -> list[tuple[str, str]]:
    """The few numbers of the main method to read first."""
    wanted = ("pixel AUROC", "pixel AP", "Dice @ val-Dice threshold", "image AUROC")
    rows = {row["name"]: row for row in folder.content["methods"][0]["measured"]}
    return [(f"{folder.content['title']}: {name}", cell(rows[name])) for name in wanted if name in rows]


def sheet(path: Path, folder: EvaluationFolder, *, num_cases: int, title: str) -> None:
    """A picture of the first cases: original, pseudo-healthy, map, outlines."""
    display = folder.content["display"]
    contact_sheet(
        path,
        [sheet_case(case, index) for index, case in enumerate(pick(folder.cases, num_cases, folder.content["healthy"]))],
        threshold=display["threshold"] or display["scale_max"],
        scale_max=display["scale_max"],
        unit=display["unit"],
        title=title,
        cell_px=256,
    )


def pick(cases: Sequence[Case], num_cases: int, healthy: str) -> list[Case]:
    """The first diseased cases, and one healthy image last where there is one."""
    diseased = [case for case in cases if case.label != healthy]
    well = [case for case in cases if case.label == healthy]
    return [*diseased[: num_cases - bool(well)], *well[:1]]


def sheet_case(case: Case, index: int) -> SheetCase:
    """One row of the sheet."""

    def float32(values: FloatArray | None) -> FloatArray | None:
        return None if values is None else values.astype(np.float32)

    return SheetCase(
        caption=f"case {index + 1}\n{case.label or 'no label'}\nscore {case.score:.3f}",
        pixels=case.pixels.astype(np.float32),
        anomaly_map=case.anomaly_map,
        pseudo_healthy=float32(case.pseudo_healthy),
        reference=case.reference,
    )
