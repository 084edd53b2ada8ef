"""Pictures taken out of a container (IDX, HDF5, npz) or made from larger ones, each written as a PNG of its own."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medanomaly.datasets.public.listing import Progress, continue_or_empty, silent
from medanomaly.errors import ResourceError

Pixels = npt.NDArray[np.uint8]
"""(H, W) gray or (H, W, 3) RGB."""
ReadPictures = Callable[[Sequence[int]], Iterator[Pixels | None]]
"""Indices in rising order -> the picture of each in that order; None = this one cannot be made."""

LAST_CHUNK = b"\0\0\0\0IEND\xaeB`\x82"
"""The 12 bytes that end every PNG (W3C PNG, section 11.2.5)."""


def picture_folder(folder: Path, name: str) -> Path:
    """Where the pictures of the set ``name`` lie beside a manifest in ``folder``; links followed, as manifests do."""
    return Path(os.path.realpath(folder)) / "images" / name


def write_pictures(
    folder: Path,
    names: Sequence[str],
    read: ReadPictures,
    settings: Mapping[str, Any],
    progress: Progress[Any] = silent,
    text: str = "writing images",
) -> set[str]:
    """Write ``folder/NAME.png`` for each name; pictures that an earlier run with the same settings finished stay as they are.

    A picture appears whole or not at all (temporary file, rename). It is not synced to the disk: for pictures of 28 px syncing
    costs nine tenths of the time. What a power failure can leave, a file without its end, is recognised and written again.

    Args:
        folder: of :func:`picture_folder`; PNGs in it that other settings made are removed.
        names: without suffix, may hold ``/``; made by us, never text of a table.
        read: called at most once, with the indices in ``names`` that have to be written; turns the source's OSErrors into InputErrors.
        settings: everything the pixels depend on, with the source's fingerprint.
        progress: shown over the pictures to be written.
        text: what it says.

    Returns:
        The names of which ``read`` gave None.

    Raises:
        ResourceError: E_DISK_FULL or E_OUTPUT.
    """
    try:
        continue_or_empty(folder, settings)
        todo = [index for index, name in enumerate(names) if not is_finished(folder / f"{name}.png")]
        failed: set[str] = set()
        if not todo:
            return failed
        for index, pixels in zip(progress(todo, text), read(todo), strict=True):
            if pixels is None:
                failed.add(names[index])
            else:
                write_unsynced(folder / f"{names[index]}.png", pixels)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        raise ResourceError(
            "the disk is full" if is_full else f"images cannot be written ({error.strerror or error})",
            code="E_DISK_FULL" if is_full else "E_OUTPUT",
            path=folder,
            fix="free space and run again" if is_full else "choose another folder for the manifest",
        ) from error
    return failed


def is_finished(path: Path) -> bool:
    """Whether a file is there and ends as a PNG does."""
    try:
        with path.open("rb") as stream:
            stream.seek(-len(LAST_CHUNK), os.SEEK_END)
            return stream.read() == LAST_CHUNK
    except OSError:  # not there, or shorter than that chunk
        return False


def write_unsynced(path: Path, pixels: Pixels) -> None:
    """A lossless PNG of exactly these values, whole or not at all, left to the system to bring to the disk."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def file_identity(path: Path) -> dict[str, Any]:
    """What tells a container from a later download of it, without reading gigabytes: name, bytes and time of change."""
    status = path.stat()
    return {"name": path.name, "num_bytes": status.st_size, "changed_ns": status.st_mtime_ns}
