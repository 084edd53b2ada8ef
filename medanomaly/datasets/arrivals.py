"""Images that arrive in a folder: a file is taken once it has stopped growing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from medanomaly.datasets.walk_files import image_files
from medanomaly.errors import InputError

State = tuple[int, int]
"""Bytes, and time of change in ns."""
_SLICE_S = 0.2


def arrivals(folder: Path, interval_s: float, stop: Callable[[], bool]) -> Iterator[list[Path]]:
    """The images below a folder that were the same at two looks, each state of each file once, until asked to stop.

    A file that is written again is given again. One that is written slower than the looks follow each other is taken too early; what
    reads it will say that it is cut, and once it has grown it is given again.

    Args:
        folder: looked through with its subfolders, as :func:`medanomaly.datasets.walk_files.image_files` does.
        interval_s: seconds between two looks.
        stop: asked at least every 0.2 s while waiting.

    Yields:
        Paths relative to the folder, sorted; never an empty list.
    """
    before: dict[Path, State] = {}
    taken: dict[Path, State] = {}
    while not stop():
        now = look(folder)
        ready = [path for path, state in now.items() if before.get(path) == state != taken.get(path)]
        # Names that are gone are forgotten: one that comes back is new, and the table does not grow for ever.
        before, taken = now, {path: now[path] for path in now if path in ready or taken.get(path) == now[path]}
        if ready:
            yield ready
        until = time.monotonic() + interval_s
        while not stop() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_S))


def look(folder: Path) -> dict[Path, State]:
    """The images there are, sorted, with their state; what vanishes meanwhile is left to the next look."""
    found: dict[Path, State] = {}
    with contextlib.suppress(OSError, InputError):
        for path in image_files(folder):
            with contextlib.suppress(OSError):
                status = (folder / path).stat()
                found[path] = (status.st_size, status.st_mtime_ns)
    return found
