"""One training by several processes: torchrun starts them and gives each a rank; here they share a batch and average gradients.

A step's batch is split over the ranks, and every draw is made for the whole batch (:meth:`medanomaly.types.Batch.drawn`), so the
number of processes changes nothing but the order in which numbers are summed. Only rank 0 writes. With one process nothing here does
anything.

Gradients are averaged after the backward pass in buckets of fixed layout, not by PyTorch's DistributedDataParallel wrapper. That one
arranges its buckets anew after its first step, so a continued run may sum in another order than an uninterrupted one; and its
documentation excludes what a gradient penalty needs. What is lost is the overlap of sending with the backward pass.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from medanomaly.errors import CheckpointError, ConfigError, ResourceError
from medanomaly.types import Share

FROM_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that torchrun sets."""
BUCKET_BYTES = 25 * 2**20
"""Gradients sent together; the message of DistributedDataParallel has this size too."""
CONNECT_S = 60.0
"""Longest that processes which have met may take to connect."""
MEET_S = 0.05
"""Between two looks at who is there."""


@contextlib.contextmanager
def joined(environment: Mapping[str, str], device: torch.device, *, timeout_s: float) -> Iterator[None]:
    """Inside the block this process can talk to the others of its job; without a launcher, or with one process, there is nothing to do.

    Args:
        environment: of the process.
        device: where it trains: gloo on the CPU, NCCL on CUDA.
        timeout_s: how long a process waits for another one before the job is given up.

    Raises:
        ConfigError: E_RANKS, the launcher's variables are not all there, or the timeout is not positive.
        ResourceError: E_RANK_LOST, the others did not come. Where the library waits on, the process ends with that error's exit code.
    """
    count = environment.get("WORLD_SIZE", "1")
    if not timeout_s > 0:
        raise ConfigError(f"rank_timeout_s must be positive, got {timeout_s}", code="E_CONFIG")
    if count.strip() in ("", "1"):
        yield
        return
    missing = [name for name in FROM_LAUNCHER if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {count}, and {', '.join(missing)} is not set",
            code="E_RANKS",
            fix="start it with torchrun, or unset it",
        )
    with heard(environment["RANK"]):
        connect(device, datetime.timedelta(seconds=timeout_s))
    yield
    # Not after an error: with a rank that is gone, saying goodbye could wait for it.
    dist.destroy_process_group()


def connect(device: torch.device, patience: datetime.timedelta) -> None:
    """Waits until every process of the job is here, then makes the default group of all.

    The launcher's store outlives a restart (torch 2.13, ``_create_c10d_store``), and the addresses of the processes before with it: read
    too early, they lead nowhere, and the side of gloo that is connected to minds no timeout (github.com/pytorch/gloo/issues/520). So
    those that meet have names of their own in the store (:func:`met`), and what has met must connect soon: a launcher can start again
    what has ended, not what hangs.
    """
    found, rank, count = next(rendezvous("env://", timeout=patience))
    store = PrefixStore(f"medanomaly/{met(found, rank, count, patience)}", found)
    place = {"store": store, "rank": rank, "world_size": count, "timeout": patience}
    with given_up(rank, after_s=CONNECT_S):
        if device.type == "cuda":
            torch.cuda.set_device(device)
            # Small facts about the run travel through gloo, gradients through NCCL.
            dist.init_process_group("cpu:gloo,cuda:nccl", device_id=torch.device(device), **place)
        else:
            dist.init_process_group("gloo", **place)


def met(store: Store, rank: int, count: int, patience: datetime.timedelta) -> str:
    """A name that only the processes which are here now know, the same for all.

    Everybody leaves a word that nobody has used before. Rank 0 puts the words it finds on a list and waits until each process has
    seen its own on it; where a word was left by a process that is no more, its successor replaces it, and the list is made anew.

    Raises:
        RuntimeError: not all came.
    """
    own, until = uuid.uuid4().hex, time.monotonic() + patience.total_seconds()
    words = [f"medanomaly/word/{other}" for other in range(count)]
    store.set(words[rank], own)
    store.wait(words, patience)
    while time.monotonic() < until:
        if rank == 0:
            roster = ",".join(store.get(word).decode() for word in words)
            store.set("medanomaly/roster", roster)
        else:
            store.wait(["medanomaly/roster"], patience)
            roster = store.get("medanomaly/roster").decode()
        name = hashlib.sha256(roster.encode()).hexdigest()[:16]
        if roster.split(",")[rank : rank + 1] == [own]:
            store.set(f"medanomaly/{name}/seen/{rank}", "")
            if store.check([f"medanomaly/{name}/seen/{other}" for other in range(count)]):
                return name
        time.sleep(MEET_S)
    raise RuntimeError(f"not all {count} processes came in {patience.total_seconds():g} s")


@contextlib.contextmanager
def given_up(who: object, *, after_s: float) -> Iterator[None]:
    """Ends the process with the exit code of E_RANK_LOST if the block takes longer."""

    def give_up() -> None:
        print(f"medanomaly train: {lost_ranks(who, f'no connection in {after_s:g} s')}", file=sys.stderr, flush=True)
        os._exit(ResourceError.exit_code)

    timer = threading.Timer(after_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def num_ranks() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """0 .. num_ranks - 1."""
    return dist.get_rank() if num_ranks() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


@contextlib.contextmanager
def heard(who: object | None = None) -> Iterator[None]:
    """A process that no longer hears the others says so, and which one it is.

    Raises:
        ResourceError: E_RANK_LOST.
    """
    try:
        yield
    except RuntimeError as error:
        raise lost_ranks(rank() if who is None else who, " ".join(str(error).split())[:200]) from error


def lost_ranks(who: object, why: str) -> ResourceError:
    """What a process says that no longer hears the others."""
    return ResourceError(
        f"rank {who} lost the other processes of this training ({why})",
        code="E_RANK_LOST",
        fix="look for the rank that ended first; the same command continues from the last saved state",
    )


def share_of(batch_size: int) -> Share | None:
    """The rows of a step's batch that this process computes; None where it is alone.

    Raises:
        ConfigError: E_RANKS, the batch cannot be split evenly: a mean of unequal parts would not be the batch's mean.
    """
    count = num_ranks()
    if count == 1:
        return None
    if batch_size % count:
        nearest = max(1, round(batch_size / count)) * count
        raise ConfigError(
            f"training.batch_size {batch_size} cannot be split evenly over {count} processes",
            code="E_RANKS",
            fix=f"use e.g. --training.batch-size {nearest}",
        )
    part = batch_size // count
    return Share(first=rank() * part, stop=(rank() + 1) * part, total=batch_size)


def average_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor, in place, by its mean over the processes; all must be of one type and on one device."""
    count = num_ranks()
    if count == 1:
        return
    sent = []
    with heard():
        for bucket in buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            sent.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, work in sent:
            work.wait()
            flat /= count
            for tensor, mean in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(mean.view_as(tensor))


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, in groups of at most ``BUCKET_BYTES`` (a larger one goes alone)."""
    group: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if group and size + tensor.nbytes > BUCKET_BYTES:
            yield group
            group, size = [], 0
        group.append(tensor)
        size += tensor.nbytes
    if group:
        yield group


def mean_of(values: Mapping[str, float]) -> dict[str, float]:
    """Mean over the processes of numbers that all of them have under the same names."""
    if num_ranks() == 1:
        return dict(values)
    means = torch.tensor(list(values.values()), dtype=torch.float64)
    average_over_ranks([means])
    return dict(zip(values, means.tolist(), strict=True))


def anyone(flag: bool) -> bool:
    """Whether any process says True: all of them get the same answer, so all of them stop after the same step."""
    if num_ranks() == 1:
        return flag
    raised = torch.tensor([float(flag)])
    with heard():
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised.item())


def refuse_unlike(first_step: int, identity: str) -> None:
    """All processes must train the same, from the same step.

    Raises:
        CheckpointError: E_RANKS, they do not: mostly because the run folder is not one that all machines see.
    """
    if num_ranks() == 1:
        return
    digest = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:7], "big")
    mine = torch.tensor([first_step, digest], dtype=torch.int64)
    everyone = [torch.empty_like(mine) for _ in range(num_ranks())]
    with heard():
        dist.all_gather(everyone, mine)
    if any(not torch.equal(mine, other) for other in everyone):
        steps = ", ".join(str(int(other[0])) for other in everyone)
        same = all(int(other[1]) == digest for other in everyone)
        what = f"start at different steps ({steps})" if same else "were given different settings or data"
        raise CheckpointError(
            f"the processes of this training {what}", code="E_RANKS", fix="use a run folder and data that all machines see"
        )
