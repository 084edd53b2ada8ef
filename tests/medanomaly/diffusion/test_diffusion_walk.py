from itertools import pairwise

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler
from torch import Tensor
from toys import gaussian_eps, recorded

from medanomaly.diffusion.guidance import classifier_free
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.walk import ddim_walk, predicted_clean

SCHEDULE = NoiseSchedule.linear()
X = torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(1, 1, 8, 8)


def round_trip_error(num_steps: int) -> float:
    eps_fn = gaussian_eps(0.1, 0.5, SCHEDULE)
    levels = SCHEDULE.grid(500, num_steps)
    back = ddim_walk(eps_fn, ddim_walk(eps_fn, X, levels, SCHEDULE), levels[::-1], SCHEDULE)
    return float((back - X).abs().max())


def test_decoding_undoes_encoding() -> None:
    assert round_trip_error(500) < 0.02


def test_the_round_trip_error_halves_when_the_steps_double() -> None:
    errors = [round_trip_error(num_steps) for num_steps in (50, 100, 200)]
    assert errors[2] > 1e-6
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(("noise_level", "num_steps"), [(500, 7), (333, 50), (1000, 1), (5, 5)])
def test_the_noise_is_asked_for_at_the_level_a_step_leaves(noise_level: int, num_steps: int) -> None:
    levels = SCHEDULE.grid(noise_level, num_steps)
    up: list[int] = []
    down: list[int] = []
    eps_fn = gaussian_eps(0.0, 0.5, SCHEDULE)
    latent = ddim_walk(recorded(eps_fn, up), X, levels, SCHEDULE)
    ddim_walk(recorded(eps_fn, down), latent, levels[::-1], SCHEDULE)
    assert up == levels[:-1]
    assert down == levels[:0:-1]


def test_encoding_a_gaussian_ends_where_the_flow_of_its_density_does() -> None:
    mean, std = 0.2, 0.5
    x = mean + 2 * std * X
    latent = ddim_walk(gaussian_eps(mean, std, SCHEDULE), x, SCHEDULE.grid(500, 500), SCHEDULE)
    signal, noise = SCHEDULE.signal(500), SCHEDULE.noise(500)
    exact = signal * mean + (x - mean) * (signal**2 * std**2 + noise**2) ** 0.5 / std
    # The latent's deviation is near 1; the first-order walk of 500 steps misses it by about a percent two deviations out.
    torch.testing.assert_close(latent, exact, atol=0.03, rtol=0)


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("std", [0.1, 0.3, 1.0])
def test_guided_decoding_moves_a_gaussian_by_the_closed_form(guidance_scale: float, std: float) -> None:
    mean_null, mean_healthy, noise_level = 0.1, -0.2, 500
    null, healthy = gaussian_eps(mean_null, std, SCHEDULE), gaussian_eps(mean_healthy, std, SCHEDULE)
    x = mean_null + 2 * std * X
    levels = SCHEDULE.grid(noise_level, noise_level)
    latent = ddim_walk(null, x, levels, SCHEDULE)
    moved = ddim_walk(classifier_free(healthy, null, guidance_scale), latent, levels[::-1], SCHEDULE) - x
    alpha_bar = SCHEDULE.signal(noise_level) ** 2
    left_over = std * alpha_bar**0.5 / (alpha_bar * std**2 + 1 - alpha_bar) ** 0.5
    expected = guidance_scale * (mean_healthy - mean_null) * (1 - left_over)
    torch.testing.assert_close(moved, torch.full_like(X, expected), atol=0.01, rtol=0)


@pytest.mark.parametrize("num_steps", [1000, 250, 10])
def test_a_step_down_is_monais_where_its_grid_divides_the_levels(num_steps: int) -> None:
    theirs = DDIMScheduler(num_train_timesteps=1000, schedule="linear_beta", clip_sample=False)
    theirs.set_timesteps(num_steps)
    stride = 1000 // num_steps
    eps = torch.randn(X.shape, generator=torch.Generator().manual_seed(0))
    x = 2 * X.float()
    for t in sorted({stride, 500, 1000}):
        # MONAI's index 0 is the first noisy level, ours is the clean image.
        expected, clean = theirs.step(eps, t - 1, x)
        torch.testing.assert_close(ddim_walk(lambda x, t: eps, x, [t, t - stride], SCHEDULE), expected, atol=2e-4, rtol=2e-4)
        torch.testing.assert_close(predicted_clean(x, eps, t, SCHEDULE), clean, atol=2e-2, rtol=2e-4)


@pytest.mark.parametrize("num_steps", [1000, 250, 10])
def test_a_step_up_is_monais_reversed_step_where_that_has_a_next_level(num_steps: int) -> None:
    theirs = DDIMScheduler(num_train_timesteps=1000, schedule="linear_beta", clip_sample=False)
    theirs.set_timesteps(num_steps)
    stride = 1000 // num_steps
    eps = torch.randn(X.shape, generator=torch.Generator().manual_seed(0))
    for t in (1, 500, 1000 - stride):
        expected, _ = theirs.reversed_step(eps, t - 1, X.float())
        ours = ddim_walk(lambda x, t: eps, X.float(), [t, t + stride], SCHEDULE)
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=2e-4)


def test_nothing_is_clamped_on_the_way() -> None:
    far = 5 * X
    eps_fn = gaussian_eps(0.0, 0.5, SCHEDULE)
    levels = SCHEDULE.grid(500, 500)
    back = ddim_walk(eps_fn, ddim_walk(eps_fn, far, levels, SCHEDULE), levels[::-1], SCHEDULE)
    torch.testing.assert_close(back, far, atol=0.1, rtol=0)


def test_an_observer_sees_every_level_reached_and_changes_nothing() -> None:
    seen: list[tuple[int, Tensor, Tensor]] = []
    eps_fn, levels = gaussian_eps(0.0, 0.5, SCHEDULE), SCHEDULE.grid(100, 5)
    watched = ddim_walk(eps_fn, X, levels, SCHEDULE, lambda level, x, x_0: seen.append((level, x, x_0)))
    assert torch.equal(watched, ddim_walk(eps_fn, X, levels, SCHEDULE))
    assert [level for level, _, _ in seen] == levels[1:]
    assert torch.equal(seen[-1][1], watched)
    # The first step leaves the clean image, whose predicted clean image is itself.
    torch.testing.assert_close(seen[0][2], X)


def test_a_walk_leaves_its_input_alone() -> None:
    x = X.clone()
    ddim_walk(gaussian_eps(0.3, 0.5, SCHEDULE), x, SCHEDULE.grid(100, 5), SCHEDULE)
    assert torch.equal(x, X)


def test_a_walk_of_one_level_stays_where_it_is() -> None:
    assert torch.equal(ddim_walk(gaussian_eps(0.3, 0.5, SCHEDULE), X, [0], SCHEDULE), X)
