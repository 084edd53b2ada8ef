"""NIfTI out: a map or a mask on the grid of the NIfTI file it was made from, and nothing else of that file.

The header is written anew: shape, affine (both forms with their codes), voxel size and unit are the source's; its description, names of
files and people, and header extensions stay behind. Axes are the source's: array in = array out, see ``nifti``.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

from medanomaly.files import atomic_write
from medanomaly.io.faults import library_faults
from medanomaly.io.nifti import nifti_header
from medanomaly.io.volume import DISPLAY_ORDER, Volume
from medanomaly.types import BoolArray, FloatArray


def write_nifti(path: Path, values: FloatArray | BoolArray, source: Path, frame: int | None = None) -> None:
    """Write values (R, C) or (R, C, K) as gzipped NIfTI on the source's grid.

    Args:
        path: ends in .nii.gz; replaced when it exists, only once the new file is complete.
        values: float32, or bool, which becomes uint8 0 and 1; indices as in the source's array.
        source: NIfTI file whose geometry counts; one that is not placed (both codes 0) gives an output that is not placed either.
        frame: slice along the third axis that values (R, C) belong to; None = 0. The affine is moved there, and the output is (R, C, 1).

    Raises:
        InputError: the source cannot be read (any more).
        ResourceError: the file cannot be written.
    """
    with library_faults(source, "NIfTI"):
        header = nifti_header(source)
        stored: Any = values.astype(np.uint8) if values.dtype == np.bool_ else values.astype(np.float32)
        if stored.ndim == 2 and int(header["dim"][0]) > 2:
            stored = stored[..., None]
        kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
        image = kind(stored, None)
        place_as(image.header, header, stored.ndim, frame or 0)
        content = image.to_bytes()
    with atomic_write(path) as stream:
        # Without the time and the name that gzip would put into its header: the same map gives the same bytes.
        stream.write(gzip.compress(content, mtime=0))


def place_as(header: Any, source: Any, num_axes: int, frame: int) -> None:
    """Give a new header the geometry of the source's, moved to one slice along the third axis."""
    try:
        unit = source.get_xyzt_units()[0]
    except KeyError:  # a code outside the standard's table
        unit = "unknown"
    header.set_xyzt_units(unit)
    sizes = np.abs(np.asarray(source["pixdim"][1 : num_axes + 1], np.float64))
    header.set_zooms(np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1.0))
    step = np.eye(4)
    step[2, 3] = frame
    for form in ("qform", "sform"):
        affine, code = getattr(source, f"get_{form}")(coded=True)
        if affine is not None:
            getattr(header, f"set_{form}")(np.asarray(affine) @ step, int(code))


def stored_order(planes: Any, volume: Volume) -> Any:
    """Undo of :func:`medanomaly.io.volume.axial_slices` for any values of its shape.

    Args:
        planes: (slices, rows, columns) in radiological view.
        volume: the volume they were made of.

    Returns:
        (X, Y, Z) in the order of the volume's file.
    """
    shown = planes.transpose(2, 1, 0)
    if volume.affine is not None:
        shown = apply_orientation(shown, ornt_transform(axcodes2ornt(DISPLAY_ORDER), io_orientation(volume.affine)))
    return np.ascontiguousarray(shown)
