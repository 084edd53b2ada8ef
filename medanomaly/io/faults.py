"""The border between the decoding libraries, which raise anything, and us, who raise InputError with a path."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from medanomaly.errors import InputError, MedanomalyError

_CUT_SHORT = (
    "truncated",
    "unexpected end",
    "end of file",
    "end-of-stream",
    "premature",
    "not enough data",
    "could the file be damaged",
)


@contextlib.contextmanager
def library_faults(path: Path, format_name: str, *, quote: bool = True) -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into InputError; our own errors pass unchanged.

    Every ``Exception`` is caught, not a list of types: fuzzed files made the libraries raise SyntaxError, TokenError,
    zlib.error, RecursionError and MemoryError besides the documented ones. Warnings are dropped because what they tell and
    matters is checked by the readers, and because pydicom's quote element values.

    Args:
        path: the file being read.
        format_name: how to call its format in the message.
        quote: False keeps the library's text out of the message (DICOM: it may hold a patient's name); it stays the cause.

    Raises:
        InputError: E_UNREADABLE (the system refused), E_LIMIT (memory), E_TRUNCATED or E_MALFORMED.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MedanomalyError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError):
            message, code, fix = "does not fit in memory", "E_LIMIT", "resample it, or read it on a larger machine"
        elif isinstance(error, OSError) and error.errno is not None:
            message, code, fix = f"cannot be read ({error.strerror})", "E_UNREADABLE", "check its permissions and its disk"
        else:
            detail = " ".join([type(error).__name__, *(str(error).split() if quote else [])])
            cut = isinstance(error, EOFError) or any(sign in str(error).lower() for sign in _CUT_SHORT)
            message = f"{'ends too early' if cut else 'is damaged'}: not readable as {format_name} ({ascii(detail)[1:-1][:200]})"
            code, fix = ("E_TRUNCATED" if cut else "E_MALFORMED"), "copy or export it again"
        raise InputError(message, code=code, path=path, fix=fix) from error
