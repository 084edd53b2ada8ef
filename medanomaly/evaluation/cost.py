"""What an answer costs: parameters, and how often a method asks its networks for one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medanomaly.types import AnomalyMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Size and work of a method."""

    parameters: int
    """Of all its networks."""
    evaluations: int
    """Forward passes of whole networks for one image."""


def networks_of(method: AnomalyMethod) -> list[nn.Module]:
    """The networks a method holds as attributes, each once, in order."""
    found = [value for value in vars(method).values() if isinstance(value, nn.Module)] if hasattr(method, "__dict__") else []
    return list({id(network): network for network in found}.values())


def cost(method: AnomalyMethod, x: Tensor) -> Cost:
    """Measured while ``x`` (1, C, H, W) is localized: forward passes are counted, not derived from settings.

    A pass over a batch of n is n evaluations, so conditional and unconditional predictions asked together count twice.
    """
    if x.ndim != 4 or len(x) != 1:
        raise ValueError(f"x must be one image (1, C, H, W), got {tuple(x.shape)}; give x[:1]")
    networks = networks_of(method)
    count = 0

    def counted(_network: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        nonlocal count
        count += next(len(value) for value in inputs if isinstance(value, torch.Tensor))

    hooks = [network.register_forward_hook(counted) for network in networks]
    try:
        method.localize(x)
    finally:
        for hook in hooks:
            hook.remove()
    return Cost(parameters=sum(p.numel() for network in networks for p in network.parameters()), evaluations=count)
