"""A whole NIfTI volume, and its axial slices as a radiologist sees them.

``read_nifti`` keeps the stored order and never flips. A volume that is cut into pictures needs the other convention: every
picture the same way up, whatever order the file chose. That order is read from the header's affine, never guessed from shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from medanomaly.errors import InputError
from medanomaly.io.faults import library_faults
from medanomaly.io.limits import ReadLimits, check_shape, regular_file_size

# The header checks are those of single slices: one place decides what a NIfTI header may claim.
from medanomaly.io.nifti import _MM_PER_UNIT, _data_offset, _opened, _shape, nifti_header
from medanomaly.io.nifti_geometry import placement_of
from medanomaly.io.options import ReadOptions
from medanomaly.types import FloatArray

DISPLAY_ORDER = "LPS"
"""Axes that run to the patient's left, back and top: a transposed slice of it is in radiological view. BraTS stores this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume in the order of its file."""

    values: FloatArray
    """(X, Y, Z) float32, finite, scaled by scl_slope and scl_inter; Z = 1 for a file with two axes."""
    affine: npt.NDArray[np.float64] | None
    """(4, 4) from voxel indices to mm towards right, front and top; None = the header does not say (both form codes are 0)."""
    spacing_mm: tuple[float, float, float] | None
    """Distance between voxel centres along each axis in mm; None = the header gives no unit of length."""


def read_volume(path: Path, limits: ReadLimits | None = None) -> Volume:
    """The volume of a NIfTI file, plain or gzipped, decompressed once; a gzip checksum is verified.

    Args:
        path: a regular file.
        limits: ``decoded_bytes`` bounds the voxels as stored and as float32; None = the defaults.

    Raises:
        InputError: E_NOT_FOUND, E_NOT_REGULAR, E_EMPTY, E_FORMAT, E_HEADER, E_LIMIT, E_MULTIFRAME (a series of volumes), E_COLOR,
            E_DTYPE, E_GEOMETRY (an affine that maps no volume or contradicts itself), E_TRUNCATED, E_NONFINITE or E_MALFORMED.
    """
    limits = ReadLimits() if limits is None else limits
    regular_file_size(path, limits)
    with library_faults(path, "NIfTI"), _opened(path) as stream:
        header = nifti_header(path)
        rows, columns, slices = (*_shape(header, path, ReadOptions(limits=limits)), 1)[:3]
        dtype = header.get_data_dtype()
        if dtype.fields is not None:
            raise InputError("holds RGB values", code="E_COLOR", path=path, fix="save one scalar a voxel")
        if dtype.kind not in "buif":
            raise InputError(f"holds values of type {dtype}", code="E_DTYPE", path=path, fix="save real numbers")
        check_shape(path, rows, columns, limits, frames=slices, bytes_per_pixel=max(dtype.itemsize, 4))
        offset, num_bytes = _data_offset(header, path), rows * columns * slices * dtype.itemsize
        check_shape(path, 1, 1, limits, bytes_per_pixel=offset)
        stream.seek(offset)
        stored = stream.read(num_bytes)
        if len(stored) < num_bytes:
            missing = num_bytes - len(stored)
            raise InputError(f"ends {missing} bytes too early", code="E_TRUNCATED", path=path, fix="copy or export it again")
        # gzip compares its checksum when the end is read.
        stream.read(1)
        values = scaled(np.frombuffer(stored, dtype).reshape((rows, columns, slices), order="F"), header)
        spacing = spacing_of(header)
    num_bad = values.size - int(np.isfinite(values).sum())
    if num_bad:
        raise InputError(f"holds {num_bad} non-finite values", code="E_NONFINITE", path=path, fix="repair or export it again")
    return Volume(values=values, affine=placement_of(path).affine, spacing_mm=spacing)


def scaled(stored: npt.NDArray[np.generic], header: nibabel.Nifti1Header) -> FloatArray:
    """float32 values: stored x slope + intercept; a slope of 0, NaN or infinity is the standard's "not scaled"."""
    slope, intercept = header.get_slope_inter()
    with np.errstate(over="ignore", invalid="ignore"):
        values: FloatArray = stored.astype(np.float32)
        if slope is not None and (slope, intercept or 0.0) != (1.0, 0.0):
            values = values * np.float32(slope) + np.float32(intercept or 0.0)
    return values


def spacing_of(header: nibabel.Nifti1Header) -> tuple[float, float, float] | None:
    """mm along the three axes from pixdim; None without a unit or with sizes that are none."""
    try:
        factor = _MM_PER_UNIT.get(header.get_xyzt_units()[0])
    except KeyError:  # a code outside the standard's table
        factor = None
    # Writers of two axes leave anything in the third.
    sizes = [float(size) if axis < header["dim"][0] else 1.0 for axis, size in enumerate(header["pixdim"][1:4])]
    if factor is None or not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    return sizes[0] * factor, sizes[1] * factor, sizes[2] * factor


def orientation_of(volume: Volume) -> str:
    """Where the three axes run to, such as "LPS" or "RAS" (closest axis of an oblique volume); "" where the header is silent."""
    return "" if volume.affine is None else "".join(nibabel.aff2axcodes(volume.affine))


def axial_slices(volume: Volume) -> tuple[FloatArray, tuple[float, float] | None]:
    """Axial pictures in radiological view: front at the top, the patient's right at the left, slices from the bottom up.

    Axes are swapped and flipped by the affine, values are not resampled: an oblique volume is cut along its own axes. Without an
    affine the order of BraTS ("LPS") is taken as given.

    Returns:
        (slices, rows, columns) float32, and (row, column) spacing in mm or None.
    """
    values, spacing = volume.values, volume.spacing_mm
    if volume.affine is not None:
        stored = io_orientation(volume.affine)
        values = apply_orientation(values, ornt_transform(stored, axcodes2ornt(DISPLAY_ORDER)))
        if spacing is not None:
            along = {int(axis): size for (axis, _), size in zip(stored, spacing, strict=True)}
            spacing = along[0], along[1], along[2]
    # (left, back, top) -> (top, back, left): rows run from front to back, columns from right to left.
    planes: FloatArray = np.ascontiguousarray(values.transpose(2, 1, 0))
    return planes, None if spacing is None else (spacing[1], spacing[0])
