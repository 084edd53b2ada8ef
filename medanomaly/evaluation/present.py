"""Evaluation folders as sections of a report: tables, curves, every kept case as pictures, and apart the worst ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medanomaly.evaluation.case_pictures import Scale, case_view
from medanomaly.evaluation.folder import Case, EvaluationFolder
from medanomaly.evaluation.image_table import ImageLine
from medanomaly.evaluation.settings_table import settings_tables
from medanomaly.evaluation.tables import cell, comparison, same_images
from medanomaly.types import FloatArray
from medanomaly.views.colour_scale import colour_scale
from medanomaly.views.curves import histogram_figure, roc_pr_figure
from medanomaly.views.reliability import reliability_figure
from medanomaly.views.report import Section, Table
from medanomaly.views.sheet import SheetCase, contact_sheet
from medanomaly.views.shown import shown_channel

MAX_LISTED = 5000
"""Rows of the table of all images; images.csv has the others."""


def sections(folder: EvaluationFolder, images: Sequence[ImageLine] = (), *, ids: bool = False) -> list[Section]:
    """The data set, and where it has lesions the main method's worst cases.

    Args:
        folder: the evaluation.
        images: lines of the main method in images.csv, for a table of all images; () = no such table.
        ids: name images and patients as the manifest does.
    """
    return [section(folder, images, ids=ids), *worst_section(folder)]


def section(folder: EvaluationFolder, images: Sequence[ImageLine] = (), *, ids: bool = False) -> Section:
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
        intro += f" Heatmaps and outlines: map > {display['threshold']:.3f} ({display['criterion']})."
    intro += " Cases are chosen by a hash of their id, not by result, and shown by falling score."
    intro += " Outlines: cyan = predicted, yellow = annotated."
    intro += f" All maps of this section share one colour scale, 0 to {display['scale_max']:.3f} ({display['unit']})."
    intro += channels_text(len(folder.cases[0].pixels)) if folder.cases else ""
    scale = Scale(threshold=display["threshold"], scale_max=display["scale_max"])
    ranked = sorted(enumerate(folder.cases), key=lambda pair: -pair[1].score)
    listed = [image_table(images, ids=ids)] if images else []
    return Section(
        title=content["title"],
        intro=intro,
        tables=[Table(title=same_images(counts), columns=columns, rows=rows, notes=notes)],
        figures=figures(content),
        cases=[case_view(case, f"case {index + 1}", scale) for index, case in ranked],
        cases_title="Cases, highest score first",
        legend=legend(content),
        details=[*listed, *settings_tables(content["facts"].get("experiment"))],
    )


def worst_section(folder: EvaluationFolder) -> list[Section]:
    """The main method's images with the lowest Dice, the worst first; [] where none were kept."""
    if not folder.worst:
        return []
    content = folder.content
    display = content["display"]
    main = content["methods"][0]["name"]
    scale = Scale(threshold=display["threshold"], scale_max=display["scale_max"])
    return [
        Section(
            title=f"{content['title']}: worst cases",
            intro=f"The {len(folder.worst)} images with a lesion on which {main} has the lowest Dice at its threshold, chosen by result.",
            cases=[case_view(case, f"worst {index + 1}", scale) for index, case in enumerate(folder.worst)],
            cases_title="Lowest Dice first",
            legend=legend(content),
        )
    ]


def legend(content: Mapping[str, Any]) -> tuple[str, bytes]:
    """The colour bar of a section's maps."""
    display = content["display"]
    return (
        "One colour scale for all maps of this section; below the threshold a heatmap shows the bare image.",
        colour_scale(display["scale_max"], display["threshold"], unit=display["unit"]),
    )


def image_table(images: Sequence[ImageLine], *, ids: bool) -> Table:
    """Every image of the main method by falling score; without ``ids`` an image is its line in images.csv."""
    ranked = sorted(enumerate(images, start=2), key=lambda pair: -pair[1].score)[:MAX_LISTED]
    names = ["id", "patient"] if ids else []

    def number(value: float, digits: int) -> str:
        return "" if math.isnan(value) else f"{value:.{digits}f}"

    rows = []
    for line, one in ranked:
        named = [one.id, one.patient_id] if ids else []
        numbers = [number(one.dice, 3), number(one.ap, 3), number(one.lesion_px, 0), number(100 * one.flagged_fraction, 1)]
        rows.append([str(line), *named, one.label, f"{one.score:.4g}", *numbers])
    left = len(images) - len(ranked)
    notes = ["A line is the image's in images.csv, whose first line is its heading. Blank: not defined, or not annotated."]
    notes += [f"{left} more images in images.csv."] if left else []
    return Table(
        title="All images",
        columns=["line", *names, "reference", "score", "Dice", "AP in the image", "lesion px", "flagged %"],
        rows=rows,
        notes=notes,
        folded=True,
        sortable=True,
    )


def channels_text(num_channels: int) -> str:
    """A sentence on what the pictures show of images that are not gray; "" for gray ones."""
    if num_channels == 1:
        return ""
    if channel := shown_channel(num_channels):
        return f" Images have {num_channels} channels: {channel}; the map is over all of them."
    return " Heatmaps and outlines lie on the image in gray: all colour in them is a mark."


def figures(content: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """ROC and precision-recall of pixels and of images, calibration, and the distribution of the main method's score."""
    made = []
    for key, metric, of, caption in (
        ("pixel_curves", "pixel AUROC", "pixels", "Pixel level: is this pixel in a lesion? All annotated images pooled."),
        ("curves", "image AUROC", "", "Image level: is this image diseased?"),
    ):
        named = named_curves(content, key, metric)
        if named:
            made.append((caption, roc_pr_figure(named, prevalence=prevalence(content, key), of=of)))
    found = {
        f"{method['name']}, calibration error {cell(measured(method, 'calibration error'))}": curve
        for method in content["methods"]
        if (curve := content.get("reliability", {}).get(method["name"]))
    }
    if found:
        main = dict(list(found.items())[:1])  # the floors would only hide it
        caption = (
            "Calibration of the image score as a probability: logistic regression on the validation scores, 10 bins; bars: 95 % Wilson "
            "intervals of each bin, images taken as independent."
        )
        made.append((caption, reliability_figure(main)))
    scores = content["scores"]
    if scores["healthy"] and scores["diseased"]:
        main_method = content["methods"][0]
        point = next((p["value"] for p in main_method["operating_points"] if p["criterion"].startswith("image")), None)
        picture = histogram_figure(np.array(scores["healthy"]), np.array(scores["diseased"]), threshold=point)
        made.append((f"Image scores of {main_method['name']}", picture))
    return made


def named_curves(content: Mapping[str, Any], key: str, metric: str) -> dict[str, Any]:
    """Curves of the methods that have one, each named with its area and interval."""
    curves = {name: curve for name, curve in (content.get(key) or {}).items() if curve}
    return {
        f"{method['name']}, AUROC {cell(measured(method, metric))}": tuple(
            np.array(curves[method["name"]][axis]) for axis in ("fpr", "tpr", "recall", "precision")
        )
        for method in content["methods"]
        if method["name"] in curves
    }


def measured(method: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """A method's number by name."""
    return next((row for row in method["measured"] if row["name"] == name), None)


def prevalence(content: Mapping[str, Any], key: str) -> float:
    """Chance level of precision: the share of diseased images, or of lesion pixels, which is the precision of flagging everything."""
    if key == "curves":
        counts = content["counts"]
        return float(counts["num_diseased"] / max(counts["num_diseased"] + counts["num_healthy"], 1))
    return float(next(curve for curve in content[key].values() if curve)["precision"][-1])


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
