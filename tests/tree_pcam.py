"""PatchCamelyon's HDF5 files and meta tables with drawn patches: pink tissue, dark nuclei, crowded ones in the centre = tumour."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

OPTIONS: list[str] = []
CHANNELS: int = 3
COUNTS = {"train": 12, "valid": 6, "test": 8}
PREFIX = "camelyonpatch_level_2_split_"

Patch = npt.NDArray[np.uint8]


def build(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for part, count in COUNTS.items():
        labels = np.arange(count, dtype=np.uint8) % 2
        write_part(root, part, np.stack([draw(bool(label), rng) for label in labels]), labels)
        slides = [f"camelyon16_{'test' if part == 'test' else 'train'}_{part}_{index // 2:03d}" for index in range(count)]
        write_meta(root / f"{PREFIX}{part}_meta.csv", labels, slides)


def write_part(root: Path, part: str, patches: Patch, labels: Patch) -> None:
    with h5py.File(root / f"{PREFIX}{part}_x.h5", "w") as file:
        file.create_dataset("x", data=patches, compression="gzip", chunks=(1, *patches.shape[1:]))
    with h5py.File(root / f"{PREFIX}{part}_y.h5", "w") as file:
        file.create_dataset("y", data=labels.reshape(-1, 1, 1, 1))


def write_meta(path: Path, labels: Patch, slides: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["", "coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi"])
        for index, (label, slide) in enumerate(zip(labels, slides, strict=True)):
            writer.writerow([index, 96 * index, 64 * index, bool(label), bool(label), slide])


def draw(is_tumour: bool, rng: np.random.Generator) -> Patch:
    """(96, 96, 3) in a few colours, so that a patch packs to about a kilobyte."""
    patch = np.empty((96, 96, 3), np.uint8)
    patch[:] = (232, 190 + int(rng.integers(12)), 214)
    rows, columns = np.mgrid[:96, :96]
    nuclei = [(rng.uniform(0, 96), rng.uniform(0, 96), rng.uniform(2, 4)) for _ in range(14)]
    if is_tumour:
        nuclei += [(rng.uniform(34, 62), rng.uniform(34, 62), rng.uniform(4, 7)) for _ in range(12)]
    for row, column, radius in nuclei:
        patch[np.hypot(rows - row, columns - column) < radius] = (112, 72, 150)
    return patch
