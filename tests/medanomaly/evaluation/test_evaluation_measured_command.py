from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from medanomaly.errors import ResourceError
from medanomaly.evaluation import measured_command
from medanomaly.evaluation.measured_command import last_line, run_command


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python that runs a given file instead of ``-m medanomaly``: the process is real, the import of torch is not paid."""
    made = tmp_path / "python"
    made.write_text(f'#!/bin/sh\nexec {sys.executable} -S {tmp_path / "program.py"} "$@"\n')
    made.chmod(0o755)
    monkeypatch.setattr(measured_command.sys, "executable", str(made))
    return tmp_path / "program.py"


def test_a_process_is_measured_by_itself(program: Path, tmp_path: Path) -> None:
    work = "import sys, time\nx = b'x' * (200 * 2**20)\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
    program.write_text(work + "print('said', sys.argv[1:])\n")
    large = run_command(["train", "a b"], tmp_path / "log")
    assert (large.code, large.message, large.stopped) == (0, "said ['-m', 'medanomaly', 'train', 'a b']", False)
    assert large.seconds >= large.cpu_seconds * 0.9
    assert 0.3 <= large.cpu_seconds < 5
    program.write_text("import time\ntime.sleep(0.3)\n")
    small = run_command(["train"], tmp_path / "log")
    assert small.cpu_seconds < 0.3 <= small.seconds
    # This process holds torch: its own peak must not pass for theirs.
    assert small.peak_mib < 60
    assert large.peak_mib == pytest.approx(small.peak_mib + 200, abs=40)
    assert small.message == ""


def test_what_went_wrong_is_the_last_line_and_the_code(program: Path, tmp_path: Path) -> None:
    program.write_text(
        "import sys\nprint('bar 1\\rbar 2\\nmedanomaly train: too bad [E_BAD]\\n', file=sys.stderr)\nsys.exit(4)\n"
    )
    ran = run_command(["train"], tmp_path / "deep" / "log")
    assert (ran.code, ran.message) == (4, "medanomaly train: too bad [E_BAD]")


def test_a_request_to_stop_is_passed_on_once_and_waited_for(program: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program.write_text(
        "import pathlib, signal, sys, time\n"
        "def save(*_):\n    signal.signal(signal.SIGTERM, signal.SIG_DFL)\n    time.sleep(0.5)\n    print('saved')\n    sys.exit(75)\n"
        f"signal.signal(signal.SIGTERM, save)\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)\n"
    )
    start = time.monotonic()
    ran = run_command(["train"], tmp_path / "log", stop=ready.exists)
    assert (ran.code, ran.message, ran.stopped) == (75, "saved", True)
    assert time.monotonic() - start < 30


def test_a_killed_process_has_the_signal_as_its_code(program: Path, tmp_path: Path) -> None:
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    ran = run_command(["train"], tmp_path / "log")
    assert (ran.code, ran.stopped) == (-9, False)


def test_a_process_is_out_of_reach_of_signals_to_our_group(program: Path, tmp_path: Path) -> None:
    program.write_text("import os\nprint(os.getpgrp())\n")
    assert run_command(["train"], tmp_path / "log").message != str(os.getpgrp())


def test_the_last_line_survives_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\n\xff two \n\n")
    assert last_line(tmp_path / "log") == "\ufffd two"


def test_a_command_whose_starter_was_killed_is_not_started_twice(program: Path, tmp_path: Path) -> None:
    # What it leaves behind holds its log, as the command itself would if we were killed.
    program.write_text("import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid)\n")
    pid = int(run_command(["train"], tmp_path / "log").message)
    try:
        with pytest.raises(ResourceError, match="E_LOCKED"):
            run_command(["train"], tmp_path / "log")
        assert last_line(tmp_path / "log") == str(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
    program.write_text("print('again')\n")
    deadline = time.monotonic() + 10
    while True:
        try:
            assert run_command(["train"], tmp_path / "log").message == "again"
            break
        except ResourceError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert (tmp_path / "log").read_text() == "again\n"
