"""DICOM out: the mask's contour as a Grayscale Softcopy Presentation State (PS3.3 section A.33.1), drawn over the source by the viewer.

The source's own pixels are shown, with its own modality LUT and window, so nothing is lost and the contour can be switched off. It is
nothing without the UIDs of its image: there is one only where the patient may be kept.
"""

from __future__ import annotations

import math
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from highdicom.color import CIELabColor
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from medanomaly.errors import InputError
from medanomaly.io.dicom import _GRAY, _group, _silent_pydicom, _transfer_syntax
from medanomaly.io.dicom_contours import contours_of
from medanomaly.io.dicom_identity import DicomSource, template
from medanomaly.io.dicom_making import WARNING, Making, add_side, common, discreet, plain_ascii, point_at_source
from medanomaly.io.dicom_out import Target, check_size
from medanomaly.io.dicom_values import lut_entries, numbers_of
from medanomaly.io.faults import library_faults
from medanomaly.types import BoolArray

LAYER = "ANOMALY"
CYAN = (0, 229, 255)
"""On no gray, and the colour of predicted outlines in all our pictures."""
_CAPTION_BOX = (0.01, 0.95, 0.99, 0.99)
"""Left, top, right and bottom of the caption in shares of the displayed area: below the anatomy, beside no side marker."""


@discreet()
def presentation_state(
    mask: BoolArray, path: Path, frame: int | None, source: DicomSource, target: Target, making: Making
) -> Dataset:
    """The mask's contours over the source, and a line that says what they are.

    Args:
        mask: (H, W) of the source's size, True = flagged; may be empty.
        path: the source, whose look-up tables are repeated.
        frame: 0-based frame that was read; None = the only one.
        source: what was made of it, with the patient.
        target: where it goes.
        making: how it was made; needs a threshold.

    Raises:
        InputError: E_COLOR, the source is not gray; E_IDENTITY, it cannot be referenced; E_MASK_SIZE; E_HEADER and the like where it is
            no longer what it was.
    """
    check_size(mask, source)
    if source.reference is None:
        raise InputError(
            "a presentation state must reference its image, whose UIDs are unknown or not to be kept",
            code="E_IDENTITY",
            path=path,
            fix="use --keep-patient true, for use inside the hospital",
        )
    with library_faults(path, "DICOM", quote=False), _silent_pydicom():
        _transfer_syntax(path)
        stored = pydicom.dcmread(path, stop_before_pixels=True)
    photometric = str(stored.get("PhotometricInterpretation"))
    if photometric not in _GRAY:
        raise InputError("a presentation state of contours is made of gray images only", code="E_COLOR", path=path)
    facts = template(source, study_uid=target.study_uid, frame_of_reference_uid=None)
    facts.SamplesPerPixel = 1
    found, total = contours_of(mask)
    layer = GraphicLayer(LAYER, 1, description="Anomaly contour by machine", display_color=CIELabColor.from_rgb(*CYAN))
    annotation = GraphicAnnotation(
        referenced_images=[facts],
        graphic_layer=layer,
        graphic_objects=[GraphicObject("POLYLINE", points.astype(np.float32), "PIXEL") for points in found] or None,
        text_objects=[
            TextObject(caption(making, len(found), total), "DISPLAY", bounding_box=_CAPTION_BOX, text_justification="LEFT")
        ],
    )
    made = GrayscaleSoftcopyPresentationState(
        referenced_images=[facts],
        content_label=LAYER,
        content_description=f"Anomaly contour, {WARNING}",
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        presentation_lut_transformation=highdicom.PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
        ),
        **common("pr", making),
    )
    _add_modality(made, _group(stored, frame or 0, "PixelValueTransformationSequence"))
    _add_voi(made, _group(stored, frame or 0, "FrameVOILUTSequence"))
    if source.spacing_mm is not None and source.spacing_mm[0] != source.spacing_mm[1]:
        area = made.DisplayedAreaSelectionSequence[0]
        del area.PresentationPixelAspectRatio
        area.PresentationPixelSpacing = [DSfloat(value, auto_format=True) for value in source.spacing_mm]
    if source.region is not None:
        made.BodyPartExamined = source.region.term
    add_side(made, source)
    point_at_source(made, source.reference)
    return made


def caption(making: Making, num_drawn: int, num_contours: int) -> str:
    """What the lines are, in the picture itself."""
    threshold = f" at {making.threshold:.4g}" if making.threshold is not None else ""
    left_out = f", the {num_drawn} largest of {num_contours}" if num_drawn < num_contours else ""
    what = f"{num_contours} anomaly contour{'' if num_contours == 1 else 's'} by machine{left_out}{threshold}"
    return f"{what} ({plain_ascii(making.unit)[:60]}), {WARNING}"


def _add_modality(made: Dataset, attributes: Dataset) -> None:
    """Rescale or table of the source; where half of a rescale is missing it counts as in :func:`apply_modality`."""
    if attributes.get("ModalityLUTSequence"):
        made.ModalityLUTSequence = [_table(attributes.ModalityLUTSequence[0])]
        made.ModalityLUTSequence[0].ModalityLUTType = "US"
        return
    slope, intercept = (numbers_of(attributes.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope or intercept:
        made.RescaleSlope = DSfloat(slope[0] if slope else 1.0, auto_format=True)
        made.RescaleIntercept = DSfloat(intercept[0] if intercept else 0.0, auto_format=True)
        made.RescaleType = "US"


def _add_voi(made: Dataset, attributes: Dataset) -> None:
    """The source's first table, else its first window, the ones that are read; with neither a viewer shows all values."""
    item = Dataset()
    centers, widths = numbers_of(attributes.get("WindowCenter")), numbers_of(attributes.get("WindowWidth"))
    function = str(attributes.get("VOILUTFunction") or "LINEAR").upper()
    if attributes.get("VOILUTSequence"):
        item.VOILUTSequence = [_table(attributes.VOILUTSequence[0])]
    elif (
        centers
        and len(centers) == len(widths)
        and math.isfinite(centers[0])
        and widths[0] >= (1 if function == "LINEAR" else 1e-9)
    ):
        item.WindowCenter, item.WindowWidth, item.VOILUTFunction = (
            DSfloat(centers[0], auto_format=True),
            DSfloat(widths[0], auto_format=True),
            function,
        )
    else:
        return
    made.SoftcopyVOILUTSequence = [item]


def _table(item: Dataset) -> Dataset:
    """A look-up table without its explanation, which is free text, in the byte order of our files."""
    size, first, bits = (int(value) for value in item.LUTDescriptor)
    entries = lut_entries(item.LUTData, size or 2**16, little_endian=item.original_encoding[1] is not False)
    made = Dataset()
    # Three numbers of one sign (PS3.3 section C.11.1.1.1): the size, which is never negative, wraps where the first value is.
    signed = first < 0
    descriptor = [size - 2**16 if signed and size >= 2**15 else size, first, bits]
    made.add_new("LUTDescriptor", "SS" if signed else "US", descriptor)
    made.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return made
