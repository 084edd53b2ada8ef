"""NIfTI-1 and NIfTI-2 slices, plain or gzipped, in the order of the stored array.

Convention: array in = array out. ``pixels[0, r, c] == numpy.asarray(nibabel.load(path).dataobj)[r, c, k]`` for slice k: the first
array axis is rows, the second columns, whatever the affine says. No flip or transposition to an anatomical view takes place, so a
mask or map saved from an array of ours lands on the pixels it belongs to.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import IO, Any, cast

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from medanomaly.errors import InputError
from medanomaly.io.channels import to_channels
from medanomaly.io.faults import library_faults
from medanomaly.io.limits import check_shape
from medanomaly.io.options import ReadOptions, chosen_frame
from medanomaly.types import RawImage

_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}


def read_nifti(path: Path, options: ReadOptions) -> RawImage:
    """One slice (1, R, C) of an array of shape (R, C[, K]), scaled by scl_slope and scl_inter; (N, R, C) of (R, C, K, N).

    ``options.frame`` is k along the third axis, needed when K > 1. A fourth axis holds channels, e.g. MRI sequences, where
    ``options.channels`` asks for N of them (None = any); with channels = 1 it is a series of volumes and refused. The range is
    unknown; ``spacing_mm`` is pixdim of the first two axes, None where the header gives no unit of length. A gzip checksum is
    seen only where the file is read to its end.

    Raises:
        InputError: E_TRUNCATED, E_FORMAT, E_HEADER, E_LIMIT, E_MULTIFRAME, E_COLOR, E_CHANNELS, E_DTYPE or
            E_MALFORMED.
    """
    with library_faults(path, "NIfTI"):
        # Through our own streams, not nibabel.load: header extensions can claim gigabytes and are not needed.
        header = nifti_header(path)
        shape = _shape(header, path, options)
        dtype = header.get_data_dtype()
        if dtype.fields is not None:
            raise InputError("holds RGB values", code="E_COLOR", path=path, fix="save one scalar a voxel")
        if dtype.kind not in "buif":
            raise InputError(f"holds values of type {dtype}", code="E_DTYPE", path=path, fix="save real numbers")
        rows, columns, slices, volumes = (*shape, 1, 1)[:4]
        check_shape(path, rows, columns, options.limits, frames=slices * volumes, bytes_per_pixel=dtype.itemsize)
        offset = _data_offset(header, path)
        check_shape(path, 1, 1, options.limits, bytes_per_pixel=offset)
        missing = offset + math.prod(shape) * dtype.itemsize - path.stat().st_size
        if missing > 0 and not _is_gzip(path):
            raise InputError(f"ends {missing} bytes too early", code="E_TRUNCATED", path=path, fix="copy or export it again")
        index = chosen_frame(path, slices, options, "slices")
        slope, intercept = header.get_slope_inter()
        scaling = (1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
        with _opened(path) as stream:
            proxy = ArrayProxy(stream, ((rows, columns, slices, volumes), dtype, offset, *scaling), mmap=False)
            values = np.moveaxis(np.asarray(proxy[:, :, index, :]), 2, 0)
        with np.errstate(over="ignore"):
            planes = np.array(values, dtype=np.float32, order="C")
        spacing, notes = _spacing(header)
        notes += (f"fourth axis read as {volumes} channels",) if volumes > 1 else ()
        notes += _scaling_notes(header)
    pixels, channel_notes = to_channels(planes, options, path)
    return RawImage(pixels=pixels, value_range=None, spacing_mm=spacing, notes=(*notes, *channel_notes))


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if _is_gzip(path) else path.open("rb")


def nifti_header(path: Path) -> Any:
    """nibabel's header object of a file, its magic string checked; to be called inside ``library_faults``."""
    with _opened(path) as stream:
        return _header(stream.read(540), path)


def _header(block: bytes, path: Path) -> Any:
    """The same from the file's first bytes."""
    if len(block) < 348:
        raise InputError("ends inside its header", code="E_TRUNCATED", path=path, fix="copy or export it again")
    if block[344:348] == b"n+1\x00":
        return nibabel.Nifti1Header(block[:348], check=False)
    if block[4:12] == b"n+2\x00\r\n\x1a\n" and len(block) == 540:
        return nibabel.Nifti2Header(block, check=False)
    raise InputError(
        "is not a single-file NIfTI (no n+1 or n+2 in its header)",
        code="E_FORMAT",
        path=path,
        fix="save Analyze files and .hdr/.img pairs as .nii",
    )


def _shape(header: Any, path: Path, options: ReadOptions) -> tuple[int, ...]:
    """Sizes of the 2 to 4 axes; axes of length 1 beyond them are dropped."""
    num_axes = int(header["dim"][0])
    shape = tuple(int(size) for size in header["dim"][1 : num_axes + 1])
    if not 2 <= num_axes <= 7 or min(shape) < 1:
        raise InputError(
            f"claims {num_axes} axes of lengths {shape}", code="E_HEADER", path=path, fix="export it again as a 2-D or 3-D image"
        )
    if math.prod(shape[3 if options.channels == 1 else 4 :]) != 1:
        raise InputError(
            f"holds a series of volumes, shape {shape}", code="E_MULTIFRAME", path=path, fix="save one volume a file"
        )
    return shape[:4]


def _data_offset(header: Any, path: Path) -> int:
    offset = float(header["vox_offset"])
    if not offset >= header.sizeof_hdr or not math.isfinite(offset):
        raise InputError(f"claims its data at byte {offset}", code="E_HEADER", path=path, fix="export it again")
    return int(offset)


def _spacing(header: Any) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """(row, column) spacing in mm from pixdim, and why it is unknown."""
    try:
        unit = header.get_xyzt_units()[0]
    except KeyError:  # a code outside the standard's table
        unit = "unknown"
    sizes = [float(size) for size in header["pixdim"][1:3]]
    if unit not in _MM_PER_UNIT:
        return None, ("the header gives no unit of length, so pixel spacing is unknown",)
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        return None, ("pixdim is not positive, so pixel spacing is unknown",)
    return (sizes[0] * _MM_PER_UNIT[unit], sizes[1] * _MM_PER_UNIT[unit]), ()


def _scaling_notes(header: Any) -> tuple[str, ...]:
    """What to know about a slope that cannot be meant; 0 and NaN with no intercept are the usual "not scaled"."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isinf(slope) or (not slope and intercept and math.isfinite(intercept)):
        return (f"scl_slope {slope:g} is no scale: values are as stored",)
    return ()
