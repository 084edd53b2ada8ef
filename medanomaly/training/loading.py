"""Loading processes that tell their owner what went wrong: which file cannot be used, and which one was open when a process ended."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from medanomaly.errors import MedanomalyError, ResourceError
from medanomaly.types import Batch, Sample

PATIENCE_S = 300
"""How long a batch of a loading process is waited for."""
NOTHING = -1


class SampleSource(Protocol):
    """A sized, indexable collection of samples, such as a ManifestDataset."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """One sample."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Samples of which an unusable one is returned as its error, and the one being read is written down where the owner sees it."""

    samples: SampleSource
    reading: Tensor
    """(processes,) int64 in shared memory: the position that each one is at."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Sample | MedanomalyError:
        """The sample, or why there is none: PyTorch would send an exception as the text of its traceback."""
        process = get_worker_info()
        if process is not None:
            self.reading[process.id] = position
        try:
            return self.samples[position]
        except MedanomalyError as error:
            return error
        finally:
            if process is not None:
                self.reading[process.id] = NOTHING


def watched(samples: SampleSource, num_workers: int) -> Watched:
    """The samples, watched in so many processes."""
    reading = torch.full((num_workers,), NOTHING).share_memory_()  # type: ignore[no-untyped-call]
    return Watched(samples, reading)


@dataclass(frozen=True, slots=True)
class Collated:
    """A batch of what :class:`Watched` gives, or the first error among it."""

    collate: Callable[[Sequence[Sample]], Batch]

    def __call__(self, found: Sequence[Sample | MedanomalyError]) -> Batch | MedanomalyError:
        """One or the other."""
        samples = []
        for one in found:
            if isinstance(one, MedanomalyError):
                return one
            samples.append(one)
        try:
            return self.collate(samples)
        except MedanomalyError as error:
            return error


@contextlib.contextmanager
def explained(source: Watched, name: Callable[[int], str]) -> Iterator[None]:
    """PyTorch's words on a loading process that ended or hangs, with the images that were being read.

    Such a process is not replaced: an image that ends a process would end the training itself, if that read it.

    Args:
        source: what the processes read.
        name: of the image at a position.

    Raises:
        ResourceError: E_WORKER.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
        # What a process raised begins with "Caught"; a batch that one could not hand over any more is a broken connection.
        if str(error).startswith("Caught ") or not (len(source.reading) and told(error)):
            raise
        names = ", ".join(name(position) for position in source.reading.tolist() if position != NOTHING)
        what = f"gave no batch for {PATIENCE_S} s" if "timed out" in str(error) else "ended"
        raise ResourceError(
            f"a loading process {what}; being read: {names or 'nothing'} ({' '.join(str(error).split())[:200]})",
            code="E_WORKER",
            fix="look at these images, at memory and at shared memory; the same command continues from the last saved state, "
            "with --training.num-workers 0 without such processes",
        ) from error


def told(error: Exception) -> bool:
    """Whether an error speaks of a loading process."""
    return "DataLoader" in str(error) or not isinstance(error, RuntimeError)


@contextlib.contextmanager
def deferred(number: signal.Signals) -> Iterator[None]:
    """A signal that comes inside the block is handled after it, by the Python handler of before, where there is one.

    PyTorch raises its error on the end of a loading process wherever the main thread is, such as in the middle of a step.
    """
    handler = signal.getsignal(number)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came = False

    def remember(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True

    signal.signal(number, remember)
    try:
        yield
    finally:
        signal.signal(number, handler)
    if came:
        handler(number, None)


def end_processes(loaded: Any) -> None:
    """Now, not when the iterator is forgotten: until then PyTorch may tell of a dead one wherever the main thread is by then."""
    end = getattr(loaded, "_shutdown_workers", None)
    if end is not None:
        with deferred(signal.SIGCHLD):
            end()
