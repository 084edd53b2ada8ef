"""Every number that boxes around lesions allow, for sets that have no masks, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.evaluation.measure import AT, MeasureConfig, Measured, mean_row, origin
from medanomaly.evaluation.predict import Prediction
from medanomaly.metrics import box
from medanomaly.metrics.bootstrap import patient_bootstrap
from medanomaly.scoring.operating_point import DICE, HEALTHY_FPR, OperatingPoint, refuse_if_seen
from medanomaly.types import Box

FALSE_BOX_IOBB = 0.25
"""A flagged rectangle with less of its area than this in a drawn box is counted as false."""


def measure_boxes(
    predictions: Sequence[Prediction], points: Sequence[OperatingPoint], *, config: MeasureConfig = MeasureConfig()
) -> list[Measured]:
    """Numbers of one method on the test images with boxes; none where no image has one.

    Energy and pointing game need no threshold. Overlaps are taken at one threshold, that which masks are drawn with: the
    validation-Dice one, else the healthy one. IoU and detection pool the boxes of all images; false boxes are counted on all images
    that somebody looked at for boxes, those without a box included.

    Args:
        predictions: of the test split; images with ``boxes`` None were not annotated and count nowhere.
        points: chosen on validation images; refused if any of them is here.
        config: resamples and seed.

    Raises:
        InputError: E_BOX_SIZE, images whose boxes all lie outside of them: they have a lesion, and nothing to find it by.
        ConfigError: E_TEST_THRESHOLD.
    """
    for point in points:
        refuse_if_seen(point, [prediction.id for prediction in predictions])
    annotated = [(prediction, prediction.boxes) for prediction in predictions if prediction.boxes is not None]
    boxed = [(prediction, boxes) for prediction, boxes in annotated if boxes]
    if not boxed:
        return []
    refuse_invisible(boxed)
    owners = [prediction.patient_id for prediction, _ in boxed]
    energy = np.array([box.energy_in_boxes(prediction.anomaly_map, boxes) for prediction, boxes in boxed])
    hits = np.array([box.pointing_hit(prediction.anomaly_map, boxes) for prediction, boxes in boxed])
    share = np.mean([box.inside_boxes(boxes, shape_of(prediction)).mean() for prediction, boxes in boxed])
    chance = f"a constant map scores {share:.4f}, the share of pixels in boxes"
    rows = [
        mean_row("boxes", "energy in boxes", energy, owners, config, chance),
        mean_row("boxes", "box pointing game", hits, owners, config, "the map's maximum lies in a box"),
    ]
    by_criterion = {point.criterion: point for point in points}
    for key in (DICE, HEALTHY_FPR):
        if (chosen := by_criterion.get(key)) is not None:
            return rows + overlap_rows(annotated, chosen, f"@ {AT[key]}", config)
    return rows


def refuse_invisible(boxed: Sequence[tuple[Prediction, tuple[Box, ...]]]) -> None:
    """InputError naming every image of which no box is visible, so that each image with boxes counts in each row."""
    outside = [one.id for one, boxes in boxed if not len(box.visible_edges(boxes, shape_of(one)))]
    if outside:
        raise InputError(
            f"{len(outside)} images have all their boxes outside of them: {', '.join(map(ascii, outside))}",
            code="E_BOX_SIZE",
            fix="give boxes in px of the image as it lies on disk; 'medanomaly data check --deep true' finds all that do not fit",
        )


def overlap_rows(
    annotated: Sequence[tuple[Prediction, tuple[Box, ...]]], point: OperatingPoint, title: str, config: MeasureConfig
) -> list[Measured]:
    """IoU and detection rate of drawn boxes, and false boxes an image, at one threshold."""
    matches = [box.match_boxes(prediction.anomaly_map, boxes, point.value) for prediction, boxes in annotated]
    boxed = [index for index, (_, boxes) in enumerate(annotated) if boxes]
    owners = [annotated[index][0].patient_id for index in boxed]

    def pooled(name: str, values_of: Callable[[box.BoxMatch], npt.NDArray[np.float64]], note: str) -> Measured:
        values = [values_of(matches[index]) for index in boxed]

        def mean(index: npt.NDArray[np.int64]) -> float:
            drawn = np.concatenate([values[i] for i in index])
            return float(drawn.mean()) if drawn.size else float("nan")

        interval = patient_bootstrap(mean, owners, num_resamples=config.num_resamples, seed=config.seed)
        return Measured(group="boxes", name=f"{name} {title}", interval=interval, note=f"{note}; {origin(point)}")

    best = "of a drawn box with the best rectangle around a component"
    rows = [pooled("box IoU", lambda match: match.best_iou, f"IoU {best}")]
    note = f"IoBB {best}: intersection over the rectangle's area, so small rectangles are favoured"
    for level in box.IOBB_LEVELS:
        rows.append(pooled(f"boxes found (IoBB >= {level:g})", partial(found_at, level=level), note))
    false = np.array([match.num_false(FALSE_BOX_IOBB) for match in matches], dtype=np.float64)
    patients = [prediction.patient_id for prediction, _ in annotated]
    note = f"flagged rectangles with IoBB < {FALSE_BOX_IOBB:g}, on images annotated with boxes or as having none; {origin(point)}"
    return [*rows, mean_row("boxes", f"false boxes an image {title}", false, patients, config, note)]


def found_at(match: box.BoxMatch, level: float) -> npt.NDArray[np.float64]:
    """1 for each drawn box that is detected at an IoBB, else 0."""
    return match.detected(level).astype(np.float64)


def shape_of(prediction: Prediction) -> tuple[int, int]:
    """(rows, columns) of the map."""
    rows, columns = prediction.anomaly_map.shape
    return int(rows), int(columns)
