"""Every random number comes from here: a generator made from a seed and a purpose, never from global state."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

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


@contextlib.contextmanager
def initial_weights(seed: int, purpose: str = "weights") -> Iterator[None]:
    """Inside the block, layers that are made draw their weights from ``seed``; outside, no trace is left.

    PyTorch initialises layers from its global generator only, so that one is seeded, in a fork.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stable_hash(seed, purpose))
        yield


def image_generator(seed: int, purpose: str, image: torch.Tensor) -> torch.Generator:
    """Generator for one image, keyed by its values: the same image gets the same draws whatever else is in its batch."""
    digest = hashlib.blake2b(image.detach().cpu().to(torch.float32).contiguous().numpy().tobytes(), digest_size=16).hexdigest()
    return generator(seed, purpose, digest)
