"""A job that is killed says what it was, and the same command ends with what an undisturbed one ends with."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_builders import localize, report_lines, write_folder
from live_builders import PATIENCE_S, ROOT

from medanomaly.cli.main import main
from medanomaly.errors import ResourceError
from medanomaly.evaluation import bulk

KILLED = """
import os, signal, sys
from medanomaly.cli.main import main
replace, count = os.replace, 0
def dying(source, target):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = dying
main({words})
"""


def tree(out: Path) -> dict[str, str]:
    """Hash of each file but those that say when it ran."""
    timed = {"report.jsonl", "run.json", "status.json", ".lock"}
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file() and path.name not in timed
    }


def verify(out: Path) -> int:
    return main(["verify-run", str(out)])


def test_a_killed_job_leaves_its_record_and_is_continued_to_the_same_files(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_folder(tmp_path / "in", 4), tmp_path / "out"
    options = ["--device", "cpu", "--quiet", "true", "--batch-size", "1"]
    words = ["localize", *map(str, (checkpoint, source, out)), *options]
    # Three files say what the run is, and each image has six: it dies with the third image half written.
    code = KILLED.format(at=3 + 2 * 6 + 4, words=words)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=4 * PATIENCE_S)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    run = json.loads((out / "run.json").read_text())
    assert (run["kind"], run["finished_unix_s"]) == ("localize", None)
    assert json.loads((out / "status.json").read_text()) == {"status": "running"}
    assert json.loads((out / "config.json").read_text())["name"] == "tiny"
    assert [line["id"] for line in report_lines(out)] == ["0.png", "1.png"]
    done = {name: (out / name).stat().st_mtime_ns for line in report_lines(out) for name in line["outputs"]}
    capsys.readouterr()
    assert verify(out) == 4
    assert [line.split("]")[0] for line in capsys.readouterr().out.splitlines()] == ["[E_LEFT_BEHIND"]
    assert localize(checkpoint, source, out, "--batch-size", "1") == 0
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done
    assert localize(checkpoint, source, tmp_path / "undisturbed", "--batch-size", "1") == 0
    assert tree(out) == tree(tmp_path / "undisturbed")
    assert verify(out) == 0


def test_a_job_that_an_error_ends_says_that_it_failed(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise ResourceError("the disk is full", code="E_DISK_FULL")

    monkeypatch.setattr(bulk, "write_outputs", full)
    out = tmp_path / "out"
    assert localize(checkpoint, write_folder(tmp_path / "in", 1), out) == 6
    assert json.loads((out / "status.json").read_text()) == {"status": "failed"}
    assert json.loads((out / "run.json").read_text())["finished_unix_s"] is None


def test_a_refused_job_leaves_the_record_of_the_folder_alone(checkpoint: Path, tmp_path: Path) -> None:
    source, out = write_folder(tmp_path / "in", 1), tmp_path / "out"
    assert localize(checkpoint, source, out) == 0
    before = {name: (out / name).read_bytes() for name in ("run.json", "config.json", "status.json")}
    assert localize(checkpoint, source, out, "--threshold", "0.5") == 2
    assert {name: (out / name).read_bytes() for name in before} == before
