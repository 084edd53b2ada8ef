from __future__ import annotations

import math

import pytest
import torch
from toys import gaussian_eps

from medanomaly.diffusion.ancestral import ancestral_walk
from medanomaly.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.linear()
MEAN, STD = 0.3, 0.5


def sampled(levels: list[int], count: int = 40_000) -> torch.Tensor:
    """Samples of N(MEAN, STD^2) by its exact noise predictor, float64."""
    draws = torch.Generator().manual_seed(0)

    def normal() -> torch.Tensor:
        return torch.randn((count, 1, 1, 1), generator=draws, dtype=torch.float64)

    top = levels[0]
    start = SCHEDULE.signal(top) * MEAN + math.sqrt(SCHEDULE.signal(top) ** 2 * STD**2 + SCHEDULE.noise(top) ** 2) * normal()
    return ancestral_walk(gaussian_eps(MEAN, STD, SCHEDULE), start, levels, SCHEDULE, lambda _: normal())


def test_exact_noise_gives_samples_of_the_data() -> None:
    found = sampled(SCHEDULE.grid(1000, 1000)[::-1])
    # Standard error of the mean: 0.0025, of the deviation: 0.0018.
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(found.std()) == pytest.approx(STD, abs=0.01)


def test_fewer_steps_lose_variance_and_never_the_mean() -> None:
    # The posterior's variance is that of a known x_0; what it leaves out grows with the step.
    deviations = [float(sampled(SCHEDULE.grid(1000, steps)[::-1]).std()) for steps in (10, 50, 250)]
    assert deviations == sorted(deviations)
    assert deviations[0] < STD - 0.05
    assert float(sampled(SCHEDULE.grid(1000, 50)[::-1]).mean()) == pytest.approx(MEAN, abs=0.01)


def test_one_step_from_a_level_is_the_posterior_written_out() -> None:
    x, x_0, eps = torch.tensor([[[[0.7]]]], dtype=torch.float64), 0.2, torch.tensor([[[[-1.3]]]], dtype=torch.float64)
    t, s = 400, 350
    ab_t, ab_s = (float(SCHEDULE.alpha_bar[level]) for level in (t, s))
    alpha = ab_t / ab_s
    beta = 1 - alpha
    mean = (math.sqrt(ab_s) * beta * x_0 + math.sqrt(alpha) * (1 - ab_s) * 0.7) / (1 - ab_t)
    variance = beta * (1 - ab_s) / (1 - ab_t)

    def eps_fn(x_t: torch.Tensor, level: int) -> torch.Tensor:
        assert level == t
        return (x_t - math.sqrt(ab_t) * x_0) / math.sqrt(1 - ab_t)

    found = ancestral_walk(eps_fn, x, [t, s], SCHEDULE, lambda level: eps)
    assert float(found) == pytest.approx(mean + math.sqrt(variance) * -1.3, abs=1e-12)


def test_the_last_step_adds_no_noise_and_asks_for_none() -> None:
    def refusing(level: int) -> torch.Tensor:
        raise AssertionError(f"noise was asked for at level {level}")

    found = ancestral_walk(lambda x, t: torch.zeros_like(x), torch.ones(1, 1, 2, 2), [1, 0], SCHEDULE, refusing)
    torch.testing.assert_close(found, torch.full((1, 1, 2, 2), 1 / SCHEDULE.signal(1)))


def test_levels_that_do_not_descend_are_refused() -> None:
    with pytest.raises(ValueError, match="descend"):
        ancestral_walk(lambda x, t: x, torch.zeros(1, 1, 1, 1), [5, 7], SCHEDULE, lambda level: torch.zeros(1))


def test_an_observer_sees_each_level_that_is_reached() -> None:
    seen: list[int] = []
    ancestral_walk(
        lambda x, t: x,
        torch.zeros(1, 1, 1, 1),
        [30, 20, 0],
        SCHEDULE,
        lambda level: torch.zeros(1, 1, 1, 1),
        lambda level, x, x_0: seen.append(level),
    )
    assert seen == [20, 0]
