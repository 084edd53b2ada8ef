"""What every method promises, whoever wrote it: the caller needs to know nothing else about it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor
from toys import SIDE, TINY, images, random_weights, tiny_config

from baselines import FLOORS
from baselines.autoencoder import AutoencoderConfig
from baselines.classifier_ddim import ClassifierDdimConfig, GradientSamplerConfig
from baselines.fixed_point_gan import FixedPointGanConfig
from baselines.noise_start import NoiseStartConfig, NoiseStartSamplerConfig
from medanomaly.checkpoint import load_train_state, save_checkpoint, save_train_state
from medanomaly.classifiers.network import ClassifierConfig
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import ConfigError
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import Experiment, MethodConfig, load_trained
from medanomaly.rng import generator
from medanomaly.scoring.finish import MapConfig
from medanomaly.scoring.maps import Change
from medanomaly.training.config import TrainingConfig
from medanomaly.types import AnomalyMethod, Batch, Recipe

SWITCHED_ON = tiny_config(
    sampler=SamplerConfig(noise_level=400, num_steps=4, guidance_interval=(50, 350), dynamic_threshold=0.995),
    map=MapConfig(subtract_round_trip=True, median_px=3, smooth_px=1.0),
)
FIXED_VARIANCE = replace(TINY, learn_sigma=False)
NOISE_START = NoiseStartConfig(network=FIXED_VARIANCE, sampler=NoiseStartSamplerConfig(noise_level=100, num_steps=4))
TRAINED: dict[str, dict[str, MethodConfig]] = {
    "cfg_diffusion": {
        "cfg_diffusion": tiny_config(),
        "cfg_diffusion, all options": SWITCHED_ON,
        "cfg_diffusion, two levels": tiny_config(
            sampler=SamplerConfig(noise_level=400, num_steps=4, noise_levels=(200, 400)), map=MapConfig(median_px=3)
        ),
    },
    "autoencoder": {
        "autoencoder": AutoencoderConfig(channels=(8,) * 5, norm_groups=4, noise_side=4, map=MapConfig(smooth_px=1.0))
    },
    "noise_start": {
        "noise_start": NOISE_START,
        "noise_start, simplex": replace(NOISE_START, noise="simplex", sampler=replace(NOISE_START.sampler, num_samples=2)),
    },
    "classifier_ddim": {
        "classifier_ddim": ClassifierDdimConfig(
            network=TINY,
            classifier=ClassifierConfig(channels=(16, 16), attention=(False, True), head_channels=16, norm_groups=8),
            sampler=GradientSamplerConfig(noise_level=400, num_steps=4, gradient_scale=500.0),
        )
    },
    "fixed_point_gan": {
        "fixed_point_gan": FixedPointGanConfig(
            base_channels=4, num_res_blocks=1, critic_channels=4, num_critic_layers=2, map=MapConfig(median_px=3)
        )
    },
}
"""Small configs of each kind of method."""
CONFIGS = {name: config for configs in TRAINED.values() for name, config in configs.items()}
CPU = torch.device("cpu")
Case = tuple[AnomalyMethod, int]


def made(config: MethodConfig, channels: int) -> AnomalyMethod:
    """The method with random weights."""
    weights = random_weights(config, image_channels=channels)
    return config.restore(weights, image_channels=channels, device=CPU, source="toys")


CASES: dict[str, Case] = {
    **{
        f"{name}, {channels} channels": (made(config, channels), channels)
        for name, config in CONFIGS.items()
        for channels in (1, 3)
    },
    **{f"{name}, {channels} channels": (floor, channels) for name, floor in FLOORS.items() for channels in (1, 3)},
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_every_kind_of_method_is_held_to_the_contract() -> None:
    assert TRAINED.keys() == ALL_METHODS.keys()
    assert all(config.kind == kind for kind, configs in TRAINED.items() for config in configs.values())
    assert all(isinstance(method, AnomalyMethod) for method, _ in CASES.values())


@pytest.mark.parametrize("count", [1, 3])
def test_shapes_types_and_ranges_are_the_promised_ones(case: Case, count: int) -> None:
    method, channels = case
    x = images(count, channels=channels)
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
    if found.map_std is not None:
        assert found.map_std.shape == found.anomaly_map.shape
        assert found.map_std.dtype == torch.float32
        assert float(found.map_std.min()) >= 0
        assert float(found.map_std.max()) > 0.001


@pytest.mark.parametrize("kind", TRAINED)
def test_a_trained_method_can_count_changes_of_one_sign_only(kind: str) -> None:
    config = next(iter(TRAINED[kind].values()))
    x = images(2)
    maps = {change: made(replace(config, map=MapConfig(change=change)), 1).localize(x).anomaly_map for change in get_args(Change)}
    torch.testing.assert_close(maps["brighter"] + maps["darker"], maps["any"])
    assert float(maps["brighter"].max()) > 0.01
    assert float(maps["darker"].max()) > 0.01


def test_the_same_image_gets_the_same_answer_and_is_left_alone(case: Case) -> None:
    method, channels = case
    x = images(2, channels=channels)
    before = x.clone()
    torch.manual_seed(0)
    first = method.localize(x)
    torch.manual_seed(1)
    second = method.localize(x)
    assert torch.equal(first.anomaly_map, second.anomaly_map)
    assert torch.equal(first.score, second.score)
    assert torch.equal(x, before)


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(case: Case) -> None:
    method, channels = case
    x = torch.cat([images(1, channels=channels), torch.ones(1, channels, SIDE, SIDE)])
    together, apart = method.localize(x), [method.localize(x[index : index + 1]) for index in (0, 1)]
    for index in (0, 1):
        torch.testing.assert_close(together.anomaly_map[index], apart[index].anomaly_map[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.score[index], apart[index].score[0], atol=1e-5, rtol=0)
        if (spread := apart[index].map_std) is not None:
            assert together.map_std is not None
            torch.testing.assert_close(together.map_std[index], spread[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("grey", [-1.0, 0.0, 1.0])
def test_a_constant_image_has_a_finite_map(case: Case, grey: float) -> None:
    method, channels = case
    found = method.localize(torch.full((1, channels, SIDE, SIDE), grey))
    assert bool(found.anomaly_map.isfinite().all())
    assert bool(found.score.isfinite().all())


def test_an_observer_changes_nothing(case: Case) -> None:
    method, channels = case
    x = images(1, channels=channels)
    seen: list[Tensor] = []
    watched = method.localize(x, lambda level, x, x_0: seen.append(x_0))
    assert torch.equal(watched.anomaly_map, method.localize(x).anomaly_map)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_trained_method_is_the_same_after_saving_and_loading(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    method, weights = made(config, 1), random_weights(config)
    experiment = Experiment(
        name="tiny", method=config, preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig(num_steps=1)
    )
    save_checkpoint(tmp_path / "model.safetensors", weights, {"experiment": experiment.to_dict()})
    loaded = load_trained(tmp_path, ALL_METHODS, CPU)
    assert loaded.experiment == experiment
    expected, found = method.localize(images(2)), loaded.method.localize(images(2))
    assert torch.equal(found.anomaly_map, expected.anomaly_map)
    assert torch.equal(found.score, expected.score)


def batch_of(config: MethodConfig, count: int = 4) -> Batch:
    """Images of the classes that the method learns from."""
    rows = [config.classes.index(name) for name in config.trained_classes]
    return Batch(x=images(count), label=torch.tensor([rows[index % len(rows)] for index in range(count)]))


@pytest.mark.parametrize("name", [next(iter(configs)) for configs in TRAINED.values()])
def test_a_training_continues_bit_for_bit(name: str, tmp_path: Path) -> None:
    config, training = CONFIGS[name], TrainingConfig(num_steps=8, warmup_steps=0, learning_rate=1e-3)

    def fresh(seed: int) -> Recipe:
        return config.recipe(image_channels=1, training=replace(training, seed=seed), device=CPU)

    whole = fresh(0)
    for step in range(4):
        values = whole.step(batch_of(config), generator(0, "train", step))
        assert math.isfinite(values["loss"])
        if step == 1:
            save_train_state(tmp_path / "train_state.pt", whole.state())
    # Another seed: what is loaded, not what was drawn, decides.
    continued = fresh(1)
    continued.load_state(load_train_state(tmp_path / "train_state.pt"))
    for step in range(2, 4):
        continued.step(batch_of(config), generator(0, "train", step))
    assert whole.weights().keys() == continued.weights().keys()
    for key, value in whole.weights().items():
        assert torch.equal(value, continued.weights()[key])
    untrained = fresh(0).weights()
    assert any(not torch.equal(value, untrained[key]) for key, value in whole.weights().items())


@pytest.mark.parametrize("name", CONFIGS)
def test_classes_are_names_whatever_their_order(name: str) -> None:
    config = CONFIGS[name]
    with pytest.raises(ConfigError, match="target"):
        replace(config, target="well")  # type: ignore[type-var]
    turned = replace(config, classes=config.classes[::-1])  # type: ignore[type-var]
    assert turned.target == config.target == "healthy"
    assert turned.trained_classes in (("healthy",), config.classes[::-1])
