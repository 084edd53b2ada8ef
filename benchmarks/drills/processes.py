"""Commands in processes of their own, started by a fork of one that has imported everything: hundreds of starts in a minute."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from medanomaly.cli.main import main

PATIENCE_S = 300.0
"""Longest that a command over tiny images may take on a busy machine; beyond it a drill calls it a hang."""
_POLL_S = 0.005


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code; minus the signal that killed it."""
    said: str
    """Standard output and error."""
    seconds: float


@dataclass(frozen=True)
class Running:
    """A command at work."""

    pid: int
    log: Path
    began: float

    def wait(self, seconds: float) -> Ended | None:
        """Its end, None if it has not come after so many seconds."""
        until = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code, text = os.waitstatus_to_exitcode(status), self.log.read_text(encoding="utf-8", errors="replace")
                return Ended(code=code, said=text, seconds=time.monotonic() - self.began)
            if time.monotonic() > until:
                return None
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """SIGKILL, and its end."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def end(self) -> Ended:
        """Its end; a hang is killed and ends with -SIGKILL."""
        ended = self.wait(PATIENCE_S)
        if ended is None:
            self.kill()
            ended = Ended(code=-signal.SIGKILL, said=f"hung for more than {PATIENCE_S:g} s", seconds=PATIENCE_S)
        return ended


def ready(*commands: str) -> None:
    """Import what the commands need, once; with one thread a fork is safe and results are the same bit for bit."""
    torch.set_num_threads(1)
    # A commit made while a drill runs would be in the record of some runs and not of others.
    os.environ["GIT_DIR"] = os.devnull
    for command in commands:
        importlib.import_module(f"medanomaly.cli.{command}")
    # What the first optimiser of a process imports: two seconds, once.
    importlib.import_module("torch._dynamo")


def start(words: Sequence[str], log: Path, *, before: Callable[[], None] = lambda: None, own_group: bool = False) -> Running:
    """A process that runs ``medanomaly WORDS`` and writes what it says to ``log``.

    Args:
        words: the command line.
        log: gets standard output and error.
        before: called in the process before the command.
        own_group: make it the leader of a process group, for signals to a group.
    """
    began = time.monotonic()
    pid = os.fork()
    if pid:
        if own_group:
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
        return Running(pid=pid, log=log, began=began)
    code = 1
    try:
        if own_group:
            os.setpgid(0, 0)
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        before()
        code = main(words)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def run(words: Sequence[str], log: Path, *, before: Callable[[], None] = lambda: None) -> Ended:
    """The command from its start to its end."""
    return start(words, log, before=before).end()


def says(out: Path, word: str) -> bool:
    """Whether status.json has this status."""
    try:
        return f'"{word}"' in (out / "status.json").read_text(encoding="utf-8")
    except OSError:
        return False


def stat_fields(pid: int) -> list[str]:
    """State, parent, group and more of a process (proc(5), after its name); [] where it has ended and been waited for."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def living() -> list[int]:
    """Processes of this machine that still live; one that has ended and is not yet waited for does not."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in pids if (fields := stat_fields(pid)) and fields[0] != "Z"]


def group_members(group: int) -> list[int]:
    """Living processes of a group."""
    return [pid for pid in living() if stat_fields(pid)[2:3] == [str(group)]]


def children(parent: int) -> list[int]:
    """Living processes that this one has started, the oldest first by number."""
    return sorted(pid for pid in living() if stat_fields(pid)[1:2] == [str(parent)])
