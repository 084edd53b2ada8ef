from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from toys import TINY, gaussian_denoiser, images, net_of

from baselines.noise_start import NoiseStart, NoiseStartConfig, NoiseStartSamplerConfig
from medanomaly.diffusion.unet import NetworkConfig
from medanomaly.errors import ConfigError
from medanomaly.scoring.finish import MapConfig

FIXED = replace(TINY, learn_sigma=False)


def healthy_model(noise_level: int, num_steps: int, *, std: float = 0.05, **changes: object) -> NoiseStart:
    """The method around the exact model of healthy data N(0.2, std^2)."""
    sampler = NoiseStartSamplerConfig(noise_level=noise_level, num_steps=num_steps, **changes)  # type: ignore[arg-type]
    denoiser = gaussian_denoiser({None: 0.2}, (), std=std)
    return NoiseStart(NoiseStartConfig(network=FIXED, sampler=sampler), denoiser)


def test_what_no_healthy_image_has_is_replaced_by_what_it_has() -> None:
    x = torch.full((1, 1, 16, 16), 0.2)
    x[0, 0, 4:8, 4:8] = 0.9
    found = healthy_model(500, 100).localize(x)
    assert found.pseudo_healthy is not None
    # The lesion, 0.7 above the healthy mean, comes back as healthy up to the spread of healthy data.
    assert float((found.pseudo_healthy - 0.2).abs().mean()) < 0.1
    lesion = torch.zeros(16, 16, dtype=torch.bool)
    lesion[4:8, 4:8] = True
    assert float(found.anomaly_map[0, 0][lesion].mean()) == pytest.approx(0.7, abs=0.1)
    assert float(found.anomaly_map[0, 0][~lesion].mean()) < 0.12


def test_little_noise_changes_little() -> None:
    x = images(1)
    assert float(healthy_model(1, 1).localize(x).anomaly_map.max()) < 0.3
    assert float(healthy_model(1, 1).localize(x).anomaly_map.mean()) < float(
        healthy_model(500, 50).localize(x).anomaly_map.mean()
    )


def test_the_network_is_asked_at_each_level_of_the_grid_downwards() -> None:
    method = healthy_model(100, 4)
    method.localize(images(1))
    # Table index 0 is level 1.
    assert [index + 1 for index in net_of(method.denoiser).asked] == [100, 75, 50, 25]


def test_more_samples_average_the_noise_away() -> None:
    x = torch.full((1, 1, 16, 16), 0.2)
    one, many = (healthy_model(400, 20, std=0.3, num_samples=count).localize(x).pseudo_healthy for count in (1, 16))
    assert one is not None
    assert many is not None
    assert float((many - 0.2).std()) < 0.5 * float((one - 0.2).std())


def test_another_seed_is_another_draw() -> None:
    x = images(1)
    first, second = (healthy_model(300, 10, seed=seed).localize(x).anomaly_map for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": NetworkConfig(learn_sigma=True)},
        {"map": MapConfig(subtract_round_trip=True)},
        {"noise": "perlin"},
        {"sampler": NoiseStartSamplerConfig(noise_level=2000, num_steps=10)},
        {"target": "well"},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        NoiseStartConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        NoiseStartSamplerConfig(num_samples=0)


@pytest.mark.parametrize(("grey", "share"), [(0.2, (1 - 2 / math.pi) ** 0.5), (-0.7, 1.0)])
def test_the_deviation_is_that_of_the_maps_of_single_draws(grey: float, share: float) -> None:
    found = healthy_model(1000, 250, std=0.3, num_samples=32).localize(torch.full((1, 1, 16, 16), grey))
    assert found.map_std is not None
    # From pure noise the draws are N(0.2, 0.3^2) whatever the image. At their mean the maps are half-normal, three deviations away
    # they are normal.
    assert float(found.map_std.mean()) == pytest.approx(0.3 * share, rel=0.08)


def test_one_draw_has_no_deviation() -> None:
    assert healthy_model(100, 4).localize(images(1)).map_std is None
