"""Where a command computes."""

from __future__ import annotations

import os

import torch

from medanomaly.errors import ResourceError

REFUSALS = (RuntimeError, AssertionError, ImportError, NotImplementedError)
"""What PyTorch raises for a device it was not built for; which one depends on the device."""


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; anything else must exist. Of several GPUs a process of torchrun gets its own.

    Raises:
        ResourceError: E_DEVICE, the named device is not there.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        number = os.environ.get("LOCAL_RANK", "")
        return torch.device("cuda", int(number)) if number.isdecimal() else torch.device("cuda")
    try:
        device = torch.device(name)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ResourceError("CUDA is not available here", code="E_DEVICE", path=name, fix="use --device cpu")
        # The meta device takes everything and computes nothing: reading a value back tells it from a real one.
        torch.zeros(1, device=device).item()
    except REFUSALS as error:
        raise ResourceError("is not a device of this machine", code="E_DEVICE", path=name, fix="use --device cpu") from error
    return device
