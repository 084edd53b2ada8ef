"""The sampler's cheaper walks through the method: what they cost, and what they may not change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toys import gaussian_denoiser, images, tiny_config

from medanomaly.errors import ConfigError
from medanomaly.evaluation.cost import cost
from medanomaly.methods.cfg_diffusion import CfgDiffusion
from medanomaly.methods.cfg_sampler import SamplerConfig

X = images(2)
CLASSES = ("healthy", "diseased")


def exact_method(**sampler: object) -> CfgDiffusion:
    settings = SamplerConfig(**{"noise_level": 400, "num_steps": 8, **sampler})  # type: ignore[arg-type]
    denoiser = gaussian_denoiser({"healthy": -0.2, "diseased": 0.3, None: 0.1}, CLASSES)
    return CfgDiffusion(replace(tiny_config(), classes=CLASSES, sampler=settings), denoiser)


@pytest.mark.parametrize(
    ("sampler", "evaluations"),
    [
        ({}, 8 + 16),
        ({"order": 2, "spacing": "karras"}, 8 + 16),
        ({"delta": True}, 9 + 16),
        ({"guidance_every": 2}, 8 + 8 + 4),
        ({"guidance_every": 3, "delta": True}, 9 + 8 + 3),
        ({"encode_iterations": 1}, 16 + 16),
        # Walks that look back cannot go on from another one's end: 4 + 8 steps up, and as many down twice.
        ({"noise_levels": (200, 400)}, 8 + 24),
        ({"noise_levels": (200, 400), "order": 2}, 12 + 24),
    ],
)
def test_each_setting_costs_what_it_says(sampler: dict[str, object], evaluations: int) -> None:
    assert cost(exact_method(**sampler), X[:1]).evaluations == evaluations


def test_a_delta_decode_returns_the_image_where_nothing_guides() -> None:
    method = exact_method(delta=True, num_steps=3)
    torch.testing.assert_close(method.round_trip(X), X.clamp(-1, 1), atol=1e-5, rtol=0)
    assert float((exact_method(num_steps=3).round_trip(X) - X).abs().max()) > 0.02


@pytest.mark.parametrize(
    "sampler",
    [
        {"order": 2, "spacing": "karras"},
        {"delta": True},
        {"delta": True, "order": 2, "spacing": "power", "guidance_every": 2},
        {"encode_iterations": 2},
    ],
)
def test_a_cheaper_walk_is_near_the_walk_of_every_level_and_nearer_than_plain_ddim(sampler: dict[str, object]) -> None:
    full = exact_method(num_steps=400).localize(X).anomaly_map
    found, plain = exact_method(**sampler).localize(X).anomaly_map, exact_method().localize(X).anomaly_map
    assert float((found - full).norm()) < 0.5 * float((plain - full).norm())
    assert float((found - full).norm() / full.norm()) < 0.15


def test_guidance_that_remembers_starts_anew_with_every_image() -> None:
    method = exact_method(guidance_every=3)
    first = method.localize(X).anomaly_map
    assert torch.equal(method.localize(X).anomaly_map, first)
    torch.testing.assert_close(method.localize(X[1:]).anomaly_map, first[1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"spacing": "cosine"}, "sampler.spacing must be one of uniform"),
        ({"order": 3}, "sampler.order must be one of 1, 2"),
        ({"guidance_every": 0}, "guidance_every must be at least 1"),
        ({"encode_iterations": -1}, "encode_iterations at least 0"),
        ({"encode_iterations": 1, "order": 2}, "inverts the first-order way down only"),
        ({"encode_iterations": 1, "delta": True}, "inverts the first-order way down only"),
    ],
)
def test_settings_that_cannot_be_are_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SamplerConfig(**changed)  # type: ignore[arg-type]
