"""A DICOM UID in the name of a file leads back to the patient's study: a job's outputs do without it, and its reruns still find them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_builders import localize, report_lines, written
from dicom_canaries import INSTANCE_UID, SERIES_UID, STUDY_UID, traces, write_source

from medanomaly.cli.localize_names import without_uid, without_uids
from medanomaly.cli.main import main
from medanomaly.datasets.manifest import Record
from medanomaly.errors import InputError

ROOT = "2.25.329800735698586629295641978511506172918"


def study_tree(root: Path) -> Path:
    """Two films as an archive exports them, one of them cut short, and one with a name of its own."""
    for name in (f"{STUDY_UID}/{SERIES_UID}/{INSTANCE_UID}.dcm", f"{STUDY_UID}/{ROOT}/CR.{ROOT}", "film.dcm"):
        write_source(root / name)
    torn = write_source(root / f"{STUDY_UID}.9" / f"{INSTANCE_UID.replace('.', '_')}.dcm")
    torn.write_bytes(torn.read_bytes()[:-20])
    return root


def test_no_output_holds_a_uid_of_its_source_in_its_bytes_or_its_name(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = study_tree(tmp_path / "in"), tmp_path / "out"
    assert localize(checkpoint, source, out, "--to", "png,sc,seg,pm") == 3
    said = capsys.readouterr()
    uids = [STUDY_UID, SERIES_UID, INSTANCE_UID, ROOT]
    canaries = [*uids, *(uid.replace(".", "_") for uid in uids)]
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > 3 * 9
    for path in files:
        assert traces(path, canaries) == [], path
        assert [uid for uid in canaries if uid in str(path)] == []
    assert [uid for uid in canaries if uid in said.out + said.err] == []
    assert "3 images are named by a hash of the DICOM UID in their ids" in said.out
    assert sorted(line["status"] for line in report_lines(out)) == ["failed", "ok", "ok", "ok"]
    assert "film.dcm" in {line["id"] for line in report_lines(out)}


def test_a_second_run_and_a_report_find_images_by_the_same_names(checkpoint: Path, tmp_path: Path) -> None:
    source, out = study_tree(tmp_path / "in"), tmp_path / "out"
    assert localize(checkpoint, source, out) == 3
    before = written(out)
    assert localize(checkpoint, source, out) == 3
    assert written(out) == before
    assert json.loads((out / "status.json").read_text())["skipped"] == 3
    for path in (out / "images").iterdir():
        path.unlink()  # so that only --source can show them
    assert main(["report", str(out), "--source", str(source)]) == 0
    assert (out / "report.html").read_text().count("original of line") == 3


def test_with_the_patient_the_ids_stay_and_it_is_another_job(checkpoint: Path, tmp_path: Path) -> None:
    source, out = write_source(tmp_path / f"{INSTANCE_UID}.dcm"), tmp_path / "out"
    assert localize(checkpoint, source, out, "--keep-patient", "true") == 0
    assert [line["id"] for line in report_lines(out)] == [source.name]
    assert localize(checkpoint, source, out) == 2


def test_only_what_can_be_a_uid_is_replaced_and_each_by_one_name_in_any_spelling() -> None:
    name = without_uid(INSTANCE_UID)
    assert name.startswith("uid-")
    assert len(name) == len("uid-") + 16
    assert without_uid(f"a/{INSTANCE_UID}.dcm") == f"a/{name}.dcm"
    assert without_uid(f"IM_{INSTANCE_UID.replace('.', '_')}") == f"IM_{name}"
    assert without_uid(f"{INSTANCE_UID}1") != name
    assert without_uid(f"{STUDY_UID}/{SERIES_UID}").count("uid-") == 2
    for kept in (
        "film.dcm",
        "view1_frontal.jpg",
        "BraTS20_Training_001/12",
        "NORMAL-1003233-0001",
        "2024.01.05",
        "v0.2.1.0",
        "1.2.3.4.5",
    ):
        assert without_uid(kept) == kept


def test_ids_that_would_become_one_are_refused(tmp_path: Path) -> None:
    both = [Record(id=name, patient_id="p", image=tmp_path / "a.png") for name in (INSTANCE_UID, INSTANCE_UID.replace(".", "_"))]
    with pytest.raises(InputError, match="E_IDS"):
        without_uids(both)
