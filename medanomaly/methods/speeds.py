"""Named speeds of the main method: how many levels a walk visits, and how it gets from one to the next (docs/performance.md)."""

from __future__ import annotations

from typing import Any, Literal, get_args

from medanomaly.errors import ConfigError

Speed = Literal["exact", "fast", "screening"]
"""exact = DDIM over every level up to the noise level; fast = 40 network evaluations an image; screening = 25."""

NUM_STEPS = {"fast": 13, "screening": 8}
"""Steps each way."""


def sampler_of_speed(speed: Speed, noise_level: int) -> dict[str, Any]:
    """Sampler fields of a speed; level, guidance and what else a checkpoint has stay as they are.

    Few steps are spent where the walk bends most (Karras et al. 2022, arXiv:2206.00364, eq. 5), each extrapolates the noise predictor
    from the step before, and the way down is computed as a difference from the way up.

    Args:
        speed: by name.
        noise_level: that the walk goes to.

    Raises:
        ConfigError: E_CONFIG, no such speed.
    """
    if speed not in get_args(Speed):
        raise ConfigError(f"speed must be one of {', '.join(get_args(Speed))}, got {speed!r}", code="E_CONFIG")
    plain = {"guidance_every": 1, "encode_iterations": 0}
    if speed == "exact":
        return plain | {"num_steps": noise_level, "spacing": "uniform", "order": 1, "delta": False}
    return plain | {"num_steps": min(NUM_STEPS[speed], noise_level), "spacing": "karras", "order": 2, "delta": True}
