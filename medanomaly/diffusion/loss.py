"""What a denoiser is trained on: the simple loss, plus the bound that teaches its variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.diffusion.variational import bound_term, signal_and_noise

Prediction = Literal["eps", "v"]
NetworkFn = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, C, H, W), t (B,) levels) -> (B, C or 2C, H, W)."""


def eps_from_output(output: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule, prediction: Prediction) -> Tensor:
    """Noise meant by the network's mean channels: itself, or from v (Salimans & Ho 2022, arXiv:2202.00512, eq. 11)."""
    if prediction == "eps":
        return output
    signal, noise = signal_and_noise(schedule, t, x_t)
    return signal * output + noise * x_t


def diffusion_loss(
    network: NetworkFn,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "eps",
    learn_sigma: bool = False,
    bound_weight: float = 1e-3,
) -> dict[str, Tensor]:
    """Hybrid loss L_simple + lambda L_vlb (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 14-16).

    L_vlb is estimated by T times one term in bits/dim with the mean detached, so that only the variance learns from it.

    Args:
        network: outputs 2C channels when ``learn_sigma``, else C.
        x_0: (B, C, H, W) in [-1, 1].
        t: (B,) levels in 1..T.
        eps: as x_0, standard normal.
        bound_weight: lambda.

    Returns:
        Scalars: ``loss``, ``mse`` and, when ``learn_sigma``, ``bound`` (T times the term, bits/dim).
    """
    x_t = schedule.add_noise(x_0, eps, t)
    output = network(x_t, t).float()
    channels = x_0.shape[1]
    mean = output[:, :channels]
    target = eps
    if prediction == "v":
        signal, noise = signal_and_noise(schedule, t, x_0)
        target = signal * eps - noise * x_0
    mse = torch.nn.functional.mse_loss(mean, target)
    if not learn_sigma:
        return {"loss": mse, "mse": mse.detach()}
    predicted = eps_from_output(mean, x_t, t, schedule, prediction).detach()
    bound = schedule.num_levels * bound_term(x_0, x_t, predicted, output[:, channels:], t, schedule).mean()
    return {"loss": mse + bound_weight * bound, "mse": mse.detach(), "bound": bound.detach()}
