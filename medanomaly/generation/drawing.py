"""Many images: batches of one label each, every image by a generator of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medanomaly.diffusion.reverse import ReverseFn
from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.generation.config import SamplingConfig
from medanomaly.generation.labels import Label
from medanomaly.generation.sampling import Guide, sample
from medanomaly.rng import generator
from medanomaly.types import WalkObserver

ModelOf = Callable[[Label], tuple[ReverseFn, Guide | None]]
"""The model as it is asked for images of a label, and what guides it there."""
WatchOf = Callable[[Label, Sequence[int]], WalkObserver | None]
"""Who watches the batch of this label and of these images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A batch that is finished."""

    indices: tuple[int, ...]
    """Positions of its images among all."""
    label: Label
    x: Tensor
    """(B, C, S, S) float32 in [-1, 1], on the CPU."""


def draw_images(
    model_of: ModelOf,
    labels: Sequence[Label],
    shape: Sequence[int],
    schedule: NoiseSchedule,
    config: SamplingConfig,
    *,
    seed: int,
    batch_size: int,
    device: torch.device,
    watch: WatchOf = lambda _label, _indices: None,
) -> Iterator[Drawn]:
    """Batches of images, label by label in the order in which they first appear.

    Image i starts from the same noise whatever its label, its batch and the number of images: seeds of one image with two labels
    can be compared.

    Args:
        model_of: the model for a label.
        labels: one an image.
        shape: (C, S, S).
        schedule: the model's.
        config: resolved.
        seed: of all noise; image i is drawn by ``generator(seed, "generate", i)``.
        batch_size: most images at a time.
        device: where the model is.
        watch: asked for an observer before each batch.
    """
    for label in dict.fromkeys(labels):
        own = [index for index, asked in enumerate(labels) if asked == label]
        reverse_fn, guide = model_of(label)
        for start in range(0, len(own), batch_size):
            indices = tuple(own[start : start + batch_size])
            x = sample(
                reverse_fn,
                shape,
                schedule,
                config,
                [generator(seed, "generate", index) for index in indices],
                guide=guide,
                observer=watch(label, indices),
                device=device,
            )
            yield Drawn(indices=indices, label=label, x=x.cpu())
