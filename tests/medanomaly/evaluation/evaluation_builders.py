"""Predictions whose right numbers are known before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from medanomaly.evaluation.measure import MeasureConfig, Measured, measure
from medanomaly.evaluation.predict import Prediction
from medanomaly.scoring.operating_point import OperatingPoint
from medanomaly.types import AnomalyResult, BoolArray, FloatArray, Geometry, Sample, WalkObserver

SIDE = 16
QUICK = MeasureConfig(num_resamples=20)
MakeMap = Callable[[BoolArray, int], FloatArray]
"""(truth, index of the image) -> (SIDE, SIDE) map."""


def lesion(index: int) -> BoolArray:
    """A 4 x 4 lesion somewhere."""
    mask = np.zeros((SIDE, SIDE), np.bool_)
    row, column = 1 + (5 * index) % 11, 1 + (3 * index) % 11
    mask[row : row + 4, column : column + 4] = True
    return mask


def perfect(truth: BoolArray, index: int) -> FloatArray:
    """1 on the lesion, 0 elsewhere."""
    return truth.astype(np.float32)


def inverted(truth: BoolArray, index: int) -> FloatArray:
    """0 on the lesion, 1 elsewhere."""
    return (~truth).astype(np.float32)


def random(truth: BoolArray, index: int) -> FloatArray:
    """Noise that knows nothing of the lesion."""
    return np.random.default_rng(index).random(truth.shape, dtype=np.float32)


def prediction(index: int, make: MakeMap = perfect, *, name: str = "t", twin: bool = True, masked: bool = True) -> Prediction:
    """Even images are healthy without a mask file, odd ones diseased with a lesion; two images a patient."""
    diseased = index % 2 == 1
    truth = lesion(index) if diseased else np.zeros((SIDE, SIDE), np.bool_)
    pixels = np.random.default_rng(index).uniform(-1, 1, (1, SIDE, SIDE)).astype(np.float32)
    found = make(truth, index)
    return Prediction(
        id=f"{name}{index}",
        patient_id=f"{name}-patient{index // 4}-{index % 2}",
        label="diseased" if diseased else "healthy",
        mask=truth if diseased and masked else None,
        pixels=pixels,
        pseudo_healthy=np.where(truth, -1, pixels + 0.05).astype(np.float32) if twin else None,
        anomaly_map=found,
        score=float(found.max()),
    )


def predictions(count: int = 12, make: MakeMap = perfect, *, name: str = "t") -> list[Prediction]:
    return [prediction(index, make, name=name) for index in range(count)]


def values(found: Sequence[Prediction], points: Sequence[OperatingPoint] = (), **options: object) -> dict[str, float]:
    """Measured numbers by name."""
    return {name: row.interval.value for name, row in rows(found, points, **options).items()}


def rows(found: Sequence[Prediction], points: Sequence[OperatingPoint] = (), **options: object) -> dict[str, Measured]:
    """Measured rows by name."""
    settings: dict[str, object] = {"healthy": "healthy", "config": QUICK} | options
    return {row.name: row for row in measure(found, points, **settings)}  # type: ignore[arg-type]


def bright_samples(count: int, name: str, *, lesion_value: float = 1.0, size: tuple[int, int] = (SIDE, SIDE)) -> list[Sample]:
    """Black images, every second one with a square lesion of one brightness and its mask."""
    made = []
    for index in range(count):
        truth = lesion(index) if index % 2 else np.zeros((SIDE, SIDE), np.bool_)
        x = torch.where(torch.from_numpy(truth), lesion_value, -1.0).float()[None]
        made.append(
            Sample(
                id=f"{name}{index}",
                patient_id=f"{name}-patient{index}",
                x=x,
                label="diseased" if index % 2 else "healthy",
                mask=truth if index % 2 else None,
                geometry=Geometry(native_size=size, pad_before=(0, 0), model_size=SIDE),
            )
        )
    return made


class Whiteness:
    """A method that calls what is bright abnormal, remembers what it saw, and inverts perfectly where asked."""

    def __init__(self, *, inverts: bool = False) -> None:
        self.batches: list[int] = []
        if inverts:
            self.round_trip = self.slightly_off

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        self.batches.append(len(x))
        anomaly_map = (x + 1) / 2
        return AnomalyResult(
            anomaly_map=anomaly_map, score=anomaly_map.flatten(1).amax(1), pseudo_healthy=torch.full_like(x, -0.9)
        )

    @staticmethod
    def slightly_off(x: Tensor) -> Tensor:
        """A tenth off everywhere."""
        return x + 0.1
