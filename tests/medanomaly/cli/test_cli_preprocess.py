"""``medanomaly preprocess``: from a tree or a manifest to a smaller one that the other commands take."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_builders import picture, report_lines, write_dicom, write_png
from PIL import Image

from medanomaly.cli.main import main
from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.manifest import Record, read_manifest, write_manifest
from medanomaly.types import Box


def preprocess(source: Path, out: Path, *options: object) -> int:
    """Exit code, in one process and without a progress bar unless the options say otherwise."""
    words = ["preprocess", source, out, "--size", 8, "--quiet", "true", "--workers", 1, *options]
    return main([str(word) for word in words])


def cohort(root: Path) -> Path:
    """A manifest of four films, 24 x 32, with a mask, a box, an empty mask and observations."""
    records = []
    for index in range(4):
        image = write_png(root / "films" / f"p{index}" / "film.png", picture(index, 24, 32))
        lesion = np.zeros((24, 32), np.uint8)
        lesion[4:20, 8:28] = 255
        mask = write_png(root / "masks" / f"{index}.png", lesion) if index % 2 else None
        records.append(
            Record(
                id=f"film {index}",
                patient_id=f"00{index}",
                image=image,
                label="diseased" if index % 2 else "healthy",
                mask=mask,
                annotated_empty=mask is None,
                split=("train", "train", "val", "test")[index],
                spacing_mm=(0.5, 0.5),
                boxes=(Box(x_min=8, y_min=4, x_max=28, y_max=20),) if index % 2 else (),
                observations=(("Edema", index % 2),),
            )
        )
    write_manifest(records, root / "manifest.csv")
    return root / "manifest.csv"


def test_a_manifest_comes_out_with_its_annotations_on_the_new_grid(tmp_path: Path) -> None:
    source, out = cohort(tmp_path / "set"), tmp_path / "out"
    assert preprocess(source, out) == 0
    before, after = read_manifest(source), read_manifest(out / "manifest.csv")
    for one, other in zip(before, after, strict=True):
        assert (one.id, one.patient_id, one.label, one.split) == (other.id, other.patient_id, other.label, other.split)
        assert (one.observations, one.annotated_empty) == (other.observations, other.annotated_empty)
        assert other.spacing_mm == (2.0, 2.0)
    assert after[1].image == out.resolve() / "films/p1/film.png"
    assert after[1].mask == out.resolve() / "masks/1.png"
    assert after[1].boxes == (Box(x_min=2, y_min=2, x_max=7, y_max=6),)
    assert after[0].boxes == ()
    with Image.open(out / "masks/1.png") as mask:
        np.testing.assert_array_equal(np.argwhere(mask)[[0, -1]], [[2, 2], [5, 6]])
    report = check_manifest(after, deep=True)
    assert report.ok, str(report)


def test_a_tree_keeps_its_files_tables_and_masks(tmp_path: Path) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    (root / "train/a").mkdir(parents=True)
    Image.fromarray(picture(0, 30, 20)).save(root / "train/a/film.jpg")
    write_png(root / "train/a/film_mask.png", np.where(picture(1, 30, 20) > 99, 255, 0).astype(np.uint8))
    write_dicom(root / "b.dcm", picture(2), "MONOCHROME1")
    (root / "train.csv").write_text("Path,Finding\nset-v1.0/train/a/film.jpg,1\nb.dcm,0\n")
    assert preprocess(root, out) == 0
    assert (out / "train.csv").read_text() == "Path,Finding\nset-v1.0/train/a/film.png,1\nb.png,0\n"
    with Image.open(out / "train/a/film_mask.png") as mask:
        assert set(np.asarray(mask).ravel()) == {0, 255}
    assert [record.id for record in read_manifest(out / "preprocessed.csv")] == ["b.dcm", "train/a/film.jpg"]
    assert not (out / "manifest.csv").exists(), "left for `medanomaly data NAME OUT`"
    assert "Secret" not in (out / "report.jsonl").read_text()


def test_monochrome1_comes_out_with_bright_bone(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(0, 128, 8, dtype=np.uint8), (16, 16)).copy()
    write_dicom(tmp_path / "set/a.dcm", ramp, "MONOCHROME1")
    assert preprocess(tmp_path / "set", tmp_path / "out", "--size", 16) == 0
    with Image.open(tmp_path / "out/a.png") as film:
        np.testing.assert_array_equal(np.asarray(film), 255 - ramp)
    assert "MONOCHROME1" in report_lines(tmp_path / "out")[0]["message"]


def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.uint16)
    (tmp_path / "set").mkdir()
    Image.fromarray(deep).save(tmp_path / "set/a.png")
    assert preprocess(tmp_path / "set", tmp_path / "out", "--bits", 16) == 0
    with Image.open(tmp_path / "out/a.png") as film:
        np.testing.assert_array_equal(np.asarray(film), deep)


def test_colour_becomes_gray_only_when_asked(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    write_png(tmp_path / "set/a.png", colour)
    for name, options, mode in (("colour", (), "RGB"), ("gray", ("--gray", "true"), "L")):
        assert preprocess(tmp_path / "set", tmp_path / name, *options) == 0
        with Image.open(tmp_path / name / "a.png") as film:
            assert film.mode == mode


def test_bad_files_are_exit_code_3_and_only_bad_files_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "set/a.png", picture(0))
    (tmp_path / "set/b.png").write_bytes(b"x")
    assert preprocess(tmp_path / "set", tmp_path / "out") == 3
    assert "1 preprocessed, 0 already there, 1 failed (E_FORMAT: 1)" in capsys.readouterr().out
    (tmp_path / "set/a.png").unlink()
    assert preprocess(tmp_path / "set", tmp_path / "none") == 4
    assert not (tmp_path / "none/preprocessed.csv").exists()


def test_folders_of_others_and_of_the_source_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "set/sub/a.png", picture(0))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("x")
    assert preprocess(tmp_path / "set", tmp_path / "mine") == 2
    assert "E_EXISTS" in capsys.readouterr().err
    for place in ("set", "set/out", "."):
        assert preprocess(tmp_path / "set", tmp_path / place, "--overwrite", "true") == 2
        assert "must not be the source's folder" in capsys.readouterr().err
    assert preprocess(tmp_path / "set", tmp_path / "mine", "--overwrite", "true") == 0
    assert (tmp_path / "mine/letter.txt").read_text() == "x"
    assert preprocess(tmp_path / "set", tmp_path / "mine", "--size", 4) == 2
    assert "E_CHANGED" in capsys.readouterr().err


def test_what_is_neither_folder_nor_table_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert preprocess(tmp_path / "nowhere", tmp_path / "out") == 4
    assert "E_MISSING" in capsys.readouterr().err
    assert preprocess(write_png(tmp_path / "a.png", picture(0)), tmp_path / "out") == 4
    assert "E_FORMAT" in capsys.readouterr().err
    assert preprocess(tmp_path, tmp_path / "out", "--workers", 0) == 2


def test_a_trees_own_manifest_is_not_copied_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = cohort(tmp_path / "set")
    assert preprocess(source.parent, tmp_path / "out") == 0
    assert not (tmp_path / "out/manifest.csv").exists()
    assert "W_MANIFEST" in capsys.readouterr().err


def test_a_table_with_the_name_of_the_jobs_own_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "set/a.png", picture(0))
    (tmp_path / "set/preprocessed.csv").write_text("a\n")
    assert preprocess(tmp_path / "set", tmp_path / "out") == 2
    assert "E_COLLISION" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sigterm_saves_and_the_same_command_continues(tmp_path: Path) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    for index in range(80):
        write_png(root / f"{index}.png", picture(index, 300, 300))
    line = [sys.executable, "-m", "medanomaly", "preprocess", str(root), str(out), "--size", "256", "--equalise", "clahe"]
    running = subprocess.Popen([*line, "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "report.jsonl").is_file() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGTERM)
    said = running.communicate(timeout=120)[1]
    assert running.returncode == 75, said
    assert "E_PREEMPTED" in said
    assert "Traceback" not in said
    count = len(report_lines(out))
    assert 0 < count < 80
    assert len(list(out.glob("*.png"))) == count
    assert json.loads((out / "status.json").read_text())["status"] == "preempted"
    assert preprocess(root, out, "--size", 256, "--equalise", "clahe", "--workers", 2) == 0
    assert len({entry["id"] for entry in report_lines(out)}) == len(report_lines(out)) == 80
