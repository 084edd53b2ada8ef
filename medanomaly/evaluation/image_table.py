"""images.csv of an evaluation: one line a method and image, with all that a paired comparison of two methods needs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medanomaly.datasets.csv_rows import rows_of
from medanomaly.errors import InputError
from medanomaly.evaluation.predict import Prediction, with_truth
from medanomaly.evaluation.study import MethodStudy
from medanomaly.metrics import pixel
from medanomaly.types import BoolArray

COLUMNS = (
    *("method", "id", "patient_id", "label", "score", "threshold", "dice", "ap", "auroc"),
    *("lesion_px", "num_px", "flagged_fraction"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLine:
    """One method on one image; NaN where a number is not defined or not known."""

    id: str
    patient_id: str
    label: str
    """"" = not labelled."""
    score: float
    dice: float
    """At the method's pixel threshold; NaN where truth and prediction are both empty, or no mask was drawn."""
    ap: float
    """Average precision of the pixels of this image alone; defined where it has a lesion."""
    auroc: float
    """AUROC of the pixels of this image alone; defined where it has a lesion."""
    lesion_px: float
    """Area of the lesion in pixels; NaN = not annotated, 0 = known to have none."""
    num_px: float
    """Pixels of the image."""
    flagged_fraction: float
    """Share of the pixels above the threshold."""


def image_lines(studies: Sequence[MethodStudy], healthy: str) -> str:
    """The CSV. Ranking within an image and lesion area need a truth: a mask, or a label that says there is no lesion."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in studies:
        point = one.pixel_threshold()
        truths = {found.id: truth for found, truth in with_truth(one.predictions, healthy)}
        for found in one.predictions:
            flagged = found.anomaly_map > point.value if point else None
            overlap = pixel.dice(flagged, found.mask) if flagged is not None and found.mask is not None else float("nan")
            truth = truths.get(found.id)
            precision, auroc = ranked_within(found, truth)
            writer.writerow(
                [
                    one.name,
                    found.id,
                    found.patient_id,
                    found.label or "",
                    f"{found.score:.6g}",
                    f"{point.value:.6g}" if point else "",
                    known(overlap),
                    known(precision),
                    known(auroc),
                    "" if truth is None else int(truth.sum()),
                    found.anomaly_map.size,
                    "" if flagged is None else f"{flagged.mean():.5f}",
                ]
            )
    return stream.getvalue()


def ranked_within(found: Prediction, truth: BoolArray | None) -> tuple[float, float]:
    """(average precision, AUROC) of one image's pixels; NaN without a lesion."""
    if truth is None or not truth.any():
        return float("nan"), float("nan")
    maps, masks = [found.anomaly_map], [truth]
    return pixel.pixel_average_precision(maps, masks), pixel.pixel_auroc(maps, masks)


def known(value: float) -> str:
    """Six decimals, so that pairs are compared and not their rounding; blank for NaN."""
    return "" if math.isnan(value) else f"{value:.6f}"


def read_images(path: Path) -> dict[str, list[ImageLine]]:
    """Method -> its lines, in the order of the file.

    Raises:
        InputError: E_COLUMNS, written by an earlier version, or not by ``evaluate``.
    """
    wanted = [name for name in COLUMNS if name != "threshold"]
    found: dict[str, list[ImageLine]] = {}
    for _line, row in rows_of(path, COLUMNS, required="method"):
        missing = [name for name in wanted if name not in row]
        if missing:
            raise InputError(
                f"has no column {', '.join(missing)}", code="E_COLUMNS", path=path, fix="run `medanomaly evaluate` again"
            )
        texts = {name: row[name] for name in ("id", "patient_id", "label")}
        numbers = {name: number(row[name]) for name in wanted if name not in ("method", *texts)}
        found.setdefault(row["method"], []).append(ImageLine(**texts, **numbers))  # type: ignore[arg-type]
    return found


def number(text: str) -> float:
    """The number of a cell; NaN where it is blank."""
    return float(text) if text.strip() else float("nan")
