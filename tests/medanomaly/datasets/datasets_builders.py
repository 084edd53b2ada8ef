"""Small data sets drawn where a test needs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medanomaly.datasets.manifest import Record
from medanomaly.io.writers import write_png


def png(path: Path, seed: int = 0, size: tuple[int, int] = (6, 9)) -> Path:
    """A gray PNG of its own: another seed, other bytes."""
    write_png(path, np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8))
    return path


def mask_png(path: Path, size: tuple[int, int] = (6, 9), lesion: tuple[int, int] | None = (1, 4)) -> Path:
    """A mask that is True at one (row, column), or nowhere."""
    mask = np.zeros(size, np.bool_)
    if lesion is not None:
        mask[lesion] = True
    write_png(path, mask)
    return path


def cohort(root: Path, train: int = 4, val: int = 2, test: int = 20, *, written: bool = True) -> list[Record]:
    """A faultless set: two images a patient, every second patient diseased with masks that hold lesion."""
    records: list[Record] = []
    for split, count in (("train", train), ("val", val), ("test", test)):
        for number in range(count):
            diseased = number % 2 == 1
            for film in range(2):
                name = f"{split}-{number}-{film}"
                image, mask = root / "images" / f"{name}.png", root / "masks" / f"{name}.png"
                if written:
                    png(image, seed=len(records))
                    if diseased:
                        mask_png(mask)
                records.append(
                    Record(
                        id=name,
                        patient_id=f"{split}-{number}",
                        image=image,
                        label="diseased" if diseased else "healthy",
                        mask=mask if diseased else None,
                        split=split,
                    )
                )
    return records
