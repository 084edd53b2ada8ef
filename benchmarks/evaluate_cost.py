"""What measuring costs: every number of 1,000 images of 256 x 256 with 1,000 bootstrap replicates, in processor seconds and memory.

    python -m benchmarks.evaluate_cost --num-images 1000 --size 256 --num-resamples 1000 --out cost.json

Maps are smoothed noise with a blob of their own height over a blob-shaped mask in every second image, two images a patient; no network
runs. Goal: under 60 s and 2 GB. Memory is the peak of the process, the maps themselves and Python with torch included.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from medanomaly.evaluation.measure import MeasureConfig, measure
from medanomaly.evaluation.operating_points import choose_operating_points
from medanomaly.evaluation.predict import Prediction

HEALTHY = "healthy"


def drawn(index: int, size: int, *, prefix: str) -> Prediction:
    """Image ``index`` of a set: odd ones have an elliptic lesion, over which the map is higher by a random amount."""
    rng = np.random.default_rng([index, len(prefix)])
    noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), 2.0)
    anomaly_map = 0.1 * np.abs(noise / noise.std())
    rows, columns = np.mgrid[:size, :size]
    mask = np.zeros((size, size), dtype=bool)
    if index % 2:
        centre, radii = rng.uniform(0.25, 0.75, 2) * size, rng.uniform(0.03, 0.15, 2) * size
        distance = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2
        mask = distance <= 1
        anomaly_map = anomaly_map + rng.uniform(0.1, 0.6) * np.exp(-distance)
    pixels = rng.uniform(-1, 1, (1, size, size)).astype(np.float32)
    return Prediction(
        id=f"{prefix}{index}",
        patient_id=f"{prefix}{index // 2}",
        label="diseased" if index % 2 else HEALTHY,
        mask=mask,
        pixels=pixels,
        pseudo_healthy=np.clip(pixels - anomaly_map.astype(np.float32), -1, 1),
        anomaly_map=anomaly_map.astype(np.float32),
        score=float(np.quantile(anomaly_map, 0.99)),
    )


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, measure, print; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num-images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--num-resamples", type=int, default=1000)
    parser.add_argument("--num-validation", type=int, default=100)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(arguments)
    before = peak_mib()
    test = [drawn(index, chosen.size, prefix="test") for index in range(chosen.num_images)]
    validation = [drawn(index, chosen.size, prefix="validation") for index in range(chosen.num_validation)]
    ready = peak_mib()
    wall, processor = time.perf_counter(), time.process_time()
    points = choose_operating_points(validation, healthy=HEALTHY)
    config = MeasureConfig(num_resamples=chosen.num_resamples)
    rows = measure(test, points, healthy=HEALTHY, validation=validation, config=config)
    found = {
        "num_images": chosen.num_images,
        "size": chosen.size,
        "num_resamples": chosen.num_resamples,
        "num_numbers": len(rows),
        "processor_s": round(time.process_time() - processor, 1),
        "wall_s": round(time.perf_counter() - wall, 1),
        "peak_mib": round(peak_mib()),
        "peak_mib_before_measuring": round(ready),
        "peak_mib_of_python": round(before),
    }
    print(json.dumps(found, indent=1))
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
