"""Images and masks saved by numpy: ``.npy``, and ``.npz`` that holds exactly one array. Never a pickle."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.io.channels import to_channels
from medanomaly.io.faults import library_faults
from medanomaly.io.limits import check_shape
from medanomaly.io.options import ReadOptions
from medanomaly.types import RawImage

_RANGE_OF_DTYPE = {"bool": (0.0, 1.0), "uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}


def read_array(path: Path, options: ReadOptions) -> RawImage:
    """Image from an array of shape (H, W) or (C, H, W), rows first; other layouts are refused, not guessed.

    C is what ``options.channels`` asks for: 1 gray, 3 red, green, blue, another number as many planes, e.g. MRI sequences.

    ``value_range`` is that of the type for bool, uint8 and uint16, and unknown for other numbers. Float64 becomes float32.

    Raises:
        InputError: E_PICKLE, E_LIMIT, E_TRUNCATED, E_SHAPE, E_DTYPE, E_COLOR, E_CHANNELS or E_MALFORMED.
    """
    with library_faults(path, "a numpy array"):
        array = _from_npz(path, options) if path.suffix.lower() == ".npz" else _from_npy(path, options)
        # A float64 beyond float32 becomes infinite here and is then counted as non-finite.
        with np.errstate(over="ignore"):
            planes = array.astype(np.float32).reshape(-1, *array.shape[-2:])
    pixels, notes = to_channels(planes, options, path)
    return RawImage(pixels=pixels, value_range=_RANGE_OF_DTYPE.get(array.dtype.name), notes=notes)


def _from_npy(path: Path, options: ReadOptions) -> npt.NDArray[Any]:
    with path.open("rb") as stream:
        return _checked_array(stream, path.stat().st_size, path, options)


def _from_npz(path: Path, options: ReadOptions) -> npt.NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != 1 or not members[0].filename.endswith(".npy"):
            raise InputError(
                f"holds {len(members)} members where one array is needed",
                code="E_SHAPE",
                path=path,
                fix="save one array with numpy.savez(path, pixels)",
            )
        with archive.open(members[0]) as stream:
            return _checked_array(stream, members[0].file_size, path, options)


def _checked_array(stream: IO[bytes], num_bytes: int, path: Path, options: ReadOptions) -> npt.NDArray[Any]:
    """Array whose header was believed only as far as the limits and the bytes that are there."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
    else:  # 3.0 differs only in field names of structured types, which are no pixels
        raise InputError(f"has npy version {version}", code="E_DTYPE", path=path, fix="save a plain array of numbers")
    if dtype.hasobject:
        raise InputError(
            "holds Python objects (a pickle), which can run code when loaded, and was not opened",
            code="E_PICKLE",
            path=path,
            fix="save the array with numpy.save(..., allow_pickle=False)",
        )
    if dtype.kind not in "buif":
        raise InputError(f"holds values of type {dtype} where numbers are needed", code="E_DTYPE", path=path, fix="save float32")
    planes = shape[0] if len(shape) == 3 else 1
    # More planes than columns, and not the number asked for: the channels are the last axis, or it is no image.
    if len(shape) not in (2, 3) or (len(shape) == 3 and planes != options.channels and planes > shape[2]):
        raise InputError(
            f"has shape {shape} where (H, W) or (channels, H, W) is needed",
            code="E_SHAPE",
            path=path,
            fix="save one image an array, channels first",
        )
    check_shape(path, shape[-2], shape[-1], options.limits, frames=planes, bytes_per_pixel=dtype.itemsize)
    count = math.prod(shape)
    missing = count * dtype.itemsize - (num_bytes - stream.tell())
    if missing > 0:
        raise InputError(f"ends {missing} bytes too early", code="E_TRUNCATED", path=path, fix="copy or save it again")
    if missing < 0:
        raise InputError(f"has {-missing} bytes after the array", code="E_MALFORMED", path=path, fix="save one array a file")
    values = np.frombuffer(stream.read(count * dtype.itemsize), dtype=dtype, count=count)
    return values.reshape(shape, order="F" if fortran_order else "C")
