"""Fewer steps for the same walk: better grids, second order, a decode as a difference, held guidance, an implicit way up."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from toys import gaussian_eps, recorded

from medanomaly.diffusion.delta import delta_walk, encode_path
from medanomaly.diffusion.guidance import classifier_free
from medanomaly.diffusion.held import held_guidance
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.spacing import Spacing, spaced_levels
from medanomaly.diffusion.walk import Order, ddim_walk, implicit_walk, sigma
from medanomaly.errors import ConfigError

SCHEDULE = NoiseSchedule.linear()
X = torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(1, 1, 8, 8)
NULL, HEALTHY = gaussian_eps(0.1, 0.5, SCHEDULE), gaussian_eps(-0.2, 0.4, SCHEDULE)
GUIDED = classifier_free(HEALTHY, NULL, 3.0)
SPACINGS: tuple[Spacing, ...] = ("uniform", "log_snr", "karras", "power")


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("noise_level", "num_steps"), [(500, 25), (300, 300), (1000, 1), (7, 3), (2, 2)])
def test_a_grid_rises_from_the_clean_image_to_the_noise_level_in_its_number_of_steps(
    spacing: Spacing, noise_level: int, num_steps: int
) -> None:
    levels = spaced_levels(SCHEDULE, noise_level, num_steps, spacing)
    assert (levels[0], levels[-1], len(levels)) == (0, noise_level, num_steps + 1)
    assert all(low < high for low, high in pairwise(levels))


def test_karras_levels_are_even_in_the_seventh_root_of_sigma_and_log_snr_ones_in_its_logarithm() -> None:
    for spacing, transform in (("karras", lambda s: s ** (1 / 7)), ("log_snr", lambda s: torch.log(torch.tensor(s)).item())):
        levels = spaced_levels(SCHEDULE, 800, 12, spacing)  # type: ignore[arg-type]
        values = [transform(sigma(t, SCHEDULE)) for t in levels[1:]]
        steps = [high - low for low, high in pairwise(values)]
        # Whole levels leave the first steps uneven, where one level is a large part of a step.
        assert max(steps[4:]) / min(steps[4:]) < 1.1, spacing
    assert spaced_levels(SCHEDULE, 900, 9, "power") == [round(900 * (i / 9) ** 1.5) for i in range(10)]


def test_an_unknown_spacing_is_refused() -> None:
    with pytest.raises(ConfigError, match="log_snr"):
        spaced_levels(SCHEDULE, 500, 25, "cosine")  # type: ignore[arg-type]


@pytest.mark.parametrize(("order", "gain"), [(1, 2.0), (2, 4.0)])
def test_halving_the_steps_width_divides_the_error_by_two_to_the_order(order: Order, gain: float) -> None:
    low, high, mean, std = 32, 512, 0.1, 0.5
    # From level 32 on: at the clean image sigma rises like a square root, and a first step from there is no small step.
    start, end = ((SCHEDULE.signal(t) ** 2 * std**2 + SCHEDULE.noise(t) ** 2) ** 0.5 for t in (low, high))
    exact = SCHEDULE.signal(high) * mean + (X - SCHEDULE.signal(low) * mean) * end / start
    grids = [range(low, high + 1, (high - low) // n) for n in (30, 60, 120)]
    errors = [float((ddim_walk(NULL, X, grid, SCHEDULE, order=order) - exact).abs().max()) for grid in grids]
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(gain, rel=0.2)


def test_second_order_asks_as_often_as_first() -> None:
    asked: list[int] = []
    levels = spaced_levels(SCHEDULE, 500, 10, "karras")
    ddim_walk(recorded(NULL, asked), X, levels, SCHEDULE, order=2)
    assert asked == levels[:-1]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("num_steps", [2, 7])
def test_a_delta_decode_with_the_encoder_itself_returns_the_image(order: int, num_steps: int) -> None:
    levels = spaced_levels(SCHEDULE, 500, num_steps)
    path = encode_path(NULL, X, levels, SCHEDULE, order=order)  # type: ignore[arg-type]
    back = delta_walk(NULL, path, SCHEDULE, order=order)  # type: ignore[arg-type]
    torch.testing.assert_close(back, X, atol=1e-12, rtol=0)
    coarse = ddim_walk(NULL, path.images[-1], levels[::-1], SCHEDULE, order=order)  # type: ignore[arg-type]
    assert float((coarse - X).abs().max()) > 0.02


def test_a_delta_decode_is_nearer_to_the_fine_walk_at_the_same_cost() -> None:
    fine = spaced_levels(SCHEDULE, 500, 500)
    truth = ddim_walk(GUIDED, ddim_walk(NULL, X, fine, SCHEDULE), fine[::-1], SCHEDULE)
    levels, asked = spaced_levels(SCHEDULE, 500, 10), []  # type: ignore[var-annotated]
    path = encode_path(recorded(NULL, asked), X, levels, SCHEDULE)
    assert asked == levels
    seen: list[int] = []
    delta = delta_walk(GUIDED, path, SCHEDULE, lambda t, x, x_0: seen.append(t))
    assert seen == levels[-2::-1]
    plain = ddim_walk(GUIDED, path.images[-1], levels[::-1], SCHEDULE)
    assert float((delta - truth).abs().max()) < 0.7 * float((plain - truth).abs().max())


def test_guidance_held_for_one_step_is_plain_guidance_and_for_more_asks_the_class_less_often() -> None:
    levels = spaced_levels(SCHEDULE, 500, 60)[::-1]
    plain = ddim_walk(GUIDED, X, levels, SCHEDULE)
    every_step = ddim_walk(held_guidance(HEALTHY, NULL, 3.0, SCHEDULE, 1), X, levels, SCHEDULE)
    torch.testing.assert_close(every_step, plain, atol=1e-12, rtol=0)
    asked: list[int] = []
    held = ddim_walk(held_guidance(recorded(HEALTHY, asked), NULL, 3.0, SCHEDULE, 3), X, levels, SCHEDULE)
    assert asked == levels[:-1:3]
    moved = float((plain - ddim_walk(NULL, X, levels, SCHEDULE)).abs().max())
    assert 0 < float((held - plain).abs().max()) < 0.05 * moved


def test_iterating_the_way_up_makes_the_way_down_its_inverse() -> None:
    levels = spaced_levels(SCHEDULE, 500, 10)

    def error(iterations: int) -> float:
        latent = implicit_walk(NULL, X, levels, SCHEDULE, iterations=iterations)
        return float((ddim_walk(NULL, latent, levels[::-1], SCHEDULE) - X).abs().max())

    assert torch.equal(implicit_walk(NULL, X, levels, SCHEDULE, iterations=0), ddim_walk(NULL, X, levels, SCHEDULE))
    errors = [error(iterations) for iterations in (0, 1, 2, 8)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[3] < 1e-3 * errors[0]
