"""Networks whose repeated blocks are compiled (torch.compile): one compilation serves every block of the same shape."""

from __future__ import annotations

import copy
from typing import Literal, TypeVar

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock, SpatialAttentionBlock
from torch import nn

from medanomaly.types import AnomalyMethod

Compile = bool | Literal["auto"]
"""Whether to compile; auto = on a GPU, for jobs of :data:`WORTH_IMAGES` or more."""
WORTH_IMAGES = 256
"""From how many images on ``auto`` compiles: compiling takes minutes, most of them once for a machine (PyTorch keeps a cache)."""
BLOCKS = (DiffusionUNetResnetBlock, SpatialAttentionBlock)
"""What is compiled: nearly all of the work, in few shapes. A whole network took 443 s where its blocks took 102 (docs/performance.md)."""
MAX_SHAPES = 64
"""Shapes of one block that are compiled before PyTorch gives up and runs the rest as it is; its own default is 8."""

Method = TypeVar("Method", bound=AnomalyMethod)
Network = TypeVar("Network", bound=nn.Module)


def num_blocks(method: AnomalyMethod) -> int:
    """How many blocks of the method's networks can be compiled."""
    networks = [value for value in vars(method).values() if isinstance(value, nn.Module)]
    return sum(isinstance(block, BLOCKS) for network in networks for block in network.modules())


def with_compiled_blocks(method: Method, backend: str = "inductor") -> Method:
    """A copy of the method whose networks' blocks are compiled when they first run; the original stays as it was.

    Args:
        method: to copy.
        backend: of torch.compile; "eager" traces the blocks and generates no code.
    """
    made = copy.copy(method)
    for name, value in list(vars(method).items()):
        if isinstance(value, nn.Module):
            setattr(made, name, compile_blocks(copy.deepcopy(value), backend))
    return made


def compile_blocks(network: Network, backend: str = "inductor") -> Network:
    """The network itself, its blocks to be compiled when they first run."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MAX_SHAPES)
    for block in network.modules():
        if isinstance(block, BLOCKS):
            block.compile(backend=backend)
    return network


def compiles(choice: Compile, method: AnomalyMethod, device: torch.device, num_images: int) -> bool:
    """Whether this choice compiles the method for a job of so many images on this device.

    On a CPU ``auto`` never does: there the compiled blocks were no faster (docs/performance.md).
    """
    if isinstance(choice, bool):
        return choice
    return device.type == "cuda" and num_images >= WORTH_IMAGES and num_blocks(method) > 0
