"""A method's answer for each sample, brought back to the image's own rows and columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from medanomaly.datasets.transforms import to_native
from medanomaly.evaluation.constant import blank_where_constant
from medanomaly.types import AnomalyMethod, AnomalyResult, BoolArray, Box, FloatArray, Sample, WalkObserver


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One image with its map at native size."""

    id: str
    patient_id: str
    label: str | None
    mask: BoolArray | None
    """(rows, columns); None = not annotated."""
    pixels: FloatArray
    """(C, rows, columns) in [-1, 1]: what the model saw, at native size."""
    pseudo_healthy: FloatArray | None
    """(C, rows, columns) in [-1, 1]."""
    anomaly_map: FloatArray
    """(rows, columns) >= 0, one scale for all images of a method."""
    score: float
    boxes: tuple[Box, ...] | None = None
    """Around lesions, px of the map; None = nobody drew boxes, () = somebody looked and drew none."""
    map_std: FloatArray | None = None
    """(rows, columns) >= 0: how far the maps that this one was made of differ, in its unit; None where there is only one."""


def predict(
    method: AnomalyMethod,
    samples: Iterable[Sample],
    *,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    observer: WalkObserver | None = None,
) -> Iterator[Prediction]:
    """Predictions in the order of the samples, computed ``batch_size`` at a time."""
    stream = iter(samples)
    while batch := list(islice(stream, batch_size)):
        x = torch.stack([sample.x for sample in batch]).to(device)
        yield from at_native_size(batch, blank_where_constant(x, method.localize(x, observer)))


def at_native_size(batch: Sequence[Sample], result: AnomalyResult) -> Iterator[Prediction]:
    """A prediction for each sample of a batch from the method's answer to it."""
    twin, spread = result.pseudo_healthy, result.map_std
    for index, sample in enumerate(batch):
        yield Prediction(
            id=sample.id,
            patient_id=sample.patient_id,
            label=sample.label,
            mask=sample.mask,
            pixels=np.clip(to_native(sample.x, sample.geometry), -1, 1),
            pseudo_healthy=None if twin is None else np.clip(to_native(twin[index].cpu(), sample.geometry), -1, 1),
            anomaly_map=np.clip(to_native(result.anomaly_map[index].cpu(), sample.geometry)[0], 0, None),
            score=float(result.score[index]),
            boxes=sample.boxes,
            map_std=None if spread is None else np.clip(to_native(spread[index].cpu(), sample.geometry)[0], 0, None),
        )


def with_truth(predictions: Iterable[Prediction], healthy: str) -> list[tuple[Prediction, BoolArray]]:
    """Predictions whose pixels are known, with their truth: an annotated mask, or none at all for an image labelled healthy.

    A diseased image without a mask is left out, never counted as empty; so is an image without a label.
    """
    known = []
    for prediction in predictions:
        if prediction.mask is not None:
            known.append((prediction, prediction.mask))
        elif prediction.label == healthy:
            known.append((prediction, np.zeros(prediction.anomaly_map.shape, dtype=np.bool_)))
    return known
