from __future__ import annotations

import pytest
import torch
from toys import images, random_weights, tiny_config, tiny_method

from baselines import FLOORS
from baselines.autoencoder import AutoencoderConfig
from medanomaly.evaluation.cost import cost
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.scoring.finish import MapConfig


def test_encode_asks_once_a_step_and_guided_decode_twice() -> None:
    method = tiny_method(tiny_config(sampler=SamplerConfig(noise_level=400, num_steps=5)))
    found = cost(method, images(1))
    assert found.evaluations == 5 + 2 * 5
    assert found.parameters == sum(parameter.numel() for parameter in method.denoiser.parameters())


def test_a_guidance_interval_saves_evaluations_and_subtraction_costs_a_decode() -> None:
    sampler = SamplerConfig(noise_level=400, num_steps=4, guidance_interval=(150, 350))
    # Decoding asks at 400, 300, 200 and 100: two of them are inside.
    assert cost(tiny_method(tiny_config(sampler=sampler)), images(1)).evaluations == 4 + (2 * 2 + 2)
    subtracting = tiny_config(map=MapConfig(subtract_round_trip=True))
    assert cost(tiny_method(subtracting), images(1)).evaluations == 4 + 2 * 4 + 4


def test_an_autoencoder_asks_once_and_floors_never() -> None:
    config = AutoencoderConfig(channels=(8,) * 5, norm_groups=4)
    method = config.restore(random_weights(config), image_channels=1, device=torch.device("cpu"), source="toys")
    assert cost(method, images(1)).evaluations == 1
    for floor in FLOORS.values():
        found = cost(floor, images(1))
        assert (found.parameters, found.evaluations) == (0, 0)


def test_the_hooks_are_gone_afterwards_and_a_batch_is_refused() -> None:
    method = tiny_method()
    cost(method, images(1))
    assert not method.denoiser._forward_hooks
    with pytest.raises(ValueError, match="one image"):
        cost(method, images(2))
