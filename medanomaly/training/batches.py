"""Training batches that depend on (seed, step) alone: a run resumed at step n sees what an uninterrupted one would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol, cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from medanomaly.datasets.dataset import to_batch
from medanomaly.errors import ConfigError
from medanomaly.rng import generator
from medanomaly.types import Batch, Sample


class SampleSource(Protocol):
    """A sized, indexable collection of samples, such as a ManifestDataset."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """One sample."""


class StepSampler(Sampler[list[int]]):
    """Indices of the batches of steps ``first_step``, ``first_step + 1``, ... : an endless shuffled stream, epoch after epoch."""

    def __init__(self, num_samples: int, batch_size: int, seed: int, first_step: int, num_steps: int) -> None:
        if num_samples < 1:
            raise ConfigError("the training split holds no image", code="E_EMPTY", fix="check the manifest's split column")
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.first_step, self.num_steps = first_step, num_steps

    def __iter__(self) -> Iterator[list[int]]:
        orders: dict[int, list[int]] = {}
        for step in range(self.first_step, self.num_steps):
            chosen = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                epoch, offset = divmod(position, self.num_samples)
                if epoch not in orders:
                    drawn = torch.randperm(self.num_samples, generator=generator(self.seed, "epoch", epoch))
                    orders = {key: value for key, value in orders.items() if key >= epoch - 1} | {epoch: drawn.tolist()}
                chosen.append(orders[epoch][offset])
            yield chosen

    def __len__(self) -> int:
        return self.num_steps - self.first_step


def training_batches(
    samples: SampleSource,
    classes: Sequence[str],
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    num_steps: int,
    flip: bool,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Batches for steps first_step .. num_steps - 1; mirrored left-right by a draw of (seed, step), whatever the workers."""
    sampler = StepSampler(len(samples), batch_size, seed, first_step, num_steps)
    loader = DataLoader(
        cast("Dataset[Sample]", samples),
        batch_sampler=sampler,
        collate_fn=partial(to_batch, classes=tuple(classes)),
        num_workers=num_workers,
        generator=generator(seed, "loader"),
        timeout=300 if num_workers else 0,
    )
    for step, batch in enumerate(loader, start=first_step):
        if flip:
            mirrored = torch.rand(len(batch.x), generator=generator(seed, "flip", step)) < 0.5
            batch = Batch(x=torch.where(mirrored.view(-1, 1, 1, 1), batch.x.flip(-1), batch.x), label=batch.label)
        yield batch
