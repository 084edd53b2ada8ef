"""Every random number comes from here: a generator made from a seed and a purpose, never from global state."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def stable_hash(*parts: object) -> int:
    """63-bit integer from the parts' text; the same in every process (unlike Python's salted ``hash``)."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big") >> 1


def generator(seed: int, purpose: str, *key: object, device: str | torch.device = "cpu") -> torch.Generator:
    """Torch generator for one purpose, e.g. ``generator(seed, "train", step)``; equal arguments give equal draws."""
    made = torch.Generator(device=device)
    made.manual_seed(stable_hash(seed, purpose, *key))
    return made


def numpy_generator(seed: int, purpose: str, *key: object) -> np.random.Generator:
    """NumPy's counterpart of :func:`generator`."""
    return np.random.default_rng(stable_hash(seed, purpose, *key))
