"""Classifiers small enough for a test: 16 x 16, random weights."""

from __future__ import annotations

from typing import Any

import torch
from toys import SIDE, random_weights

from medanomaly.classifiers.model import ClassifierModelConfig
from medanomaly.classifiers.network import ClassifierConfig, NoisyClassifier
from medanomaly.classifiers.trained import Classifier
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.methods.experiment import ExperimentOf
from medanomaly.training.config import TrainingConfig

SMALL = ClassifierConfig(channels=(16, 16), attention=(False, True), head_channels=16, norm_groups=8)
TRAINING = TrainingConfig(num_steps=4, batch_size=4, learning_rate=1e-3, warmup_steps=0, ema_decay=0.9, flip=False)


def config_of(**changes: Any) -> ClassifierModelConfig:
    settings: dict[str, Any] = {"classes": ("a", "b", "c"), "network": SMALL} | changes
    return ClassifierModelConfig(**settings)


def experiment_of(**changes: Any) -> ExperimentOf[ClassifierModelConfig]:
    return ExperimentOf(name="tiny", method=config_of(**changes), preprocess=PreprocessConfig(image_size=SIDE), training=TRAINING)


def classifier_of(**changes: Any) -> Classifier:
    """Ready to use, its weights drawn so that no layer is silent."""
    experiment = experiment_of(**changes)
    config = experiment.method
    network = NoisyClassifier(config.network, image_channels=1, classes=config.classes)
    network.load_state_dict(random_weights(config))  # type: ignore[arg-type]
    return Classifier(
        network=network.eval().requires_grad_(False),
        schedule=NoiseSchedule.from_config(config.schedule),
        experiment=experiment,
        provenance={},
    )


def noise(count: int, seed: int = 0) -> torch.Tensor:
    """(count, 1, 16, 16)."""
    return torch.randn((count, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
