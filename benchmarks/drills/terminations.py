"""SIGTERM to the process group of a training with loading processes: exit 75, the state saved, no orphan, the same end.

    python -m benchmarks.drills.terminations runs/drills --count 30

The signal comes at a random moment after status.json says ``running``, to the training and its loading processes alike, as a scheduler
sends it. Then the same command runs to the end, which must be the end of an undisturbed run, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drills.outcome import counted, finish
from benchmarks.drills.processes import PATIENCE_S, Running, group_members, ready, run, says, start
from benchmarks.drills.subjects import Subject, left_behind, state_step, training
from medanomaly.errors import EXIT_PREEMPTED
from medanomaly.rng import numpy_generator

ORPHAN_S = 10.0
"""How long loading processes may take to follow."""


def await_running(running: Running, out: Path) -> bool:
    """Waits until the training has begun; False where it ended before."""
    until = time.monotonic() + PATIENCE_S
    while not says(out, "running"):
        if running.wait(0.01) is not None or time.monotonic() > until:
            return False
    return True


def orphans(group: int) -> list[int]:
    """Processes of the group that stay."""
    until = time.monotonic() + ORPHAN_S
    while (members := group_members(group)) and time.monotonic() < until:
        time.sleep(0.05)
    return members


def terminated(subject: Subject, out: Path, wait_s: float) -> tuple[str, float]:
    """(what was lost, seconds from the signal to the end) of one training; "late" where it had ended before the signal."""
    running = start(subject.words(out), out.parent / "log", own_group=True)
    if not await_running(running, out):
        return "it did not begin", 0.0
    if running.wait(wait_s) is not None:
        return "late", 0.0
    os.killpg(running.pid, signal.SIGTERM)
    sent = time.monotonic()
    ended = running.end()
    seconds, stay = time.monotonic() - sent, orphans(running.pid)
    if stay:
        for pid in stay:
            os.kill(pid, signal.SIGKILL)
        return f"{len(stay)} orphans", seconds
    if ended.code == 0:
        # The signal met the last step or what comes after it: the run was finished instead.
        return subject.difference(out), seconds
    if ended.code != EXIT_PREEMPTED:
        return f"ended with {ended.code}: {ended.said[-400:]}", seconds
    if not says(out, "preempted") or state_step(out) < 1:
        return "no saved state, or status.json does not say preempted", seconds
    again = run(subject.words(out), out.parent / "log")
    if again.code:
        return f"continued: ended with {again.code}: {again.said[-300:]}", seconds
    return subject.difference(out) or left_behind(out), seconds


def main(arguments: list[str] | None = None) -> int:
    """Terminate trainings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for terminations.json")
    parser.add_argument("--count", type=int, default=30, help="signals")
    parser.add_argument("--workers", type=int, default=2, help="loading processes")
    parser.add_argument("--steps", type=int, default=12, help="of the training")
    given = parser.parse_args(arguments)
    ready("train")
    began, lost, injected, slowest_s = time.monotonic(), [], 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        subject = training(root, num_steps=given.steps, save_every=100, num_workers=given.workers)
        rng = numpy_generator(0, "terminations")
        while injected < given.count:
            out = root / f"run{injected}-{len(os.listdir(root))}" / "out"
            out.parent.mkdir()
            fault, seconds = terminated(subject, out, float(rng.uniform(0, subject.seconds)))
            if fault == "late":
                continue
            injected, slowest_s = injected + 1, max(slowest_s, seconds)
            lost += [f"{injected}: {fault}"] if fault else []
    outcome = counted(
        f"SIGTERM to the group of a training with {given.workers} loading processes",
        injected,
        lost,
        began,
        f"at most {slowest_s:.1f} s to the end",
    )
    return finish([outcome], given.out / "terminations.json")


if __name__ == "__main__":
    sys.exit(main())
