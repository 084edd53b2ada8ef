"""The reverse process as a distribution: posterior, learned variance, and one term of the variational bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule


def gather(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """values[t] shaped (B, 1, 1, 1) in the dtype and on the device of ``like``."""
    return values.to(like.device)[t].view(-1, *[1] * (like.ndim - 1)).to(like.dtype)


def signal_and_noise(schedule: NoiseSchedule, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), (B, 1, 1, 1) in the dtype of ``like``; 1 - alpha_bar is taken in float64.

    In float32 the difference would be 6e-4 off at level 1, where alpha_bar is almost 1.
    """
    return gather(schedule.alpha_bar.sqrt(), t, like), gather((1 - schedule.alpha_bar).sqrt(), t, like)


def log_variances(schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    """(T + 1,) float64 each: log of the posterior variance and of beta, per level (entry 0 is unused).

    The posterior variance is 0 at level 1; its log takes level 2's value there (Nichol & Dhariwal 2021, arXiv:2102.09672).
    """
    alpha_bar = schedule.alpha_bar
    beta = torch.ones_like(alpha_bar)
    beta[1:] = 1 - alpha_bar[1:] / alpha_bar[:-1]
    posterior = torch.ones_like(alpha_bar)
    posterior[1:] = beta[1:] * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])
    posterior[1] = posterior[2]
    return posterior.log(), beta.log()


def posterior_mean(x_0: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, arXiv:2006.11239, eq. 7); t (B,) in 1..T."""
    alpha_bar, previous = schedule.alpha_bar.to(t.device)[t], schedule.alpha_bar.to(t.device)[t - 1]
    alpha = alpha_bar / previous
    on_clean = previous.sqrt() * (1 - alpha) / (1 - alpha_bar)
    on_noisy = alpha.sqrt() * (1 - previous) / (1 - alpha_bar)
    shape = (-1, *[1] * (x_t.ndim - 1))
    return on_clean.view(shape).to(x_t.dtype) * x_0 + on_noisy.view(shape).to(x_t.dtype) * x_t


def learned_log_variance(v: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Log-variance between the posterior's (v = -1) and beta's (v = 1) (Nichol & Dhariwal 2021, eq. 15).

    Args:
        v: (B, C, H, W) the network's variance channels.
        t: (B,) levels in 1..T.
    """
    low, high = log_variances(schedule)
    fraction = (v + 1) / 2
    return fraction * gather(high, t, v) + (1 - fraction) * gather(low, t, v)


def gaussian_kl(mean_q: Tensor, log_var_q: Tensor, mean_p: Tensor, log_var_p: Tensor) -> Tensor:
    """KL(N_q || N_p) per element, in nats."""
    return 0.5 * (log_var_p - log_var_q - 1 + torch.exp(log_var_q - log_var_p) + (mean_q - mean_p) ** 2 * torch.exp(-log_var_p))


def discretised_log_likelihood(x_0: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Log-probability (nats) of 8-bit values in [-1, 1] under a Gaussian integrated over its bin (Ho et al. 2020, eq. 13)."""
    inverse_std = torch.exp(-0.5 * log_var)
    upper = torch.special.ndtr((x_0 - mean + 1 / 255) * inverse_std)
    lower = torch.special.ndtr((x_0 - mean - 1 / 255) * inverse_std)
    probability = torch.where(x_0 < -0.999, upper, torch.where(x_0 > 0.999, 1 - lower, upper - lower))
    return probability.clamp(min=1e-12).log()


def bound_term(x_0: Tensor, x_t: Tensor, eps: Tensor, v: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """(B,) term L_{t-1} of the variational bound in bits/dim: a KL for t > 1, the decoder's negative log-likelihood for t = 1.

    Args:
        x_0, x_t: (B, C, H, W) clean and noisy images.
        eps: predicted noise; pass it detached to train the variance alone (Nichol & Dhariwal 2021, section 3.1).
        v: predicted variance channels.
        t: (B,) levels in 1..T.
    """
    signal, noise = signal_and_noise(schedule, t, x_t)
    predicted = (x_t - noise * eps) / signal
    mean_p, log_var_p = posterior_mean(predicted, x_t, t, schedule), learned_log_variance(v, t, schedule)
    mean_q, log_var_q = posterior_mean(x_0, x_t, t, schedule), gather(log_variances(schedule)[0], t, x_t)
    kl = gaussian_kl(mean_q, log_var_q, mean_p, log_var_p)
    decoder = -discretised_log_likelihood(x_0, mean_p, log_var_p)
    first = (t == 1).view(-1, *[1] * (x_t.ndim - 1))
    return torch.where(first, decoder, kl).flatten(1).mean(dim=1) / math.log(2)
