"""What the live view costs a localization: sampling time with and without it, in alternating runs.

    python benchmarks/live_overhead.py phantom64-cfg --pairs 10

Starts ``medanomaly live`` in a process of its own, on a free port and with no browser at it, and localizes one batch of phantoms again
and again, plain and watched by turns, so that other work on the machine meets both alike. Wall time is what a person waits; CPU time is
of this process, its drawing thread included, and is disturbed less. Prints the medians, the median of the ratios pair by pair and its
quartiles; exits with 1 where a watched map differs from the plain one in any bit. Does not count the start of the view (importing
visdom, once a run).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medanomaly.cli.evaluate import resolve_checkpoint
from medanomaly.cli.localize import scale_of
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.datasets.phantom import draw_phantom
from medanomaly.evaluation.bulk import BulkSettings
from medanomaly.methods.experiment import load_trained
from medanomaly.types import AnomalyMethod
from medanomaly.views.live import open_view
from medanomaly.views.live_walk import Watched


def measured(method: AnomalyMethod, x: torch.Tensor) -> tuple[float, float, torch.Tensor]:
    """(wall seconds, CPU seconds of this process, maps) of one localization."""
    wall, cpu = time.perf_counter(), time.process_time()
    maps = method.localize(x).anomaly_map
    return time.perf_counter() - wall, time.process_time() - cpu, maps


def phantoms(count: int, side: int) -> torch.Tensor:
    """(count, 1, side, side) diseased chest phantoms in [-1, 1]."""
    drawn = [draw_phantom(7, patient, 0, diseased=True, image_size=side).pixels for patient in range(count)]
    return torch.from_numpy(np.stack(drawn).astype(np.float32))[:, None] / 127.5 - 1


def compared(plain: Sequence[float], watched: Sequence[float]) -> str:
    """Medians, and the median and quartiles of the ratios pair by pair."""
    low, middle, high = np.percentile(np.divide(watched, plain), [25, 50, 75])
    medians = f"{np.median(plain):.3f} s plain, {np.median(watched):.3f} s watched"
    return f"{medians}, {100 * (middle - 1):+.1f} % (quartiles {100 * (low - 1):+.1f} to {100 * (high - 1):+.1f} %)"


def main() -> int:
    """Run the pairs and print what they took."""
    parser = argparse.ArgumentParser(description="What the live view costs a localization")
    parser.add_argument(
        "checkpoint", type=Path, help="model.safetensors, its folder, or the name of shipped weights for one channel"
    )
    parser.add_argument("--pairs", type=int, default=10, help="pairs of a plain and a watched localization")
    parser.add_argument("--batch_size", type=int, default=4, help="images of the batch")
    options = parser.parse_args()
    trained = load_trained(resolve_checkpoint(options.checkpoint), ALL_METHODS, torch.device("cpu"))
    settings = BulkSettings(threshold=None, scale_max=0.5, identity="")
    x = phantoms(options.batch_size, trained.experiment.preprocess.image_size)
    command = [sys.executable, "-m", "medanomaly", "live", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = re.search(r"http://[\d.:]+", server.stdout.readline())
            view = None if address is None else open_view(address[0], warn=lambda text: print(text, file=sys.stderr))
            if view is None:
                return 1
            watched = Watched(trained.method, view, scale_of(settings, trained.experiment))
            times: dict[str, list[tuple[float, float]]] = {"plain": [], "watched": []}
            with view:
                reference = watched.localize(x).anomaly_map
                for pair in range(options.pairs):
                    # Each comes first in half of the pairs.
                    order = {"plain": trained.method, "watched": watched}
                    for name in sorted(order, reverse=pair % 2 == 1):
                        wall, cpu, maps = measured(order[name], x)
                        times[name].append((wall, cpu))
                        if not torch.equal(maps, reference):
                            print("the maps differ")
                            return 1
                lost = view.sender.given_up
        finally:
            server.terminate()
    if lost:
        print("the server was lost: nothing to compare")
        return 1
    walls, cpus = ([[pair[part] for pair in times[name]] for name in ("plain", "watched")] for part in (0, 1))
    print(f"{options.pairs} pairs, batch of {len(x)}, {torch.get_num_threads()} threads; maps equal bit for bit")
    print(f"wall time: {compared(*walls)}")
    print(f"CPU time of the process: {compared(*cpus)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
