"""How probable a diffusion model finds an image: the variational bound on bits/dim with all its terms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from medanomaly.diffusion.loss import NetworkFn, Prediction, eps_from_output
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.variational import bound_term, gaussian_kl
from medanomaly.errors import ConfigError

Variance = Literal["learned", "posterior", "beta"]
"""Of the reverse steps: the network's own, or fixed at the smaller or larger one of Ho et al. 2020, section 3.2."""
Stratum = tuple[int, int]
"""First and last level of a range that one drawn level stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Terms of the bound for a batch, bits/dim; their sum bounds the negative log-likelihood of 8-bit values from above."""

    prior: Tensor
    """(B,) L_T: what is left of the image at level T; exact."""
    decoder: Tensor
    """(B,) L_0: reading the 8-bit values off x_1; one draw of x_1."""
    levels: Tensor
    """(B, K) int64: the level that was drawn in each stratum, 2..T."""
    terms: Tensor
    """(B, K) L_{t-1} at these levels; one draw of x_t each."""
    widths: Tensor
    """(K,) int64: levels in each stratum; 1 everywhere = every level was evaluated."""

    @property
    def middle(self) -> Tensor:
        """(B,) estimate of the sum of L_{t-1} over t = 2..T."""
        return (self.terms * self.widths).sum(dim=1)

    @property
    def total(self) -> Tensor:
        """(B,) L_T + sum of L_{t-1} + L_0."""
        return self.prior + self.middle + self.decoder


def strata_of(num_levels: int, num_strata: int) -> list[Stratum]:
    """Levels 2..T cut into ranges whose ends grow with the square: the terms are largest, and change fastest, at low levels.

    Args:
        num_levels: T.
        num_strata: 1..T - 1; T - 1 makes every level a range of its own.
    """
    if not 1 <= num_strata <= num_levels - 1:
        raise ConfigError(
            f"the number of levels between must be in 1..{num_levels - 1}, got {num_strata}",
            code="E_CONFIG",
            fix="0 evaluates every level",
        )
    ends = [1]
    for step in range(1, num_strata + 1):
        wanted = 1 + round((num_levels - 1) * (step / num_strata) ** 2)
        # At least one level for this range and for each that follows.
        ends.append(min(max(wanted, ends[-1] + 1), num_levels - (num_strata - step)))
    return [(low + 1, high) for low, high in itertools.pairwise(ends)]


def eight_bit(x: Tensor) -> Tensor:
    """x rounded to the 256 gray values of [-1, 1] in float64: only discrete values have a bounded likelihood."""
    return ((x.double().clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def prior_term(x_0: Tensor, schedule: NoiseSchedule) -> Tensor:
    """(B,) L_T = KL(q(x_T | x_0) || N(0, I)) in bits/dim (Ho et al. 2020, arXiv:2006.11239, eq. 5)."""
    alpha_bar = schedule.alpha_bar[-1].to(x_0.device)
    log_variance = torch.log1p(-alpha_bar).to(x_0.dtype)
    zero = torch.zeros((), dtype=x_0.dtype, device=x_0.device)
    return gaussian_kl(alpha_bar.sqrt().to(x_0.dtype) * x_0, log_variance, zero, zero).flatten(1).mean(dim=1) / math.log(2)


@torch.inference_mode()
def variational_bound(
    network: NetworkFn,
    x_0: Tensor,
    schedule: NoiseSchedule,
    strata: Sequence[Stratum],
    generators: Sequence[torch.Generator],
    *,
    prediction: Prediction = "eps",
    variance: Variance = "learned",
) -> Bound:
    """The bound of Ho et al. 2020 (eq. 5 and 13), each term by one draw, unbiased also where ranges hold several levels.

    In each range one level is drawn for each image, and its term counts once for each level of the range.

    Args:
        network: outputs 2C channels where ``variance`` is "learned"; further channels are ignored otherwise.
        x_0: (B, C, H, W) in [-1, 1]; rounded to 8 bits here.
        schedule: noise that the network was trained on.
        strata: see :func:`strata_of`.
        generators: one an image, so that its number does not depend on its batch; they may live on another device than x_0.
        prediction: what the mean channels mean.
        variance: of the reverse steps.

    Raises:
        ConfigError: E_CONFIG, a learned variance of a network that has none.
    """
    if len(generators) != len(x_0):
        raise ValueError(f"generators must be one an image: {len(x_0)}, got {len(generators)}")
    clean, channels = eight_bit(x_0), x_0.shape[1]

    def term(t: Tensor) -> Tensor:
        eps = torch.stack([torch.randn(x_0.shape[1:], generator=one, device=one.device) for one in generators])
        x_t = schedule.add_noise(clean, eps.to(clean), t)
        # Differences of almost equal variances are summed over a thousand levels: only the network works in its own precision.
        output = network(x_t.to(x_0.dtype), t).double()
        if variance == "learned" and output.shape[1] < 2 * channels:
            raise ConfigError("this network has no learned variance", code="E_CONFIG", fix="use --variance posterior or beta")
        fixed = torch.full_like(clean, 1.0 if variance == "beta" else -1.0)
        v = output[:, channels : 2 * channels] if variance == "learned" else fixed
        predicted = eps_from_output(output[:, :channels], x_t, t, schedule, prediction)
        return bound_term(clean, x_t, predicted, v, t, schedule)

    decoder = term(torch.ones(len(x_0), dtype=torch.int64, device=x_0.device))
    levels, terms = [], []
    for low, high in strata:
        drawn = [int(torch.randint(low, high + 1, (1,), generator=one, device=one.device)) for one in generators]
        levels.append(torch.tensor(drawn, device=x_0.device))
        terms.append(term(levels[-1]))
    return Bound(
        prior=prior_term(clean, schedule),
        decoder=decoder,
        levels=torch.stack(levels, dim=1),
        terms=torch.stack(terms, dim=1),
        widths=torch.tensor([high - low + 1 for low, high in strata], device=x_0.device),
    )
