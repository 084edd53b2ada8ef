"""A second run does what is missing or changed and nothing else, whatever ended the first."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_builders import (
    localize,
    output_of,
    picture,
    report_lines,
    tiny_checkpoint,
    write_folder,
    write_png,
    written,
)


@pytest.fixture
def job(checkpoint: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of three images and its finished results."""
    source, out = write_folder(tmp_path / "in", 3), tmp_path / "out"
    # One by one, so that an image done again alone is the same to the last bit.
    assert localize(checkpoint, source, out, "--batch-size", "1") == 0
    return source, out


def test_a_second_run_does_nothing_again(checkpoint: Path, job: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    source, out = job
    before, report = written(out), (out / "report.jsonl").read_bytes()
    capsys.readouterr()
    assert localize(checkpoint, source, out) == 0
    assert "0 localized, 3 already there, 0 failed" in capsys.readouterr().out
    assert written(out) == before
    assert (out / "report.jsonl").read_bytes() == report


@pytest.mark.parametrize("kind", ["maps", "images", "masks", "overlays", "figures", "pseudo_healthy"])
def test_an_output_that_is_gone_is_made_again_and_only_its_image(kind: str, checkpoint: Path, job: tuple[Path, Path]) -> None:
    source, out = job
    before = written(out)
    gone = output_of(out, "1.png", kind)
    content = gone.read_bytes()
    gone.unlink()
    assert localize(checkpoint, source, out) == 0
    assert gone.read_bytes() == content
    changed = {name for name, when in written(out).items() if before[name] != when}
    assert changed == set(report_lines(out)[1]["outputs"])


def test_an_image_whose_bytes_changed_is_localized_again(checkpoint: Path, job: tuple[Path, Path]) -> None:
    source, out = job
    before, old = written(out), np.load(output_of(out, "2.png", "maps"))
    write_png(source / "2.png", picture(99))
    assert localize(checkpoint, source, out) == 0
    changed = {name for name, when in written(out).items() if before[name] != when}
    assert changed == set(report_lines(out)[2]["outputs"])
    assert not np.array_equal(np.load(output_of(out, "2.png", "maps")), old)


def test_an_image_that_was_added_is_the_only_one_localized(checkpoint: Path, job: tuple[Path, Path]) -> None:
    source, out = job
    before = written(out)
    write_png(source / "new.png", picture(7))
    assert localize(checkpoint, source, out) == 0
    assert {name: when for name, when in written(out).items() if name in before} == before
    assert len(written(out)) == len(before) + 6


@pytest.mark.parametrize(
    "change",
    [("--threshold", "0.5"), ("--noise-level", "300"), ("--num-steps", "3"), ("--guidance-scale", "1"), ("--frame", "1")],
)
def test_other_settings_are_refused_unless_results_may_be_overwritten(
    change: tuple[str, str], checkpoint: Path, job: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = job
    before = written(out)
    capsys.readouterr()
    assert localize(checkpoint, source, out, *change) == 2
    err = capsys.readouterr().err
    assert "holds 3 results made with another checkpoint or other settings [E_CHANGED]" in err
    assert err.count("\n") == 1
    assert written(out) == before


def test_overwriting_with_other_settings_makes_every_image_again_once(checkpoint: Path, job: tuple[Path, Path]) -> None:
    source, out = job
    before = written(out)
    assert localize(checkpoint, source, out, "--threshold", "0.5", "--overwrite", "true") == 0
    after = written(out)
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)
    assert localize(checkpoint, source, out, "--threshold", "0.5") == 0
    assert written(out) == after


def test_another_checkpoint_is_another_setting(job: tuple[Path, Path], tmp_path: Path) -> None:
    source, out = job
    assert localize(tiny_checkpoint(tmp_path / "other", threshold=0.30001), source, out) == 2


def test_settings_that_do_not_change_the_results_are_free(checkpoint: Path, job: tuple[Path, Path]) -> None:
    source, out = job
    before = written(out)
    assert localize(checkpoint, source, out, "--batch-size", "1", "--allow-color", "true", "--frame", "0") == 0
    assert written(out) == before


def test_a_folder_another_process_works_in_is_refused_with_its_number(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_folder(tmp_path / "in", 1), tmp_path / "out"
    out.mkdir()
    with open(out / ".lock", "w") as other:
        other.write("4711")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        assert localize(checkpoint, source, out) == 6
        err = capsys.readouterr().err
        assert "is in use by process 4711 [E_LOCKED]" in err
        assert err.count("\n") == 1
    # The lock dies with its process: the file that is left behind stops nobody.
    assert localize(checkpoint, source, out) == 0


def test_a_job_asked_to_end_by_the_system_returns_75_and_goes_on_when_run_again(checkpoint: Path, tmp_path: Path) -> None:
    source, out = write_folder(tmp_path / "in", 40), tmp_path / "out"
    command = [sys.executable, "-m", "medanomaly", "localize", str(checkpoint), str(source), str(out)]
    command += ["--batch-size", "1", "--device", "cpu", "--quiet", "true"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (out / "report.jsonl").is_file() and time.monotonic() < deadline and job.poll() is None:
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGTERM)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 75, err
    assert "[E_PREEMPTED]; run the same command again to continue" in err
    assert json.loads((out / "status.json").read_text())["status"] == "preempted"
    num_done = len(report_lines(out))
    assert 0 < num_done < 40
    before = written(out)
    assert localize(checkpoint, source, out) == 0
    assert json.loads((out / "status.json").read_text()) == {
        "status": "done",
        "ok": 40 - num_done,
        "skipped": num_done,
        "failed": 0,
        "reasons": {},
    }
    assert {name: when for name, when in written(out).items() if name in before} == before


def test_results_may_be_copied_elsewhere_and_the_job_goes_on_there(checkpoint: Path, job: tuple[Path, Path]) -> None:
    source, out = job
    moved = Path(shutil.copytree(out, out.with_name("moved")))
    before = written(moved)
    assert localize(checkpoint, source, moved) == 0
    assert written(moved) == before


def test_overwriting_leaves_nothing_of_the_settings_before(checkpoint: Path, job: tuple[Path, Path]) -> None:
    source, out = job
    masks = [name for name in written(out) if name.startswith("masks/")]
    assert masks
    # A file of somebody else, and a report that names a file outside, are left alone.
    (out / "masks" / "mine.png").write_bytes(b"mine")
    outside = out.parent / "outside.png"
    outside.write_bytes(b"outside")
    line = report_lines(out)[0]
    with (out / "report.jsonl").open("a") as stream:
        stream.write(json.dumps(line | {"outputs": [*line["outputs"], "../outside.png"]}) + "\n")
    # Another sampler has no threshold, so no masks are written that could replace the old ones.
    assert localize(checkpoint, source, out, "--guidance-scale", "1", "--overwrite", "true") == 0
    assert [name for name in written(out) if name.startswith("masks/")] == ["masks/mine.png"]
    assert outside.read_bytes() == b"outside"
