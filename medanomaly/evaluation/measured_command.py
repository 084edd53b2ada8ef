"""Run one of our commands as a process of its own, and say what it took: time, processor time, memory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.1
"""Between two looks at a running process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a process ended."""

    code: int
    """Exit code; -n = killed by signal n."""
    seconds: float
    """Wall-clock time, the start of Python included."""
    cpu_seconds: float
    """User and system time of the process and of those it waited for."""
    peak_mib: float
    """Largest resident memory; that of the machine, not of a GPU."""
    message: str
    """Last line of its stderr; "" where it said nothing."""
    stopped: bool
    """It was asked to stop because this process was."""


def run_command(words: Sequence[str], log: Path, *, stop: Callable[[], bool] = lambda: False) -> Ran:
    """``medanomaly WORDS``, stdout and stderr into a file.

    ``wait4`` gives this one process's resources; ``getrusage`` would give the largest of all children so far.

    Args:
        words: the command without the program's name.
        log: replaced.
        stop: asked while it runs; True passes SIGTERM on, once, and waits for the process to save and end.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start, asked = time.perf_counter(), False
    with open(log, "wb") as stream:
        # A session of its own: a signal to our whole group would reach it twice, and the second one kills what is being saved.
        process = subprocess.Popen(
            [sys.executable, "-m", "medanomaly", *words], stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            if not asked and stop():
                process.send_signal(signal.SIGTERM)
                asked = True
            time.sleep(POLL_S)
        process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would wait for it again
    # Linux counts KiB, macOS bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Ran(
        code=process.returncode,
        seconds=time.perf_counter() - start,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / unit,
        message=last_line(log),
        stopped=asked or (stop() and process.returncode != 0),
    )


def last_line(log: Path) -> str:
    """The last line that says anything; progress bars end theirs with carriage returns."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", log.read_text(encoding="utf-8", errors="replace"))]
    return next((line for line in reversed(lines) if line), "")
