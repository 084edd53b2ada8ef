"""A DICOM image's stored values and what its display depends on; and a derived image with the same display, made of other values.

The derived image is a Secondary Capture with the source's stored type, rescale, window and photometric interpretation, so that it is
shown, and read by this package, as its source would be. It is built from an empty data set: what identifies the patient is only what
:mod:`medanomaly.io.dicom_identity` lets through.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import generate_uid

from medanomaly import __version__
from medanomaly.errors import InputError
from medanomaly.io.dicom import _group, _silent_pydicom
from medanomaly.io.dicom_burned_in import UNCHECKED, refusal
from medanomaly.io.dicom_identity import read_source
from medanomaly.io.dicom_values import numbers_of
from medanomaly.io.faults import library_faults

SERIES_NUMBER = 9005
"""High, so that it comes after a study's own series and those of :data:`medanomaly.io.dicom_making.SERIES_NUMBERS`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredDicom:
    """One frame's stored integers and the header that gives them their meaning."""

    stored: npt.NDArray[Any]
    """(H, W) uint8, int8, uint16 or int16."""
    slope: float
    """Rescale slope, not 0; 1 where there is none."""
    inverted: bool
    """MONOCHROME1: low is bright, and the reader has turned that round."""
    window: tuple[float, float] | None
    """(black, white) of the display window in the reader's values; None = the file has no linear one."""
    display: Dataset
    """Elements that decide how stored values are shown, and nothing else."""


def read_stored(path: Path, value_range: tuple[float, float] | None) -> StoredDicom:
    """The stored values of an image that :func:`medanomaly.io.dicom.read_dicom` has read and checked.

    Args:
        path: the file.
        value_range: as it was read without VOI.

    Raises:
        InputError: E_LUT, a modality LUT, under which a blur is not linear; E_DTYPE, pixels that are
            no integers of up to 16 bits.
    """
    with library_faults(path, "DICOM", quote=False), _silent_pydicom():
        dataset = pydicom.dcmread(path)
        if "PixelData" not in dataset or int(dataset.BitsAllocated) not in (8, 16):
            raise InputError(
                "holds pixels that are no integers of 8 or 16 bits", code="E_DTYPE", path=path, fix="convert it to npy"
            )
        rescale = _group(dataset, 0, "PixelValueTransformationSequence")
        if rescale.get("ModalityLUTSequence"):
            raise InputError(
                "has a modality LUT, under which blur is not linear", code="E_LUT", path=path, fix="export it without"
            )
        stored = np.array(pixel_array(dataset, index=0))
        slope = (numbers_of(rescale.get("RescaleSlope")) or [1.0])[0]
        inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
        view = _group(dataset, 0, "FrameVOILUTSequence")
        window = _window_of(view)
    if window is not None and inverted and value_range is not None:
        # The reader mirrors inside the range of the stored bits.
        low, high = value_range
        window = (low + high - window[1], low + high - window[0])
    return StoredDicom(stored=stored, slope=slope, inverted=inverted, window=window, display=_display_of(dataset, rescale, view))


def _window_of(view: Dataset) -> tuple[float, float] | None:
    """Ends of the first window that is a straight line; None for a VOI LUT, a sigmoid, or none at all (PS3.3 section C.11.2)."""
    centres, widths = numbers_of(view.get("WindowCenter")), numbers_of(view.get("WindowWidth"))
    function = str(view.get("VOILUTFunction") or "LINEAR").upper()
    if view.get("VOILUTSequence") or not centres or len(centres) != len(widths) or function == "SIGMOID":
        return None
    centre, width = centres[0], widths[0]
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return (centre - width / 2, centre + width / 2) if np.isfinite(centre) and np.isfinite(width) and width > 0 else None


def _display_of(dataset: Dataset, rescale: Dataset, view: Dataset) -> Dataset:
    """Numbers and code words only: explanations are free text, and may name somebody."""
    kept = Dataset()
    names = ("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue")
    for keywords, group in (
        (names, dataset),
        (("RescaleSlope", "RescaleIntercept"), rescale),
        (("WindowCenter", "WindowWidth", "VOILUTFunction"), view),
        (("LossyImageCompression",), dataset),
    ):
        for keyword in keywords:
            if group.get(keyword) not in (None, ""):
                setattr(kept, keyword, group[keyword].value)
    kept.HighBit = int(kept.BitsStored) - 1
    if view.get("VOILUTSequence"):
        tables = []
        for table in view.VOILUTSequence:
            item = Dataset()
            for keyword in ("LUTDescriptor", "LUTData"):
                item[keyword] = table[keyword]
            tables.append(item)
        kept.VOILUTSequence = tables
    return kept


def limits_of(display: Dataset) -> tuple[float, float]:
    """Smallest and largest value that the stored bits hold."""
    bits = int(display.BitsStored)
    return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if display.PixelRepresentation == 1 else (0.0, 2.0**bits - 1)


def write_derived(
    path: Path, source: Path, dicom: StoredDicom, stored: npt.NDArray[Any], *, settings: str, what: str, keep_patient: bool
) -> tuple[str, ...]:
    """Write a DERIVED Secondary Capture of these stored values, with a new SOP instance UID; returns notes for the report.

    Args:
        path: the new file.
        source: the image it was made of.
        dicom: how that is stored and shown.
        stored: (H, W) of the same type.
        settings: hash of solver and settings, the "device" that made it.
        what: for the derivation's description, e.g. the kernel; must not identify anybody.
        keep_patient: take patient and study along and reference the source; else nothing identifies them.

    Raises:
        InputError: E_BURNED_IN, the source says that text is burned into its pixels and the patient is not to be kept.
    """
    # Here, because the library takes seconds to import and most jobs write no DICOM.
    from medanomaly.io.dicom_capture import capture
    from medanomaly.io.dicom_making import NAME, WARNING, plain_ascii
    from medanomaly.io.dicom_out import Target, write_dicom

    facts = read_source(source, None, keep_patient=keep_patient)
    if facts.burned_in == "YES" and not facts.kept:
        raise refusal("--keep-patient true for use inside the hospital", source)
    wide = int(dicom.display.BitsAllocated) == 16
    made = capture(
        np.ascontiguousarray(stored).view(np.uint16 if wide else np.uint8),
        facts,
        study_uid=Target.of(facts).study_uid,
        photometric=str(dicom.display.PhotometricInterpretation),
        bits=16 if wide else 8,
        making={
            "series_instance_uid": generate_uid(prefix=None),
            "series_number": SERIES_NUMBER,
            "sop_instance_uid": generate_uid(prefix=None),
            "instance_number": 1,
            "manufacturer": NAME,
            "manufacturer_model_name": f"{NAME} deblur",
            "software_versions": __version__,
            "device_serial_number": settings,
            "series_description": f"Deblurred - {WARNING}",
        },
    )
    for element in dicom.display:
        made[element.tag] = element
    made.DerivationDescription = plain_ascii(f"{NAME} {__version__}, settings {settings}: {what}; {WARNING}")[:1024]
    if facts.region is not None:
        made.BodyPartExamined = facts.region.term
    write_dicom(path, made)
    if facts.burned_in or keep_patient:
        return ()
    return (UNCHECKED,)
