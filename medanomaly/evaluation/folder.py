"""An evaluation folder: the numbers as JSON, Markdown and CSV, a line an image, and the arrays of some cases for pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medanomaly.errors import InputError
from medanomaly.evaluation.image_table import image_lines
from medanomaly.evaluation.predict import Prediction, with_truth
from medanomaly.evaluation.study import MethodStudy, counts, refuse_different_images
from medanomaly.evaluation.tables import as_csv, as_markdown, comparison, same_images
from medanomaly.files import atomic_write, write_json
from medanomaly.metrics import pixel, ranking
from medanomaly.rng import stable_hash
from medanomaly.types import BoolArray, FloatArray
from medanomaly.views.shown import map_unit

MAX_POINTS = 400
"""Points kept of a ROC or PR curve."""
NUM_WORST = 10
"""Cases of the main method with the lowest Dice whose arrays are kept in worst/, the worst first."""


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
    worst: tuple[Case, ...] = ()
    """Of the main method's images with a lesion, the lowest Dice first."""


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
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Write ``evaluation.json``, ``table.md``, ``table.csv``, ``images.csv``, ``cases/`` and ``worst/``; the first is the main method.

    Args:
        out: folder to fill.
        studies: methods on the same images.
        title: name of the data set, for people.
        healthy: name of the class without disease.
        facts: provenance to keep: checkpoint, manifest, settings.
        unit: what the main method's map numbers are, in one channel.
        max_cases: images whose arrays are kept for pictures, half diseased and half healthy, chosen by a hash of the id; besides,
            up to ten with the lowest Dice, apart from the others.
        notes: said below the table.
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
        "pixel_curves": {one.name: pixel_curves(one.predictions, healthy) for one in studies},
        "reliability": {one.name: None if one.reliability is None else dict(one.reliability) for one in studies},
        "scores": {
            "healthy": [p.score for p in main.predictions if p.label == healthy],
            "diseased": [p.score for p in main.predictions if p.label not in (None, healthy)],
        },
        "methods": [one.to_dict() for one in studies],
    }
    chosen = choose_cases(main.predictions, healthy, max_cases)
    for index, prediction in enumerate(chosen):
        write_case(out / "cases" / f"{index:03d}.npz", prediction)
    for index, (_, prediction) in enumerate(worst_cases(main, healthy, min(NUM_WORST, max_cases))):
        write_case(out / "worst" / f"{index:03d}.npz", prediction)
    write_json(out / "evaluation.json", content)
    same = same_images(content["counts"])
    columns, rows, footer = comparison(content["methods"])
    write_text(out / "table.md", f"# {title}\n\n{same}\n\n" + as_markdown(columns, rows, [*footer, *notes]))
    write_text(out / "table.csv", as_csv(content["methods"]))
    write_text(out / "images.csv", image_lines(studies, healthy))
    return content


def image_curves(predictions: Sequence[Prediction], healthy: str) -> dict[str, list[float]] | None:
    """ROC and precision-recall of the image score, thinned; None where a class is absent."""
    labelled = [p for p in predictions if p.label is not None]
    labels = np.array([p.label != healthy for p in labelled], dtype=np.bool_)
    if not labels.any() or labels.all():
        return None
    return thinned_curves(ranking.rank(np.array([p.score for p in labelled], dtype=np.float64), labels))


def pixel_curves(predictions: Sequence[Prediction], healthy: str) -> dict[str, list[float]] | None:
    """ROC and precision-recall of the pooled pixels of all annotated images, thinned; None where no image has a lesion."""
    known = with_truth(predictions, healthy)
    ranked = pixel.pooled([p.anomaly_map for p, _ in known], [truth for _, truth in known])
    return None if ranked.single_class else thinned_curves(ranked)


def thinned_curves(ranked: ranking.Ranked) -> dict[str, list[float]]:
    """Exact points of both curves at up to ``MAX_POINTS`` thresholds: score values spread over the ranks of each class alike.

    Spread over all scores, most thresholds would lie among the normal pixels, where precision no longer changes.
    """
    spread = [
        np.linspace(0, len(one) - 1, min(MAX_POINTS // 2, len(one))).round().astype(int)
        for one in (ranked.positives, ranked.negatives)
    ]
    levels = np.unique(np.concatenate([ranked.positives[spread[0]], ranked.negatives[spread[1]]]))[::-1]
    hits = ranked.positives.size - np.searchsorted(ranked.positives, levels, side="left")
    alarms = ranked.negatives.size - np.searchsorted(ranked.negatives, levels, side="left")
    recall, fpr = hits / ranked.positives.size, alarms / ranked.negatives.size
    return {
        "fpr": [0.0, *fpr.tolist(), 1.0],
        "tpr": [0.0, *recall.tolist(), 1.0],
        "recall": recall.tolist(),
        "precision": (hits / (hits + alarms)).tolist(),
    }


def choose_cases(predictions: Sequence[Prediction], healthy: str, max_cases: int) -> list[Prediction]:
    """Up to ``max_cases`` images, diseased first, chosen by a hash of their id: no picking by hand or by result."""
    ranked = sorted(predictions, key=lambda p: stable_hash("case", p.id))
    diseased = [p for p in ranked if p.label != healthy]
    well = [p for p in ranked if p.label == healthy]
    num_diseased = max(max_cases - len(well), min(len(diseased), (max_cases + 1) // 2))
    chosen = diseased[:num_diseased]
    return chosen + well[: max_cases - len(chosen)]


def worst_cases(study_: MethodStudy, healthy: str, count: int) -> list[tuple[float, Prediction]]:
    """(Dice, image) of the images with a lesion that the method's pixel threshold does worst on, the worst first; ties by id."""
    point = study_.pixel_threshold()
    if point is None:
        return []
    lesioned = [(found, truth) for found, truth in with_truth(study_.predictions, healthy) if truth.any()]
    scored = [(pixel.dice(found.anomaly_map > point.value, truth), found) for found, truth in lesioned]
    return sorted(scored, key=lambda pair: (pair[0], pair[1].id))[:count]


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
    cases, worst = (tuple(read_case(name) for name in sorted((path / kind).glob("*.npz"))) for kind in ("cases", "worst"))
    return EvaluationFolder(content=content, cases=cases, worst=worst)


def read_case(path: Path) -> Case:
    """Undo of :func:`write_case`."""
    with np.load(path, allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        return Case(
            label=facts["label"],
            score=facts["score"],
            pixels=planes(arrays["pixels"]),
            pseudo_healthy=planes(arrays["pseudo_healthy"]) if "pseudo_healthy" in arrays else None,
            anomaly_map=arrays["anomaly_map"],
            reference=arrays.get("reference"),
        )


def planes(pixels: FloatArray) -> FloatArray:
    """(C, H, W) of an image; a gray one may be kept as (H, W)."""
    return pixels[None] if pixels.ndim == 2 else pixels
