import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from medanomaly.diffusion.schedule import NoiseSchedule, ScheduleConfig
from medanomaly.diffusion.variational import (
    bound_term,
    discretised_log_likelihood,
    gaussian_kl,
    learned_log_variance,
    log_variances,
    posterior_mean,
    signal_and_noise,
)

SCHEDULE = NoiseSchedule.linear(50)


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("t", [2, 10, 49])
def test_the_posterior_is_bayes_rule_on_a_fine_grid(name: str, t: int) -> None:
    schedule = NoiseSchedule.from_config(ScheduleConfig(name=name, num_levels=50))  # type: ignore[arg-type]
    x_0, x_t = 0.4, -0.3
    before, after = float(schedule.alpha_bar[t - 1]), float(schedule.alpha_bar[t])
    alpha = after / before
    grid = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    prior = Normal(math.sqrt(before) * x_0, math.sqrt(1 - before)).log_prob(grid)  # type: ignore[no-untyped-call]
    likelihood = Normal(math.sqrt(alpha) * grid, math.sqrt(1 - alpha)).log_prob(torch.tensor(x_t, dtype=torch.float64))  # type: ignore[no-untyped-call]
    weight = torch.softmax(prior + likelihood, dim=0)
    mean = float((weight * grid).sum())
    variance = float((weight * (grid - mean) ** 2).sum())

    def image(value: float) -> torch.Tensor:
        return torch.full((1, 1, 1, 1), value, dtype=torch.float64)

    assert float(posterior_mean(image(x_0), image(x_t), torch.tensor([t]), schedule)) == pytest.approx(mean, abs=1e-6)
    assert float(log_variances(schedule)[0][t].exp()) == pytest.approx(variance, rel=1e-5)


def test_the_first_posterior_variance_takes_the_seconds_value_and_stays_finite() -> None:
    low, high = log_variances(SCHEDULE)
    assert low[1] == low[2]
    assert bool(low.isfinite().all())
    assert bool(high.isfinite().all())
    assert bool((low[2:] < high[2:]).all())


@pytest.mark.parametrize("t", [1, 2, 50])
def test_learned_variance_runs_from_the_posteriors_to_betas_in_the_log(t: int) -> None:
    low, high = (float(values[t]) for values in log_variances(SCHEDULE))
    levels = torch.tensor([t])
    for v, expected in ((-1.0, low), (1.0, high), (0.0, (low + high) / 2)):
        found = learned_log_variance(torch.full((1, 1, 2, 2), v, dtype=torch.float64), levels, SCHEDULE)
        torch.testing.assert_close(found, torch.full_like(found, expected))
    alpha_bar = SCHEDULE.alpha_bar
    assert high == pytest.approx(math.log(1 - float(alpha_bar[t] / alpha_bar[t - 1])))


def test_the_kl_is_pytorchs_between_two_normals() -> None:
    draws = torch.randn((4, 500), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean_q, log_var_q, mean_p, log_var_p = draws
    expected = kl_divergence(Normal(mean_q, (0.5 * log_var_q).exp()), Normal(mean_p, (0.5 * log_var_p).exp()))
    torch.testing.assert_close(gaussian_kl(mean_q, log_var_q, mean_p, log_var_p), expected)


@pytest.mark.parametrize("mean", [-1.5, -1.0, 0.123, 0.9])
@pytest.mark.parametrize("std", [0.005, 0.1, 1.0])
def test_the_256_grey_values_share_a_probability_of_1(mean: float, std: float) -> None:
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    log_variance = torch.full_like(values, 2 * math.log(std))
    probability = discretised_log_likelihood(values, torch.full_like(values, mean), log_variance).exp()
    assert float(probability.sum()) == pytest.approx(1, abs=1e-8)


def test_a_perfect_predictor_with_the_posteriors_variance_has_no_gap_above_level_1() -> None:
    x_0 = torch.linspace(-1, 1, 48, dtype=torch.float64).reshape(3, 1, 4, 4)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([2, 25, 50])
    x_t = SCHEDULE.add_noise(x_0, eps, t)
    perfect = bound_term(x_0, x_t, eps, torch.full_like(x_0, -1), t, SCHEDULE)
    torch.testing.assert_close(perfect, torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    assert bool((bound_term(x_0, x_t, eps + 0.1, torch.full_like(x_0, -1), t, SCHEDULE) > 1e-6).all())
    # Near level T the two variances meet, so another v costs something only lower down.
    assert bool((bound_term(x_0, x_t, eps, torch.full_like(x_0, 1), t, SCHEDULE)[:2] > 1e-5).all())


def test_level_1_is_scored_by_the_decoders_likelihood_in_bits_a_dimension() -> None:
    x_0 = torch.linspace(-0.9, 0.9, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    eps, v, t = torch.full_like(x_0, 0.3), torch.zeros_like(x_0), torch.tensor([1])
    x_t = SCHEDULE.add_noise(x_0, eps, t)
    # At level 1 the posterior mean is the predicted clean image itself, here x_0.
    log_variance = learned_log_variance(v, t, SCHEDULE)
    expected = -discretised_log_likelihood(x_0, x_0, log_variance).mean() / math.log(2)
    torch.testing.assert_close(bound_term(x_0, x_t, eps, v, t, SCHEDULE)[0], expected)


def test_the_noise_share_of_the_first_level_is_exact_in_float32() -> None:
    schedule = NoiseSchedule.linear()
    signal, noise = signal_and_noise(schedule, torch.tensor([1]), torch.zeros(1, 1, 2, 2))
    assert float(noise) == pytest.approx(0.01, rel=1e-6)  # beta_1 = 1e-4
    assert float(signal) == pytest.approx((1 - 1e-4) ** 0.5, rel=1e-6)
