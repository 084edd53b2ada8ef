"""SIGKILL at random moments of training and of localization: the same command again and again ends as an undisturbed run does.

    python -m benchmarks.drills.kills runs/drills --count 100

A run is started, killed after a random time, started by the same command again, killed again, ... until it ends by itself. A kill is
lost where what it leaves cannot be used, where a saved step is gone, or where the end differs in one bit from the undisturbed run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.drills.outcome import Outcome, counted, finish
from benchmarks.drills.processes import ready, start
from benchmarks.drills.subjects import Subject, damage, in_turn, left_behind, localization, state_step, training
from medanomaly.rng import numpy_generator


def killed(subject: Subject, root: Path, count: int, seed: int, *, most_s: float) -> Outcome:
    """Kills until ``count`` hit or the time is over, each series to its end."""
    rng, began = numpy_generator(seed, "kills", subject.name), time.monotonic()
    injected, series, lost = 0, 0, []
    while injected < count and (time.monotonic() - began < most_s or not series):
        series += 1
        hits, faults = one_series(subject, root / f"{subject.name}{series}", rng, count - injected)
        injected += hits
        # A series that ends wrong was lost by one of its kills, whichever.
        lost += [f"series {series}: {fault}" for fault in faults[: max(1, hits)]]
    return counted(
        f"SIGKILL during {subject.name}", injected, lost, began, f"{series} runs killed on average {injected / series:.1f} times"
    )


def one_series(subject: Subject, root: Path, rng: np.random.Generator, most: int) -> tuple[int, list[str]]:
    """(kills that hit, what went wrong) of one folder from its first start to its end."""
    root.mkdir()
    out, faults, hits, step = root / "out", [], 0, 0
    while True:
        running = start(subject.words(out), root / "log")
        ended = running.wait(float(rng.uniform(0, 1.1 * subject.seconds))) if hits < most else running.end()
        if ended is not None:
            break
        running.kill()
        hits += 1
        fault = damage(out) if out.is_dir() else ""
        if not fault and (now := state_step(out)) < step:
            fault = f"the state went back from step {step} to {now}"
        step = max(step, state_step(out))
        faults += [fault] if fault else []
    if ended.code:
        faults.append(f"ended with {ended.code}: {ended.said[-300:]}")
    faults += [fault for fault in (subject.difference(out), left_behind(out)) if fault]
    return hits, faults


def main(arguments: list[str] | None = None) -> int:
    """Kill trainings and localizations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for kills.json")
    parser.add_argument("--count", type=int, default=100, help="kills of each kind")
    parser.add_argument("--minutes", type=float, default=60.0, help="of each kind; then the series at hand is the last")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=12, help="of the training, saved at every second")
    parser.add_argument("--images", type=int, default=16, help="of the localization")
    given = parser.parse_args(arguments)
    ready("train", "localize")
    with tempfile.TemporaryDirectory() as name:
        jobs = in_turn(
            Path(name),
            lambda root: training(root, num_steps=given.steps, save_every=2),
            lambda root: localization(root, num_images=given.images),
        )
        outcomes = [killed(subject, root, given.count, given.seed, most_s=60 * given.minutes) for subject, root in jobs]
    return finish(outcomes, given.out / "kills.json")


if __name__ == "__main__":
    sys.exit(main())
