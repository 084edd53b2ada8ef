"""A live-view server that accepts and never answers: results bit for bit as without it, and at most three seconds lost.

    python -m benchmarks.drills.frozen_view runs/drills --count 10

What is lost is bounded by the wait at the end of a run; the time of a whole run varies by more than that on a busy machine, so the
bound is asked of the median difference of pairs.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drills.outcome import Outcome, counted, finish
from benchmarks.drills.processes import ready, run
from benchmarks.drills.subjects import Subject, in_turn, localization, training

MOST_LOST_S = 3.0


def frozen(subject: Subject, root: Path, count: int) -> Outcome:
    """Runs with a frozen view and without, by turns."""
    began, lost, differences = time.monotonic(), [], []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        for number in range(count):
            seconds = []
            for more in ([], ["--visdom", address]):
                out = root / f"{number}{'frozen' if more else 'plain'}" / "out"
                out.parent.mkdir()
                ended = run([*subject.words(out), *more], out.parent / "log")
                seconds.append(ended.seconds)
                fault = f"ended with {ended.code}: {ended.said[-300:]}" if ended.code else subject.difference(out)
                if more and not fault and "live view" not in ended.said:
                    fault = "nothing was said of a server that does not answer"
                lost += [f"{number}: {fault}"] if fault else []
            differences.append(seconds[1] - seconds[0])
    median_s = statistics.median(differences)
    if median_s > MOST_LOST_S:
        lost.append(f"{median_s:.1f} s were lost at the median")
    return counted(f"frozen live view during {subject.name}", count, lost, began, f"{median_s:+.1f} s at the median")


def main(arguments: list[str] | None = None) -> int:
    """Run with a frozen view."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for frozen_view.json")
    parser.add_argument("--count", type=int, default=10, help="of each kind")
    given = parser.parse_args(arguments)
    ready("train", "localize")
    with tempfile.TemporaryDirectory() as name:
        jobs = in_turn(
            Path(name),
            lambda root: training(root, num_steps=6, save_every=3),
            lambda root: localization(root, num_images=8),
        )
        outcomes = [frozen(subject, root, given.count) for subject, root in jobs]
    return finish(outcomes, given.out / "frozen_view.json")


if __name__ == "__main__":
    sys.exit(main())
