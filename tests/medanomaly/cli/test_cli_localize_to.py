"""``localize --to``: which kinds are written of which source, what they tell of the patient, and what belongs to a job's identity."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from cli_builders import localize, output_of, picture, reasons, report_lines, tiny_checkpoint, write_dicom, write_png
from dicom_canaries import ALWAYS_OUT, IDENTITY, KEPT, STUDY_UID, UIDS, traces, write_source
from PIL import Image

from medanomaly.cli.kinds import CLASS_FINDINGS, kinds_of
from medanomaly.cli.main import main
from medanomaly.io.dicom_codes import finding_code

ALL = ("--to", "sc,seg,pm,nifti,png")
OPTIONS = {"keep_patient": False, "finding": "auto", "volume": None, "frame": None, "threshold": 0.3}


def kinds_written(out: Path, identifier: str) -> list[str]:
    line = next(line for line in reversed(report_lines(out)) if line["id"] == identifier)
    return [name.split("/")[0] for name in line["outputs"]]


def message(out: Path, identifier: str) -> str:
    return str(next(line for line in reversed(report_lines(out)) if line["id"] == identifier)["message"])


def test_each_source_gets_the_kinds_its_format_allows_and_the_report_says_which_not(checkpoint: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_dicom(source / "a.dcm", picture(0, 20, 30))
    write_png(source / "b.png", picture(1))
    nibabel.save(nibabel.Nifti1Image(picture(2, 16, 24).astype(np.float32), np.eye(4)), source / "c.nii.gz")
    assert localize(checkpoint, source, out, *ALL) == 0
    plain = ["maps", "images", "pseudo_healthy", "masks", "overlays", "figures"]
    assert kinds_written(out, "a.dcm") == [*plain, "sc", "seg", "pm"]
    assert kinds_written(out, "b.png") == plain
    assert kinds_written(out, "c.nii.gz") == [*plain, "nifti_maps", "nifti_masks"]
    assert "nifti skipped: the source is DICOM" in message(out, "a.dcm")
    assert "nifti, sc, seg, pm skipped: the source is PNG" in message(out, "b.png")
    assert "sc, seg, pm skipped: the source is NIfTI (gzip)" in message(out, "c.nii.gz")
    assert all((out / name).is_file() for line in report_lines(out) for name in line["outputs"])
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(output_of(out, "c.nii.gz", "nifti_maps")).dataobj), np.load(output_of(out, "c.nii.gz", "maps"))
    )


def test_dicom_holds_what_the_plain_files_hold(checkpoint: Path, tmp_path: Path) -> None:
    stored = np.zeros((20, 30), np.uint8)
    stored[3:9, 12:25] = 230
    out = tmp_path / "out"
    write_dicom(tmp_path / "in" / "two.dcm", stored)
    write_dicom(tmp_path / "in" / "one.dcm", 255 - stored, "MONOCHROME1")
    assert localize(checkpoint, tmp_path / "in", out, "--to", "png,sc,seg,pm") == 0
    for name in ("one.dcm", "two.dcm"):
        sc, seg, pm = (pydicom.dcmread(output_of(out, name, kind)) for kind in ("sc", "seg", "pm"))
        with Image.open(output_of(out, name, "overlays")) as overlay, Image.open(output_of(out, name, "masks")) as mask:
            np.testing.assert_array_equal(sc.pixel_array, np.asarray(overlay))
            np.testing.assert_array_equal(seg.pixel_array, np.asarray(mask) > 0)
        np.testing.assert_array_equal(pm.pixel_array, np.load(output_of(out, name, "maps")))
        # Bright is bright, whichever way the source was stored.
        assert sc.pixel_array[3:9, 12:25].mean() > sc.pixel_array[12:].mean() + 50


def test_by_default_no_byte_of_a_whole_job_tells_who_it_was(checkpoint: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "HOMECANARY", tmp_path / "out"
    write_source(source / "1" / "film.dcm", PixelSpacing=[0.2, 0.3])
    write_source(source / "2" / "text.dcm", BurnedInAnnotation="YES")
    write_source(source / "3" / "strange.dcm", PhotometricInterpretation="CANARYHSV")
    assert localize(checkpoint, source, out, *ALL) == 3
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) == 5 + (6 + 3) + (2 + 2)
    for path in files:
        assert traces(path, [*IDENTITY, *ALWAYS_OUT, *UIDS, str(tmp_path)]) == [], path


def test_an_error_that_quotes_the_data_set_is_not_repeated(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def quoting(dataset: pydicom.Dataset, **_options: object) -> None:
        raise ValueError(f"{dataset.PatientID} of {dataset.PatientName}: {dataset}")

    monkeypatch.setattr("medanomaly.io.dicom.pixel_array", quoting)
    source, out = write_source(tmp_path / "in" / "film.dcm").parent, tmp_path / "out"
    assert localize(checkpoint, source, out) == 4
    assert reasons(out) == {"film.dcm": "E_MALFORMED"}
    said = capsys.readouterr()
    (tmp_path / "said.txt").write_text(said.out + said.err)
    for path in (out / "report.jsonl", tmp_path / "said.txt"):
        assert traces(path, [*IDENTITY, *ALWAYS_OUT, *UIDS]) == []


def test_files_that_may_name_a_patient_are_closed_to_other_users(checkpoint: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "in" / "film.dcm").parent
    before = os.umask(0o022)
    try:
        for keep in ("false", "true"):
            assert localize(checkpoint, source, tmp_path / keep, "--to", "sc,seg,pm", "--keep-patient", keep) == 0
    finally:
        os.umask(before)
    open_to_all = {
        keep: sorted(path.name[-3:] for path in (tmp_path / keep).rglob("*.*") if path.is_file() and path.stat().st_mode & 0o007)
        for keep in ("false", "true")
    }
    assert open_to_all["true"] == ["ock", "son", "son", "son"]
    assert open_to_all["false"] == ["dcm", "dcm", "dcm", "ock", "son", "son", "son"]


def test_names_of_files_are_in_the_report_and_in_names_of_outputs_only(checkpoint: Path, tmp_path: Path) -> None:
    write_source(tmp_path / "in" / "zebrafile.dcm")
    assert localize(checkpoint, tmp_path / "in", tmp_path / "out", *ALL) == 0
    holders = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file() and traces(path, ["zebrafile"])]
    assert holders == ["report.jsonl"]


def test_with_the_patient_results_join_the_study_and_plain_files_still_tell_nothing(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_source(tmp_path / "in" / "film.dcm", BurnedInAnnotation="YES")
    assert localize(checkpoint, tmp_path / "in", out, *ALL, "--keep-patient", "true") == 0
    for kind in ("sc", "seg", "pm"):
        made = pydicom.dcmread(output_of(out, "film.dcm", kind))
        assert made.StudyInstanceUID == STUDY_UID
        assert str(made.PatientName) == KEPT["PatientName"]
    for path in out.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            assert traces(path, [*IDENTITY, *ALWAYS_OUT, *UIDS]) == [], path


def test_text_in_the_pixels_withholds_the_overlay_and_says_so(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    write_source(tmp_path / "in" / "text.dcm", BurnedInAnnotation="YES")
    write_source(tmp_path / "in" / "clean.dcm", BurnedInAnnotation="NO")
    write_source(tmp_path / "in" / "silent.dcm")
    assert localize(checkpoint, tmp_path / "in", out, "--to", "sc,seg,pm") == 0
    assert kinds_written(out, "text.dcm") == ["seg", "pm"]
    assert "sc withheld" in message(out, "text.dcm")
    assert "E_BURNED_IN" in message(out, "text.dcm")
    assert kinds_written(out, "clean.dcm") == kinds_written(out, "silent.dcm") == ["sc", "seg", "pm"]
    assert "look before sharing" in message(out, "silent.dcm")
    assert "burned" not in message(out, "clean.dcm")
    assert "pictures of 1 image were not written" in capsys.readouterr().out
    assert json.loads((out / "status.json").read_text())["reasons"] == {"E_BURNED_IN": 1}


def test_no_picture_is_made_of_a_film_with_text_in_its_pixels_unless_somebody_has_looked(
    checkpoint: Path, tmp_path: Path
) -> None:
    # The pseudo-healthy image is one of them: what the walk does not take for an anomaly, it draws again.
    for name, word in (("text.dcm", "YES"), ("clean.dcm", "NO")):
        write_source(tmp_path / "in" / name, BurnedInAnnotation=word)
    write_source(tmp_path / "in" / "silent.dcm")
    whole = ["maps", "images", "pseudo_healthy", "masks", "overlays", "figures"]
    assert localize(checkpoint, tmp_path / "in", tmp_path / "out") == 0
    assert kinds_written(tmp_path / "out", "text.dcm") == ["maps", "masks"]
    assert "pictures withheld" in message(tmp_path / "out", "text.dcm")
    assert kinds_written(tmp_path / "out", "clean.dcm") == kinds_written(tmp_path / "out", "silent.dcm") == whole
    assert "pictures: the source does not say" in message(tmp_path / "out", "silent.dcm")
    assert "does not say" not in message(tmp_path / "out", "clean.dcm")
    assert json.loads((tmp_path / "out" / "status.json").read_text())["reasons"] == {"E_BURNED_IN": 1}
    assert localize(checkpoint, tmp_path / "in", tmp_path / "out", "--burned-in", "keep") == 2, "it is another job"
    kept = tmp_path / "kept"
    assert localize(checkpoint, tmp_path / "in" / "text.dcm", kept, "--burned-in", "keep", "--to", "png,sc") == 0
    assert kinds_written(kept, "text.dcm") == [*whole, "sc"]
    made = pydicom.dcmread(output_of(kept, "text.dcm", "sc"))
    # Attribute (0012,0062) speaks of the pixels as well.
    assert (made.BurnedInAnnotation, made.PatientIdentityRemoved, str(made.PatientName)) == ("YES", "NO", "")
    assert "DeidentificationMethod" not in made


def test_a_report_shows_no_film_with_text_in_its_pixels_that_its_job_did_not_show(checkpoint: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "text.dcm", BurnedInAnnotation="YES")
    for words, shown in (((), False), (("--burned-in", "keep"), True)):
        out = tmp_path / str(shown)
        assert localize(checkpoint, source, out, *words) == 0
        assert main(["report", str(out), "--source", str(source)]) == 0
        assert ("original of line 1" in (out / "report.html").read_text()) is shown


def test_the_contour_lies_over_the_source_where_the_patient_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    source, out = write_source(tmp_path / "film.dcm"), tmp_path / "out"
    assert localize(checkpoint, source, out, "--to", "png,pr", "--keep-patient", "true") == 0
    made = pydicom.dcmread(output_of(out, "film.dcm", "pr"))
    assert made.Modality == "PR"
    assert made.StudyInstanceUID == STUDY_UID
    with Image.open(output_of(out, "film.dcm", "masks")) as mask:
        assert ("GraphicObjectSequence" in made.GraphicAnnotationSequence[0]) == bool(np.asarray(mask).any())


def test_an_overlay_of_before_goes_when_its_source_turns_out_to_hold_text(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_source(tmp_path / "in" / "film.dcm")
    assert localize(checkpoint, tmp_path / "in", out, "--to", "sc,pm") == 0
    old = output_of(out, "film.dcm", "sc")
    write_source(tmp_path / "in" / "film.dcm", BurnedInAnnotation="YES")
    assert localize(checkpoint, tmp_path / "in", out, "--to", "sc,pm") == 0
    assert not old.exists()
    assert output_of(out, "film.dcm", "pm").is_file()


def test_the_same_command_continues_and_another_choice_is_another_job(checkpoint: Path, tmp_path: Path) -> None:
    source, out = write_source(tmp_path / "film.dcm"), tmp_path / "out"
    assert localize(checkpoint, source, out, "--to", "pm,sc") == 0
    first = pydicom.dcmread(output_of(out, "film.dcm", "pm")).SOPInstanceUID
    assert localize(checkpoint, source, out, "--to", "sc,pm") == 0
    assert len(report_lines(out)) == 1
    output_of(out, "film.dcm", "sc").unlink()
    assert localize(checkpoint, source, out, "--to", "sc,pm") == 0
    both = [pydicom.dcmread(output_of(out, "film.dcm", kind)) for kind in ("sc", "pm")]
    assert both[0].StudyInstanceUID == both[1].StudyInstanceUID, "an image is done again as a whole"
    assert both[1].SOPInstanceUID != first
    for other in (("--to", "pm"), ("--to", "sc,pm", "--keep-patient", "true"), ()):
        assert localize(checkpoint, source, out, *other) == 2


def test_a_job_of_before_there_was_a_choice_goes_on() -> None:
    assert kinds_of("png", **OPTIONS).identity() == {}  # type: ignore[arg-type]
    assert kinds_of("png", **{**OPTIONS, "keep_patient": True}).identity() == {}  # type: ignore[arg-type]
    assert kinds_of("seg, png", **OPTIONS).identity() == {"to": ("png", "seg"), "finding": "lesion"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--to", "seq"), "did you mean seg?"),
        (("--to", "png,,sc"), "choose of png, nifti, sc, seg, pm, pr"),
        (("--to", "seg", "--finding", "pneumotorax"), "did you mean Pneumothorax?"),
        (("--to", "png", "--volume", "true"), "needs nifti in --to"),
        (("--to", "pr"), "--to pr needs --keep-patient true"),
        (("--burned-in", "blur"), "--burned-in must be skip or keep"),
        (("--to", "nifti", "--volume", "true", "--frame", "0"), "no --frame"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    words: tuple[str, ...], says: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_source(tmp_path / "film.dcm")
    assert localize(checkpoint, source, tmp_path / "out", *words) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_mask_and_overlay_need_a_threshold_and_a_map_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, checkpoint = write_source(tmp_path / "film.dcm"), tiny_checkpoint(tmp_path / "checkpoint", threshold=None)
    assert localize(checkpoint, source, tmp_path / "out", "--to", "sc,seg,pm") == 2
    assert "--to sc,seg needs a threshold" in capsys.readouterr().err
    assert localize(checkpoint, source, tmp_path / "out", "--to", "pm") == 0
    assert kinds_written(tmp_path / "out", "film.dcm") == ["pm"]


def test_the_finding_is_the_models_one_disease_where_that_has_a_code() -> None:
    def finding(*diseases: str) -> str:
        return kinds_of("seg", diseases=diseases, **OPTIONS).finding  # type: ignore[arg-type]

    assert finding("Pleural Effusion") == "pleural effusion"
    assert finding("diseased") == finding("mass", "nodule") == finding("mass", "diseased") == finding() == "lesion"
    assert all(finding_code(name) for name in CLASS_FINDINGS)


def test_the_finding_of_the_command_line_is_in_the_segment(checkpoint: Path, tmp_path: Path) -> None:
    source, out = write_source(tmp_path / "film.dcm"), tmp_path / "out"
    assert localize(checkpoint, source, out, "--to", "seg", "--finding", "pleural effusion") == 0
    segment = pydicom.dcmread(output_of(out, "film.dcm", "seg")).SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Pleural effusion"


def test_a_volume_is_done_whole_where_nifti_is_asked_for_and_by_its_frame_else(checkpoint: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((12, 10, 3), dtype=np.float32)
    source = tmp_path / "brain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1, 2, 1])), source)
    assert localize(checkpoint, source, tmp_path / "whole", "--to", "nifti") == 0
    whole = nibabel.load(output_of(tmp_path / "whole", "brain.nii.gz", "nifti_maps"))
    assert whole.shape == (12, 10, 3)
    np.testing.assert_allclose(whole.affine, np.diag([-1.0, -1, 2, 1]))
    assert localize(checkpoint, source, tmp_path / "one", "--to", "nifti", "--frame", "2") == 0
    one = nibabel.load(output_of(tmp_path / "one", "brain.nii.gz", "nifti_maps"))
    assert one.shape == (12, 10, 1)
    np.testing.assert_allclose(one.affine[:3, 3], [0, 0, 4])
    assert localize(checkpoint, source, tmp_path / "none", "--to", "nifti", "--volume", "false") == 4
    assert reasons(tmp_path / "none") == {"brain.nii.gz": "E_MULTIFRAME"}
