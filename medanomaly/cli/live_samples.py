"""The validation images that the live view of a training shows, and the quick method that localizes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.splits import spread
from medanomaly.evaluation.training_samples import NUM_SAMPLES, quick, sample_grids
from medanomaly.methods.checks import uncalibrated
from medanomaly.methods.experiment import Experiment
from medanomaly.types import AnomalyMethod, Observer, Recipe


def samples_shown(
    experiment: Experiment | None,
    recipe: Recipe,
    records: Sequence[Record],
    *,
    device: torch.device,
    observers: Sequence[Observer],
) -> Callable[[int], None]:
    """What shows observers at a step how a few validation images are localized so far, half of them of the target class.

    Nothing is done where nobody watches, or where the experiment is none that localizes.
    """
    if experiment is None or not observers:
        return lambda _step: None
    config, preprocess = quick(uncalibrated(experiment.method)), experiment.preprocess
    healthy = [record for record in records if record.label == config.target]
    others = [record for record in records if record.label != config.target]
    chosen = [*spread(others, NUM_SAMPLES // 2), *spread(healthy, NUM_SAMPLES // 2)]
    samples = ManifestDataset(chosen, preprocess, config.classes)
    x = torch.stack([samples[index].x for index in range(len(samples))]).to(device)

    def method() -> AnomalyMethod:
        return config.restore(recipe.weights(), image_channels=preprocess.channels, device=device, source="this run")

    return sample_grids(method, x, observers)
