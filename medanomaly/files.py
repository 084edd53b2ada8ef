"""Files appear whole or not at all, under names that cannot collide or leave their folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from medanomaly.errors import ResourceError

DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""What the system says where a file cannot grow."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Binary file that replaces ``path`` only when the block ends without an error (temp file, fsync, rename).

    Raises:
        ResourceError: the disk is full, the folder cannot be written, or ``path`` is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise ResourceError("is not a regular file", code="E_NOT_REGULAR", path=path, fix="choose another output path")
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise ResourceError("the disk is full", code="E_DISK_FULL", path=path, fix="free space and run again") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EPERM, errno.EEXIST):
            raise ResourceError(
                f"cannot be written ({error.strerror})", code="E_OUTPUT", path=path, fix="choose another output folder"
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None


def write_json(path: Path, content: Any) -> None:
    """Indented, valid JSON, written whole; NaN and infinity become null."""
    with atomic_write(path) as stream:
        stream.write((json.dumps(finite(content), indent=2, allow_nan=False) + "\n").encode())


def parse_json(text: str | bytes) -> Any:
    """JSON content; also what is nested beyond the stack is a ValueError, as everything else is that is no JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deep") from error


def finite(content: Any) -> Any:
    """The same structure with every NaN or infinite float replaced by None, for JSON."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {str(key): finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return content


def safe_name(identifier: str) -> str:
    """File name for an id: readable, unique (a hash of the whole id follows), no separators, at most 89 characters."""
    digest = hashlib.blake2b(identifier.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", identifier).strip("_")[-80:]
    return f"{readable}-{digest}" if readable else digest


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
