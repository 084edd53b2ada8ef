"""How large an input may be, asked of its header before anything is allocated, and which paths may be opened at all."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from medanomaly.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """The most one file may ask for; a header beyond any of them is refused before its pixels are decoded."""

    pixels: int = 64 * 2**20
    """Rows x columns of one image; the default admits 8192 x 8192."""
    decoded_bytes: int = 512 * 2**20
    """Bytes of all the file's frames, slices or members once decoded, and of the file itself."""
    frames: int = 256
    """Frames of a DICOM object, pages of a TIFF, images of an animated PNG."""

    def __post_init__(self) -> None:
        for name in ("pixels", "decoded_bytes", "frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def regular_file_size(path: Path, limits: ReadLimits) -> int:
    """Bytes of a file that is safe to open: it exists, is regular (a FIFO blocks for ever), holds something, is not too large.

    Raises:
        InputError: E_NOT_FOUND, E_UNREADABLE, E_NOT_REGULAR, E_EMPTY or E_LIMIT.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise InputError(
            "does not exist", code="E_NOT_FOUND", path=path, fix="check the path, or what a link points to"
        ) from error
    except (OSError, ValueError) as error:  # a name with a NUL byte is a ValueError
        raise InputError(f"cannot be opened ({error})", code="E_UNREADABLE", path=path, fix="check its permissions") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(
            "is not a regular file", code="E_NOT_REGULAR", path=path, fix="give a file, not a folder, pipe or device"
        )
    if status.st_size == 0:
        raise InputError("is empty (0 bytes)", code="E_EMPTY", path=path, fix="copy or export it again")
    _refuse_beyond(status.st_size, limits.decoded_bytes, "bytes in the file", path)
    return status.st_size


def check_shape(path: Path, rows: int, columns: int, limits: ReadLimits, *, frames: int = 1, bytes_per_pixel: float = 1) -> None:
    """Refuse the shape a header claims when it is not positive or its pixels would pass the limits.

    Args:
        path: the file, for the message.
        rows: of one frame.
        columns: of one frame.
        limits: what may be asked for.
        frames: how many frames, pages or slices would be decoded together.
        bytes_per_pixel: of all samples of a pixel; 0.125 for one bit.

    Raises:
        InputError: E_HEADER (a side below 1) or E_LIMIT.
    """
    if min(rows, columns, frames) < 1:
        raise InputError(
            f"claims {rows} rows x {columns} columns x {frames} frames", code="E_HEADER", path=path, fix="export the file again"
        )
    _refuse_beyond(rows * columns, limits.pixels, f"pixels ({rows} x {columns})", path)
    _refuse_beyond(int(rows * columns * frames * bytes_per_pixel), limits.decoded_bytes, "decoded bytes", path)


def check_frame_count(path: Path, frames: int, limits: ReadLimits) -> None:
    """Refuse a file that claims more frames than the limit (E_LIMIT)."""
    _refuse_beyond(frames, limits.frames, "frames", path)


def _refuse_beyond(asked: int, allowed: int, what: str, path: Path) -> None:
    if asked > allowed:
        raise InputError(
            f"claims {asked} {what}, the limit is {allowed}",
            code="E_LIMIT",
            path=path,
            fix="raise the limit if the file is genuine, or resample it",
        )
