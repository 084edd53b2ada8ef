"""The contour as a presentation state: it lies on the mask, shows the source as the source says, and is nothing without its image."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_canaries import (
    ALWAYS_OUT,
    IDENTITY,
    INSTANCE_UID,
    SERIES_UID,
    STUDY_UID,
    traces,
    write_enhanced,
    write_slice,
    write_source,
)
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, EnhancedCTImageStorage
from skimage.draw import polygon2mask
from test_io_dicom_out import MAKING

from medanomaly.errors import InputError
from medanomaly.io.dicom_contours import MAX_CONTOURS, MAX_POINTS, contours_of
from medanomaly.io.dicom_identity import read_source
from medanomaly.io.dicom_out import Target, write_dicom
from medanomaly.io.dicom_presentation import presentation_state
from medanomaly.types import BoolArray

MASK = np.zeros((9, 13), np.bool_)
MASK[0:4, 0:5] = True
MASK[6, 9] = True


def written(path: Path, *, mask: BoolArray = MASK, frame: int | None = None) -> Path:
    source = read_source(path, frame, keep_patient=True)
    write_dicom(path.with_name("pr.dcm"), presentation_state(mask, path, frame, source, Target.of(source), MAKING))
    return path.with_name("pr.dcm")


def state_of(path: Path, **options: object) -> Dataset:
    return pydicom.dcmread(written(path, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_polygons_filled_again_are_the_mask(seed: int) -> None:
    mask = np.random.default_rng(seed).random((20, 31)) > 0.7
    mask[2:15, 4:20] = True  # a blob with speckles, some at the border
    mask[5:9, 8:12] = False  # and a hole
    polygons, total = contours_of(mask)
    assert len(polygons) == total
    # A pixel is inside where an odd number of polygons go around its centre.
    filled = np.zeros(mask.shape, np.bool_)
    for points in polygons:
        assert points.min() >= 0
        assert (points <= [31, 20]).all()
        np.testing.assert_array_equal(points[0], points[-1])
        filled ^= polygon2mask(mask.shape, points[:, ::-1] - 0.5)
    np.testing.assert_array_equal(filled, mask)


def test_a_mask_of_speckles_or_of_a_long_edge_still_fits_into_an_object() -> None:
    speckles = np.zeros((60, 60), np.bool_)
    speckles[::2, ::2] = True
    speckles[0:5, 0:5] = True
    polygons, total = contours_of(speckles)
    assert (len(polygons), total > MAX_CONTOURS) == (MAX_CONTOURS, True)
    assert np.ptp(polygons[0], axis=0).min() > 4, "the largest is kept"
    comb = np.zeros((9, 4400), np.bool_)
    comb[:, ::2] = True
    comb[4] = True
    [longest, *_], _ = contours_of(comb)
    assert len(longest) <= MAX_POINTS


def test_the_contour_is_on_its_image_in_the_colour_of_predictions_and_says_by_whom(tmp_path: Path) -> None:
    made = state_of(write_source(tmp_path / "a.dcm", BodyPartExamined="CHEST"))
    [annotation] = made.GraphicAnnotationSequence
    data = [np.array(each.GraphicData).reshape(-1, 2) for each in annotation.GraphicObjectSequence]
    assert {each.GraphicAnnotationUnits for each in annotation.GraphicObjectSequence} == {"PIXEL"}
    np.testing.assert_array_equal([data[0].min(axis=0), data[0].max(axis=0)], [[0, 0], [5, 4]])
    np.testing.assert_array_equal([data[1].min(axis=0), data[1].max(axis=0)], [[9, 6], [10, 7]])
    assert annotation.TextObjectSequence[0].UnformattedTextValue.startswith("2 anomaly contours by machine at 0.5")
    assert "NOT FOR DIAGNOSIS" in annotation.TextObjectSequence[0].UnformattedTextValue
    assert "GraphicObjectSequence" not in state_of(tmp_path / "a.dcm", mask=MASK & False).GraphicAnnotationSequence[0]
    for item in (made.ReferencedSeriesSequence[0], annotation):
        [image] = item.ReferencedImageSequence
        assert image.ReferencedSOPInstanceUID == INSTANCE_UID
        assert image.ReferencedSOPClassUID == DigitalXRayImageStorageForPresentation
    assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES_UID != made.SeriesInstanceUID
    assert made.StudyInstanceUID == STUDY_UID
    assert list(made.DisplayedAreaSelectionSequence[0].DisplayedAreaBottomRightHandCorner) == [13, 9]


def test_values_are_shown_as_the_source_says(tmp_path: Path) -> None:
    tags = {"RescaleSlope": "2", "RescaleIntercept": "-5", "WindowCenter": ["40", "90"], "WindowWidth": ["100", "20"]}
    plain = state_of(write_source(tmp_path / "a.dcm", **tags, PixelSpacing=[0.2, 0.3]))
    assert (plain.RescaleSlope, plain.RescaleIntercept, plain.RescaleType) == (2, -5, "US")
    [view] = plain.SoftcopyVOILUTSequence
    assert (view.WindowCenter, view.WindowWidth, view.VOILUTFunction) == (40, 100, "LINEAR")
    assert plain.PresentationLUTShape == "IDENTITY"
    assert plain.DisplayedAreaSelectionSequence[0].PresentationPixelSpacing == [0.2, 0.3]
    inverse = state_of(
        write_source(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1", WindowCenter="1", WindowWidth="0")
    )
    assert inverse.PresentationLUTShape == "INVERSE"
    assert "SoftcopyVOILUTSequence" not in inverse
    assert "RescaleSlope" not in inverse


@pytest.mark.parametrize(("first", "bits"), [(0, 12), (-3, 12), (0, 8)])
def test_tables_are_repeated_entry_by_entry_and_without_their_free_text(tmp_path: Path, first: int, bits: int) -> None:
    tables = []
    for explanation in ("Canary modality", "Canary view"):
        table = Dataset()
        table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [6, first, bits])
        table.add_new("LUTData", "OW", np.array([0, 9, 30, 70, 200, 2**bits - 1], "<u2").tobytes())
        table.LUTExplanation, table.ModalityLUTType = explanation, "CANARYTYPE"
        tables.append(table)
    path = write_source(tmp_path / "a.dcm", ModalityLUTSequence=tables[:1], VOILUTSequence=tables[1:])
    made = state_of(path)
    for [table] in (made.ModalityLUTSequence, made.SoftcopyVOILUTSequence[0].VOILUTSequence):
        assert list(table.LUTDescriptor) == [6, first, bits]
        assert np.frombuffer(table.LUTData, "<u2").tolist() == [0, 9, 30, 70, 200, 2**bits - 1]
        assert "LUTExplanation" not in table
    assert made.ModalityLUTSequence[0].ModalityLUTType == "US"


def test_without_the_patient_there_is_none_and_colour_has_none(tmp_path: Path) -> None:
    path = write_source(tmp_path / "a.dcm")
    source = read_source(path, None, keep_patient=False)
    with pytest.raises(InputError, match="E_IDENTITY"):
        presentation_state(MASK, path, None, source, Target.of(source), MAKING)
    kept = read_source(path, None, keep_patient=True)
    with pytest.raises(InputError, match="E_MASK_SIZE"):
        presentation_state(MASK.T, path, None, kept, Target.of(kept), MAKING)
    colour = write_source(tmp_path / "b.dcm", PhotometricInterpretation="RGB", SamplesPerPixel=3)
    with pytest.raises(InputError, match="E_COLOR"):
        presentation_state(MASK, colour, None, kept, Target.of(kept), MAKING)


def test_only_the_allow_list_passes(tmp_path: Path) -> None:
    path = written(write_source(tmp_path / "canaryfile.dcm"))
    assert traces(path, [word for word in ALWAYS_OUT if word != "canary"]) == []
    assert path.read_bytes().lower().replace(b"canarywalla", b"").count(b"canary") == 0
    assert traces(path, IDENTITY) == traces(tmp_path / "canaryfile.dcm", IDENTITY) != []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("kind", ["film", "breast", "slice", "enhanced"])
def test_dciodvfy_finds_no_error_in_a_presentation_state(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in.dcm"
    if kind == "slice":
        write_slice(path, RescaleSlope="1", RescaleIntercept="-1024", WindowCenter="40", WindowWidth="400")
    elif kind == "enhanced":
        write_enhanced(path)
    else:
        write_source(
            path, BodyPartExamined="BREAST" if kind == "breast" else "CHEST", ImageLaterality="L", PixelSpacing=[0.1, 0.3]
        )
    file = written(path, frame=2 if kind == "enhanced" else None)
    if kind == "enhanced":
        reference = pydicom.dcmread(file).ReferencedSeriesSequence[0].ReferencedImageSequence[0]
        assert (reference.ReferencedSOPClassUID, reference.ReferencedFrameNumber) == (EnhancedCTImageStorage, 3)
    done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    assert "GrayscaleSoftcopyPresentationState" in lines
    assert [line for line in lines if line.startswith(("Error", "Abort"))] == [], lines
