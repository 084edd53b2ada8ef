"""An image file as the solvers see it, and the way back that changes only what they changed.

Between stored values and [0, 1] lies one straight line, y = (value - low) / (high - low), never a clip. A deblurred picture is written as
``stored + round(scale * (restored - y))``: a pixel that the solver left alone keeps its stored value, whatever its depth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deblur.dicom_stored import StoredDicom, read_stored
from medanomaly.datasets.manifest import Record
from medanomaly.errors import InputError
from medanomaly.files import sha256_of
from medanomaly.io.formats import format_of
from medanomaly.io.options import ReadOptions
from medanomaly.io.reader import read_image
from medanomaly.io.writers import write_npy, write_png

WHITE_8, WHITE_16 = 255.0, 65535.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture:
    """One gray image, read."""

    record: Record
    sha256: str
    """Of the file."""
    stored: npt.NDArray[Any]
    """(H, W) values of the file: float32 as read, or a DICOM's stored integers."""
    y: Tensor
    """(1, H, W) float32 in [0, 1]."""
    low: float
    """Value that is 0 in ``y``."""
    high: float
    """Value that is 1."""
    scale: float
    """Stored units of a step of 1 in ``y``; negative where low values are bright."""
    step: float
    """Distance of stored values in ``y``; 0 where they are not whole numbers."""
    value_range: tuple[float, float] | None
    """What the format calls black and white."""
    spacing_mm: tuple[float, float] | None
    notes: tuple[str, ...] = ()
    dicom: StoredDicom | None = None
    """What a derived DICOM image needs; None for other formats."""


def read_picture(record: Record) -> Picture:
    """A gray image with its window: the manifest's, else what its format calls black and white, else its extremes.

    Of a DICOM image it is the display window, which is not applied, since blur is linear in the stored values. A window that the
    values leave is widened to hold them, with a note.

    Raises:
        InputError: what the reader raises; E_RANGE for a constant image; E_LUT for DICOM with a modality LUT, E_DTYPE for floats.
    """
    raw = read_image(record.image, ReadOptions(voi="none"))
    dicom = read_stored(record.image, raw.value_range) if format_of(record.image) == "DICOM" else None
    values, notes = raw.pixels[0], raw.notes
    least, most = float(values.min()), float(values.max())
    if least == most:
        raise InputError(
            "the image is constant", code="E_RANGE", path=record.image, fix="leave it out: there is nothing to deblur"
        )
    window = record.intensity_range or (dicom.window if dicom is not None else None) or raw.value_range or (least, most)
    low, high = min(window[0], least), max(window[1], most)
    if (low, high) != window:
        notes = (*notes, f"values {least:g}..{most:g} leave the window {window[0]:g}..{window[1]:g}, which was widened")
    y = torch.from_numpy((values.astype(np.float64) - low) / (high - low)).to(torch.float32)[None]
    whole = bool((values == np.rint(values)).all())
    scale = high - low
    if dicom is not None:
        scale = scale / dicom.slope * (-1 if dicom.inverted else 1)
    return Picture(
        record=record,
        sha256=sha256_of(record.image),
        stored=values if dicom is None else dicom.stored,
        y=y,
        low=low,
        high=high,
        scale=scale,
        step=abs(1 / scale) if whole or dicom is not None else 0.0,
        value_range=raw.value_range,
        spacing_mm=raw.spacing_mm or record.spacing_mm,
        notes=notes,
        dicom=dicom,
    )


def moved(stored: npt.NDArray[Any], change: npt.NDArray[np.float64], least: float, most: float) -> npt.NDArray[np.float64]:
    """``stored + round(change)`` within what can be stored; bit for bit ``stored`` where the change rounds to 0."""
    return np.clip(stored.astype(np.float64) + np.rint(change), least, most)


def change_of(picture: Picture, restored: Tensor) -> npt.NDArray[np.float64]:
    """(H, W) restored - y in [0, 1] units, the result clamped to [0, 1]."""
    difference = restored.detach().cpu().double().clamp(0, 1) - picture.y.double()
    return np.asarray(difference[0].numpy(), dtype=np.float64)


def write_picture(folder: Path, name: str, picture: Picture, restored: Tensor | None, *, to_npy: bool) -> tuple[str, Record]:
    """Write an image that is not DICOM, unchanged or deblurred, below ``folder``; returns its name there and its record.

    8-bit values stay 8-bit where nothing was changed; deblurred they become 16-bit, each level times 257, so that what was
    restored between two levels is kept. 16-bit values stay as they are. Values without a format's black and white (floats, NIfTI) and
    ``to_npy`` give float32 arrays in the file's units. The record's intensity columns say what is black where the file no longer does.

    Args:
        folder: the job's.
        name: file name without suffix.
        picture: what was read.
        restored: (1, H, W) in [0, 1], clamped here; None = unchanged.
        to_npy: write an array in any case.
    """
    record, values, known = picture.record, picture.stored, picture.value_range
    window = record.intensity_range or known
    as_png = not to_npy and known is not None and picture.step > 0 and picture.low >= 0 and picture.high <= WHITE_16
    if not as_png:
        if restored is not None:
            values = (values.astype(np.float64) + picture.scale * change_of(picture, restored)).astype(np.float32)
        write_npy(folder / f"images/{name}.npy", values)
        return f"images/{name}.npy", with_window(record, window)
    if known == (0.0, WHITE_8) and restored is None:
        stored: npt.NDArray[Any] = values.astype(np.uint8)
    elif known == (0.0, WHITE_8) and restored is not None:
        factor = WHITE_16 / WHITE_8
        wide = moved(values * np.float32(factor), factor * picture.scale * change_of(picture, restored), 0, WHITE_16)
        stored = wide.astype(np.uint16)
        window = (
            None if record.intensity_range is None else (factor * record.intensity_range[0], factor * record.intensity_range[1])
        )
    else:
        if restored is not None:
            values = moved(values, picture.scale * change_of(picture, restored), max(0.0, picture.low), picture.high)
        stored = values.astype(np.uint16)
        # A 12-bit TIFF has its white at 4095; in a 16-bit PNG nothing else says so.
        window = record.intensity_range or (None if known == (0.0, WHITE_16) else known)
    write_png(folder / f"images/{name}.png", stored)
    return f"images/{name}.png", with_window(record, window)


def with_window(record: Record, window: tuple[float, float] | None) -> Record:
    """The record with this intensity window."""
    low, high = window or (None, None)
    return replace(record, intensity_low=low, intensity_high=high)
