"""DICOM out, through highdicom: the overlay as Secondary Capture, the mask as Segmentation, the map as Parametric Map.

All three have the source's rows, columns and pixel spacing, so they lie on it pixel for pixel. ImageType is DERIVED, SECONDARY for
the Secondary Capture; the standard wants DERIVED, PRIMARY of the other two (PS3.3 sections C.8.20.2 and C.8.32.2). Pictures are in
display order: a MONOCHROME1 source was inverted when it was read, and outputs are RGB or MONOCHROME2. What they tell of the patient
is decided in ``dicom_identity``.

A Parametric Map must lie in a frame of reference (section A.75), and so must a Segmentation that references no image (A.51.5).
Where the source has none, as radiographs have not, both get the same new one and a plane through its origin: that says that they
lie on each other, and nothing about the room. A Segmentation that references such a source lies on it without one.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from medanomaly import __version__
from medanomaly.errors import InputError
from medanomaly.files import atomic_write
from medanomaly.io.dicom_burned_in import refusal
from medanomaly.io.dicom_capture import capture
from medanomaly.io.dicom_codes import ALGORITHM_FAMILY, ANOMALY, CATEGORY, NO_UNITS
from medanomaly.io.dicom_identity import DicomSource, template
from medanomaly.io.dicom_making import (
    NAME,
    WARNING,
    Making,
    add_anatomy,
    common,
    discreet,
    finished,
    plain_ascii,
    threshold_of,
)
from medanomaly.types import BoolArray, FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The study that the outputs of one image go to; made once an image, so that they stay together."""

    study_uid: str
    frame_of_reference_uid: str

    @classmethod
    def of(cls, source: DicomSource) -> Target:
        """The source's study and frame of reference where they are kept, else new ones."""
        study = dict(source.kept).get("StudyInstanceUID") or generate_uid(prefix=None)
        return cls(study_uid=study, frame_of_reference_uid=source.frame_of_reference_uid or generate_uid(prefix=None))


@discreet()
def secondary_capture(
    overlay: npt.NDArray[np.uint8], source: DicomSource, target: Target, making: Making, *, show_text: bool = False
) -> Dataset:
    """The overlay, 8-bit RGB.

    Args:
        overlay: (H, W, 3) of the source's size.
        source: what it was made of.
        target: where it goes.
        making: how it was made.
        show_text: somebody has looked at the text that is burned into the pixels, and allows it; the output then makes no claim that
            nothing identifies (0012,0062 speaks of attributes and pixels).

    Raises:
        InputError: E_BURNED_IN, the source says that text is burned into its pixels and nobody allowed it; E_MASK_SIZE.
    """
    if source.burned_in == "YES" and not (source.kept or show_text):
        raise refusal("take the map and the mask, or --burned-in keep once somebody has looked")
    check_size(overlay, source)
    made = capture(overlay, source, study_uid=target.study_uid, photometric="RGB", bits=8, making=common("sc", making))
    if source.burned_in == "YES" and not source.kept:
        made.PatientIdentityRemoved = "NO"
        del made.DeidentificationMethod
    return finished(made, source, making)


@discreet()
def segmentation(mask: BoolArray, source: DicomSource, target: Target, making: Making) -> Dataset:
    """The mask as one binary segment.

    Args:
        mask: (H, W) of the source's size, True = flagged; may be empty.
        source: what it was made of.
        target: where it goes.
        making: how it was made; needs a threshold.

    Raises:
        InputError: E_MASK_SIZE.
    """
    check_size(mask, source)
    in_room = source.reference is None or source.frame_of_reference_uid is not None
    facts = template(
        source, study_uid=target.study_uid, frame_of_reference_uid=target.frame_of_reference_uid if in_room else None
    )
    segment = SegmentDescription(
        segment_number=1,
        segment_label=f"{making.finding.meaning}, by machine"[:64],
        segmented_property_category=CATEGORY,
        segmented_property_type=making.finding,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=NAME,
            family=ALGORITHM_FAMILY,
            version=__version__,
            parameters={"settings": making.settings, **threshold_of(making)},
        ),
        anatomic_regions=None if source.region is None else [source.region.code],
    )
    made = Segmentation(
        source_images=[facts],
        pixel_array=mask,
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        content_label="ANOMALY",
        content_description=f"Anomaly mask, {WARNING}",
        **common("seg", making),
    )
    if not in_room:
        made.PatientOrientation = list(source.patient_orientation or ())
    return finished(made, source, making)


@discreet()
def parametric_map(anomaly_map: FloatArray, source: DicomSource, target: Target, making: Making) -> Dataset:
    """The map as it is: float32, slope 1, with its quantity, unit (none) and the job's one window.

    Args:
        anomaly_map: (H, W) float32 >= 0 of the source's size.
        source: what it was made of.
        target: where it goes.
        making: how it was made.

    Raises:
        InputError: E_MASK_SIZE.
    """
    check_size(anomaly_map, source)
    facts = template(source, study_uid=target.study_uid, frame_of_reference_uid=target.frame_of_reference_uid)
    mapping = RealWorldValueMapping(
        lut_label="anomaly map",
        lut_explanation=plain_ascii(making.unit)[:64] or "anomaly map",
        unit=NO_UNITS,
        value_range=(0.0, max(float(anomaly_map.max()), making.scale_max)),
        slope=1,
        intercept=0,
        quantity_definition=ANOMALY,
    )
    # LINEAR, the default, knows no window narrower than 1 (C.11.2.1.2), which the scale of most maps is.
    window = highdicom.VOILUTTransformation(making.scale_max / 2, making.scale_max, voi_lut_function="LINEAR_EXACT")
    made = ParametricMap(
        source_images=[facts],
        pixel_array=anomaly_map,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[window],
        content_label="ANOMALY",
        content_description=f"Anomaly map, {WARNING}",
        **common("pm", making),
    )
    add_anatomy(made, source)
    return finished(made, source, making)


@discreet()
def write_dicom(path: Path, made: Dataset) -> None:
    """The file, whole or not at all, with an empty preamble; closed to other users of the machine where it may name a patient.

    Raises:
        ResourceError: it cannot be written.
    """
    with atomic_write(path) as stream:
        if made.get("PatientIdentityRemoved") != "YES":
            # Before there is a byte in it. A share that knows no permissions refuses, and has its own rules.
            with contextlib.suppress(OSError):
                os.fchmod(stream.fileno(), os.fstat(stream.fileno()).st_mode & 0o770)
        made.save_as(stream, enforce_file_format=True)


def check_size(pixels: npt.NDArray[Any], source: DicomSource) -> None:
    """Results lie on the source pixel for pixel, or nowhere."""
    if pixels.shape[:2] != (source.rows, source.columns):
        raise InputError(
            f"result is {pixels.shape[:2]}, the source is {(source.rows, source.columns)}",
            code="E_MASK_SIZE",
            fix="give results at the source's rows and columns",
        )
