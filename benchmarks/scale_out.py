"""Does a second process do a second share of the work, and does the 10,000th image cost what the 100th did?

    python -m benchmarks.scale_out shards phantom64-cfg runs/phantom-test/images runs/scale-shards --num-steps 5
    python -m benchmarks.scale_out growth runs/scale-growth --images 10000

`shards` localizes a folder by one process and by two (one thread each, `--shard i/n`), in turns, and writes the medians of wall time and
processor time, with and without the start of the interpreter, to shards.json; on cores that others use too, wall time says little.
`growth` runs one job over many tiny images with a network of random weights, without pictures of figures, and writes processor time,
wall time and resident memory along the way to growth.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medanomaly.cli.localize import records_of
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.diffusion.unet import NetworkConfig
from medanomaly.evaluation.bulk import BulkSettings, localize_all
from medanomaly.evaluation.job_report import read_report
from medanomaly.files import write_json
from medanomaly.io.options import ReadOptions
from medanomaly.io.writers import write_png
from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.training.config import TrainingConfig
from medanomaly.training.log import environment

SIDE = 16
MARKS = 20
"""Measurements along the way of `growth`."""


def processor_s() -> float:
    """Seconds of processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def once(checkpoint: str, source: Path, out: Path, count: int, options: Sequence[str]) -> dict[str, float]:
    """Wall and processor seconds of one job by ``count`` processes, and what its lines say it took without the start."""
    shutil.rmtree(out, ignore_errors=True)
    words = [
        sys.executable,
        "-m",
        "medanomaly",
        "localize",
        checkpoint,
        str(source),
        str(out),
        "--device",
        "cpu",
        "--quiet",
        "true",
    ]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    began, used = time.perf_counter(), processor_s()
    running = [
        subprocess.Popen([*words, "--shard", f"{number}/{count}", *options], env=settings, stdout=subprocess.DEVNULL)
        for number in range(1, count + 1)
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        raise RuntimeError(f"a shard returned {codes}")
    parts = [read_report(part / "report.jsonl") for part in sorted((out / "shards").iterdir())]
    lines = [sum(float(line["seconds"]) for line in part) for part in parts]
    return {
        "wall_s": time.perf_counter() - began,
        "processor_s": processor_s() - used,
        "longest_shard_s": max(lines),
        "all_shards_s": sum(lines),
        "images": float(sum(map(len, parts))),
        "most_images": float(max(map(len, parts))),
    }


def shards(arguments: argparse.Namespace) -> None:
    """One and two processes in turns."""
    options = ["--batch-size", str(arguments.batch_size)] + (
        ["--num-steps", str(arguments.num_steps)] if arguments.num_steps else []
    )
    rows: dict[int, list[dict[str, float]]] = {count: [] for count in arguments.processes}
    for repeat in range(arguments.repeats):
        for count in rows:
            rows[count].append(once(arguments.checkpoint, arguments.source, arguments.out / f"by-{count}", count, options))
            print(repeat, count, json.dumps(rows[count][-1]), flush=True)
    medians = {
        str(count): {name: statistics.median(row[name] for row in found) for name in found[0]} for count, found in rows.items()
    }
    by_one = arguments.out / f"by-{arguments.processes[0]}"
    sizes = {kind.name: sum(path.stat().st_size for path in kind.iterdir()) for kind in by_one.iterdir() if kind.name in KINDS}
    content = {"environment": environment(), "options": options, "runs": rows, "medians": medians, "bytes_by_kind": sizes}
    write_json(arguments.out / "shards.json", content | {"report_bytes": (by_one / "report.jsonl").stat().st_size})
    print(json.dumps(medians, indent=1))


KINDS = ("maps", "images", "pseudo_healthy", "masks", "overlays", "figures", "uncertainty")


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(arguments: argparse.Namespace) -> None:
    """One job over many tiny images; time and memory along the way."""
    source = arguments.out / "images"
    draws = np.random.default_rng(0)
    for number in range(arguments.images):
        path = source / f"{number % 100:02d}" / f"{number}.png"
        if not path.exists():
            write_png(path, draws.integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    network = NetworkConfig(channels=(16, 16), attention=(False, True), head_channels=16, norm_groups=8)
    config = CfgDiffusionConfig(network=network, sampler=SamplerConfig(noise_level=400, num_steps=1))
    recipe = config.recipe(image_channels=1, training=TrainingConfig(num_steps=1), device=torch.device("cpu"))
    out = arguments.out / "out"
    shutil.rmtree(out, ignore_errors=True)
    records = records_of(source, allow_outside=False)
    marks: list[dict[str, Any]] = []
    done, every = 0, max(1, arguments.images // MARKS)

    def watch(count: int) -> None:
        nonlocal done
        done += count
        if done % every == 0 and count:
            now = {"images": done, "processor_s": time.process_time(), "wall_s": time.perf_counter()}
            marks.append(now | {"resident_bytes": resident_bytes()})
            print(json.dumps(marks[-1]), flush=True)

    settings = BulkSettings(threshold=None, scale_max=1.0, identity="growth", batch_size=arguments.batch_size)
    localize_all(recipe.method(), records, PreprocessConfig(image_size=SIDE), out, settings, options=ReadOptions(), watch=watch)
    steps = [
        {"images": late["images"]}
        | {
            f"{name}_an_image": (late[name] - early[name]) / (late["images"] - early["images"])
            for name in ("processor_s", "wall_s")
        }
        | {"resident_bytes": late["resident_bytes"]}
        for early, late in itertools.pairwise(marks)
    ]
    write_json(arguments.out / "growth.json", {"environment": environment(), "batch_size": arguments.batch_size, "steps": steps})


def main() -> int:
    """Parse and run."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    kinds = made.add_subparsers(required=True)
    one = kinds.add_parser("shards")
    one.add_argument("checkpoint")
    one.add_argument("source", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    one.add_argument("--repeats", type=int, default=3)
    one.add_argument("--num-steps", type=int, default=None)
    one.add_argument("--batch-size", type=int, default=4)
    one.set_defaults(act=shards)
    other = kinds.add_parser("growth")
    other.add_argument("out", type=Path)
    other.add_argument("--images", type=int, default=10_000)
    other.add_argument("--batch-size", type=int, default=8)
    other.set_defaults(act=growth)
    chosen = made.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    chosen.act(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
