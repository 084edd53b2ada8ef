"""Where a command may write, asked before it computes for an hour."""

from __future__ import annotations

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


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Nothing is written over an earlier result unless a person says so.

    Raises:
        ConfigError: E_EXISTS, ``path`` is there and ``overwrite`` is off.
    """
    if path.exists() and not overwrite:
        raise ConfigError("exists already", code="E_EXISTS", path=path, fix="name another place, or use --overwrite true")
