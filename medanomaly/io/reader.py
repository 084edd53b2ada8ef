"""The one way in: an image or a mask from any understood file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from medanomaly.errors import InputError
from medanomaly.io.array import read_array
from medanomaly.io.dicom import read_dicom
from medanomaly.io.formats import format_of, image_suffixes, is_image_file
from medanomaly.io.limits import ReadLimits, regular_file_size
from medanomaly.io.nifti import read_nifti
from medanomaly.io.nifti_geometry import refuse_other_grid
from medanomaly.io.options import DEFAULT_OPTIONS, ReadOptions
from medanomaly.io.raster import read_raster
from medanomaly.types import BoolArray, FloatArray, RawImage

__all__ = ["ReadLimits", "ReadOptions", "image_suffixes", "is_image_file", "read_image", "read_mask"]

_LABEL_TOLERANCE = 1e-3
"""How far scl_slope arithmetic may push a NIfTI label from its integer: 1.0 scaled into uint8 comes back as 1.0000000353."""


def read_image(path: Path, options: ReadOptions = DEFAULT_OPTIONS) -> RawImage:
    """Image (C, H, W) float32, rows first, as its file means it; format told by suffix and content, which must agree.

    Args:
        path: a regular file of one of ``image_suffixes``, or DICOM without a suffix.
        options: channels, colour, frame, window, NaN policy and limits.

    Raises:
        InputError: always with the path and a reason code; E_NONFINITE for NaN or infinity unless ``options.nan_to`` is given.
            Nothing else is raised for what a file holds.
    """
    path = Path(path)
    regular_file_size(path, options.limits)
    format_name = format_of(path)
    if format_name in ("PNG", "JPEG", "TIFF"):
        image = read_raster(path, format_name, options)
    else:
        image = {"DICOM": read_dicom, "npy": read_array, "npz": read_array}.get(format_name, read_nifti)(path, options)
    image = _finite(image, path, options.nan_to)
    low, high = float(image.pixels.min()), float(image.pixels.max())
    return replace(image, notes=(*image.notes, f"every pixel holds {low:g}")) if low == high else image


def read_mask(
    path: Path,
    native_size: tuple[int, int] | None = None,
    *,
    image_path: Path | None = None,
    frame: int | None = None,
    limits: ReadLimits = DEFAULT_OPTIONS.limits,
) -> BoolArray:
    """Mask (rows, columns) bool, True = lesion, from values that leave no doubt.

    Rules: values within {0, 1} or within {0, 255} (every format; palettes are looked up). NIfTI label maps: values within 1e-3 of
    a whole number >= 0; every label above 0 is lesion, so tumour parts such as {0, 1, 2, 4} are united. EXIF orientation is
    applied as for images.

    Args:
        path: the mask file.
        native_size: (rows, columns) of the image it belongs to; None = not checked.
        image_path: the image it belongs to; where both are NIfTI, their headers must put them on the same grid. None = not checked.
        frame: 0-based page or slice of a file with several.
        limits: as for images.

    Raises:
        InputError: E_MASK_VALUES (soft or unexpected values), E_MASK_SIZE, E_GEOMETRY, or what :func:`read_image`
            raises.
    """
    image = read_image(path, ReadOptions(frame=frame, voi="none", limits=limits))
    if native_size is not None and image.native_size != tuple(native_size):
        turned = ", it looks transposed" if image.native_size == tuple(native_size)[::-1] else ""
        raise InputError(
            f"is a mask of {image.native_size} rows x columns for an image of {tuple(native_size)}{turned}",
            code="E_MASK_SIZE",
            path=path,
            fix="export the mask on the grid of its image",
        )
    is_label_map = format_of(Path(path)).startswith("NIfTI")
    if image_path is not None and is_label_map and format_of(image_path).startswith("NIfTI"):
        refuse_other_grid(Path(path), image_path)
    values = image.pixels[0]
    lesion: BoolArray = values > 0.5
    if is_label_map:
        whole = np.round(values)
        valid = bool((np.abs(values - whole) <= _LABEL_TOLERANCE).all() and whole.min() >= 0)
    else:
        on = values[lesion]
        valid = not values[~lesion].any() and bool((on == 1).all() or (on == 255).all())
    if not valid:
        raise InputError(
            f"is no mask: {_sample_of(values)}",
            code="E_MASK_VALUES",
            path=path,
            fix="save labels, not probabilities or an antialiased or lossy image, with 0 for background and 1 or 255 for lesion",
        )
    return lesion


def _sample_of(values: FloatArray) -> str:
    distinct = np.unique(values)
    shown = ", ".join(f"{value:g}" for value in distinct[:6])
    return f"it holds {len(distinct)} distinct values ({shown}{', ...' if len(distinct) > 6 else ''})"


def _finite(image: RawImage, path: Path, nan_to: float | None) -> RawImage:
    """The image without NaN or infinity: refused with count and place, or filled as the caller chose."""
    bad = ~np.isfinite(image.pixels)
    count = int(bad.sum())
    if count == 0:
        return image
    if nan_to is None:
        first = tuple(int(index) for index in np.argwhere(bad)[0])
        raise InputError(
            f"holds {count} non-finite values, the first at (channel, row, column) {first}",
            code="E_NONFINITE",
            path=path,
            fix="repair it, or choose a value to put in their place (nan_to)",
        )
    return RawImage(
        pixels=np.where(bad, np.float32(nan_to), image.pixels),
        value_range=image.value_range,
        spacing_mm=image.spacing_mm,
        notes=(*image.notes, f"{count} non-finite values replaced by {nan_to:g}"),
    )
