"""Thresholds chosen on validation predictions, as many as its masks and labels allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medanomaly.evaluation.predict import Prediction, with_truth
from medanomaly.scoring.operating_point import OperatingPoint


def choose_operating_points(
    predictions: Sequence[Prediction], *, healthy: str, split: str = "val", healthy_fpr: float = 0.005
) -> tuple[OperatingPoint, ...]:
    """Operating points on one split: mean Dice where masks show a lesion, healthy false-positive rate, image Youden index.

    Args:
        predictions: of the validation split.
        healthy: name of the class without disease.
        split: its name, kept with each point; a test split is refused.
        healthy_fpr: fraction of healthy pixels allowed above the healthy-calibrated threshold.
    """
    points = []
    known = with_truth(predictions, healthy)
    if any(truth.any() for _, truth in known):
        maps, masks = [prediction.anomaly_map for prediction, _ in known], [truth for _, truth in known]
        points.append(OperatingPoint.for_dice(maps, masks, [prediction.id for prediction, _ in known], split))
    well = [prediction for prediction in predictions if prediction.label == healthy]
    if well:
        maps, ids = [prediction.anomaly_map for prediction in well], [prediction.id for prediction in well]
        points.append(OperatingPoint.for_healthy_fpr(maps, ids, split, healthy_fpr))
    labelled = [prediction for prediction in predictions if prediction.label is not None]
    labels = np.array([prediction.label != healthy for prediction in labelled], dtype=np.bool_)
    if labels.any() and not labels.all():
        scores = np.array([prediction.score for prediction in labelled], dtype=np.float64)
        points.append(OperatingPoint.for_image_accuracy(scores, labels, [prediction.id for prediction in labelled], split))
    return tuple(points)
