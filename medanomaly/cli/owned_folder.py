"""A run folder belongs to one process at a time, which also removes what a killed one left half written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from medanomaly.errors import MedanomalyError, Preempted
from medanomaly.evaluation.bulk import locked, torn_files
from medanomaly.files import parse_json, write_json
from medanomaly.training.preempt import stopped_at_once

LOCK = ".lock"
"""Of :func:`medanomaly.evaluation.bulk.locked`."""


@contextlib.contextmanager
def stoppable(folder: Path, *, by_this_process: bool = True) -> Iterator[None]:
    """SIGTERM inside the block, where nothing in it listens itself, ends it with exit code 75 and a status.json that says so.

    Raises:
        Preempted: it came.
    """

    def stopped() -> Preempted:
        return Preempted("stopped", code="E_PREEMPTED", path=folder, fix="run the same command again to continue")

    try:
        with stopped_at_once(stopped):
            yield
    except Preempted:
        status = folder / "status.json"
        if by_this_process and status.is_file():
            with contextlib.suppress(OSError, ValueError, TypeError, MedanomalyError):
                write_json(status, parse_json(status.read_bytes()) | {"status": "preempted"})
        raise


@contextlib.contextmanager
def owned(folder: Path, *, by_this_process: bool = True) -> Iterator[None]:
    """Inside the block no other command writes into the folder; without ``by_this_process`` (another rank's folder) nothing is done.

    Raises:
        ResourceError: E_LOCKED, with the pid of the owner; E_OUTPUT.
    """
    if not by_this_process:
        yield
        return
    was_there = folder.exists()
    try:
        with locked(folder):
            for torn in torn_files(folder):
                torn.unlink()
            yield
    finally:
        # A command that was refused before it wrote anything leaves nothing.
        if not was_there and folder.is_dir() and [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()
