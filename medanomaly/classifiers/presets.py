"""Classifiers that can be named on the command line. Measured results stand in docs/results.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from medanomaly.classifiers.model import ClassifierModelConfig
from medanomaly.classifiers.network import ClassifierConfig
from medanomaly.datasets.public.chexpert_labels import OBSERVATIONS
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.methods.experiment import ExperimentOf, ModelExperiment
from medanomaly.training.config import TrainingConfig

DIGITS = tuple("0123456789")


def mnist_classifier() -> ModelExperiment:
    """The ten digits at 32 x 32, at any noise level: guides mnist-ddpm; 0.3 M parameters, 8 minutes of one core."""
    network = ClassifierConfig(channels=(32, 64, 64), attention=(False, False, True), norm_groups=16)
    return ExperimentOf(
        name="mnist-classifier",
        method=ClassifierModelConfig(classes=DIGITS, network=network),
        preprocess=PreprocessConfig(image_size=32),
        # Mirrored digits are other digits.
        training=TrainingConfig(
            num_steps=3000, batch_size=64, learning_rate=1e-3, weight_decay=0.05, precision="bf16", flip=False
        ),
    )


def mnist_reader() -> ModelExperiment:
    """The ten digits at 32 x 32, clean: reads what a generator made, trained apart from the classifier that guides it."""
    like = mnist_classifier()
    method = ClassifierModelConfig(
        classes=DIGITS,
        noisy=False,
        network=ClassifierConfig(channels=(32, 64, 64), attention=(False, False, False), norm_groups=16),
    )
    # Another seed: its errors should not be the guide's.
    training = replace(like.training, num_steps=1500, seed=1)
    return ExperimentOf(name="mnist-reader", method=method, preprocess=like.preprocess, training=training)


def gray64_classifier() -> ModelExperiment:
    """Healthy or diseased, any gray images at 64 x 64, at any noise level: guides gray64-prior; for a CPU."""
    return ExperimentOf(
        name="gray64-classifier",
        method=ClassifierModelConfig(network=ClassifierConfig()),
        preprocess=PreprocessConfig(image_size=64),
        training=TrainingConfig(num_steps=3500, batch_size=16, learning_rate=3e-4, weight_decay=0.05, precision="bf16"),
    )


def chexpert256_classifier() -> ModelExperiment:
    """CheXpert's 14 observations at 256 x 256, at any noise level, several an image: guides chexpert256-ddpm; for a GPU.

    Uncertain labels are masked. What a report does not mention counts as absent: "No Finding" and "Support Devices" are hardly ever
    0 in the published table, and a class without a negative cannot be learned. The encoder has the widths of the 256 px classifier
    of Dhariwal & Nichol 2021 (arXiv:2105.05233, section 4: base 128, attention at 32, 16 and 8); positions are averaged.
    """
    return ExperimentOf(
        name="chexpert256-classifier",
        method=ClassifierModelConfig(
            classes=OBSERVATIONS,
            multi_label=True,
            blank="zeros",
            augmentation="radiograph",
            network=ClassifierConfig(
                channels=(128, 128, 256, 256, 512, 512),
                attention=(False, False, False, True, True, True),
                num_res_blocks=2,
                head_channels=64,
                norm_groups=32,
            ),
        ),
        preprocess=PreprocessConfig(image_size=256),
        training=TrainingConfig(
            num_steps=50_000,
            batch_size=64,
            learning_rate=1e-4,
            weight_decay=0.05,
            ema_decay=0.9995,
            precision="bf16",
            flip=False,
            num_workers=8,
            save_every=1000,
        ),
    )


CLASSIFIER_PRESETS: dict[str, Callable[[], ModelExperiment]] = {
    "mnist-classifier": mnist_classifier,
    "mnist-reader": mnist_reader,
    "gray64-classifier": gray64_classifier,
    "chexpert256-classifier": chexpert256_classifier,
}
"""Classifiers of noisy or clean images."""
