"""Where a command computes."""

from __future__ import annotations

import torch

from medanomaly.errors import ResourceError


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; anything else must exist.

    Raises:
        ResourceError: E_DEVICE, the named device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ResourceError("CUDA is not available here", code="E_DEVICE", path=name, fix="use --device cpu")
        torch.empty(1, device=device)
    except RuntimeError as error:
        raise ResourceError("is not a device of this machine", code="E_DEVICE", path=name, fix="use --device cpu") from error
    return device
