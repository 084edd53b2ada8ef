"""What every method promises, whoever wrote it: the caller needs to know nothing else about it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from toys import SIDE, images, tiny_config, tiny_method

from baselines import FLOORS
from medanomaly.checkpoint import save_checkpoint
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.diffusion.unet import Denoiser
from medanomaly.methods import METHODS
from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig, SamplerConfig
from medanomaly.methods.experiment import Experiment, load_trained
from medanomaly.scoring.finish import MapConfig
from medanomaly.training.config import TrainingConfig
from medanomaly.types import AnomalyMethod

SWITCHED_ON = tiny_config(
    sampler=SamplerConfig(noise_level=400, num_steps=4, guidance_interval=(50, 350), dynamic_threshold=0.995),
    map=MapConfig(subtract_round_trip=True, median_px=3, smooth_px=1.0),
)
TRAINED: dict[str, dict[str, CfgDiffusionConfig]] = {
    "cfg_diffusion": {"cfg_diffusion": tiny_config(), "cfg_diffusion, all options": SWITCHED_ON}
}
"""Small configs of each kind of METHODS."""
CONFIGS = {name: config for configs in TRAINED.values() for name, config in configs.items()}
CASES: dict[str, AnomalyMethod] = {**{name: tiny_method(config) for name, config in CONFIGS.items()}, **FLOORS}


@pytest.fixture(params=CASES)
def method(request: pytest.FixtureRequest) -> AnomalyMethod:
    return CASES[request.param]


def test_every_kind_of_method_is_held_to_the_contract() -> None:
    assert TRAINED.keys() == METHODS.keys()
    assert all(isinstance(method, AnomalyMethod) for method in CASES.values())


@pytest.mark.parametrize("count", [1, 3])
def test_shapes_types_and_ranges_are_the_promised_ones(method: AnomalyMethod, count: int) -> None:
    x = images(count)
    found = method.localize(x)
    assert found.anomaly_map.shape == (count, 1, SIDE, SIDE)
    assert found.score.shape == (count,)
    assert {found.anomaly_map.dtype, found.score.dtype} == {torch.float32}
    assert float(found.anomaly_map.min()) >= 0
    # A map of nothing but zeros would pass every other test here.
    assert float(found.anomaly_map.max()) > 0.01
    assert float(found.anomaly_map.std()) > 0
    if found.pseudo_healthy is not None:
        assert found.pseudo_healthy.shape == x.shape
        assert float(found.pseudo_healthy.abs().max()) <= 1


def test_the_same_image_gets_the_same_answer_and_is_left_alone(method: AnomalyMethod) -> None:
    x = images(2)
    before = x.clone()
    torch.manual_seed(0)
    first = method.localize(x)
    torch.manual_seed(1)
    second = method.localize(x)
    assert torch.equal(first.anomaly_map, second.anomaly_map)
    assert torch.equal(first.score, second.score)
    assert torch.equal(x, before)


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(method: AnomalyMethod) -> None:
    x = torch.cat([images(1), torch.ones(1, 1, SIDE, SIDE)])
    together, apart = method.localize(x), [method.localize(x[index : index + 1]) for index in (0, 1)]
    for index in (0, 1):
        torch.testing.assert_close(together.anomaly_map[index], apart[index].anomaly_map[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.score[index], apart[index].score[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("grey", [-1.0, 0.0, 1.0])
def test_a_constant_image_has_a_finite_map(method: AnomalyMethod, grey: float) -> None:
    found = method.localize(torch.full((1, 1, SIDE, SIDE), grey))
    assert bool(found.anomaly_map.isfinite().all())
    assert bool(found.score.isfinite().all())


def test_an_observer_changes_nothing(method: AnomalyMethod) -> None:
    seen: list[Tensor] = []
    watched = method.localize(images(1), lambda level, x, x_0: seen.append(x_0))
    assert torch.equal(watched.anomaly_map, method.localize(images(1)).anomaly_map)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_trained_method_is_the_same_after_saving_and_loading(name: str, tmp_path: Path) -> None:
    config, method = CONFIGS[name], CASES[name]
    experiment = Experiment(
        name="tiny", method=config, preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig(num_steps=1)
    )
    denoiser = getattr(method, "denoiser", None)
    assert isinstance(denoiser, Denoiser)
    save_checkpoint(tmp_path / "model.safetensors", denoiser.state_dict(), {"experiment": experiment.to_dict()})
    loaded = load_trained(tmp_path, METHODS, torch.device("cpu"))
    assert loaded.experiment == experiment
    expected, found = method.localize(images(2)), loaded.method.localize(images(2))
    assert torch.equal(found.anomaly_map, expected.anomaly_map)
    assert torch.equal(found.score, expected.score)
