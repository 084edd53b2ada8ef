"""A run small enough to do several times in a test: a tiny network on 16 x 16 noise, every number logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from toys import TINY, samples, tiny_config

from medanomaly.checkpoint import load_train_state
from medanomaly.methods.cfg_diffusion import CfgDiffusionRecipe
from medanomaly.training.batches import training_batches
from medanomaly.training.config import TrainingConfig
from medanomaly.training.loop import fit
from medanomaly.types import Batch, Observer

CONFIG = TrainingConfig(
    num_steps=8,
    batch_size=4,
    learning_rate=1e-3,
    warmup_steps=2,
    ema_decay=0.9,
    log_every=1,
    validate_every=4,
    save_every=100,
    max_skipped=2,
)
"""Eleven images in batches of four: epochs end inside batches."""
VALIDATION = (Batch(x=torch.linspace(-1, 1, 512).reshape(2, 1, 16, 16), label=torch.tensor([0, 1])),)


def make_recipe(config: TrainingConfig, dropout: float = 0.0) -> CfgDiffusionRecipe:
    return tiny_config(network=replace(TINY, dropout=dropout)).recipe(
        image_channels=1, training=config, device=torch.device("cpu")
    )


def batches_of(config: TrainingConfig) -> Callable[[int], Iterator[Batch]]:
    """First step -> batches, as the train command makes them."""

    def batches(first_step: int) -> Iterator[Batch]:
        return training_batches(
            samples(11),
            ("healthy", "diseased"),
            batch_size=config.batch_size,
            seed=config.seed,
            first_step=first_step,
            num_steps=config.num_steps,
            flip=config.flip,
            num_workers=config.num_workers,
        )

    return batches


def run(
    run_dir: Path,
    config: TrainingConfig = CONFIG,
    *,
    dropout: float = 0.0,
    identity: str = "this run",
    observers: tuple[Observer, ...] = (),
) -> CfgDiffusionRecipe:
    """Train in a folder, or continue there, with a recipe made anew as a new process would."""
    recipe = make_recipe(config, dropout)
    fit(recipe, batches_of(config), config, run_dir, identity=identity, validation=VALIDATION, observers=observers)
    return recipe


def saved(run_dir: Path) -> dict[str, Any]:
    return load_train_state(run_dir / "train_state.pt")


def differences(one: Any, other: Any, where: str = "state") -> list[str]:
    """Places where two training states are not equal bit for bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return [] if torch.equal(one, other) and one.dtype == other.dtype else [where]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in differences(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [found for n, (a, b) in enumerate(zip(one, other, strict=True)) for found in differences(a, b, f"{where}.{n}")]
    return [] if type(one) is type(other) and one == other else [where]


class At:
    """Observer that does something when a step has been logged."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self.step, self.act = step, act

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Acts at the one step."""
        if step == self.step:
            self.act()

    def images(self, name: str, step: int, x: Tensor) -> None:
        """Nothing."""
