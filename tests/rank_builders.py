"""Several training processes without the seconds a launcher takes to start: forks of the test with the variables torchrun would set."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch

PATIENCE_S = 240
"""Longest wait for processes that should take a second; a machine may be busy."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def in_ranks(count: int, act: Callable[[int], int], folder: Path) -> list[int]:
    """Exit codes of ``act(rank)`` in ``count`` processes that can talk to each other; what they print is in ``folder/RANK.txt``.

    A negative code is the signal that ended the process. None of them outlives the call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()

    def child(rank: int) -> None:
        # As in a DataLoader's workers: the threads of the parent are not here.
        torch.set_num_threads(1)
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in names.items()})
        said = os.open(folder / f"{rank}.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        code = act(rank)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=child, args=(rank,)) for rank in range(count)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE_S)
        return [99 if process.exitcode is None else process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
