"""Gradient checkpointing of a U-Net's levels: less memory for more time, the same gradients bit for bit.

MONAI's network has none. Inside :func:`levels_recomputed` each level keeps what goes in and out of it, and computes what lies between
again on the way back (Chen et al. 2016, arXiv:1604.06174): a third more time, for what it saves see docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def levels_recomputed(network: DiffusionModelUNet, generator: torch.Generator | None) -> Iterator[None]:
    """Inside the block the network's down, middle and up levels are checkpointed.

    Their ``forward`` is replaced for that time only, so that copies of the network, its state and its hooks stay what they are.

    Args:
        network: whose levels; called once inside the block.
        generator: that dropout draws from; set back before a level is computed again, so that it draws the same.
    """
    levels: list[nn.Module] = [*network.down_blocks, network.middle_block, *network.up_blocks]
    for level in levels:
        # An attribute of the instance hides the method until it is deleted.
        level.forward = _recomputed(level.forward, generator)
    try:
        yield
    finally:
        for level in levels:
            del level.forward


def _recomputed(forward: Callable[..., Any], generator: torch.Generator | None) -> Callable[..., Any]:
    """A level that is computed again on the way back, with the same draws."""

    def computed(*args: Any, **kwargs: Any) -> Any:
        start = None if generator is None else generator.get_state()
        is_first = True

        def replayed(*args: Any, **kwargs: Any) -> Any:
            nonlocal is_first
            if is_first or generator is None or start is None:
                is_first = False
                return forward(*args, **kwargs)
            now = generator.get_state()
            generator.set_state(start)
            try:
                return forward(*args, **kwargs)
            finally:
                generator.set_state(now)

        return checkpoint(replayed, *args, use_reentrant=False, **kwargs)

    return computed
