"""A Secondary Capture of what was made from a DICOM image: its pixels, and what it may tell of patient, study and source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy.typing as npt
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from medanomaly.io.dicom_codes import SOURCE_IMAGE
from medanomaly.io.dicom_identity import DicomSource, template
from medanomaly.io.dicom_making import add_side


def capture(
    pixels: npt.NDArray[Any],
    source: DicomSource,
    *,
    study_uid: str,
    photometric: str,
    bits: Literal[8, 16],
    making: Mapping[str, Any],
) -> SCImage:
    """A DERIVED Secondary Capture that lies on its source; whether burned-in text may go out is asked elsewhere.

    Args:
        pixels: (H, W) uint8 or uint16 or, in colour, (H, W, 3) uint8, of the source's size.
        source: what it was made of; its patient and study go along where they are kept, and it is referenced then.
        study_uid: the study it goes to.
        photometric: photometric interpretation.
        bits: allocated for each value.
        making: its new UIDs, series and "device": highdicom's arguments of these names.
    """
    shown = template(source, study_uid=study_uid, frame_of_reference_uid=None)
    made = SCImage(
        pixel_array=pixels,
        photometric_interpretation=photometric,
        bits_allocated=bits,
        coordinate_system="PATIENT",
        # The library wants a guess where the image says nothing; it is taken back below.
        patient_orientation=source.patient_orientation or ("L", "P"),
        pixel_spacing=source.spacing_mm,
        study_instance_uid=shown.StudyInstanceUID,
        patient_id=shown.PatientID,
        patient_name=str(shown.PatientName),
        patient_birth_date=shown.PatientBirthDate,
        patient_sex=shown.PatientSex,
        accession_number=shown.AccessionNumber,
        study_id=shown.StudyID,
        study_date=shown.StudyDate or None,
        study_time=shown.StudyTime or None,
        referring_physician_name=str(shown.ReferringPhysicianName),
        specific_character_set=shown.SpecificCharacterSet,
        **making,
    )
    made.copy_patient_and_study_information(shown)
    made.PatientOrientation = list(source.patient_orientation or ())
    made.ImageType = ["DERIVED", "SECONDARY"]
    add_side(made, source)
    if source.burned_in:
        made.BurnedInAnnotation = source.burned_in
    if source.reference is not None:
        item = Dataset()
        item.ReferencedSOPClassUID = source.reference.sop_class_uid
        item.ReferencedSOPInstanceUID = source.reference.sop_instance_uid
        item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(SOURCE_IMAGE)]
        made.SourceImageSequence = [item]
    return made
