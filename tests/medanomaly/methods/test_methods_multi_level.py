from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from toys import SIDE, TINY, gaussian_denoiser, images, net_of, samples, tiny_config, tiny_method

from medanomaly.cli.methods import ALL_METHODS
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError
from medanomaly.evaluation.calibrate import healthy_calibration
from medanomaly.methods.cfg_diffusion import CfgDiffusion, CfgDiffusionConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import Experiment
from medanomaly.scoring.finish import MapConfig
from medanomaly.training.config import TrainingConfig

STD = 0.3
MEANS: dict[str | None, float] = {"healthy": -0.05, "diseased": 0.25, None: 0.1}
LEVELS = (300, 500, 700)
FINE = SamplerConfig(noise_level=500, num_steps=250, noise_levels=LEVELS)
X = MEANS[None] + 0.3 * images(2)


def exact_method(sampler: SamplerConfig, **changes: Any) -> CfgDiffusion:
    """The method around a network that is exact for Gaussian classes."""
    config = CfgDiffusionConfig(network=TINY, sampler=sampler, **changes)
    return CfgDiffusion(config, gaussian_denoiser(MEANS, config.classes, std=STD))


def closed_form_map(noise_level: int) -> float:
    """g |mu_healthy - mu_null| (1 - s sqrt(ab_L) / sqrt(ab_L s^2 + 1 - ab_L)), g = 3."""
    alpha_bar = float(NoiseSchedule.linear().alpha_bar[noise_level])
    return 3.0 * 0.15 * (1 - STD * alpha_bar**0.5 / (alpha_bar * STD**2 + 1 - alpha_bar) ** 0.5)


def test_the_map_is_the_mean_over_the_levels_and_the_deviation_is_theirs() -> None:
    found = exact_method(FINE).localize(X)
    of_levels = torch.tensor([closed_form_map(level) for level in LEVELS])
    # n - 1, and not 0.82 times that, which n would give.
    assert float(of_levels.std()) > 0.045
    torch.testing.assert_close(found.anomaly_map, torch.full_like(X, float(of_levels.mean())), atol=0.01, rtol=0)
    assert found.map_std is not None
    torch.testing.assert_close(found.map_std, torch.full_like(X, float(of_levels.std())), atol=0.005, rtol=0)
    torch.testing.assert_close(found.score, torch.full((2,), float(of_levels.mean())), atol=0.01, rtol=0)


@pytest.mark.parametrize("noise_level", LEVELS)
def test_the_healthy_twin_is_that_of_the_noise_level_wherever_it_stands(noise_level: int) -> None:
    sampler = SamplerConfig(noise_level=noise_level, num_steps=noise_level // 2, noise_levels=(700, 300, 500))
    found = exact_method(sampler).localize(X)
    assert found.pseudo_healthy is not None
    torch.testing.assert_close(X - found.pseudo_healthy, torch.full_like(X, closed_form_map(noise_level)), atol=0.01, rtol=0)


def test_each_level_gives_the_map_it_would_give_alone() -> None:
    sampler = SamplerConfig(noise_level=400, num_steps=8, noise_levels=(130, 200, 400))
    together = tiny_method(tiny_config(sampler=sampler)).localize(images(2))
    alone = [
        tiny_method(tiny_config(sampler=SamplerConfig(noise_level=level, num_steps=steps))).localize(images(2)).anomaly_map
        for level, steps in ((130, 3), (200, 4), (400, 8))
    ]
    torch.testing.assert_close(together.anomaly_map, torch.stack(alone).mean(dim=0))
    torch.testing.assert_close(together.map_std, torch.stack(alone).std(dim=0))


def test_steps_are_as_wide_at_every_level_and_there_is_at_least_one() -> None:
    sampler = SamplerConfig(noise_level=500, num_steps=100)
    assert [sampler.steps_to(level) for level in (500, 250, 333, 900, 1)] == [100, 50, 67, 180, 1]
    assert SamplerConfig(noise_level=7, num_steps=7).steps_to(3) == 3


def asked_on_the_way_up(sampler: SamplerConfig) -> list[int]:
    """Levels at which the null class was asked alone, that is by an encoding walk; the walk down asks at the level it leaves."""
    method = exact_method(sampler)
    levels: list[int] = []
    for encoded in method.latents(X):
        levels.append(-encoded.levels[-1])
        net = net_of(method.denoiser)
        levels[-1:-1] = net.asked
        net.asked.clear()
    return levels


def test_a_walk_goes_on_from_the_latent_of_the_level_below() -> None:
    # Table index 0 stands for level 1; a negative number closes the walk to that level.
    shared = asked_on_the_way_up(SamplerConfig(noise_level=400, num_steps=4, noise_levels=(400, 200)))
    assert shared == [0, 99, -200, 199, 299, -400]


def test_a_walk_over_other_levels_begins_at_the_image() -> None:
    afresh = asked_on_the_way_up(SamplerConfig(noise_level=400, num_steps=4, noise_levels=(130, 400)))
    assert afresh == [0, -130, 0, 99, 199, 299, -400]
    unequal = asked_on_the_way_up(SamplerConfig(noise_level=400, num_steps=4, noise_levels=(150, 400)))
    assert unequal == [0, 74, -150, 0, 99, 199, 299, -400]


def test_one_level_in_the_list_is_no_list() -> None:
    single = SamplerConfig(noise_level=400, num_steps=4)
    x = images(2)
    plain, listed = (tiny_method(tiny_config(sampler=s)).localize(x) for s in (single, replace(single, noise_levels=(400,))))
    assert torch.equal(plain.anomaly_map, listed.anomaly_map)
    assert plain.map_std is None
    assert listed.map_std is None


def test_every_level_has_a_round_trip_of_its_own() -> None:
    coarse = SamplerConfig(noise_level=500, num_steps=5, guidance_scale=0.0, noise_levels=(200, 500))
    assert float(exact_method(coarse).localize(X).anomaly_map.max()) > 0.01
    assert float(exact_method(coarse, map=MapConfig(subtract_round_trip=True)).localize(X).anomaly_map.max()) == 0


def test_a_calibrated_mean_is_calibrated_once_and_its_deviation_has_its_unit() -> None:
    sampler = SamplerConfig(noise_level=400, num_steps=4, noise_levels=(200, 400))
    raw = tiny_method(tiny_config(sampler=sampler))
    calibration = healthy_calibration(raw, samples(6, seed=3))
    x = images(2, seed=9)
    found = raw.variant(map_config=MapConfig(healthy_z=True), calibration=calibration).localize(x)
    torch.testing.assert_close(found.anomaly_map, calibration.z_map(raw.localize(x).anomaly_map))
    alone = [
        raw.variant(sampler=SamplerConfig(noise_level=level, num_steps=steps)).localize(x).anomaly_map
        for level, steps in ((200, 2), (400, 4))
    ]
    torch.testing.assert_close(found.map_std, torch.stack([calibration.z_map(one) for one in alone]).std(dim=0))


def test_a_variant_keeps_the_network_and_no_calibration() -> None:
    method = tiny_method()
    method.calibration = healthy_calibration(method, samples(4, seed=3))
    other = method.variant(sampler=SamplerConfig(noise_level=200, num_steps=2))
    assert other.denoiser is method.denoiser
    assert other.calibration is None
    assert other.levels == [0, 100, 200]
    assert other.config.map == method.config.map
    with pytest.raises(ConfigError, match="E_CALIBRATION"):
        method.variant(map_config=MapConfig(healthy_z=True))


@pytest.mark.parametrize(
    ("levels", "words"), [((300, 700), "must hold"), ((), "must hold"), ((500, 500), "different"), ((0, 500), "at least 1")]
)
def test_levels_that_cannot_be_are_refused(levels: tuple[int, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SamplerConfig(noise_levels=levels)


def test_a_level_above_the_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_levels"):
        CfgDiffusionConfig(sampler=SamplerConfig(noise_levels=(500, 1001)))


def test_a_checkpoint_from_before_there_were_several_levels_has_one() -> None:
    experiment = Experiment(
        name="tiny", method=tiny_config(), preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig(num_steps=1)
    )
    content = json.loads(json.dumps(experiment.to_dict()))
    del content["method"]["sampler"]["noise_levels"]
    assert Experiment.from_dict(content, ALL_METHODS) == experiment
    several = replace(experiment, method=tiny_config(sampler=FINE))
    assert Experiment.from_dict(json.loads(json.dumps(several.to_dict())), ALL_METHODS) == several
