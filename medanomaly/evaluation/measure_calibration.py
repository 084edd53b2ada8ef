"""Is a probability made of the image score to be believed: its reliability curve on the test images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medanomaly.evaluation.measure import calibrated
from medanomaly.evaluation.predict import Prediction
from medanomaly.metrics.reliability import reliability

ReliabilityLists = dict[str, list[float]]
"""probability, frequency, low, high and count, one entry a bin that holds an image."""


def reliability_curve(
    predictions: Sequence[Prediction], validation: Sequence[Prediction], *, healthy: str
) -> ReliabilityLists | None:
    """Bins of the probability that the calibration error is measured on; None where test or validation lack a class."""
    labelled = [prediction for prediction in predictions if prediction.label is not None]
    labels = np.array([prediction.label != healthy for prediction in labelled], dtype=np.bool_)
    if not labels.any() or labels.all():
        return None
    probability = calibrated(np.array([p.score for p in labelled], dtype=np.float64), validation, healthy)
    if probability is None:
        return None
    curve = reliability(probability, labels)
    return {name: getattr(curve, name).tolist() for name in ("probability", "frequency", "low", "high", "count")}
