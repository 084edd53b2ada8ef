"""The moving average of a network's weights: what is validated and released."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

AverageFn = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]
"""(averages, current values, updates so far): changes the averages in place."""


def moving_average(decay: float) -> AverageFn:
    """Exponential moving average whose decay rises as min(decay, (1 + n) / (10 + n)) with the n-th update.

    The ramp forgets the random start: at a constant decay of 0.999, 3 % of it would be left after 3,500 steps.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        count = int(num_averaged)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)

    return update


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of the network that follows it by :func:`moving_average`, buffers too; call ``update_parameters`` after each step."""
    average = AveragedModel(network, multi_avg_fn=moving_average(decay), use_buffers=True)
    average.requires_grad_(False)
    return average


def weights_of(average: AveragedModel) -> dict[str, Tensor]:
    """The averaged weights, copied to the CPU."""
    return {name: value.detach().cpu().clone() for name, value in average.module.state_dict().items()}
