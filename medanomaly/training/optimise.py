"""One guarded step of an optimiser: a loss or gradient that is not finite changes nothing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from medanomaly.training.config import TrainingConfig
from medanomaly.training.ranks import average_over_ranks


def guarded_step(loss: Tensor, optimizer: torch.optim.Optimizer, *, rate: float, grad_clip: float) -> dict[str, float]:
    """Differentiate, clip, step; True to its word only if loss and gradient are finite, else nothing is changed.

    Where several processes train, each gives the loss of its share, and all of them take the step of the mean.

    Args:
        loss: scalar with a graph.
        optimizer: its parameters get the gradient.
        rate: learning rate of this step.
        grad_clip: largest global gradient norm; 0 = no clipping.

    Returns:
        ``grad_norm`` before clipping, ``learning_rate``, and ``skipped``: 1 where nothing was changed.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    # The loss travels with the gradients: one process's NaN is everyone's, and all of them skip the step.
    value = loss.detach().to(torch.float32, copy=True)
    average_over_ranks([value, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
    norm = torch.nn.utils.clip_grad_norm_(parameters, grad_clip or float("inf"))
    is_finite = bool(torch.isfinite(value) and torch.isfinite(norm))
    if is_finite:
        optimizer.step()
    else:
        optimizer.zero_grad(set_to_none=True)
    return {"grad_norm": float(norm), "learning_rate": rate, "skipped": 0.0 if is_finite else 1.0}


def adamw(parameters: Iterable[nn.Parameter], training: TrainingConfig) -> torch.optim.AdamW:
    """The optimiser the settings describe."""
    return torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
