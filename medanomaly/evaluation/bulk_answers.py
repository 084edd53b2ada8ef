"""A method's answers to a batch, image by image; a batch that is too large for the memory is halved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from medanomaly.errors import InputError
from medanomaly.evaluation.bulk_outputs import Loaded
from medanomaly.evaluation.constant import blank_where_constant
from medanomaly.types import AnomalyMethod, AnomalyResult, WalkObserver


def memory_short(loaded: Loaded) -> InputError:
    """The error of an image that is too large even alone."""
    return InputError("does not fit in memory", code="E_MEMORY", path=loaded.record.image, fix="use a smaller model")


def answered(
    method: AnomalyMethod,
    batch: Sequence[Loaded],
    device: torch.device | str,
    observer: WalkObserver | None,
    *,
    filled_to: int = 0,
) -> Iterator[tuple[Loaded, AnomalyResult | None]]:
    """(image, its result alone); a batch that does not fit in memory is halved, down to single images, which then have None.

    A batch of less than ``filled_to`` images is filled up with its last one: kernels chosen by a batch's size may round differently.
    """
    if not batch:
        return
    result: AnomalyResult | None = None
    try:
        filling = [batch[-1].x] * (filled_to - len(batch))
        x = torch.stack([*(one.x for one in batch), *filling]).to(device)
        result = blank_where_constant(x, method.localize(x, observer))
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise
    # Outside of the handler: the exception would keep the frames, and with them the memory, of the attempt that failed.
    if result is None:
        if len(batch) == 1:
            yield batch[0], None
            return
        half = len(batch) // 2
        yield from answered(method, batch[:half], device, observer)
        yield from answered(method, batch[half:], device, observer)
        return
    for index, one in enumerate(batch):
        twin, spread = result.pseudo_healthy, result.map_std
        yield (
            one,
            AnomalyResult(
                anomaly_map=result.anomaly_map[index : index + 1].cpu(),
                score=result.score[index : index + 1].cpu(),
                pseudo_healthy=None if twin is None else twin[index : index + 1].cpu(),
                map_std=None if spread is None else spread[index : index + 1].cpu(),
            ),
        )


def out_of_memory(error: BaseException) -> bool:
    """Memory errors by type, and by text where PyTorch raises a plain RuntimeError on the CPU."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text or "out of memory" in text
