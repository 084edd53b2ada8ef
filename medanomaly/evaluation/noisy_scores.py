"""What a classifier says of images at several noise levels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError
from medanomaly.rng import image_generator

ScoresFn = Callable[[Tensor, int], Tensor]
"""(x_t (N, C, S, S), level 0..T) -> (N, classes) before softmax or sigmoid."""
Probabilities = npt.NDArray[np.float64]
"""(n, classes), 0..1."""


def levels_at(percents: Sequence[float], num_levels: int) -> list[int]:
    """Levels at these shares of the schedule, 0 = clean.

    Raises:
        ConfigError: E_CONFIG, none, a share outside of 0..100, or two that mean the same level.
    """
    if not percents or not all(0 <= percent <= 100 for percent in percents):
        raise ConfigError(f"noise levels must be percents of the schedule, 0..100, got {list(percents)}", code="E_CONFIG")
    levels = [round(percent / 100 * num_levels) for percent in percents]
    if len(set(levels)) != len(levels):
        raise ConfigError(
            f"two of the percents {list(percents)} mean the same of {num_levels} levels", code="E_CONFIG", fix="leave one out"
        )
    return levels


@torch.inference_mode()
def noisy_probabilities(
    scores: ScoresFn,
    images: Iterable[Tensor],
    levels: Sequence[int],
    schedule: NoiseSchedule,
    *,
    multi_label: bool,
    seed: int,
    batch_size: int,
    device: torch.device,
) -> list[Probabilities]:
    """(n, classes) probabilities at each level; an image's noise is keyed by its own values, so no batch changes it.

    Args:
        scores: the classifier.
        images: (C, S, S) in [-1, 1] each.
        levels: 0..T; 0 adds no noise.
        schedule: of the classifier.
        multi_label: a sigmoid for each class instead of the softmax.
        seed: of the noise.
        batch_size: images a forward pass.
        device: where the classifier is.
    """
    found: list[list[Tensor]] = [[] for _ in levels]

    def ask(batch: Sequence[Tensor]) -> None:
        x_0 = torch.stack(list(batch)).to(device)
        for level, answers in zip(levels, found, strict=True):
            # Drawn on the CPU: the same numbers on any device.
            noise = [torch.randn(x.shape, generator=image_generator(seed, f"classifier level {level}", x)) for x in batch]
            t = torch.full((len(x_0),), level, dtype=torch.int64, device=device)
            x_t = schedule.add_noise(x_0, torch.stack(noise).to(device), t) if level else x_0
            # Float64: probabilities near 1 would be ties otherwise.
            said = scores(x_t, level).double().cpu()
            answers.append(said.sigmoid() if multi_label else said.softmax(dim=1))

    waiting: list[Tensor] = []
    for x in images:
        waiting.append(x)
        if len(waiting) == batch_size:
            ask(waiting)
            waiting = []
    if waiting:
        ask(waiting)
    return [torch.cat(answers).numpy() for answers in found]
