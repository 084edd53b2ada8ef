"""What all DICOM outputs share: who made them and how, where in the body, and their references to the source, or none."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from medanomaly import __version__
from medanomaly.io.dicom import _silent_pydicom
from medanomaly.io.dicom_identity import DicomSource, Reference

NAME = "medanomaly"
WARNING = "NOT FOR DIAGNOSIS"
SERIES_NUMBERS = {"sc": 9001, "seg": 9002, "pm": 9003, "pr": 9004}
"""High, so that they come after a study's own series."""


@contextlib.contextmanager
def discreet() -> Iterator[None]:
    """Keep the libraries' warnings and log records inside: they quote element values, such as a name that looks odd to them."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    with warnings.catch_warnings(), _silent_pydicom():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How the results came about, as their headers say it."""

    settings: str
    """Hash of weights and settings: the serial number of the "device" that made them."""
    threshold: float | None
    """Of overlay and mask, in map units."""
    scale_max: float
    """Top of the colour scale; the map's window is 0 to here."""
    unit: str
    """What the map's numbers are."""
    finding: Code
    """Segmented property type."""


def common(kind: str, making: Making) -> dict[str, Any]:
    """What all constructors want: new UIDs, and who made it."""
    return {
        "series_instance_uid": generate_uid(prefix=None),
        "series_number": SERIES_NUMBERS[kind],
        "sop_instance_uid": generate_uid(prefix=None),
        "instance_number": 1,
        "manufacturer": NAME,
        "manufacturer_model_name": f"{NAME} localize",
        "software_versions": __version__,
        "device_serial_number": making.settings,
        "series_description": f"Anomaly {({'sc': 'overlay', 'seg': 'mask', 'pm': 'map', 'pr': 'contour'})[kind]} - {WARNING}",
    }


def finished(made: Dataset, source: DicomSource, making: Making) -> Dataset:
    """The object with its derivation, its region, and references to the real source, or none."""
    threshold = "".join(f", {name} {value}" for name, value in threshold_of(making).items())
    origin = f"{NAME} {__version__}, settings {making.settings}{threshold}"
    about = f"unit: {plain_ascii(making.unit)}{_about_spacing(source)}"
    made.DerivationDescription = f"{origin}; {about}; {WARNING}"[:1024]
    if source.region is not None:
        made.BodyPartExamined = source.region.term
    if source.reference is None:
        _forget_source(made)
    else:
        point_at_source(made, source.reference)
    return made


def _about_spacing(source: DicomSource) -> str:
    """What a reader of measures must know."""
    if source.spacing_mm is None:
        return "; pixel spacing is unknown, 1 mm where a number must stand"
    return "; pixel spacing is that at the detector" if source.spacing_at_detector else ""


def add_side(made: Dataset, source: DicomSource) -> None:
    """Laterality where the body part has sides or is unknown (PS3.3 section C.7.3.1: empty = unknown, absent = there are none)."""
    if source.region is None or source.region.paired:
        made.Laterality = source.laterality if source.laterality in ("L", "R") else ""


def add_anatomy(made: Dataset, source: DicomSource) -> None:
    """Region and side of the frame (C.7.6.16.2.8), which highdicom leaves out, where both are known; else the series' side."""
    side = "" if source.region is None else source.laterality if source.region.paired else "U"
    if source.region is None or not side:
        add_side(made, source)
        return
    anatomy = Dataset()
    anatomy.FrameLaterality = side
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(source.region.code)]
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]


def _forget_source(made: Dataset) -> None:
    for name in ("SourceImageSequence", "ReferencedSeriesSequence"):
        if name in made:
            delattr(made, name)
    for groups in made.get("PerFrameFunctionalGroupsSequence") or []:
        if "DerivationImageSequence" in groups:
            del groups.DerivationImageSequence


def point_at_source(made: Dataset, reference: Reference) -> None:
    """Class and frame of the source wherever its instance is referenced: highdicom was given a stand-in of one frame."""
    for item in _items(made):
        if item.get("ReferencedSOPInstanceUID") == reference.sop_instance_uid:
            item.ReferencedSOPClassUID = reference.sop_class_uid
            if reference.frame is not None:
                item.ReferencedFrameNumber = reference.frame


def _items(dataset: Dataset) -> list[Dataset]:
    """Every item of every sequence, at any depth."""
    found = []
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                found += [item, *_items(item)]
    return found


def threshold_of(making: Making) -> dict[str, str]:
    """The threshold as a parameter of the algorithm, if there is one."""
    return {} if making.threshold is None else {"threshold": f"{making.threshold:.6g}"}


def plain_ascii(text: str) -> str:
    """Printable ASCII without the backslash, which divides values."""
    return "".join(each if " " <= each <= "~" and each != "\\" else "?" for each in text)
