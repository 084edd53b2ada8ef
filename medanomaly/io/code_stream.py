"""The size that a JPEG-LS code stream gives itself, read before a decoder allocates for it; Pillow reads those of JPEG and JPEG 2000."""

from __future__ import annotations

import struct

_START_OF_IMAGE, _START_OF_SCAN, _FRAME_HEADER = 0xFFD8, 0xFFDA, 0xFFF7
"""Markers of ITU-T T.87, annex C; the frame header of JPEG-LS is SOF55."""


def jpeg_ls_size(code_stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) of the frame header; None where there is none before the first scan, so that it is no JPEG-LS."""
    if code_stream[:2] != _START_OF_IMAGE.to_bytes(2, "big"):
        return None
    at = 2
    while at + 4 <= len(code_stream):
        marker, length = struct.unpack_from(">HH", code_stream, at)
        if marker == _FRAME_HEADER and at + 9 <= len(code_stream):
            rows, columns = struct.unpack_from(">HH", code_stream, at + 5)
            return int(rows), int(columns)
        if marker == _START_OF_SCAN or marker < 0xFF00 or length < 2:
            return None
        at += 2 + length
    return None
