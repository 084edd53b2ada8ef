"""Run one of our commands as a process of its own, and say what it took: time, processor time, memory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medanomaly.errors import ResourceError

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

    ``wait4`` gives this one process's resources; ``getrusage`` would give the largest of all children so far. Where its peak
    memory stayed below that of this process, the peak is the largest of ten looks a second.

    Args:
        words: the command without the program's name.
        log: replaced.
        stop: asked while it runs; True passes SIGTERM on, once, and waits for the process to save and end.

    Raises:
        ResourceError: E_LOCKED, a process of an earlier run still writes this log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start, asked, peak_kib = time.perf_counter(), False, 0
    # A process that is started inherits our own peak (Linux keeps it across exec): only above that is its number its own.
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open(log, "ab") as stream:
        # The process inherits the lock with its stdout: where we are killed and it lives on, it is not started a second time.
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ResourceError(
                "is still being written by a command of an earlier run", code="E_LOCKED", path=log, fix="wait for it, or end it"
            ) from error
        stream.truncate(0)
        # A session of its own: a signal to our whole group would reach it twice, and the second one kills what is being saved.
        process = subprocess.Popen(
            [sys.executable, "-m", "medanomaly", *words], stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            peak_kib = max(peak_kib, resident_peak_kib(process.pid))
            if not asked and stop():
                process.send_signal(signal.SIGTERM)
                asked = True
            time.sleep(POLL_S)
        process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would wait for it again
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    exact = usage.ru_maxrss > ours or not peak_kib
    return Ran(
        code=process.returncode,
        seconds=time.perf_counter() - start,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / unit if exact else peak_kib / 2**10,
        message=last_line(log),
        stopped=asked or (stop() and process.returncode != 0),
    )


def resident_peak_kib(pid: int) -> int:
    """VmHWM of a running process (Linux, proc(5)), which starts anew with its program; 0 where it cannot be read."""
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(), flags=re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def last_line(log: Path) -> str:
    """The last line that says anything; progress bars end theirs with carriage returns."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", log.read_text(encoding="utf-8", errors="replace"))]
    return next((line for line in reversed(lines) if line), "")
