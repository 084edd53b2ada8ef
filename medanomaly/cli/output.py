"""Where a command may write, asked before it computes for an hour."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from medanomaly.errors import ConfigError, ResourceError


def make_folder(folder: Path) -> None:
    """Make the output folder now: a path that cannot be one must not show after the work is done.

    Raises:
        ResourceError: E_OUTPUT, e.g. below a regular file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"cannot be made ({error.strerror})", code="E_OUTPUT", path=folder, fix="choose another output folder"
        ) from error


def refuse_unwritable(folder: Path) -> None:
    """Ask, before weights are read, whether the output folder could be made and written; nothing is made yet.

    Raises:
        ResourceError: E_OUTPUT, it lies below a file, or may not be written; E_DISK_FULL, there is no space left.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:  # e.g. a name that is too long for any file system
        raise ResourceError(
            f"cannot be made ({error.strerror})", code="E_OUTPUT", path=folder, fix="choose another output folder"
        ) from error
    fault = "" if there.is_dir() else "is below a file" if there != folder else "is a file"
    fault = fault or ("" if os.access(there, os.W_OK | os.X_OK) else "may not be written")
    if fault:
        raise ResourceError(fault, code="E_OUTPUT", path=folder, fix="choose another output folder")
    if shutil.disk_usage(there).free == 0:
        raise ResourceError("the disk is full", code="E_DISK_FULL", path=folder, fix="free space and run again")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Nothing is written over an earlier result unless a person says so.

    Raises:
        ConfigError: E_EXISTS, ``path`` is there and ``overwrite`` is off.
    """
    if path.exists() and not overwrite:
        raise ConfigError("exists already", code="E_EXISTS", path=path, fix="name another place, or use --overwrite true")
