"""Damaged files of every format the toolkit reads: only documented errors, no hang, bounded memory.

    python -m benchmarks.drills.fuzz runs/drills --count 5000
    python -m benchmarks.drills.fuzz runs/drills --format PNG --first 4711 --count 1

A mutant is lost where anything but a MedanomalyError escapes (or a command ends with exit code 1), where reading it takes longer than
``--patience_s``, or where the reading process dies or grows by more than ``--memory_mib``. Each mutant is drawn from (seed, format,
number); what is lost is kept as RUNS/fuzz/FORMAT-NUMBER. Reading happens in a child with a limited address space.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.drills.formats import FORMATS, Format
from benchmarks.drills.outcome import Outcome, counted, finish, write_outcomes
from medanomaly.errors import MedanomalyError
from medanomaly.rng import stable_hash

KEPT_EXAMPLES = 20


def mutant(fuzzed: Format, content: bytes, seed: int, number: int) -> bytes:
    """Mutant ``number`` of a format."""
    return fuzzed.mutate(content, np.random.default_rng(stable_hash(seed, "fuzz", fuzzed.name, number) % 2**63))


def escape_of(use: Callable[[Path], None], path: Path) -> str:
    """What escaped while reading, with the line it came from; "" where it was read or refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            use(path)
    except MedanomalyError as error:
        return "" if error.message and error.code else f"an error without words: {error!r}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in place if "medanomaly/" in frame.filename] or place[-1:]
        line = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
        return f"{type(error).__name__}{line}: {' '.join(str(error).split())[:200]}"
    return ""


def read_mutants(fuzzed: Format, folder: Path, seed: int, numbers: range, pipe: int) -> None:
    """In the child: says ``begin N``, ``end N MEBIBYTES ESCAPE`` to the parent for each mutant."""
    content = (folder / fuzzed.file).read_bytes()
    path = folder / fuzzed.file
    for number in numbers:
        for extra in folder.glob("gone*"):
            shutil.rmtree(extra, ignore_errors=True)
        damaged = mutant(fuzzed, content, seed, number)
        path.write_bytes(damaged)
        os.write(pipe, f"begin {number}\n".encode())
        escape = escape_of(fuzzed.use, path)
        mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        os.write(pipe, f"end {number} {mebibytes} {escape}\n".encode("utf-8", "backslashreplace"))
        path.write_bytes(content)


def in_child(fuzzed: Format, folder: Path, seed: int, numbers: range, memory_mib: int) -> tuple[int, int]:
    """(pid, pipe to read from) of a child that reads these mutants and may take so much more memory than it starts with."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        os.close(reading)
        logging.disable(logging.CRITICAL)
        torch.set_num_threads(1)
        with open("/proc/self/statm") as stream:
            now = int(stream.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory_mib * 2**20,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        read_mutants(fuzzed, folder, seed, numbers, writing)
        code = 0
    finally:
        os._exit(code)


def fuzz(fuzzed: Format, count: int, *, seed: int, first: int, patience_s: float, memory_mib: int, keep: Path) -> Outcome:
    """Reads ``count`` mutants of a format."""
    started, lost, slowest_s, grown = time.monotonic(), [], 0.0, 0
    waiting = first
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fuzzed.make(folder)
        content = (folder / fuzzed.file).read_bytes()
        undamaged = escape_of(fuzzed.use, folder / fuzzed.file)
        if undamaged:
            raise RuntimeError(f"{fuzzed.name}: the undamaged file cannot be read: {undamaged}")
        (folder / fuzzed.file).write_bytes(content)
        while waiting < first + count:
            start_mib = None
            pid, pipe = in_child(fuzzed, folder, seed, range(waiting, first + count), memory_mib)
            text, begun, fault = b"", time.monotonic(), ""
            while True:
                if not select.select([pipe], [], [], max(0.0, begun + patience_s - time.monotonic()))[0]:
                    os.kill(pid, signal.SIGKILL)
                    fault = f"a hang of more than {patience_s:g} s"
                    break
                piece = os.read(pipe, 65536)
                if not piece:
                    break
                *lines, text = (text + piece).split(b"\n")
                for line in lines:
                    word, number, *said = line.decode().split(" ", 3)
                    now = time.monotonic()
                    if word == "begin":
                        begun = now
                        continue
                    slowest_s, waiting = max(slowest_s, now - begun), int(number) + 1
                    start_mib = int(said[0]) if start_mib is None else start_mib
                    grown = max(grown, int(said[0]) - start_mib)
                    if said[1]:
                        lost.append((int(number), said[1]))
            os.close(pipe)
            _, status = os.waitpid(pid, 0)
            if not fault and status:
                fault = f"the reading process died ({os.waitstatus_to_exitcode(status)})"
            if fault:
                lost.append((waiting, fault))
                waiting += 1
            (folder / fuzzed.file).write_bytes(content)
    for number, _ in lost[:KEPT_EXAMPLES]:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{fuzzed.file.replace('.', '-')}-{number}").write_bytes(mutant(fuzzed, content, seed, number))
    return counted(
        f"damaged files, {fuzzed.name}",
        count,
        [f"{number}: {text}" for number, text in lost],
        started,
        f"slowest {slowest_s:.2f} s, {grown} MiB grown",
    )


def main(arguments: list[str] | None = None) -> int:
    """Fuzz all formats or one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for fuzz.json and what was lost")
    parser.add_argument("--format", choices=[*FORMATS], action="append", help="default: all")
    parser.add_argument("--count", type=int, help="mutants a format; default 5,000, fewer where reading is slow")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience_s", type=float, default=10.0, help="longest that reading one file may take")
    parser.add_argument("--memory_mib", type=int, default=1024, help="most that reading may add to the process")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    outcomes = []
    for name in given.format or FORMATS:
        one = fuzz(
            FORMATS[name],
            FORMATS[name].default_count if given.count is None else min(given.count, FORMATS[name].default_count),
            seed=given.seed,
            first=given.first,
            patience_s=given.patience_s,
            memory_mib=given.memory_mib,
            keep=given.out / "fuzz",
        )
        print(f"{name}: {one.survived} of {one.injected} in {one.seconds:.0f} s; {one.measured}", file=sys.stderr, flush=True)
        outcomes.append(one)
        # What was found so far stays, whatever comes.
        write_outcomes(outcomes, given.out / "fuzz.json")
    return finish(outcomes, given.out / "fuzz.json")


if __name__ == "__main__":
    sys.exit(main())
