"""A full disk at a random moment of training and of localization: exit 6 by name, nothing torn, and the same command ends the job.

    python -m benchmarks.drills.disk_full runs/drills --count 30

Two ways: no file may grow beyond a random size (RLIMIT_FSIZE), and, where this user may mount, a small tmpfs with a random room left.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.drills.outcome import Outcome, counted, finish
from benchmarks.drills.processes import Ended, ready, run
from benchmarks.drills.subjects import Subject, damage, in_turn, left_behind, localization, training
from medanomaly.errors import ResourceError
from medanomaly.rng import numpy_generator

ROOM_MIB = 16
"""Size of the small disk."""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A tmpfs of 16 MiB; False where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM_MIB}m", "drill", str(folder)]
    try:
        is_mounted = subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        is_mounted = False
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, timeout=60)


def limit_files(num_bytes: int) -> None:
    """No file of this process may grow beyond so many bytes; writing on is an error and not a signal (Python ignores SIGXFSZ)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))


def wrong(first: Ended, second: Ended, subject: Subject, out: Path, harmed: str) -> str:
    """What was lost by a full disk; "" = nothing."""
    if first.code not in (0, ResourceError.exit_code):
        return f"ended with {first.code}: {first.said[-300:]}"
    if first.code and "[E_DISK_FULL]" not in first.said:
        return f"exit 6 without E_DISK_FULL: {first.said[-300:]}"
    if harmed:
        return harmed
    if second.code:
        return f"with room again: ended with {second.code}: {second.said[-300:]}"
    return subject.difference(out) or left_behind(out)


def drill(
    subject: Subject, way: str, count: int, disturb: Callable[[Path, float], tuple[Ended, str, Ended]], root: Path
) -> Outcome:
    """The job on a disk that fills up, ``count`` times."""
    rng, began, lost, full = numpy_generator(0, "disk", subject.name, way), time.monotonic(), [], 0
    for number in range(count):
        out = root / f"{way}{number}" / "out"
        out.parent.mkdir(parents=True)
        first, harmed, second = disturb(out, float(rng.uniform()))
        full += first.code != 0
        fault = wrong(first, second, subject, out, harmed)
        lost += [f"{number}: {fault}"] if fault else []
        shutil.rmtree(out.parent)
    return counted(f"full disk ({way}) during {subject.name}", count, lost, began, f"{full} times before the end")


def by_limit(subject: Subject, out: Path, share: float) -> tuple[Ended, str, Ended]:
    """The largest file allowed is between 64 bytes and 2 MiB, drawn on a logarithmic scale."""
    first = run(subject.words(out), out.parent / "log", before=partial(limit_files, int(64 * 2 ** (15 * share))))
    return first, harm(out), run(subject.words(out), out.parent / "log")


def by_ballast(subject: Subject, log: Path, needed: int, out: Path, share: float) -> tuple[Ended, str, Ended]:
    """A file fills the disk but for a part of what the job needs; then it goes."""
    ballast = out.parent / "ballast"
    with open(ballast, "wb") as stream:
        stream.write(bytes(max(0, shutil.disk_usage(out.parent).free - int(needed * share))))
    first = run(subject.words(out), log)
    harmed = harm(out)
    ballast.unlink()
    return first, harmed, run(subject.words(out), log)


def harm(out: Path) -> str:
    """What cannot be used of what is there, and temporary files that a process which was not killed should have removed."""
    return (damage(out) or left_behind(out)) if out.is_dir() else ""


def main(arguments: list[str] | None = None) -> int:
    """Fill disks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for disk_full.json")
    parser.add_argument("--count", type=int, default=30, help="of each kind")
    given = parser.parse_args(arguments)
    ready("train", "localize")
    outcomes = []
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name) / "small") as is_mounted:
        jobs = in_turn(
            Path(name),
            lambda root: training(root, num_steps=6, save_every=2),
            lambda root: localization(root, num_images=8),
        )
        for subject, root in jobs:
            outcomes.append(drill(subject, "file size", given.count, partial(by_limit, subject), root))
            if is_mounted:
                needed = sum(path.stat().st_size for path in (root / "first").rglob("*") if path.is_file())
                disturb = partial(by_ballast, subject, root / "log", needed)
                outcomes.append(drill(subject, "tmpfs", given.count, disturb, Path(name) / "small"))
    if not is_mounted:
        print("no tmpfs could be mounted: only the size of files was limited", file=sys.stderr)
    return finish(outcomes, given.out / "disk_full.json")


if __name__ == "__main__":
    sys.exit(main())
