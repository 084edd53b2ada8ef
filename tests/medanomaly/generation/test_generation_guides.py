from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule, ScheduleConfig
from medanomaly.errors import ConfigError
from medanomaly.generation.guides import guide_to, refuse_other_images

LINEAR = NoiseSchedule.linear()
COSINE = NoiseSchedule.from_config(ScheduleConfig(name="cosine"))


@dataclass(frozen=True)
class Fake:
    """Says of every image that class "b" is 2 x its brightest pixel likely, and every other class not at all."""

    classes: tuple[str, ...] = ("a", "b")
    multi_label: bool = True
    noisy: bool = True
    schedule: NoiseSchedule = LINEAR
    image_size: int = 16
    channels: int = 1

    def log_prob(self, x_t: Tensor, levels: int, label: Sequence[str], /) -> Tensor:
        return sum(({"a": 0.0, "b": 2.0}[name] * x_t.flatten(1).amax(dim=1) for name in label), torch.zeros(len(x_t)))


def check(classifier: Fake, scale: float = 1.0) -> None:
    refuse_other_images(classifier, image_size=16, channels=1, schedule=LINEAR, scale=scale)


def test_a_guide_asks_for_all_the_classes_that_are_wanted() -> None:
    x = torch.tensor([0.5, 0.1]).view(2, 1, 1, 1)
    guide = guide_to(Fake(), ("a", "b"), 3.0)
    assert guide.scale == 3.0
    torch.testing.assert_close(guide.log_prob(x, 5), torch.tensor([1.0, 0.2]))


def test_a_classifier_of_the_models_images_and_noise_is_let_through() -> None:
    check(Fake())
    check(Fake(), scale=0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 32}, "the classifier's image size is 32 px, the diffusion model's 16 px"),
        ({"channels": 3}, "number of channels is 3, the diffusion model's 1"),
        ({"schedule": NoiseSchedule.linear(500)}, "number of noise levels is 500, the diffusion model's 1000"),
        ({"schedule": COSINE}, r"another noise schedule \(alpha_bar differs by up to 0\.\d+\)"),
        ({"noisy": False}, "trained on clean images"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_size_channels_or_noise_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"{message}.* \[E_CLASSIFIER\]; train "):
        check(replace(Fake(), **changes))


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), 1e5])
def test_a_scale_that_cannot_be_is_refused(scale: float) -> None:
    with pytest.raises(ConfigError, match="classifier_scale must be in"):
        check(Fake(), scale)
