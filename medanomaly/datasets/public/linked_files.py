"""Files of a data set that may be linked: parts on another disk, files in an annex, and no link to anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

from medanomaly.errors import InputError


def fence_of(root: Path, folder: Path) -> Path:
    """What files of ``folder`` must lie in: the data set, or the folder itself where it is a link to another disk."""
    whole, part = Path(os.path.realpath(root)), Path(os.path.realpath(folder))
    return whole if part.is_relative_to(whole) else part


def inside(fence: Path, path: Path) -> Path:
    """``path`` with links followed.

    Raises:
        InputError: E_TRAVERSAL, it leads out of ``fence``.
    """
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(fence):
        raise InputError("links to a file outside of the data set", code="E_TRAVERSAL", fix="copy the file", path=path)
    return real
