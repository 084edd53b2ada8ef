"""The four files of MNIST, gzipped as they are published, with drawn 0s, 1s and 8s."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

OPTIONS: list[str] = ["--healthy", '["0"]', "--diseased", '["8"]', "--val-fraction", "0.25"]
CHANNELS: int = 1
COUNTS = {"train": 30, "t10k": 18}
"""Images of a part; labels go 0, 8, 1, 0, 8, 1, ..."""
LABELS = (0, 8, 1)

Images = npt.NDArray[np.uint8]


def build(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    for part, count in COUNTS.items():
        labels = np.array([LABELS[index % 3] for index in range(count)], np.uint8)
        images = np.stack([draw(int(label), rng) for label in labels])
        write_idx(root / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(root / f"{part}-labels-idx1-ubyte.gz", labels)


def draw(label: int, rng: np.random.Generator) -> Images:
    """A 0, 1 or 8 of 28 px: one ring, a bar, or two rings."""
    rows, columns = np.mgrid[:28, :28] + 0.5
    row, column, width = rng.uniform(13, 15), rng.uniform(13, 15), rng.uniform(1.2, 2)
    if label == 1:
        distance = np.maximum(np.abs(columns - column - (14 - rows) * 0.1), np.abs(rows - row) - 9)
    else:
        parts = [(row, 9.0)] if label == 0 else [(row - 4.5, 4.5), (row + 4.5, 4.5)]
        distance = np.min([np.abs(np.hypot((rows - y) * 6 / r, columns - column) - 6) for y, r in parts], axis=0)
    ink = np.clip(width - distance + 0.5, 0, 1) * rng.uniform(200, 255)
    return np.rint(ink).astype(np.uint8)


def idx_bytes(values: Images) -> bytes:
    """IDX of unsigned bytes: magic, dimensions, values."""
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx(path: Path, values: Images) -> None:
    content = idx_bytes(values)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
