"""Every sampler draws the data; an exact classifier guides it to the posterior; no image knows its batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from toys import TINY, gaussian_eps, randomise

from medanomaly.diffusion.reverse import ReverseFn
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.unet import Denoiser, condition_with_variance
from medanomaly.errors import ConfigError
from medanomaly.generation.config import SamplingConfig
from medanomaly.generation.drawing import draw_images
from medanomaly.generation.sampling import Guide, sample
from medanomaly.rng import generator

SCHEDULE = NoiseSchedule.linear()
MEAN, STD = 0.1, 0.2
SAMPLERS: dict[str, dict[str, Any]] = {
    "ddpm learned": {"sampler": "ddpm", "num_steps": 500, "variance": "learned"},
    "ddpm posterior": {"sampler": "ddpm", "num_steps": 500, "variance": "posterior"},
    "ddpm beta": {"sampler": "ddpm", "num_steps": 500, "variance": "beta"},
    "ddim": {"sampler": "ddim", "num_steps": 200},
    "ddim eta 1": {"sampler": "ddim", "num_steps": 500, "eta": 1.0},
    "dpm-solver++": {"sampler": "dpm-solver++", "num_steps": 40},
    "dpm-solver++ eta 0": {"sampler": "dpm-solver++", "num_steps": 40, "eta": 0.0},
}


def settings(**changes: Any) -> SamplingConfig:
    return SamplingConfig(**({"threshold": "none"} | changes)).resolved(SCHEDULE, has_variance=True)


def gaussian(x_t: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact noise of N(MEAN, STD^2), and the place of the exact variance of a step between neighbours: near enough for all steps."""
    total = SCHEDULE.signal(t) ** 2 * STD**2 + SCHEDULE.noise(t) ** 2
    eps = gaussian_eps(MEAN, STD, SCHEDULE)(x_t, t)
    return eps, torch.full_like(x_t, 2 * STD**2 * SCHEDULE.signal(t) ** 2 / total - 1)


def drawn(config: SamplingConfig, guide: Guide | None = None, reverse_fn: ReverseFn = gaussian) -> torch.Tensor:
    """16,384 independent values as the pixels of four images."""
    draws = [generator(0, "test", index) for index in range(4)]
    return sample(reverse_fn, (1, 64, 64), SCHEDULE, config, draws, guide=guide)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_with_the_exact_model_draws_the_data(name: str) -> None:
    x = drawn(settings(**SAMPLERS[name]))
    # Standard errors: 0.0016 of the mean, 0.0011 of the deviation; the rest is what the steps cost.
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.006)
    assert float(x.std()) == pytest.approx(STD, abs=0.008)


@pytest.mark.parametrize("name", ["ddpm learned", "ddim", "dpm-solver++"])
def test_the_exact_classifier_guides_to_the_posterior(name: str) -> None:
    # The class is seen through y = x_0 + noise of deviation R: then p(y | x_t) is Gaussian, and so is p(x_0 | y).
    seen, spread = 0.4, 0.15

    def log_prob(x_t: torch.Tensor, t: int) -> torch.Tensor:
        a, total = SCHEDULE.signal(t), SCHEDULE.signal(t) ** 2 * STD**2 + SCHEDULE.noise(t) ** 2
        x_0, rest = MEAN + a * STD**2 / total * (x_t - a * MEAN), STD**2 * SCHEDULE.noise(t) ** 2 / total
        return -((seen - x_0) ** 2 / (2 * (rest + spread**2))).flatten(1).sum(dim=1)

    precision = 1 / STD**2 + 1 / spread**2
    x = drawn(settings(**SAMPLERS[name]), Guide(log_prob=log_prob, scale=1.0))
    assert float(x.mean()) == pytest.approx((MEAN / STD**2 + seen / spread**2) / precision, abs=0.012)
    assert float(x.std()) == pytest.approx(math.sqrt(1 / precision), abs=0.012)


def network() -> ReverseFn:
    denoiser = randomise(Denoiser(TINY, image_channels=1, classes=("a", "b"))).eval().requires_grad_(False)
    return condition_with_variance(denoiser, "a", SCHEDULE)


@pytest.mark.parametrize(
    "config",
    [
        {"sampler": "ddpm", "num_steps": 4},
        {"sampler": "ddim", "num_steps": 4, "eta": 0.5, "threshold": "dynamic"},
        {"sampler": "dpm-solver++", "num_steps": 4},
    ],
    ids=str,
)
def test_an_image_depends_on_its_seed_and_position_and_on_nothing_else(config: dict[str, Any]) -> None:
    guide = Guide(log_prob=lambda x, t: -(x**2).flatten(1).sum(dim=1), scale=0.1)
    shape = (1, 16, 16)

    def images(batch_size: int, count: int, seed: int = 0) -> torch.Tensor:
        labels = [("a",), ("b",)] * (count // 2)
        batches = list(
            draw_images(
                lambda _label: (network(), guide),
                labels,
                shape,
                SCHEDULE,
                settings(**config),
                seed=seed,
                batch_size=batch_size,
                device=torch.device("cpu"),
            )
        )
        order = [index for batch in batches for index in batch.indices]
        assert sorted(order) == list(range(count))
        assert all(labels[index] == batch.label for batch in batches for index in batch.indices)
        return torch.cat([batch.x for batch in batches])[torch.tensor(order).argsort()]

    found = images(batch_size=3, count=6)
    torch.testing.assert_close(images(batch_size=1, count=4), found[:4], atol=1e-4, rtol=0)
    assert float((found[0] - found[2]).abs().max()) > 0.01
    assert float((images(batch_size=3, count=2, seed=1) - found[:2]).abs().max()) > 0.01
    assert float(found.abs().max()) <= 1


def test_static_thresholding_keeps_the_predicted_image_in_range_and_none_does_not() -> None:
    seen: dict[str, float] = {}
    for threshold in ("static", "none"):
        largest: list[float] = []
        sample(
            network(),
            (1, 16, 16),
            SCHEDULE,
            settings(sampler="ddim", num_steps=4, threshold=threshold),
            [generator(0, "test")],
            observer=lambda level, x_t, x_0, largest=largest: largest.append(float(x_0.abs().max())),  # type: ignore[misc]
        )
        seen[threshold] = max(largest)
    assert seen["static"] <= 1 + 1e-3
    assert seen["none"] > 2


def test_images_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"not finite \[E_NONFINITE\]; guide less"):
        drawn(settings(num_steps=3), Guide(log_prob=lambda x, t: (x * math.inf).flatten(1).sum(dim=1), scale=1.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "euler"}, "sampler must be one of ddpm, ddim, dpm-solver"),
        ({"num_steps": 1}, "num_steps must be at least 2"),
        ({"num_steps": 1001}, "at most 1000, the model's levels"),
        ({"eta": 1.5}, "eta must be in 0..1"),
        ({"sampler": "ddpm", "eta": 0.0}, "eta belongs to ddim and dpm-solver"),
        ({"variance": "beta"}, "variance belongs to ddpm, not to dpm-solver"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


def test_a_learned_variance_is_taken_where_there_is_one_and_only_there() -> None:
    asked = SamplingConfig(sampler="ddpm")
    assert [asked.resolved(SCHEDULE, has_variance=has).variance for has in (True, False)] == ["learned", "posterior"]
    assert asked.resolved(SCHEDULE, has_variance=True).num_steps == 1000
    with pytest.raises(ConfigError, match="has not learned a variance"):
        SamplingConfig(sampler="ddpm", variance="learned").resolved(SCHEDULE, has_variance=False)
