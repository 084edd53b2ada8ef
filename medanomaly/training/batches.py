"""Training batches that depend on (seed, step) alone: a run resumed at step n sees what an uninterrupted one would."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medanomaly.datasets.dataset import ManifestDataset, to_batch
from medanomaly.errors import ConfigError, MedanomalyError
from medanomaly.rng import generator, stable_hash
from medanomaly.training import loading
from medanomaly.training.loading import Collated, SampleSource, deferred, end_processes, explained, watched
from medanomaly.training.preempt import held_back, outlive_first_signal
from medanomaly.types import Batch, Sample, Share

Augment = Callable[[Tensor, int], Tensor]
"""(x (C, H, W) in [-1, 1], seed) -> a varied x of the same shape and range; the same seed varies it alike."""


@dataclass(frozen=True, slots=True)
class Augmented:
    """Samples varied by a draw of (seed, epoch, index): each epoch sees other variants, and every run the same ones."""

    samples: SampleSource
    augment: Augment
    seed: int

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Sample:
        """Sample ``position mod n`` as epoch ``position div n`` sees it."""
        epoch, index = divmod(position, len(self.samples))
        sample = self.samples[index]
        return replace(sample, x=self.augment(sample.x, stable_hash(self.seed, "augment", epoch, index)))


class StepSampler(Sampler[list[int]]):
    """Indices of the batches of steps ``first_step``, ``first_step + 1``, ... : an endless shuffled stream, epoch after epoch.

    With ``by_epoch`` an index counts on through the epochs: ``epoch * num_samples + index``. With ``share`` there are only those rows of
    each batch.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        first_step: int,
        num_steps: int,
        *,
        by_epoch: bool = False,
        share: Share | None = None,
    ) -> None:
        if num_samples < 1:
            raise ConfigError("the training split holds no image", code="E_EMPTY", fix="check the manifest's split column")
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.first_step, self.num_steps = first_step, num_steps
        self.by_epoch = by_epoch
        self.first_row, self.stop_row = (0, batch_size) if share is None else (share.first, share.stop)

    def __iter__(self) -> Iterator[list[int]]:
        orders: dict[int, list[int]] = {}
        for step in range(self.first_step, self.num_steps):
            chosen = []
            for position in range(step * self.batch_size + self.first_row, step * self.batch_size + self.stop_row):
                epoch, offset = divmod(position, self.num_samples)
                if epoch not in orders:
                    drawn = torch.randperm(self.num_samples, generator=generator(self.seed, "epoch", epoch))
                    orders = {key: value for key, value in orders.items() if key >= epoch - 1} | {epoch: drawn.tolist()}
                chosen.append(orders[epoch][offset] + (epoch * self.num_samples if self.by_epoch else 0))
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
    collate: Callable[[Sequence[Sample]], Batch] | None = None,
    augment: Augment | None = None,
    share: Share | None = None,
) -> Iterator[Batch]:
    """Batches for steps first_step .. num_steps - 1, whatever the workers.

    Args:
        samples: what is learned from.
        classes: names of the classes, for the labels.
        batch_size: images a step.
        seed: of order, mirroring and augmentation.
        first_step, num_steps: which steps.
        flip: mirror left-right by a draw of (seed, step).
        num_workers: loading processes.
        collate: makes a batch of samples; None = one class an image, by its label.
        augment: varies an image by a draw of (seed, epoch, index); None = not at all.
        share: rows of each batch that are wanted, where several processes train; None = all.

    Raises:
        InputError: a sample cannot be used, whichever process read it.
        ResourceError: E_WORKER, a loading process ended or hangs; names what it was reading.
    """
    sampler = StepSampler(len(samples), batch_size, seed, first_step, num_steps, by_epoch=augment is not None, share=share)
    source = watched(samples if augment is None else Augmented(samples, augment, seed), num_workers)
    loader = DataLoader(
        cast("Dataset[Any]", source),
        batch_sampler=sampler,
        collate_fn=Collated(partial(to_batch, classes=tuple(classes)) if collate is None else collate),
        num_workers=num_workers,
        generator=generator(seed, "loader"),
        timeout=loading.PATIENCE_S if num_workers else 0,
        worker_init_fn=outlive_first_signal,
    )

    def name(position: int) -> str:
        index = position % len(samples)
        return ascii(str(samples.records[index].image)) if isinstance(samples, ManifestDataset) else f"image {index}"

    with explained(source, name):
        with held_back():
            loaded = iter(loader)
        try:
            for step, batch in enumerate(loaded, start=first_step):
                if isinstance(batch, MedanomalyError):
                    raise batch
                batch = batch if share is None else replace(batch, share=share)
                if flip:
                    mirrored = batch.drawn(partial(torch.rand, generator=generator(seed, "flip", step))) < 0.5
                    batch = replace(batch, x=torch.where(mirrored.view(-1, 1, 1, 1), batch.x.flip(-1), batch.x))
                with deferred(signal.SIGCHLD) if num_workers else contextlib.nullcontext():
                    yield batch
        finally:
            end_processes(loaded)
