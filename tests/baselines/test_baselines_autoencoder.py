from __future__ import annotations

import pytest
import torch

from baselines.autoencoder import AutoencoderConfig, coarse_noise
from medanomaly.errors import ConfigError
from medanomaly.scoring.finish import MapConfig


def noise(x: torch.Tensor, std: float = 0.4, side: int = 4, seed: int = 0) -> torch.Tensor:
    return coarse_noise(x, std, side, torch.Generator().manual_seed(seed))


def test_noise_falls_on_the_body_alone() -> None:
    x = torch.full((3, 1, 16, 16), -1.0)
    x[:, :, 4:12, 4:12] = 0.2
    found = noise(x)
    assert bool((found[x == -1] == 0).all())
    assert bool((found[x > -1] != 0).all())


def test_noise_on_a_grid_as_fine_as_the_image_is_white_with_the_asked_deviation() -> None:
    x = torch.zeros(64, 1, 32, 32)
    found = noise(x, std=0.4, side=32)
    assert float(found.std()) == pytest.approx(0.4, rel=0.02)
    assert abs(float((found[..., 1:] * found[..., :-1]).mean())) < 0.01


def test_noise_on_a_coarse_grid_is_alike_over_several_pixels() -> None:
    found = noise(torch.zeros(64, 1, 32, 32), side=4)
    likeness = (found[..., 1:] * found[..., :-1]).mean() / (found**2).mean()
    assert float(likeness) > 0.8


def test_the_grid_lies_elsewhere_in_each_draw() -> None:
    # Bilinear interpolation keeps the full variance at the nodes only; without the shift they would always be the same pixels.
    x = torch.zeros(2000, 1, 16, 16)
    variance = torch.stack([noise(x[:1], side=4, seed=seed)[0, 0] for seed in range(2000)]).var(dim=0)
    assert float(variance.max() / variance.min()) < 1.6


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": (8, 8)},
        {"channels": (9,) * 5},
        {"noise_std": 0.0},
        {"noise_side": 0},
        {"map": MapConfig(subtract_round_trip=True)},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AutoencoderConfig(**wrong)  # type: ignore[arg-type]


def test_it_learns_from_the_healthy_class_alone_by_name() -> None:
    assert AutoencoderConfig(classes=("diseased", "healthy")).trained_classes == ("healthy",)
