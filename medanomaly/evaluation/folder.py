"""An evaluation folder: the numbers as JSON, Markdown and CSV, a line an image, and the arrays of some cases for pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medanomaly.errors import InputError
from medanomaly.evaluation.predict import Prediction
from medanomaly.evaluation.study import MethodStudy, counts, refuse_different_images
from medanomaly.evaluation.tables import as_csv, as_markdown, comparison, same_images
from medanomaly.files import atomic_write, write_json
from medanomaly.metrics import ranking
from medanomaly.metrics.pixel import dice
from medanomaly.rng import stable_hash
from medanomaly.types import BoolArray, FloatArray
from medanomaly.views.shown import map_unit

MAX_POINTS = 400
"""Points kept of a ROC or PR curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test image of the main method, for pictures."""

    label: str | None
    score: float
    pixels: FloatArray
    """(C, H, W) in [-1, 1]."""
    pseudo_healthy: FloatArray | None
    anomaly_map: FloatArray
    reference: BoolArray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationFolder:
    """What was read back from a folder."""

    content: dict[str, Any]
    cases: tuple[Case, ...]


def write_text(path: Path, text: str) -> None:
    """UTF-8 text, whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(text.encode())


def write_evaluation(
    out: Path,
    studies: Sequence[MethodStudy],
    *,
    title: str,
    healthy: str,
    facts: Mapping[str, Any],
    max_cases: int,
    unit: str = "map units",
) -> dict[str, Any]:
    """Write ``evaluation.json``, ``table.md``, ``table.csv``, ``images.csv`` and ``cases/``; the first study is the main method.

    Args:
        out: folder to fill.
        studies: methods on the same images.
        title: name of the data set, for people.
        healthy: name of the class without disease.
        facts: provenance to keep: checkpoint, manifest, settings.
        unit: what the main method's map numbers are, in one channel.
        max_cases: images whose arrays are kept for pictures, half diseased and half healthy, chosen by a hash of the id.
    """
    refuse_different_images(studies)
    main = studies[0]
    point = main.pixel_threshold()
    content: dict[str, Any] = {
        "title": title,
        "healthy": healthy,
        "counts": counts(main, healthy),
        "facts": dict(facts),
        "display": {
            "threshold": point.value if point else None,
            "criterion": point.criterion if point else None,
            "scale_max": main.scale_max(),
            "unit": map_unit(unit, len(main.predictions[0].pixels) if main.predictions else 1),
        },
        "curves": {one.name: image_curves(one.predictions, healthy) for one in studies},
        "scores": {
            "healthy": [p.score for p in main.predictions if p.label == healthy],
            "diseased": [p.score for p in main.predictions if p.label not in (None, healthy)],
        },
        "methods": [one.to_dict() for one in studies],
    }
    chosen = choose_cases(main.predictions, healthy, max_cases)
    for index, prediction in enumerate(chosen):
        write_case(out / "cases" / f"{index:03d}.npz", prediction)
    write_json(out / "evaluation.json", content)
    same = same_images(content["counts"])
    write_text(out / "table.md", f"# {title}\n\n{same}\n\n" + as_markdown(*comparison(content["methods"])))
    write_text(out / "table.csv", as_csv(content["methods"]))
    write_text(out / "images.csv", image_lines(studies))
    return content


def image_lines(studies: Sequence[MethodStudy]) -> str:
    """One line a method and image: id, label, score, Dice at the method's pixel threshold."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["method", "id", "label", "score", "threshold", "dice", "flagged_fraction"])
    for one in studies:
        point = one.pixel_threshold()
        for found in one.predictions:
            flagged = found.anomaly_map > point.value if point else None
            overlap = dice(flagged, found.mask) if flagged is not None and found.mask is not None else float("nan")
            writer.writerow(
                [
                    one.name,
                    found.id,
                    found.label or "",
                    f"{found.score:.6g}",
                    f"{point.value:.6g}" if point else "",
                    "" if np.isnan(overlap) else f"{overlap:.4f}",
                    "" if flagged is None else f"{flagged.mean():.5f}",
                ]
            )
    return stream.getvalue()


def image_curves(predictions: Sequence[Prediction], healthy: str) -> dict[str, list[float]] | None:
    """ROC and precision-recall of the image score, thinned; None where a class is absent."""
    labelled = [p for p in predictions if p.label is not None]
    labels = np.array([p.label != healthy for p in labelled], dtype=np.bool_)
    if not labels.any() or labels.all():
        return None
    scores = np.array([p.score for p in labelled], dtype=np.float64)
    levels = np.unique(scores)[::-1]
    above = ranking.rank(scores, labels)
    hits = len(above.positives) - np.searchsorted(above.positives, levels, side="left")
    alarms = len(above.negatives) - np.searchsorted(above.negatives, levels, side="left")
    kept = np.unique(np.linspace(0, len(levels) - 1, min(MAX_POINTS, len(levels))).round().astype(int))
    recall, fpr = hits / labels.sum(), alarms / (~labels).sum()
    precision = hits / (hits + alarms)
    return {
        "fpr": [0.0, *fpr[kept].tolist(), 1.0],
        "tpr": [0.0, *recall[kept].tolist(), 1.0],
        "recall": recall[kept].tolist(),
        "precision": precision[kept].tolist(),
    }


def choose_cases(predictions: Sequence[Prediction], healthy: str, max_cases: int) -> list[Prediction]:
    """Up to ``max_cases`` images, diseased first, chosen by a hash of their id: no picking by hand or by result."""
    ranked = sorted(predictions, key=lambda p: stable_hash("case", p.id))
    diseased = [p for p in ranked if p.label != healthy]
    well = [p for p in ranked if p.label == healthy]
    num_diseased = max(max_cases - len(well), min(len(diseased), (max_cases + 1) // 2))
    chosen = diseased[:num_diseased]
    return chosen + well[: max_cases - len(chosen)]


def write_case(path: Path, prediction: Prediction) -> None:
    """Arrays of one case; no id, no patient."""
    arrays: dict[str, Any] = {"pixels": prediction.pixels, "anomaly_map": prediction.anomaly_map}
    if prediction.pseudo_healthy is not None:
        arrays["pseudo_healthy"] = prediction.pseudo_healthy
    if prediction.mask is not None:
        arrays["reference"] = prediction.mask
    text = json.dumps({"label": prediction.label, "score": prediction.score})
    with atomic_write(path) as stream:
        np.savez_compressed(stream, facts=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)


def read_evaluation(path: Path) -> EvaluationFolder:
    """Undo of :func:`write_evaluation`.

    Raises:
        InputError: not an evaluation folder.
    """
    file = path / "evaluation.json"
    if not file.is_file():
        raise InputError("is not an evaluation folder", code="E_MISSING", path=path, fix="run `medanomaly evaluate` first")
    content = json.loads(file.read_text(encoding="utf-8"))
    cases = []
    for name in sorted((path / "cases").glob("*.npz")):
        with np.load(name, allow_pickle=False) as arrays:
            facts = json.loads(arrays["facts"].tobytes())
            cases.append(
                Case(
                    label=facts["label"],
                    score=facts["score"],
                    pixels=planes(arrays["pixels"]),
                    pseudo_healthy=planes(arrays["pseudo_healthy"]) if "pseudo_healthy" in arrays else None,
                    anomaly_map=arrays["anomaly_map"],
                    reference=arrays.get("reference"),
                )
            )
    return EvaluationFolder(content=content, cases=tuple(cases))


def planes(pixels: FloatArray) -> FloatArray:
    """(C, H, W) of an image; a gray one may be kept as (H, W)."""
    return pixels[None] if pixels.ndim == 2 else pixels
