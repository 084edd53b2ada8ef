"""The arrays of an npz, looked at before they are read, and read image by image: archives of 12 GB need the memory of one image."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.io.faults import library_faults
from medanomaly.io.limits import ReadLimits, check_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What the header of one array says, and what was found true of it."""

    path: Path
    """The npz."""
    name: str
    """Without ``.npy``."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def npz_members(path: Path, limits: ReadLimits = ReadLimits()) -> dict[str, Member]:
    """Name -> array of an npz; only headers are read, and nothing is ever unpickled.

    Raises:
        InputError: E_MISSING, E_PICKLE, E_DTYPE (no numbers), E_SHAPE (Fortran order), E_LIMIT (an image of it beyond the
            limits), E_TRUNCATED or E_MALFORMED.
    """
    if not path.is_file():
        raise InputError("is not a file", code="E_MISSING", path=path, fix="give an npz")
    members: dict[str, Member] = {}
    with library_faults(path, "npz"), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name in members:
                raise InputError(f"holds {name!a} twice", code="E_MALFORMED", path=path, fix="download it again")
            if entry.filename.endswith(".npy"):
                with archive.open(entry) as stream:
                    members[name] = checked_member(stream, entry.file_size, path, name, limits)
    return members


def checked_member(stream: IO[bytes], num_bytes: int, path: Path, name: str, limits: ReadLimits) -> Member:
    """The member whose header the stream begins with; it must announce exactly the bytes that are there."""
    shape, dtype = plain_header(stream, path, name)
    if len(shape) > 2:
        check_shape(path, shape[1], math.prod(shape[2:]), limits, bytes_per_pixel=dtype.itemsize)
    missing = math.prod(shape) * dtype.itemsize - (num_bytes - stream.tell())
    if missing:
        code, what = ("E_TRUNCATED", "too few") if missing > 0 else ("E_MALFORMED", "too many")
        raise InputError(f"{name!a} has {abs(missing)} bytes {what}", code=code, path=path, fix="download it again")
    return Member(path=path, name=name, shape=shape, dtype=dtype)


def plain_header(stream: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """(shape, type) of an array of numbers in C order."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:  # 3.0 differs only in field names of structured types, which are no pixels
        raise InputError(f"{name!a} has npy version {version}", code="E_DTYPE", path=path, fix="download it again")
    if dtype.hasobject:
        raise InputError(
            f"{name!a} holds Python objects (a pickle), which can run code when loaded, and was not opened",
            code="E_PICKLE",
            path=path,
            fix="download the set from its official page",
        )
    if dtype.kind not in "bui":
        raise InputError(
            f"{name!a} holds {dtype} where whole numbers are needed", code="E_DTYPE", path=path, fix="download it again"
        )
    if is_fortran and len(shape) > 1:
        raise InputError(f"{name!a} is in Fortran order", code="E_SHAPE", path=path, fix="save it in C order")
    return shape, dtype


def whole(member: Member, limits: ReadLimits = ReadLimits()) -> npt.NDArray[Any]:
    """All of a member, for tables such as labels.

    Raises:
        InputError: E_LIMIT, or what damage makes of it.
    """
    count = math.prod(member.shape)
    if count * member.dtype.itemsize > limits.decoded_bytes:
        raise InputError(
            f"{member.name!a} claims {count} values, more than the limit",
            code="E_LIMIT",
            path=member.path,
            fix="download it again",
        )
    rows = list(rows_of_member(member, range(len(member.shape) and member.shape[0])))
    return np.array(rows, member.dtype).reshape(member.shape)


def rows_of_member(member: Member, indices: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """``member[index]`` of each index, which must rise; what lies between is inflated and dropped.

    Raises:
        InputError: E_TRUNCATED or E_MALFORMED where the archive is damaged.
    """
    num_bytes = math.prod(member.shape[1:]) * member.dtype.itemsize
    with zipfile.ZipFile(member.path) as archive, archive.open(f"{member.name}.npy") as stream:
        with library_faults(member.path, "npz"):
            plain_header(stream, member.path, member.name)
        position = 0
        for index in indices:
            with library_faults(member.path, "npz"):
                # Not seek(): a stream that was sought is no longer checked against its sum.
                for _ in range(index - position):
                    stream.read(num_bytes)
                values = stream.read(num_bytes)
            if len(values) < num_bytes:
                raise InputError(f"{member.name!a} ends early", code="E_TRUNCATED", path=member.path, fix="download it again")
            position = index + 1
            yield np.frombuffer(values, member.dtype).reshape(member.shape[1:])
