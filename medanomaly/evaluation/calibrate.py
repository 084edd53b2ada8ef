"""Healthy calibration: what a method's maps look like where nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from medanomaly.scoring.calibration import HealthyCalibration
from medanomaly.types import AnomalyMethod, Sample


def healthy_calibration(
    method: AnomalyMethod, samples: Iterable[Sample], *, batch_size: int = 16, device: torch.device | str = "cpu"
) -> HealthyCalibration:
    """Mean and deviation of the maps of healthy validation images, at model size.

    Args:
        method: gives maps that are not calibrated yet.
        samples: healthy images that no threshold is chosen on afterwards.
        batch_size: images a forward pass.
        device: where the method computes.

    Raises:
        InputError: E_EMPTY, fewer than two images.
    """

    def maps() -> Iterator[Tensor]:
        stream = iter(samples)
        while batch := list(islice(stream, batch_size)):
            yield from method.localize(torch.stack([sample.x for sample in batch]).to(device)).anomaly_map.cpu()

    return HealthyCalibration.from_healthy_maps(maps())
