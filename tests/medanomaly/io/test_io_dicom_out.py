"""DICOM out: what is read back is what was written, on the source's grid, in a form that a validator accepts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_canaries import FRAME_UID, INSTANCE_UID, KEPT, SERIES_UID, STUDY_UID, write_enhanced, write_slice, write_source
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, EnhancedCTImageStorage

from medanomaly import __version__
from medanomaly.errors import ConfigError, InputError
from medanomaly.io.dicom_codes import REGIONS, finding_code
from medanomaly.io.dicom_identity import nominal_plane, read_source
from medanomaly.io.dicom_making import Making
from medanomaly.io.dicom_out import Target, parametric_map, secondary_capture, segmentation, write_dicom

KINDS = ("sc", "seg", "pm")
RANDOM = np.random.default_rng(0)
MAP = RANDOM.random((9, 13), dtype=np.float32)
OVERLAY = RANDOM.integers(0, 256, (9, 13, 3), dtype=np.uint8)
MAKING = Making(
    settings="0123456789abcdef", threshold=0.5, scale_max=0.4, unit="|x − pseudo-healthy|", finding=finding_code("lesion")
)


def write_all(source_path: Path, out: Path, *, keep: bool = False, frame: int | None = None) -> dict[str, Path]:
    """The three outputs of one source, as a job writes them."""
    source = read_source(source_path, frame, keep_patient=keep)
    target = Target.of(source)
    made = {
        "sc": secondary_capture(OVERLAY, source, target, MAKING),
        "seg": segmentation(MAP > 0.5, source, target, MAKING),
        "pm": parametric_map(MAP, source, target, MAKING),
    }
    for kind, dataset in made.items():
        write_dicom(out / f"{kind}.dcm", dataset)
    return {kind: out / f"{kind}.dcm" for kind in made}


def read_all(paths: dict[str, Path]) -> dict[str, Dataset]:
    return {kind: pydicom.dcmread(path) for kind, path in paths.items()}


def spacing_of(made: Dataset) -> list[float]:
    if "SharedFunctionalGroupsSequence" in made:
        made = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return [float(value) for value in made.PixelSpacing]


@pytest.mark.parametrize("keep", [False, True])
def test_values_sizes_and_spacing_come_back_as_they_were(tmp_path: Path, keep: bool) -> None:
    paths = write_all(write_source(tmp_path / "a.dcm", PixelSpacing=[0.168, 0.2]), tmp_path, keep=keep)
    made = read_all(paths)
    np.testing.assert_array_equal(made["sc"].pixel_array, OVERLAY)
    np.testing.assert_array_equal(made["seg"].pixel_array, MAP > 0.5)
    np.testing.assert_array_equal(made["pm"].pixel_array, MAP)
    assert made["pm"].pixel_array.dtype == np.float32
    assert {(one.Rows, one.Columns) for one in made.values()} == {(9, 13)}
    assert [spacing_of(one) for one in made.values()] == [[0.168, 0.2]] * 3
    np.testing.assert_array_equal(highdicom.seg.segread(paths["seg"]).pixel_array, MAP > 0.5)
    np.testing.assert_array_equal(highdicom.pm.ParametricMap.from_file(paths["pm"]).get_volume().array[0], MAP)


def test_headers_say_what_was_made_by_what_and_how_to_show_it(tmp_path: Path) -> None:
    made = read_all(write_all(write_source(tmp_path / "a.dcm", BodyPartExamined="CHEST"), tmp_path))
    assert made["sc"].ImageType == ["DERIVED", "SECONDARY"]
    assert all(one.ImageType[0] == "DERIVED" for one in made.values())
    assert made["sc"].PhotometricInterpretation == "RGB"
    assert made["pm"].PhotometricInterpretation == "MONOCHROME2"
    segment = made["seg"].SegmentSequence[0]
    assert made["seg"].SegmentationType == "BINARY"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"
    assert segment.AnatomicRegionSequence[0].CodeMeaning == "Chest"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("medanomaly", __version__)
    groups = made["pm"].SharedFunctionalGroupsSequence[0]
    mapping = groups.RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    unit = mapping.MeasurementUnitsCodeSequence[0]
    assert (unit.CodingSchemeDesignator, unit.CodeValue) == ("UCUM", "1")
    window = groups.FrameVOILUTSequence[0]
    assert (float(window.WindowCenter), float(window.WindowWidth), window.VOILUTFunction) == (0.2, 0.4, "LINEAR_EXACT")
    for one in made.values():
        assert "NOT FOR DIAGNOSIS" in one.SeriesDescription
        assert "threshold 0.5" in one.DerivationDescription
        assert one.DeviceSerialNumber == MAKING.settings


def test_uids_are_new_valid_and_belong_together(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.dcm")
    first, second = (read_all(write_all(source, tmp_path / name)) for name in ("1", "2"))
    both = [*first.values(), *second.values()]
    assert len({one.SOPInstanceUID for one in both}) == len({one.SeriesInstanceUID for one in both}) == 6
    assert [len({one.StudyInstanceUID for one in made.values()}) for made in (first, second)] == [1, 1]
    assert first["seg"].FrameOfReferenceUID == first["pm"].FrameOfReferenceUID != second["pm"].FrameOfReferenceUID
    for one in both:
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        assert pydicom.uid.UID(one.SOPInstanceUID).is_valid


def test_by_default_nothing_is_referenced_and_identity_is_said_to_be_removed(tmp_path: Path) -> None:
    for one in read_all(write_all(write_slice(tmp_path / "a.dcm"), tmp_path)).values():
        assert one.PatientIdentityRemoved == "YES"
        assert one.DeidentificationMethod
        assert str(one.PatientName) == one.PatientID == ""
        assert not [element for element in one.iterall() if element.keyword == "ReferencedSOPInstanceUID"]


def test_with_the_patient_outputs_join_the_study_and_reference_their_source(tmp_path: Path) -> None:
    for one in read_all(write_all(write_source(tmp_path / "a.dcm"), tmp_path, keep=True)).values():
        assert {keyword: str(one[keyword].value) for keyword in KEPT} == KEPT
        assert "PatientIdentityRemoved" not in one
        assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == INSTANCE_UID
        assert one.SourceImageSequence[0].ReferencedSOPClassUID == DigitalXRayImageStorageForPresentation
        assert one.SeriesInstanceUID != SERIES_UID
        assert one.SOPInstanceUID != INSTANCE_UID


def test_a_slice_keeps_its_plane_and_with_the_patient_its_frame_of_reference(tmp_path: Path) -> None:
    source = write_slice(tmp_path / "a.dcm")
    for keep in (False, True):
        made = read_all(write_all(source, tmp_path / str(keep), keep=keep))
        for kind in ("seg", "pm"):
            groups = (made[kind].PerFrameFunctionalGroupsSequence[0], made[kind].SharedFunctionalGroupsSequence[0])
            assert groups[0].PlanePositionSequence[0].ImagePositionPatient == [-10, 20, 33.5]
            assert groups[1].PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 0, -1]
            assert groups[1].PixelMeasuresSequence[0].SliceThickness == 2.5
            assert (made[kind].FrameOfReferenceUID == FRAME_UID) is keep
        if keep:
            assert made["sc"].SourceImageSequence[0].ReferencedSOPClassUID == CTImageStorage


def test_a_radiograph_gets_a_nominal_plane_turned_as_it_says_and_no_room_of_its_own_where_it_is_referenced(
    tmp_path: Path,
) -> None:
    assert nominal_plane(("L", "F")).orientation == (1, 0, 0, 0, 0, -1)
    source = write_source(tmp_path / "a.dcm", PatientOrientation=["L", "F"], FrameOfReferenceUID=FRAME_UID)
    made = read_all(write_all(source, tmp_path / "default"))
    for kind in ("seg", "pm"):
        assert made[kind].SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient == [
            1,
            0,
            0,
            0,
            0,
            -1,
        ]
    kept = read_all(write_all(source, tmp_path / "kept", keep=True))
    assert "FrameOfReferenceUID" not in kept["seg"]
    assert kept["pm"].FrameOfReferenceUID != FRAME_UID
    assert kept["sc"].PatientOrientation == ["L", "F"]


@pytest.mark.parametrize("value", [["LP", "F"], ["L", "R"], "L", ["X", "Y"]])
def test_an_orientation_that_is_no_pair_of_axes_is_left_out(tmp_path: Path, value: object) -> None:
    assert (
        read_source(write_source(tmp_path / "a.dcm", PatientOrientation=value), None, keep_patient=False).patient_orientation
        is None
    )


def test_the_frame_that_was_read_is_the_one_that_is_described_and_referenced(tmp_path: Path) -> None:
    made = read_all(write_all(write_enhanced(tmp_path / "a.dcm"), tmp_path, keep=True, frame=1))
    for one in made.values():
        assert spacing_of(one) == [0.2, 0.4]
        reference = one.SourceImageSequence[0]
        assert (reference.ReferencedSOPClassUID, reference.ReferencedFrameNumber) == (EnhancedCTImageStorage, 2)


def test_spacing_at_the_detector_and_unknown_spacing_are_said(tmp_path: Path) -> None:
    detector = write_source(tmp_path / "a.dcm", ImagerPixelSpacing=[0.1, 0.1])
    assert all("at the detector" in one.DerivationDescription for one in read_all(write_all(detector, tmp_path)).values())
    made = read_all(write_all(write_source(tmp_path / "b.dcm"), tmp_path))
    assert "PixelSpacing" not in made["sc"]
    assert all("pixel spacing is unknown" in one.DerivationDescription for one in made.values())


def test_text_in_the_pixels_stops_the_overlay_but_not_mask_and_map(tmp_path: Path) -> None:
    path = write_source(tmp_path / "a.dcm", BurnedInAnnotation="YES")
    source = read_source(path, None, keep_patient=False)
    with pytest.raises(InputError) as caught:
        secondary_capture(OVERLAY, source, Target.of(source), MAKING)
    assert caught.value.code == "E_BURNED_IN"
    assert segmentation(MAP > 0.5, source, Target.of(source), MAKING).NumberOfFrames == 1
    assert parametric_map(MAP, source, Target.of(source), MAKING).BurnedInAnnotation == "NO"
    kept = read_source(path, None, keep_patient=True)
    assert secondary_capture(OVERLAY, kept, Target.of(kept), MAKING).BurnedInAnnotation == "YES"


def test_a_result_of_another_size_is_refused(tmp_path: Path) -> None:
    source = read_source(write_source(tmp_path / "a.dcm"), None, keep_patient=False)
    with pytest.raises(InputError, match="the source is"):
        parametric_map(MAP.T.copy(), source, Target.of(source), MAKING)


def test_an_empty_mask_is_an_empty_segment(tmp_path: Path) -> None:
    source = read_source(write_source(tmp_path / "a.dcm"), None, keep_patient=False)
    write_dicom(tmp_path / "seg.dcm", segmentation(np.zeros((9, 13), np.bool_), source, Target.of(source), MAKING))
    made = pydicom.dcmread(tmp_path / "seg.dcm")
    assert made.pixel_array.shape == (9, 13)
    assert not made.pixel_array.any()


def test_names_of_findings_are_read_in_any_spelling_and_unknown_ones_refused() -> None:
    assert finding_code("Pleural Effusion") == finding_code("pleural_effusion")
    assert finding_code("pleural effusion").value == "60046008"
    with pytest.raises(ConfigError, match="did you mean Pneumothorax"):
        finding_code("pneumotorax")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("source", ["film", "no spacing", "breast", "knee", "nowhere", "slice", "enhanced"])
def test_dciodvfy_finds_no_error(tmp_path: Path, source: str, keep: bool) -> None:
    films = {
        "film": {"BodyPartExamined": "CHEST", "PixelSpacing": [0.2, 0.3], "PatientOrientation": ["L", "F"]},
        "no spacing": {"BodyPartExamined": "CHEST"},
        "breast": {"BodyPartExamined": "BREAST", "ImageLaterality": "L", "ImagerPixelSpacing": [0.1, 0.1]},
        "knee": {"BodyPartExamined": "KNEE", "PixelSpacing": [0.1, 0.1]},
        "nowhere": {},
    }
    if source in films:
        path = write_source(tmp_path / "in.dcm", **films[source])
    else:
        path = (write_slice if source == "slice" else write_enhanced)(tmp_path / "in.dcm")
    for kind, file in write_all(path, tmp_path, keep=keep, frame=2 if source == "enhanced" else None).items():
        done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True)
        lines = (done.stdout + done.stderr).splitlines()
        assert {"sc": "SCImage", "seg": "Segmentation", "pm": "ParametricMap"}[kind] in lines
        assert [line for line in lines if line.startswith(("Error", "Abort"))] == [], (kind, lines)


def test_every_region_has_its_term_as_key_and_a_snomed_code() -> None:
    assert all(region.term == term and region.code.scheme_designator == "SCT" for term, region in REGIONS.items())
    assert REGIONS["CHEST"].code.value == "816094009"


def test_all_of_the_study_is_kept_under_its_uid(tmp_path: Path) -> None:
    source = read_source(write_source(tmp_path / "a.dcm"), None, keep_patient=True)
    assert Target.of(source).study_uid == STUDY_UID
    assert Target.of(read_source(tmp_path / "a.dcm", None, keep_patient=False)).study_uid != STUDY_UID
