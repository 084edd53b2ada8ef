"""Errors a user can act on: each names the file or key, what is wrong, and what to do; each knows its exit code.

Exit codes: 0 all good, 1 internal error, 2 usage or configuration, 3 finished but some items failed, 4 no usable input or
data check failed, 5 checkpoint refused, 6 resources (disk, memory, device), 75 preempted and saved: run again to continue,
141 the reader of the output left (as a shell says of SIGPIPE).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_SOME_FAILED = 3
EXIT_PREEMPTED = 75
EXIT_READER_LEFT = 141


class MedanomalyError(ValueError):
    """Base of all errors meant for a person.

    Args:
        message: what is wrong, one sentence without a full stop.
        code: reason code such as ``E_TRUNCATED``, stable across versions.
        fix: what to do, one imperative sentence without a full stop; may be empty.
        path: the file or key concerned; None where the message names it.
    """

    exit_code = EXIT_INTERNAL

    def __init__(self, message: str, *, code: str, fix: str = "", path: str | Path | None = None) -> None:
        self.message, self.code, self.fix, self.path = message, code, fix, path
        where = f"{ascii(str(path))[1:-1]}: " if path is not None else ""
        advice = f"; {fix}" if fix else ""
        super().__init__(f"{where}{message} [{code}]{advice}")

    def __reduce__(self) -> tuple[Any, ...]:
        """From its parts, so that it can come from another process."""
        return partial(type(self), code=self.code, fix=self.fix, path=self.path), (self.message,)


class ConfigError(MedanomalyError):
    """A setting that cannot be: exit code 2."""

    exit_code = 2


class InputError(MedanomalyError):
    """An image, mask, table or folder that cannot be used: exit code 4 when nothing else is left to do."""

    exit_code = 4


class CheckpointError(MedanomalyError):
    """A checkpoint that is refused: exit code 5."""

    exit_code = 5


class ResourceError(MedanomalyError):
    """Disk, memory, device or lock: exit code 6."""

    exit_code = 6


class Preempted(MedanomalyError):
    """Stopped by a signal after saving: exit code 75, run the same command again."""

    exit_code = EXIT_PREEMPTED
