"""What a normal reading does not see: checksums at the end of a stream, and a header that contradicts itself."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from medanomaly.errors import InputError
from medanomaly.io.faults import library_faults
from medanomaly.io.formats import format_of
from medanomaly.io.limits import ReadLimits, regular_file_size
from medanomaly.io.nifti_geometry import placement_of

_PIECE = 2**20
"""Bytes inflated at a time: the stream is never held as a whole."""


def check_integrity(path: Path, limits: ReadLimits) -> None:
    """Refuse a file that reads well and is wrong all the same.

    A gzipped NIfTI is read to its end, where its checksum is (RFC 1952, section 2.3.1); reading an image stops at the last voxel
    and never sees it. Every NIfTI must place its array in one way (``nifti_geometry``). PNG and npz carry checksums that every
    reading verifies; JPEG, TIFF, DICOM, npy and plain NIfTI carry none: a flipped bit in them cannot be told from the picture.

    Raises:
        InputError: E_CHECKSUM, E_TRUNCATED, E_LIMIT (the stream inflates beyond ``decoded_bytes``), E_GEOMETRY, or what a header
            that cannot be read raises.
    """
    regular_file_size(path, limits)
    format_name = format_of(path)
    if format_name == "NIfTI (gzip)":
        _read_to_end(path, limits)
    if format_name.startswith("NIfTI"):
        placement_of(path)


def _read_to_end(path: Path, limits: ReadLimits) -> None:
    total = 0
    with library_faults(path, "gzip"), gzip.open(path, "rb") as stream:
        try:
            while piece := stream.read(_PIECE):
                total += len(piece)
                if total > limits.decoded_bytes:
                    raise InputError(
                        f"inflates to more than {limits.decoded_bytes} bytes, the limit",
                        code="E_LIMIT",
                        path=path,
                        fix="raise the limit if the file is genuine",
                    )
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                "holds other bytes than were once written: its gzip checksum or stream is broken",
                code="E_CHECKSUM",
                path=path,
                fix="copy it again from its source",
            ) from error
