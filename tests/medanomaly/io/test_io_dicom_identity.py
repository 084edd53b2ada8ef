"""What passes from a source to its outputs: nothing that identifies, or the allow-list and nothing else."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom
import pytest
from dicom_canaries import ALWAYS_OUT, FRAME_UID, IDENTITY, KEPT, UIDS, traces, write_enhanced, write_slice, write_source
from test_io_dicom_out import write_all

from medanomaly.io.dicom_identity import KEPT as ALLOWED
from medanomaly.io.dicom_identity import read_source

SOURCES = {"film": write_source, "slice": write_slice, "enhanced": write_enhanced}


@pytest.mark.parametrize("kind", SOURCES)
def test_by_default_no_byte_of_an_output_tells_who_it_was(tmp_path: Path, kind: str) -> None:
    source = SOURCES[kind](tmp_path / "canaryfile.dcm")
    assert len(traces(source, [*IDENTITY, *UIDS[:3]])) >= 14, "the source does hold what is looked for"
    for path in write_all(source, tmp_path / "out", frame=1 if kind == "enhanced" else None).values():
        assert traces(path, [*IDENTITY, *ALWAYS_OUT, *UIDS]) == []


@pytest.mark.parametrize("kind", SOURCES)
def test_with_the_patient_only_the_allow_list_passes(tmp_path: Path, kind: str) -> None:
    source = SOURCES[kind](tmp_path / "canaryfile.dcm")
    for path in write_all(source, tmp_path / "out", keep=True, frame=1 if kind == "enhanced" else None).values():
        allowed = "canarywalla"  # the referring physician, who is on the list
        words = [word for word in ALWAYS_OUT if word != "canary"]
        assert traces(path, words) == []
        assert path.read_bytes().lower().replace(allowed.encode(), b"").count(b"canary") == 0
        assert traces(path, IDENTITY) == traces(source, IDENTITY) != []


def test_the_allow_list_is_the_one_that_is_promised() -> None:
    assert set(ALLOWED) == set(KEPT)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDate", "not a date"),
        ("StudyTime", "99"),
        ("PatientBirthDate", "19999999"),
        ("PatientSex", "X?"),
        ("StudyInstanceUID", "1.02"),
    ],
)
def test_a_value_that_the_standard_does_not_allow_is_not_copied(tmp_path: Path, keyword: str, value: str) -> None:
    with pytest.warns():  # pydicom's, as the builder writes it
        source = write_source(tmp_path / "a.dcm", **{keyword: value})
    kept = read_source(source, None, keep_patient=True).kept
    assert dict(kept)[keyword] == ""
    made = {kind: pydicom.dcmread(path) for kind, path in write_all(source, tmp_path, keep=True).items()}
    assert all(value not in str(one[keyword].value) for one in made.values())


def test_a_frame_of_reference_without_a_plane_is_not_taken_over(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.dcm", FrameOfReferenceUID=FRAME_UID)
    assert read_source(source, None, keep_patient=True).frame_of_reference_uid is None


@pytest.mark.parametrize("cosines", [[1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 1, 0], [1, 0, 0]])
def test_an_orientation_that_is_none_is_no_plane(tmp_path: Path, cosines: list[float]) -> None:
    source = write_slice(tmp_path / "a.dcm", ImageOrientationPatient=cosines)
    assert read_source(source, None, keep_patient=False).plane is None


@pytest.mark.parametrize(
    "tags", [{"ReferringPhysicianName": "Canaryward", "PatientName": "Canaryonly"}, {"PatientID": "Canary" * 20}]
)
def test_no_library_speaks_of_a_name_that_looks_odd_to_it(
    tmp_path: Path, tags: dict[str, str], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the builder
        source = write_source(tmp_path / "a.dcm", **tags)
    caplog.clear()
    write_all(source, tmp_path / "out", keep=True)  # a warning here would be an error
    assert "anary" not in caplog.text + "".join(capfd.readouterr())
