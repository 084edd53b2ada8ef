"""Classifiers as guides: what one must be able to say, and whether it speaks of the same images as the diffusion model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError
from medanomaly.generation.sampling import Guide

MAX_SCALE = 10_000.0
"""Largest scale that is accepted; 100 in Wolleb et al. 2022 (arXiv:2203.04306), 1 to 10 in Dhariwal & Nichol 2021."""


class NoisyImageClassifier(Protocol):
    """A classifier that knows noisy images, by class name."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names."""

    @property
    def multi_label(self) -> bool:
        """Whether an image may be of several classes."""

    @property
    def noisy(self) -> bool:
        """Whether it was trained on noisy images."""

    @property
    def schedule(self) -> NoiseSchedule:
        """Noise it was trained on."""

    @property
    def image_size(self) -> int:
        """Side of the square it sees, px."""

    @property
    def channels(self) -> int:
        """Of its images."""

    def log_prob(self, x_t: Tensor, levels: int, label: Sequence[str], /) -> Tensor:
        """(B,) log-probability that an image is of all these classes; differentiable in x_t (B, C, S, S), images alone."""


def guide_to(classifier: NoisyImageClassifier, names: Sequence[str], scale: float) -> Guide:
    """A guide to images that a classifier takes for all of these classes."""
    wanted = tuple(names)
    return Guide(log_prob=lambda x_t, t: classifier.log_prob(x_t, t, wanted), scale=scale)


def refuse_other_images(
    classifier: NoisyImageClassifier, *, image_size: int, channels: int, schedule: NoiseSchedule, scale: float
) -> None:
    """Nothing where a classifier can guide a model of these images and this noise.

    Raises:
        ConfigError: E_CLASSIFIER, another size, number of channels or schedule, or a classifier of clean images; E_CONFIG, a scale
            that is negative, not finite or beyond ``MAX_SCALE``.
    """
    if not 0 <= scale <= MAX_SCALE:
        raise ConfigError(f"classifier_scale must be in 0..{MAX_SCALE:g}, got {scale}", code="E_CONFIG")
    if not classifier.noisy:
        raise ConfigError(
            "this classifier was trained on clean images, and guidance asks it about noisy ones",
            code="E_CLASSIFIER",
            fix="train one with --method.noisy true",
        )
    for what, its, ours in (
        ("image size", f"{classifier.image_size} px", f"{image_size} px"),
        ("number of channels", str(classifier.channels), str(channels)),
        ("number of noise levels", str(classifier.schedule.num_levels), str(schedule.num_levels)),
    ):
        if its != ours:
            raise ConfigError(
                f"the classifier's {what} is {its}, the diffusion model's {ours}",
                code="E_CLASSIFIER",
                fix="train one of them with the settings of the other",
            )
    difference = float((classifier.schedule.alpha_bar - schedule.alpha_bar).abs().max())
    if not torch.allclose(classifier.schedule.alpha_bar, schedule.alpha_bar):
        raise ConfigError(
            f"the classifier was trained on another noise schedule (alpha_bar differs by up to {difference:.3g})",
            code="E_CLASSIFIER",
            fix="train one of them with the schedule of the other",
        )
