"""Where a table may point: inside its folder, and nowhere else, unless a person says so."""

from __future__ import annotations

import os
import re
from pathlib import Path

from medanomaly.errors import InputError

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
FOREIGN_ROOT = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def resolve_inside(root: Path, written: str, *, allow_outside: bool = False) -> Path:
    """Absolute path, symbolic links followed, of what a table calls ``written``; the file itself is never opened.

    Args:
        root: folder that relative paths start from and that the result must lie in.
        written: relative or absolute path as the table has it.
        allow_outside: accept a result outside of ``root``.

    Raises:
        InputError: E_TRAVERSAL for an address, another system's drive, or a path that leaves ``root``, by ``..``, by being
            absolute or through a link; E_PATH for a NUL character.
    """
    if "\0" in written:
        raise InputError(f"{written!a} is not a path: it holds a NUL character", code="E_PATH", fix="write the file's path")
    if ADDRESS.match(written):
        raise InputError(f"{written!a} is an address; only files are read", code="E_TRAVERSAL", fix="download it first")
    if os.name != "nt" and FOREIGN_ROOT.match(written):
        raise InputError(
            f"{written!a} is a Windows path",
            code="E_TRAVERSAL",
            fix="write paths relative to the table, with forward slashes",
        )
    fence = Path(os.path.realpath(root))
    resolved = Path(os.path.realpath(fence / written))
    if not allow_outside and not resolved.is_relative_to(fence):
        raise InputError(
            f"{written!a} leaves the data folder {str(fence)!a}",
            code="E_TRAVERSAL",
            fix="move the file inside, or allow outside paths (--allow-outside true)",
        )
    return resolved


def path_below(root: Path, path: Path, *, allow_outside: bool = False) -> str:
    """How a table in ``root`` should write ``path``: relative, with forward slashes; the undo of :func:`resolve_inside`."""
    fence, resolved = os.path.realpath(root), os.path.realpath(path)
    if not allow_outside and not Path(resolved).is_relative_to(fence):
        raise InputError(
            f"lies outside of the data folder {fence!a}",
            code="E_TRAVERSAL",
            fix="write the table nearer to the images, or allow outside paths",
            path=path,
        )
    return Path(os.path.relpath(resolved, fence)).as_posix()
