"""How a network is optimised: the settings every recipe shares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from medanomaly.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Length, batch, optimiser and bookkeeping of a training run."""

    num_steps: int = 6000
    """Optimiser steps."""
    batch_size: int = 16
    """Images a step."""
    learning_rate: float = 3e-4
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    warmup_steps: int = 200
    """Steps of linear warm-up."""
    decay: Literal["cosine", "linear", "none"] = "cosine"
    """How the learning rate falls to 0 after the warm-up."""
    ema_decay: float = 0.999
    """Decay of the weights' moving average, the weights that are released."""
    grad_clip: float = 1.0
    """Largest global gradient norm; 0 = no clipping."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 = autocast in the forward pass; weights, optimiser and loss stay float32."""
    gradient_checkpointing: bool = False
    """Keep the ends of each level of the network and compute the rest again on the way back: less memory, more time, equal weights."""
    flip: bool = True
    """Mirror images left-right with probability one half."""
    seed: int = 0
    """Of everything drawn during training."""
    num_workers: int = 0
    """Loader processes; the result does not depend on it."""
    log_every: int = 20
    """Steps between lines of log.jsonl."""
    validate_every: int = 500
    """Steps between validation losses."""
    save_every: int = 500
    """Steps between saved training states."""
    max_skipped: int = 10
    """Steps with a non-finite loss or gradient that are skipped before the run stops."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "log_every", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name} must be at least 1, got {getattr(self, name)}", code="E_CONFIG")
        for name in ("num_workers", "warmup_steps", "max_skipped"):
            if getattr(self, name) < 0:
                raise ConfigError(f"training.{name} must not be negative, got {getattr(self, name)}", code="E_CONFIG")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"training.learning_rate must be positive, got {self.learning_rate}", code="E_CONFIG")
        for name in ("weight_decay", "grad_clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"training.{name} must be finite and not negative, got {getattr(self, name)}", code="E_CONFIG")
        for name, known in (("decay", ("cosine", "linear", "none")), ("precision", ("fp32", "bf16"))):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"training.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}", code="E_CONFIG"
                )
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"training.ema_decay must be in [0, 1), got {self.ema_decay}", code="E_CONFIG")


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Learning rate of step 0, 1, ...: linear warm-up, then cosine or linear decay to 0 at ``num_steps``."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.num_steps - config.warmup_steps)
    if config.decay == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))
    if config.decay == "linear":
        return config.learning_rate * max(0.0, 1 - progress)
    return config.learning_rate
