from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from toys import gaussian_eps, recorded

from medanomaly.diffusion.reverse import posterior_step, reverse_walk
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.solvers import dpm_solver_walk
from medanomaly.diffusion.walk import ddim_walk
from medanomaly.types import EpsFn

SCHEDULE = NoiseSchedule.linear()
MEAN, STD = 0.3, 0.5
EPS = gaussian_eps(MEAN, STD, SCHEDULE)
X = torch.linspace(-2, 2, 8, dtype=torch.float64).reshape(2, 1, 2, 2)


def exact(x: torch.Tensor, t: int, s: int) -> torch.Tensor:
    """Where the deterministic path of Gaussian data leads: each level's Gaussian onto the next."""
    spread = [math.sqrt(SCHEDULE.signal(level) ** 2 * STD**2 + SCHEDULE.noise(level) ** 2) for level in (t, s)]
    return SCHEDULE.signal(s) * MEAN + spread[1] / spread[0] * (x - SCHEDULE.signal(t) * MEAN)


def errors(steps: tuple[int, ...], *, second_order: bool) -> list[float]:
    """Largest distance to the exact path from level 1000 to 100."""
    found = []
    for count in steps:
        levels = [1000 - 900 * step // count for step in range(count + 1)]
        walked = (dpm_solver_walk if second_order else ddim_walk)(EPS, X, levels, SCHEDULE)
        found.append(float((walked - exact(X, 1000, 100)).abs().max()))
    return found


def test_the_error_falls_with_the_square_of_the_step_where_ddims_only_falls_with_the_step() -> None:
    second, first = errors((10, 20, 40), second_order=True), errors((10, 20, 40), second_order=False)
    assert all(coarse / fine > 3.5 for coarse, fine in pairwise(second))
    assert all(1.7 < coarse / fine < 2.4 for coarse, fine in pairwise(first))
    assert second[0] < first[0] / 5


def test_the_first_step_and_the_step_to_level_0_are_ddims() -> None:
    for levels in ([1000, 700], [40, 0]):
        torch.testing.assert_close(dpm_solver_walk(EPS, X, levels, SCHEDULE), ddim_walk(EPS, X, levels, SCHEDULE))


def test_the_second_step_extrapolates_in_log_snr_as_the_paper_writes_it() -> None:
    levels = (800, 500, 100)
    lam = [math.log(SCHEDULE.signal(t) / SCHEDULE.noise(t)) for t in levels]
    answers = {800: 0.7, 500: -0.2}

    def eps_fn(x_t: torch.Tensor, t: int) -> torch.Tensor:
        return (x_t - SCHEDULE.signal(t) * answers[t]) / SCHEDULE.noise(t)

    middle = dpm_solver_walk(eps_fn, X, levels[:2], SCHEDULE)
    r = (lam[1] - lam[0]) / (lam[2] - lam[1])
    data = (1 + 1 / (2 * r)) * answers[500] - 1 / (2 * r) * answers[800]
    expected = SCHEDULE.noise(100) / SCHEDULE.noise(500) * middle - SCHEDULE.signal(100) * math.expm1(lam[1] - lam[2]) * data
    torch.testing.assert_close(dpm_solver_walk(eps_fn, X, levels, SCHEDULE), expected)


def test_at_eta_1_a_first_order_step_is_ddpms_posterior() -> None:
    eps = torch.randn(X.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for levels in ([900, 600], [30, 29]):
        found = dpm_solver_walk(EPS, X, levels, SCHEDULE, eta=1.0, noise=lambda _level: eps)
        expected = reverse_walk(posterior_step(EPS, SCHEDULE), X, levels, lambda _level: eps)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_whatever_is_drawn_on_the_way_the_samples_are_those_of_the_data(eta: float) -> None:
    draws = torch.Generator().manual_seed(0)

    def normal(_level: int = 0) -> torch.Tensor:
        return torch.randn((40_000, 1, 1, 1), generator=draws, dtype=torch.float64)

    found = dpm_solver_walk(EPS, normal(), SCHEDULE.grid(1000, 250)[::-1], SCHEDULE, eta=eta, noise=normal)
    # Standard errors: 0.0025 of the mean, 0.0018 of the deviation; x at level 1000 has a mean of 0.002 that noise has not.
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.012)
    assert float(found.std()) == pytest.approx(STD, abs=0.012)


def test_the_model_is_asked_once_a_step_and_an_observer_sees_each_level() -> None:
    asked: list[int] = []
    seen: list[int] = []
    eps_fn: EpsFn = recorded(EPS, asked)
    dpm_solver_walk(eps_fn, X, [1000, 300, 40, 0], SCHEDULE, lambda level, x, x_0: seen.append(level))
    assert asked == [1000, 300, 40]
    assert seen == [300, 40, 0]


def test_what_cannot_be_walked_is_refused() -> None:
    with pytest.raises(ValueError, match="levels must descend, got 5 before 7"):
        dpm_solver_walk(EPS, X, [5, 7], SCHEDULE)
    with pytest.raises(ValueError, match="needs noise"):
        dpm_solver_walk(EPS, X, [7, 5], SCHEDULE, eta=0.5)
