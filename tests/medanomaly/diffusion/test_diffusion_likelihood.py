"""Bits/dim of Gaussian data against their closed form: with the exact reverse process the bound is the likelihood itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medanomaly.diffusion.likelihood import Bound, eight_bit, prior_term, strata_of, variational_bound
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.variational import log_variances
from medanomaly.errors import ConfigError
from medanomaly.rng import generator

SCHEDULE = NoiseSchedule.linear(50)
MEAN, STD = 0.1, 0.2
EVERY = strata_of(50, 49)


def draws(count: int, seed: int = 0) -> Tensor:
    """(count, 1, 8, 8) of N(MEAN, STD^2); 4.5 deviations from the ends of [-1, 1]."""
    return MEAN + STD * torch.randn((count, 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact_network(x_t: Tensor, t: Tensor) -> Tensor:
    """Exact noise of Gaussian data, and the v whose variance is that of the true reverse step q(x_{t-1} | x_t)."""
    shape = (-1, 1, 1, 1)
    alpha_bar, before = SCHEDULE.alpha_bar[t].view(shape), SCHEDULE.alpha_bar[t - 1].view(shape)
    eps = (1 - alpha_bar).sqrt() * (x_t - alpha_bar.sqrt() * MEAN) / (alpha_bar * STD**2 + 1 - alpha_bar)
    alpha = alpha_bar / before
    prior = before * STD**2 + 1 - before
    variance = 1 / (1 / prior + alpha / (1 - alpha))
    low, high = (values[t].view(shape) for values in log_variances(SCHEDULE))
    v = 2 * (variance.log() - low) / (high - low) - 1
    return torch.cat([eps, v.expand_as(eps)], dim=1)


def bound(x_0: Tensor, network: Callable[[Tensor, Tensor], Tensor] = exact_network, **options: object) -> Bound:
    strata = options.pop("strata", EVERY)
    generators = [generator(0, "likelihood", index) for index in range(len(x_0))]
    return variational_bound(network, x_0, SCHEDULE, strata, generators, **options)  # type: ignore[arg-type]


def test_with_the_exact_reverse_process_the_bound_is_the_closed_form_of_gaussian_data() -> None:
    found = bound(draws(150)).total
    # Differential entropy of N(m, s^2) in bits, less the bits of a bin of 2 / 255.
    expected = 0.5 * math.log2(2 * math.pi * math.e * STD**2) - math.log2(2 / 255)
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean()) - expected) < 3 * error
    assert error < 0.02


def test_a_wrong_mean_and_either_fixed_variance_cost_bits() -> None:
    x_0 = draws(40)
    learned = float(bound(x_0).total.mean())
    for variance in ("posterior", "beta"):
        assert float(bound(x_0, variance=variance).total.mean()) > learned + 0.005
    shifted = bound(x_0, lambda x_t, t: exact_network(x_t, t) + torch.tensor([0.1, 0.0]).view(1, 2, 1, 1))
    assert float(shifted.total.mean()) > learned + 0.005


def test_fixed_variances_ask_nothing_of_the_networks_variance() -> None:
    x_0 = draws(2)
    for variance, end in (("posterior", -1.0), ("beta", 1.0)):
        without = bound(x_0, lambda x_t, t: exact_network(x_t, t)[:, :1], variance=variance).total
        torch.testing.assert_close(without, bound(x_0, variance=variance).total)
        at_its_end = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1) * end
        mean_only = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        same = bound(x_0, lambda x_t, t, v=at_its_end, keep=mean_only: exact_network(x_t, t) * keep + v)
        torch.testing.assert_close(without, same.total)
    with pytest.raises(ConfigError, match="no learned variance"):
        bound(x_0, lambda x_t, t: exact_network(x_t, t)[:, :1])


def test_a_few_drawn_levels_estimate_the_sum_over_all_without_bias() -> None:
    x_0 = draws(1).expand(400, -1, -1, -1)
    every, some = bound(x_0[:60]).middle, bound(x_0, strata=strata_of(50, 7))
    assert some.terms.shape == (400, 7)
    assert int(some.widths.sum()) == 49
    error = math.hypot(float(every.std()) / math.sqrt(60), float(some.middle.std()) / 20)
    assert abs(float(some.middle.mean() - every.mean())) < 3 * error
    assert all(len(set(column.tolist())) == width for column, width in zip(some.levels.T, some.widths.tolist(), strict=True))


def test_an_images_bound_does_not_depend_on_its_batch() -> None:
    x_0 = draws(3)
    generators = [generator(0, "likelihood", 2)]
    alone = variational_bound(exact_network, x_0[2:], SCHEDULE, strata_of(50, 5), generators)
    torch.testing.assert_close(alone.total[0], bound(x_0, strata=strata_of(50, 5)).total[2])


@pytest.mark.parametrize("num_strata", [1, 2, 10, 48, 49])
def test_strata_cover_every_level_once_and_widen_upwards(num_strata: int) -> None:
    strata = strata_of(50, num_strata)
    assert [level for low, high in strata for level in range(low, high + 1)] == list(range(2, 51))
    assert len(strata) == num_strata
    widths = [high - low + 1 for low, high in strata]
    assert widths[0] <= widths[-1]


@pytest.mark.parametrize("num_strata", [0, 50])
def test_more_levels_than_there_are_and_none_are_refused(num_strata: int) -> None:
    with pytest.raises(ConfigError, match=r"must be in 1\.\.49"):
        strata_of(50, num_strata)


def test_the_prior_term_is_what_a_long_schedule_leaves_of_the_image() -> None:
    x_0 = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    short = NoiseSchedule(torch.tensor([1.0, 0.64, 0.36], dtype=torch.float64))
    # KL(N(0.3, 0.64) || N(0, 1)) in nats.
    expected = 0.5 * (0.64 + 0.3**2 - 1 - math.log(0.64)) / math.log(2)
    assert float(prior_term(x_0, short)[0]) == pytest.approx(expected)
    assert float(prior_term(x_0, NoiseSchedule.linear())[0]) < 1e-4


def test_values_are_rounded_to_the_256_that_have_a_probability() -> None:
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    torch.testing.assert_close(eight_bit(values + 0.003), values, atol=1e-12, rtol=0)
    assert eight_bit(torch.tensor([-1.5, 1.5])).tolist() == [-1, 1]
