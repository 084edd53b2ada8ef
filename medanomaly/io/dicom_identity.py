"""What a DICOM output may know of its source: its grid and view always, its patient and study only where somebody asked.

Outputs are built from an empty data set, never from a copy of the source, so that an element which nobody thought of (private tags,
nested names, the preamble) has no way through. By default they carry no identity: new study, series, instance and frame of reference
UIDs, empty patient and study modules, PatientIdentityRemoved YES, and no reference to the source, whose UIDs would lead back to it.
With ``keep_patient`` the elements of ``KEPT`` are copied and the source is referenced, so that a result lands in its study. Neither way
are names of institutions, devices, operators, or dates of acquisition copied. Content dates say when the output was made.

Text in the pixels is another matter: no tag tells for certain. ``burned_in`` repeats what the source says of itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import DA, TM

from medanomaly.io.dicom import _group, _silent_pydicom, _spacing, _transfer_syntax
from medanomaly.io.dicom_codes import REGIONS, Region
from medanomaly.io.dicom_values import numbers_of
from medanomaly.io.faults import library_faults

KEPT = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
"""Elements copied with ``keep_patient``, as text and nothing below them; besides, the frame of reference and the source's own UIDs."""
REMOVED_BY = "medanomaly: new data set, no element copied that identifies"
"""DeidentificationMethod, at most 64 characters."""
NOMINAL_MM = 1.0
"""Stands for an unknown spacing or thickness where the standard demands one of a Segmentation (C.7.6.16.2.1); outputs say so."""
_DIRECTIONS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Where a frame lies in the patient coordinate system (PS3.3 section C.7.6.2)."""

    position_mm: tuple[float, ...]
    """(3,) centre of the first pixel."""
    orientation: tuple[float, ...]
    """(6,) direction cosines of a row, then of a column."""
    thickness_mm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The image an output was made from; holds its UIDs, so it exists with ``keep_patient`` only."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    frame: int | None
    """1-based, where the source has several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSource:
    """One frame of a DICOM image as its outputs may know it."""

    rows: int
    columns: int
    spacing_mm: tuple[float, float] | None
    """(row, column), at the detector where ``spacing_at_detector``; None = unknown."""
    spacing_at_detector: bool
    plane: Plane | None
    """None = the image has none, as projections do."""
    patient_orientation: tuple[str, str] | None
    """Where rows and columns run to, e.g. ("L", "F")."""
    region: Region | None
    laterality: str
    """R, L, B, U or "" = not said."""
    burned_in: Literal["YES", "NO", ""]
    """BurnedInAnnotation; "" = the source does not say."""
    frame_of_reference_uid: str | None
    """Of the source, with ``keep_patient``; else None."""
    kept: tuple[tuple[str, str], ...] = ()
    """(keyword, text) of ``KEPT``, with ``keep_patient``."""
    reference: Reference | None = None


def read_source(path: Path, frame: int | None, *, keep_patient: bool) -> DicomSource:
    """The facts of a DICOM image that was read before; pixels stay on disk.

    Args:
        path: an image file that :func:`medanomaly.io.dicom.read_dicom` accepted.
        frame: 0-based frame that was read; None = the only one.
        keep_patient: take patient, study and references along. Values that the standard does not allow (a date that is none) stay out.

    Raises:
        InputError: E_HEADER, E_LIMIT, E_UNREADABLE or E_MALFORMED, the file is no longer what it was.
    """
    with library_faults(path, "DICOM", quote=False), _silent_pydicom():
        _transfer_syntax(path)
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        index = frame or 0
        spacing, notes = _spacing(_group(dataset, index, "PixelMeasuresSequence"))
        several = int(dataset.get("NumberOfFrames") or 1) > 1
        plane = _plane(dataset, index)
        return DicomSource(
            rows=int(dataset.Rows),
            columns=int(dataset.Columns),
            spacing_mm=spacing,
            spacing_at_detector=bool(notes),
            plane=plane,
            patient_orientation=_patient_orientation(dataset.get("PatientOrientation")),
            region=REGIONS.get(str(dataset.get("BodyPartExamined") or "").upper()),
            laterality=_one_of(dataset.get("ImageLaterality") or dataset.get("Laterality"), ("R", "L", "B", "U")),
            burned_in=_one_of(dataset.get("BurnedInAnnotation"), ("YES", "NO")),  # type: ignore[arg-type]
            frame_of_reference_uid=_uid(dataset.get("FrameOfReferenceUID")) if keep_patient and plane is not None else None,
            kept=_kept(dataset) if keep_patient else (),
            reference=_reference(dataset, index + 1 if several else None) if keep_patient else None,
        )


def template(source: DicomSource, *, study_uid: str, frame_of_reference_uid: str | None) -> Dataset:
    """What highdicom takes for the source image: a data set of nothing but facts that may be passed on.

    Args:
        source: the facts.
        study_uid: of the outputs, where the source's own is not kept.
        frame_of_reference_uid: of the outputs; their plane is the source's, else :func:`nominal_plane`. None = without a plane.
    """
    made = Dataset()
    # UTF-8, whatever the source was written in: values are kept as text.
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in KEPT:
        setattr(made, keyword, "")
    for keyword, text in source.kept:
        setattr(made, keyword, text)
    if not source.kept:
        made.PatientIdentityRemoved, made.DeidentificationMethod = "YES", REMOVED_BY
    made.StudyInstanceUID = made.StudyInstanceUID or study_uid
    reference = source.reference
    # Any class without a mandatory plane serves: references get the real one when the output is finished.
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = generate_uid(prefix=None) if reference is None else reference.sop_instance_uid
    made.SeriesInstanceUID = generate_uid(prefix=None) if reference is None else reference.series_instance_uid
    made.Modality = "OT"
    made.Rows, made.Columns = source.rows, source.columns
    if source.spacing_mm is not None:
        made.PixelSpacing, made.SliceThickness = list(source.spacing_mm), NOMINAL_MM
    if frame_of_reference_uid is not None:
        plane = source.plane or nominal_plane(source.patient_orientation)
        made.FrameOfReferenceUID, made.PositionReferenceIndicator = frame_of_reference_uid, ""
        made.ImagePositionPatient, made.ImageOrientationPatient = list(plane.position_mm), list(plane.orientation)
        made.PixelSpacing = list(source.spacing_mm or (NOMINAL_MM, NOMINAL_MM))
        made.SliceThickness = plane.thickness_mm or NOMINAL_MM
    return made


def nominal_plane(patient_orientation: tuple[str, str] | None) -> Plane:
    """A plane through the origin of a new frame of reference, for images without one; turned as the image says, if it does."""
    row, column = patient_orientation or ("L", "P")
    return Plane(position_mm=(0.0, 0.0, 0.0), orientation=(*_DIRECTIONS[row], *_DIRECTIONS[column]))


def _plane(dataset: Dataset, index: int) -> Plane | None:
    """The frame's plane where position and two perpendicular unit vectors are given."""
    position = numbers_of(_group(dataset, index, "PlanePositionSequence").get("ImagePositionPatient"))
    cosines = numbers_of(_group(dataset, index, "PlaneOrientationSequence").get("ImageOrientationPatient"))
    if len(position) != 3 or len(cosines) != 6 or not all(map(math.isfinite, (*position, *cosines))):
        return None
    axes = np.array(cosines).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-3):
        return None
    thickness = numbers_of(_group(dataset, index, "PixelMeasuresSequence").get("SliceThickness"))
    known = len(thickness) == 1 and math.isfinite(thickness[0]) and thickness[0] > 0
    return Plane(position_mm=tuple(position), orientation=tuple(cosines), thickness_mm=thickness[0] if known else None)


def _patient_orientation(value: Any) -> tuple[str, str] | None:
    """Both directions where each is one letter and they are perpendicular; oblique ones ("LP") are left out."""
    letters = [str(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(letters) != 2 or not set(letters) <= _DIRECTIONS.keys():
        return None
    return None if np.dot(_DIRECTIONS[letters[0]], _DIRECTIONS[letters[1]]) else (letters[0], letters[1])


def _kept(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    """Text of the allowed elements; a sequence, a list of values or an impossible date is not copied."""
    texts = []
    for keyword in KEPT:
        text = str(dataset.get(keyword) or "")
        if keyword == "PatientSex":
            text = _one_of(text, ("M", "F", "O"))
        elif keyword.endswith(("Date", "Time")):
            text = _moment(text, TM if keyword.endswith("Time") else DA)
        elif keyword == "StudyInstanceUID":
            text = _uid(text) or ""
        texts.append((keyword, text))
    return tuple(texts)


def _moment(text: str, kind: type[DA] | type[TM]) -> str:
    try:
        return str(kind(text)) if text else ""
    except ValueError:
        return ""


def _reference(dataset: Dataset, frame: int | None) -> Reference | None:
    uids = [_uid(dataset.get(name)) for name in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")]
    if None in uids:
        return None
    return Reference(sop_class_uid=str(uids[0]), sop_instance_uid=str(uids[1]), series_instance_uid=str(uids[2]), frame=frame)


def _uid(value: Any) -> str | None:
    text = str(value or "")
    return text if text and UID(text).is_valid else None


def _one_of(value: Any, terms: tuple[str, ...]) -> str:
    text = str(value or "").upper()
    return text if text in terms else ""
