"""The table of twelve phantoms, for a comparison with the numbers it once had.

    python tests/medanomaly/evaluation/golden_table.py

(from the root of the repository) writes golden_table.json anew; do so only where a change of the numbers is meant, and say why.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from baselines import FLOORS
from medanomaly.datasets.phantom import Phantom, draw_phantom
from medanomaly.diffusion.guidance import classifier_free
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import ddim_walk
from medanomaly.evaluation.measure import MeasureConfig, measure
from medanomaly.evaluation.operating_points import choose_operating_points
from medanomaly.evaluation.predict import Prediction
from medanomaly.scoring.image_score import image_score
from medanomaly.scoring.maps import difference_map
from medanomaly.types import AnomalyMethod, AnomalyResult, EpsFn, WalkObserver

STORED = Path(__file__).with_name("golden_table.json")
SIDE, COUNT = 32, 12
HEALTHY = "healthy"
CONFIG = MeasureConfig(num_resamples=10)


class Guided:
    """Encode, decode with guidance and compare, with exact noise of two Gaussians in place of a network."""

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        """Map, score and twin of x (B, 1, H, W); float64 in, float64 out."""
        schedule = NoiseSchedule.linear()
        levels = schedule.grid(noise_level=400, num_steps=8)
        null, healthy = self.eps(schedule, -0.1), self.eps(schedule, -0.3)
        latent = ddim_walk(null, x, levels, schedule, observer)
        twin = ddim_walk(classifier_free(healthy, null, 3.0), latent, levels[::-1], schedule, observer).clamp(-1, 1)
        anomaly_map = difference_map(x, twin)
        return AnomalyResult(anomaly_map=anomaly_map, score=image_score(anomaly_map), pseudo_healthy=twin)

    def eps(self, schedule: NoiseSchedule, mean: float) -> EpsFn:
        """Noise expected in x_t of data N(mean, 0.25)."""

        def eps_fn(x_t: Tensor, t: int) -> Tensor:
            signal, noise = schedule.signal(t), schedule.noise(t)
            return noise * (x_t - signal * mean) / (signal**2 * 0.25 + noise**2)

        return eps_fn


METHODS: Mapping[str, AnomalyMethod] = {"guided": Guided(), **FLOORS}


def predictions(method: AnomalyMethod, first: int, name: str) -> list[Prediction]:
    """Every second of twelve patients diseased, with its mask; in float64, where other processors round alike in every digit kept."""
    phantoms = [draw_phantom(7, first + index, 0, diseased=bool(index % 2), image_size=SIDE) for index in range(COUNT)]
    return [prediction(method, phantom, f"{name}{index}", diseased=bool(index % 2)) for index, phantom in enumerate(phantoms)]


def prediction(method: AnomalyMethod, phantom: Phantom, name: str, *, diseased: bool) -> Prediction:
    """What a method makes of one phantom."""
    x = torch.from_numpy(phantom.pixels)[None, None].double() / 127.5 - 1
    found = method.localize(x)
    return Prediction(
        id=name,
        patient_id=name,
        label="diseased" if diseased else HEALTHY,
        mask=phantom.mask if diseased else None,
        pixels=x[0].numpy(),
        pseudo_healthy=None if found.pseudo_healthy is None else found.pseudo_healthy[0].numpy(),
        anomaly_map=found.anomaly_map[0, 0].numpy(),
        score=float(found.score[0]),
    )


def golden_table() -> dict[str, dict[str, list[float | None]]]:
    """Method -> number -> [value, low, high]; None = undefined."""
    table = {}
    for name, method in METHODS.items():
        validation, test = predictions(method, 0, "v"), predictions(method, 1000, "t")
        points = choose_operating_points(validation, healthy=HEALTHY)
        # No validation images here: the fit of the calibration error ends where its own tolerance lets it.
        rows = measure(test, points, healthy=HEALTHY, config=CONFIG)
        table[name] = {
            row.name: [number(value) for value in (row.interval.value, row.interval.low, row.interval.high)] for row in rows
        }
    return table


def number(value: float) -> float | None:
    """Nine digits, which is more than is compared."""
    return None if np.isnan(value) else round(value, 9)


if __name__ == "__main__":
    STORED.write_text(json.dumps(golden_table(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {STORED.name}\n")
