from __future__ import annotations

import math

import pytest
import torch
from toys import gaussian_denoiser, gaussian_eps

from medanomaly.diffusion.ancestral import ancestral_walk
from medanomaly.diffusion.reverse import ReverseFn, beta_step, ddim_step, learned_step, posterior_step, reverse_walk
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.unet import condition, condition_with_variance
from medanomaly.diffusion.variational import learned_log_variance
from medanomaly.diffusion.walk import ddim_walk

SCHEDULE = NoiseSchedule.linear()
EPS = gaussian_eps(0.3, 0.5, SCHEDULE)
X = torch.linspace(-2, 2, 8, dtype=torch.float64).reshape(2, 1, 2, 2)
LEVELS = [1000, 640, 300, 2, 0]


def refusing(level: int) -> torch.Tensor:
    raise AssertionError(f"noise was asked for at level {level}")


def noises() -> dict[int, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return {level: torch.randn(X.shape, generator=draws, dtype=torch.float64) for level in LEVELS}


def with_v(v: float | torch.Tensor) -> ReverseFn:
    return lambda x, t: (EPS(x, t), v * torch.ones_like(x))


def test_ddim_without_noise_is_the_walk_and_draws_nothing() -> None:
    found = reverse_walk(ddim_step(EPS, SCHEDULE, 0.0), X, LEVELS, refusing)
    torch.testing.assert_close(found, ddim_walk(EPS, X, LEVELS, SCHEDULE))


def test_ddim_with_all_its_noise_is_ddpm() -> None:
    noise = noises()
    found = reverse_walk(ddim_step(EPS, SCHEDULE, 1.0), X, LEVELS, noise.__getitem__)
    torch.testing.assert_close(found, ancestral_walk(EPS, X, LEVELS, SCHEDULE, noise.__getitem__))


def test_half_of_eta_is_a_quarter_of_the_variance() -> None:
    full, half = (ddim_step(EPS, SCHEDULE, eta)(X, 640, 300).variance for eta in (1.0, 0.5))
    assert float(half) == pytest.approx(float(full) / 4)


def test_a_learned_variance_runs_between_the_posteriors_and_beta_in_the_logarithm() -> None:
    low, high = (float(step(EPS, SCHEDULE)(X, 640, 300).variance) for step in (posterior_step, beta_step))
    assert low < high
    for v, expected in ((-1.0, low), (1.0, high), (0.0, math.sqrt(low * high))):
        step = learned_step(with_v(v), SCHEDULE)(X, 640, 300)
        torch.testing.assert_close(step.variance, torch.full_like(X, expected))
        torch.testing.assert_close(step.mean, posterior_step(EPS, SCHEDULE)(X, 640, 300).mean)


def test_between_neighbouring_levels_it_is_the_variance_that_training_bounds() -> None:
    v = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(X.shape)
    trained = learned_log_variance(v, torch.tensor([300, 300]), SCHEDULE).exp()
    torch.testing.assert_close(learned_step(with_v(v), SCHEDULE)(X, 300, 299).variance, trained)


def test_the_step_to_level_0_takes_the_mean_whatever_the_variance() -> None:
    for step_fn in (learned_step(with_v(0.0), SCHEDULE), beta_step(EPS, SCHEDULE), posterior_step(EPS, SCHEDULE)):
        found = reverse_walk(step_fn, X, [5, 0], refusing)
        torch.testing.assert_close(found, ddim_walk(EPS, X, [5, 0], SCHEDULE))


def test_a_model_without_variance_has_no_learned_steps() -> None:
    with pytest.raises(ValueError, match="predicts no variance"):
        learned_step(lambda x, t: (x, None), SCHEDULE)(X, 5, 4)


def test_the_networks_variance_comes_with_its_noise_from_one_question() -> None:
    denoiser = gaussian_denoiser({"a": 0.2, None: 0.0}, ("a",))
    eps, v = condition_with_variance(denoiser, "a", SCHEDULE)(X.float(), 300)
    assert torch.equal(eps, condition(denoiser, "a", SCHEDULE)(X.float(), 300))
    assert v is not None
    assert bool((v == 1e6).all())  # the toy's rubbish channels
    assert len(denoiser.net.asked) == 2  # type: ignore[union-attr, arg-type]
