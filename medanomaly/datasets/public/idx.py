"""IDX, the format of MNIST: a magic number, the dimensions, then bytes, plain or gzipped.

Source: LeCun, Cortes, Burges, The MNIST database of handwritten digits, "File formats". Magic = two zero bytes, the type
(8 = unsigned byte), the number of dimensions; then each dimension as a big-endian 32-bit integer, then the values, last
dimension fastest.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.io.faults import library_faults
from medanomaly.io.limits import ReadLimits, regular_file_size

UNSIGNED_BYTE = 8
GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path, num_dimensions: int, limits: ReadLimits = ReadLimits()) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes; gzip is told by content.

    The header is believed only as far as ``limits.decoded_bytes`` and the bytes that are there: no more is ever unpacked than
    the header announces, so a small file cannot fill the memory.

    Args:
        path: the file.
        num_dimensions: 3 for images (N, rows, columns), 1 for labels (N,).
        limits: the most it may hold.

    Raises:
        InputError: E_FORMAT (not IDX, another type, other dimensions), E_HEADER (a dimension of 0), E_LIMIT, E_TRUNCATED,
            E_MALFORMED, or what makes a file unsafe to open.
    """
    regular_file_size(path, limits)
    with path.open("rb") as probe:
        is_gzipped = probe.read(2) == GZIP_MAGIC
    with library_faults(path, "IDX"), gzip.open(path, "rb") if is_gzipped else path.open("rb") as opened:
        stream = cast(IO[bytes], opened)
        shape = read_header(stream, num_dimensions, path)
        count = math.prod(shape)
        if count > limits.decoded_bytes:
            raise InputError(
                f"claims {count} bytes, the limit is {limits.decoded_bytes}", code="E_LIMIT", path=path, fix="download it again"
            )
        # One byte more than announced shows whether something follows; reading to the end also checks gzip's sum.
        values = stream.read(count + 1)
    if len(values) < count:
        missing = count - len(values)
        raise InputError(f"ends {missing} bytes too early", code="E_TRUNCATED", path=path, fix="download it again")
    if len(values) > count:
        raise InputError("goes on after its last value", code="E_MALFORMED", path=path, fix="download it again")
    return np.frombuffer(values, np.uint8).reshape(shape)


def read_header(stream: IO[bytes], num_dimensions: int, path: Path) -> tuple[int, ...]:
    """The dimensions, each at least 1."""
    header = stream.read(4 + 4 * num_dimensions)
    wanted = bytes([0, 0, UNSIGNED_BYTE, num_dimensions])
    if header[:4] != wanted:
        raise InputError(
            f"begins with {header[:4].hex() or 'nothing'} where {wanted.hex()} is needed: not IDX with {num_dimensions} dimensions",
            code="E_FORMAT",
            path=path,
            fix="download it again; images and labels must not be exchanged",
        )
    if len(header) < 4 + 4 * num_dimensions:
        raise InputError("ends within its header", code="E_TRUNCATED", path=path, fix="download it again")
    shape = struct.unpack(f">{num_dimensions}I", header[4:])
    if 0 in shape:
        raise InputError(f"claims the dimensions {shape}", code="E_HEADER", path=path, fix="download it again")
    return shape
