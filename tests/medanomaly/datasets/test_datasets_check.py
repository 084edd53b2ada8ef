from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import cohort, mask_png

from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.findings import CheckReport, Finding
from medanomaly.datasets.manifest import Record
from medanomaly.io.writers import write_png


def codes(report: CheckReport) -> list[str]:
    return [finding.code for finding in report.findings]


def the(report: CheckReport, code: str) -> Finding:
    (finding,) = [finding for finding in report.findings if finding.code == code]
    return finding


@pytest.mark.parametrize("deep", [False, True])
def test_a_faultless_set_has_no_findings_and_is_counted(tmp_path: Path, deep: bool) -> None:
    report = check_manifest(cohort(tmp_path), deep)
    assert report.findings == ()
    assert report.ok
    assert report.num_images[("test", "diseased")] == 20
    assert report.num_patients[("test", "diseased")] == 10
    assert sum(report.num_images.values()) == 52


def test_every_missing_image_and_mask_is_named(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    gone = [records[0].image, records[7].image, records[2].mask]
    for path in gone:
        assert path is not None
        path.unlink()
    for deep in (False, True):
        report = check_manifest(records, deep)
        assert set(the(report, "E_MISSING").ids) == {str(path) for path in gone}
        assert codes(report) == ["E_MISSING"]
        assert not report.ok


@pytest.mark.timeout(20)
def test_a_pipe_and_a_folder_are_missing_files_and_are_not_opened(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    for record, make in ((records[0], os.mkfifo), (records[1], os.mkdir)):
        record.image.unlink()
        make(record.image)
    assert len(the(check_manifest(records, deep=True), "E_MISSING").ids) == 2


def test_a_table_with_backslashes_is_told_so(tmp_path: Path) -> None:
    record = Record(id="1", patient_id="1", image=tmp_path / "images\\a.png")
    assert "forward slashes" in the(check_manifest([record]), "E_MISSING").fix


def test_patients_in_two_splits_are_named(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    leaking = [replace(records[0], split="test"), replace(records[4], split="val"), *records[1:4], *records[5:]]
    report = check_manifest(leaking)
    assert the(report, "E_LEAKAGE").ids == ("train-0", "train-2")
    assert not report.ok


def test_an_unassigned_image_of_an_assigned_patient_is_no_leak(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    report = check_manifest([replace(records[0], split=None), *records[1:]])
    assert codes(report) == ["W_NO_SPLIT"]
    assert report.ok


def test_the_same_bytes_in_two_splits_are_an_error_and_in_one_a_warning(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    shutil.copy(records[0].image, records[12].image)  # train, test; both healthy
    report = check_manifest(records)
    assert the(report, "E_DUPLICATE").ids == (records[0].id, records[12].id)
    assert codes(report) == ["E_DUPLICATE"]
    records = cohort(tmp_path)
    shutil.copy(records[0].image, records[1].image)
    report = check_manifest(records)
    assert the(report, "W_DUPLICATE").ids == (records[0].id, records[1].id)
    assert report.ok


def test_the_same_bytes_with_two_labels_are_an_error(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    shutil.copy(records[0].image, records[2].image)
    report = check_manifest(records)
    assert codes(report) == ["E_LABEL_CONFLICT"]
    assert not report.ok


def test_different_images_of_the_same_file_size_are_no_duplicates(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    sizes = {record.image.stat().st_size for record in records}
    assert len(sizes) < len(records)
    assert check_manifest(records).ok


def test_masks_that_contradict_their_label_or_their_image_show_when_decoded(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    records[0] = replace(records[0], mask=mask_png(tmp_path / "healthy.png"))
    records[4] = replace(records[4], mask=mask_png(tmp_path / "fine.png", lesion=None))
    assert records[2].mask is not None
    assert records[6].mask is not None
    mask_png(records[2].mask, lesion=None)
    mask_png(records[6].mask, size=(9, 6))
    assert check_manifest(records).findings == ()
    report = check_manifest(records, deep=True)
    assert sorted(codes(report)) == ["E_MASK_LABEL", "E_MASK_SIZE", "W_MASK_EMPTY"]
    assert the(report, "E_MASK_LABEL").ids == (records[0].id,)
    assert the(report, "W_MASK_EMPTY").ids == (records[2].id,)
    assert the(report, "E_MASK_SIZE").ids == (records[6].id,)


def test_all_unreadable_images_are_named_under_the_readers_code_and_constant_ones_are_known(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    for index in (1, 5):
        records[index].image.write_bytes(b"")
    write_png(records[9].image, np.full((6, 9), 7, np.uint8))
    report = check_manifest(records, deep=True)
    assert the(report, "E_EMPTY").ids == (records[1].id, records[5].id)
    assert the(report, "W_CONSTANT").ids == (records[9].id,)


def test_diseased_test_images_without_a_mask_are_counted_and_healthy_ones_are_not(tmp_path: Path) -> None:
    records = [replace(record, mask=None) for record in cohort(tmp_path)]
    assert len(the(check_manifest(records), "W_NO_MASK").ids) == 20
    assert codes(check_manifest(records, deep=True)) == ["W_NO_MASK"]
    empty = [replace(record, annotated_empty=True) for record in records]
    assert codes(check_manifest(empty)) == ["W_MASK_EMPTY"]


@pytest.mark.parametrize(("patients", "is_small"), [(20, False), (19, True), (9, True), (1, True), (0, False)])
def test_a_small_test_split_is_called_small(tmp_path: Path, patients: int, is_small: bool) -> None:
    report = check_manifest(cohort(tmp_path, test=patients))
    assert ("W_N_TOO_SMALL" in codes(report)) == is_small
    assert report.ok


def test_few_diseased_patients_are_too_few_however_many_images_they_have(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    diseased = [record for record in records if record.split == "test" and record.label == "diseased"]
    assert len(diseased) == 20
    few = [replace(record, label="healthy", mask=None) if record in diseased[8:] else record for record in records]
    finding = the(check_manifest(few), "W_N_TOO_SMALL")
    assert "n too small" in finding.message
    assert "4 of them with disease" in finding.message


def test_what_training_lacks_is_said(tmp_path: Path) -> None:
    records = [record for record in cohort(tmp_path, val=0) if record.split != "train" or record.label == "healthy"]
    report = check_manifest(records)
    assert codes(report) == ["W_ONE_CLASS", "W_NO_VAL"]
    assert the(report, "W_ONE_CLASS").ids == ("healthy",)


def test_labels_that_differ_in_case_and_images_without_patients_are_said(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    assert the(check_manifest([replace(records[0], label="Healthy"), *records[1:]]), "W_LABEL_CASE").ids == ("Healthy", "healthy")
    alone = [replace(record, patient_id=record.id) for record in records]
    assert codes(check_manifest(alone)) == ["W_NO_PATIENT"]


def test_a_report_is_one_line_a_finding_and_valid_json(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    patient = "a\n[OK] all fine"
    forged = [replace(record, patient_id=patient) for record in (records[0], records[-4])]
    report = check_manifest([*records[1:-4], *forged, *records[-3:]])
    lines = str(report).splitlines()
    assert lines[-1].startswith(r"[E_LEAKAGE] 1 patients in more than one split: a\n[OK] all fine; keep")
    assert len(lines) == len(report.num_images) + len(report.findings)
    content = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert content["ok"] is False
    assert content["findings"][0]["ids"] == [patient]
    assert {"split": "val", "label": "healthy", "images": 2, "patients": 1} in content["counts"]


def test_text_shows_some_of_many_names_and_the_finding_holds_all(tmp_path: Path) -> None:
    records = [Record(id=str(n), patient_id="p", image=tmp_path / f"{n}.png") for n in range(30)]
    finding = the(check_manifest(records), "E_MISSING")
    assert len(finding.ids) == 30
    assert "and 20 more" in str(finding)


def test_another_name_for_the_healthy_class_is_understood(tmp_path: Path) -> None:
    records = [replace(record, label="normal" if record.label == "healthy" else "tumour") for record in cohort(tmp_path)]
    assert check_manifest(records, healthy_class="normal").findings == ()
    assert "W_NO_MASK" in codes(check_manifest(records))
