"""SIGKILL to one process of a training under torchrun: torchrun starts all again, and the end is that of an undisturbed run.

    python -m benchmarks.drills.rank_kills runs/drills --count 20

Two processes train on the CPU. Once the run has begun, one of them, drawn at random, is killed after a random time; the launcher starts
both again from the last saved state (``--max-restarts``). A kill is lost where the launcher gives up, or the end differs in one bit;
what was said then stays in OUT.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.drills.outcome import counted, finish
from benchmarks.drills.processes import PATIENCE_S, children, says
from benchmarks.drills.subjects import damage, left_behind
from benchmarks.drills.tiny import tiny_manifest, train_words, tree
from medanomaly.rng import numpy_generator

NUM_RANKS = 2
NUM_STEPS, SAVE_EVERY = 60, 5


def launched(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """torchrun over the command, in a session of its own; what it says goes to ``log``."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(NUM_RANKS), "--max-restarts", "3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GIT_DIR": os.devnull}
    with open(log, "wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", *launcher, "-m", "medanomaly", *words],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def ended(process: subprocess.Popen[bytes], log: Path) -> str:
    """Waits for the launcher; what went wrong, "" = nothing."""
    try:
        code = process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        # The ranks lead sessions of their own.
        for pid in (process.pid, *children(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        return f"hung for more than {PATIENCE_S:g} s"
    return f"ended with {code}: {log.read_text(errors='replace')[-400:]}" if code else ""


def begun(process: subprocess.Popen[bytes], out: Path) -> bool:
    """Waits until the training has begun; False where the launcher ended before."""
    until = time.monotonic() + PATIENCE_S
    while not says(out, "running"):
        if process.poll() is not None or time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def one_kill(words: Sequence[str], out: Path, undisturbed: dict[str, str], rng: np.random.Generator, within_s: float) -> str:
    """What was lost by a kill; "late" where the training had ended before."""
    log = out.parent / "log"
    process = launched(words, log)
    if not begun(process, out):
        return f"it did not begin: {ended(process, log)}"
    time.sleep(float(rng.uniform(0, within_s)))
    ranks = children(process.pid)
    if len(ranks) != NUM_RANKS:
        return ended(process, log) or "late"
    os.kill(int(rng.choice(ranks)), signal.SIGKILL)
    fault = damage(out) or ended(process, log)
    if fault:
        return fault
    found = tree(out)
    other = sorted(name for name in found.keys() | undisturbed.keys() if found.get(name) != undisturbed.get(name))
    return f"{len(other)} files differ, e.g. {', '.join(other[:3])}" if other else left_behind(out)


def main(arguments: list[str] | None = None) -> int:
    """Kill processes of trainings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for rank_kills.json")
    parser.add_argument("--count", type=int, default=20, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    rng, start, lost, injected = numpy_generator(given.seed, "rank kills"), time.monotonic(), [], 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "set").mkdir()
        manifest = tiny_manifest(root / "set")

        def words(out: Path) -> list[str]:
            return train_words(manifest, out, num_steps=NUM_STEPS, save_every=SAVE_EVERY)

        (root / "first").mkdir()
        process, log = launched(words(root / "first" / "out"), root / "first" / "log"), root / "first" / "log"
        begun(process, root / "first" / "out")
        since = time.monotonic()
        if fault := ended(process, log):
            raise RuntimeError(f"the undisturbed training {fault}")
        undisturbed, seconds = tree(root / "first" / "out"), time.monotonic() - since
        while injected < given.count:
            out = root / f"run{injected}-{len(os.listdir(root))}" / "out"
            out.parent.mkdir()
            fault = one_kill(words(out), out, undisturbed, rng, seconds)
            if fault == "late":
                continue
            injected += 1
            if fault:
                lost.append(f"{injected}: {fault}")
                shutil.copy(out.parent / "log", given.out / f"rank_kills-{injected}.log")
    outcome = counted(f"SIGKILL to one of {NUM_RANKS} processes under torchrun", injected, lost, start)
    return finish([outcome], given.out / "rank_kills.json")


if __name__ == "__main__":
    sys.exit(main())
