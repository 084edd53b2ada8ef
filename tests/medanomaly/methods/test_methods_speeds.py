"""A speed by name: what it costs, what it keeps of the checkpoint, and whose thresholds may be used with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import SIDE, images, tiny_config, tiny_method

from medanomaly.checkpoint import save_checkpoint
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import ConfigError
from medanomaly.evaluation.cost import cost
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import Experiment, TrainedMethod, load_trained, replacing
from medanomaly.scoring.operating_point import DICE, OperatingPoint
from medanomaly.training.config import TrainingConfig

POINT = OperatingPoint(criterion=DICE, value=0.2, target=None, chosen_on="val", num_images=4, image_fingerprint=("0" * 16,))
FAST = SamplerConfig(noise_level=500, num_steps=13, spacing="karras", order=2, delta=True, guidance_scale=2.0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny network whose own sampler is fast, with a threshold."""
    config = replace(tiny_config(), sampler=FAST)
    experiment = Experiment(
        name="tiny", method=config, preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig(num_steps=1)
    )
    header = {"experiment": experiment.to_dict(), "operating_points": [POINT.to_dict()], "provenance": {}}
    save_checkpoint(tmp_path / "model.safetensors", tiny_method().denoiser.state_dict(), header)
    return tmp_path


def loaded(checkpoint: Path, **sampler: object) -> TrainedMethod:
    return load_trained(checkpoint, ALL_METHODS, torch.device("cpu"), sampler=sampler)


@pytest.mark.parametrize(("speed", "evaluations"), [("exact", 3 * 60), ("fast", 40), ("screening", 25)])
def test_a_speed_costs_what_it_promises(speed: str, evaluations: int, checkpoint: Path) -> None:
    assert cost(loaded(checkpoint, speed=speed, noise_level=60).method, images(1)).evaluations == evaluations


def test_a_speed_keeps_level_and_guidance_and_what_is_given_beside_it_wins(checkpoint: Path) -> None:
    sampler = loaded(checkpoint, speed="screening").experiment.method.sampler
    assert sampler == replace(FAST, num_steps=8)
    assert loaded(checkpoint, speed="screening", num_steps=5).experiment.method.sampler.num_steps == 5
    exact = loaded(checkpoint, speed="exact", noise_level=300).experiment.method.sampler
    assert (exact.num_steps, exact.noise_level, exact.spacing, exact.order, exact.delta) == (300, 300, "uniform", 1, False)
    assert loaded(checkpoint, speed="fast", noise_level=6).experiment.method.sampler.num_steps == 6


def test_thresholds_stay_with_the_sampler_they_were_chosen_with(checkpoint: Path) -> None:
    assert loaded(checkpoint).operating_points == (POINT,)
    assert loaded(checkpoint, speed="fast").operating_points == (POINT,), "it is the checkpoint's own"
    assert loaded(checkpoint, num_steps=13).operating_points == (POINT,)
    for other in ({"speed": "exact"}, {"speed": "screening"}, {"noise_level": 499}):
        assert loaded(checkpoint, **other).operating_points == ()


def test_an_unknown_speed_and_a_method_without_speeds_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="speed must be one of exact, fast, screening, got 'quick'"):
        loaded(checkpoint, speed="quick")
    with pytest.raises(ConfigError, match="classifier-guided DDIM has no speeds"):
        replacing({"speed": "fast"}, {"noise_level": 500, "num_steps": 25}, "classifier-guided DDIM")
