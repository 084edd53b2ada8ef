"""Whether two NIfTI files lie on the same grid: a mask of the right size may still be flipped, shifted or of another slice.

Arrays are never turned here (array in = array out, see ``nifti``), so a mask fits its image only where both headers put the same
index on the same place in the scanner. NIfTI-1 has two ways to say where that is (nifti1.h, "3D IMAGE (VOLUME) ORIENTATION AND
LOCATION IN SPACE"): the qform, a rotation, and the sform, an affine. A code above 0 names the space each one maps to; 0 = not said.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.io.faults import library_faults
from medanomaly.io.nifti import nifti_header

Float64Array = npt.NDArray[np.float64]

TOLERANCE_PX = 0.1
"""Farthest that a corner of the array may be misplaced, in voxels: float32 headers and other tools' rounding stay far below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a header puts the array."""

    qform: Float64Array | None
    """(4, 4), array index to mm; None where its code is 0."""
    sform: Float64Array | None
    """(4, 4), array index to mm; None where its code is 0."""
    same_space: bool
    """Whether both codes name the same space, so that the two must be equal."""
    shape: tuple[int, int, int]

    @property
    def affine(self) -> Float64Array | None:
        """The one that counts, sform before qform as nibabel and the standard's "method 3" have it; None = not placed."""
        return self.qform if self.sform is None else self.sform


def refuse_other_grid(mask: Path, image: Path) -> None:
    """Refuse a NIfTI mask whose header puts it elsewhere than its NIfTI image; files that are not placed are not compared.

    Raises:
        InputError: E_GEOMETRY, with how far apart they are, or where one of the two contradicts itself; what reading a header
            raises.
    """
    lesion, picture = placement_of(mask), placement_of(image)
    if lesion.affine is None or picture.affine is None:
        return
    distance = misplacement_px(lesion.affine, picture.affine, picture.shape)
    if distance > TOLERANCE_PX:
        raise InputError(
            f"is a mask that lies elsewhere than its image: by their affines a corner is {distance:.3g} voxels off",
            code="E_GEOMETRY",
            path=mask,
            fix="resample the mask onto the grid of its image, or save both with the same affine",
        )


def placement_of(path: Path) -> Placement:
    """Where the header of a NIfTI file puts its array.

    Raises:
        InputError: E_GEOMETRY, the affine cannot be inverted, or qform and sform name the same space and differ; what reading a
            header raises.
    """
    with library_faults(path, "NIfTI"):
        header = nifti_header(path)
        num_axes = min(max(int(header["dim"][0]), 0), 3)
        sizes = [max(int(size), 1) for size in header["dim"][1 : num_axes + 1]] + [1] * (3 - num_axes)
        qform, qform_code = header.get_qform(coded=True)
        sform, sform_code = header.get_sform(coded=True)
    placement = Placement(
        qform=None if qform is None else np.asarray(qform, np.float64),
        sform=None if sform is None else np.asarray(sform, np.float64),
        same_space=qform_code == sform_code,
        shape=(sizes[0], sizes[1], sizes[2]),
    )
    for affine in (placement.qform, placement.sform):
        # A rank below 3 puts a plane or a line of voxels on one place.
        if affine is not None and (not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3):
            raise InputError(
                "has an affine that cannot be inverted", code="E_GEOMETRY", path=path, fix="export it again with its geometry"
            )
    if placement.qform is not None and placement.sform is not None and placement.same_space:
        distance = misplacement_px(placement.qform, placement.sform, placement.shape)
        if distance > TOLERANCE_PX:
            raise InputError(
                f"contradicts itself: qform and sform name the same space and put a corner {distance:.3g} voxels apart",
                code="E_GEOMETRY",
                path=path,
                fix="find out which is right and save it with that one",
            )
    return placement


def misplacement_px(affine: Float64Array, reference: Float64Array, shape: tuple[int, int, int]) -> float:
    """Largest distance, in voxels of ``reference``, between where the two put a corner of an array of this shape."""
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in shape))], np.float64).T  # (4, 8)
    there = np.linalg.solve(reference, affine @ corners)  # the same places as indices of the reference
    return float(np.abs(there - corners)[:3].max())
