"""Seconds of `medanomaly data check` on a manifest of many rows.

    python benchmarks/manifest_check.py --num_rows 10000

Draws ``--num_rows`` PNGs of 16 x 16 px, two a patient, every second patient diseased with a mask, in a temporary folder; then times
reading the manifest, its check as ``train`` runs it before every training, and with ``--deep`` the check that decodes every file. Small
files of few different sizes are the hard case: files of one size are compared by their bytes. Prints JSON and a table.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.manifest import Record, read_manifest, write_manifest


def draw(root: Path, num_rows: int) -> Path:
    """A faultless manifest and its files."""
    records = []
    for index in range(num_rows):
        patient = index // 2
        image, mask = (
            root / "images" / f"{index % 256:02x}" / f"{index}.png",
            root / "masks" / f"{index % 256:02x}" / f"{index}.png",
        )
        for folder in (image.parent, mask.parent):
            folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(image)
        if patient % 2:
            Image.fromarray(np.where(pixels > 128, np.uint8(255), np.uint8(0))).save(mask)
        records.append(
            Record(
                id=f"film {index}",
                patient_id=f"{patient:06d}",
                image=image,
                label="diseased" if patient % 2 else "healthy",
                mask=mask if patient % 2 else None,
                split=("train", "train", "train", "val", "test")[patient % 5],
            )
        )
    write_manifest(records, root / "manifest.csv")
    return root / "manifest.csv"


def main() -> int:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num_rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--deep", action="store_true", help="also decode every image and mask, once")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        manifest = draw(Path(name), arguments.num_rows)
        seconds: dict[str, float] = {}
        for _ in range(arguments.repeats):
            started = time.perf_counter()
            records = read_manifest(manifest)
            read = time.perf_counter()
            report = check_manifest(records)
            checked = time.perf_counter()
            for step, value in (("read", read - started), ("check", checked - read)):
                seconds[step] = min(seconds.get(step, value), value)
        if not report.ok:
            raise RuntimeError(str(report))
        if arguments.deep:
            started = time.perf_counter()
            check_manifest(records, deep=True)
            seconds["check --deep"] = time.perf_counter() - started
    result = {"rows": arguments.num_rows, "seconds": {step: round(value, 3) for step, value in seconds.items()}}
    print(json.dumps({"cpu_count": os.cpu_count(), "load": os.getloadavg(), **result}, indent=1))
    print("\n| step | seconds | rows/s |\n|---|---|---|", file=sys.stderr)
    for step, value in seconds.items():
        print(f"| {step} | {value:.2f} | {arguments.num_rows / value:.0f} |", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
