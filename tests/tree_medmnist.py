"""pneumoniamnist.npz as MedMNIST publishes it, with chest phantoms instead of children's radiographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medanomaly.datasets.phantom import draw_phantom

OPTIONS: list[str] = []
CHANNELS: int = 1
COUNTS = {"train": 12, "val": 6, "test": 8}
"""Images of a part; every second one is labelled 1, pneumonia."""


def build(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    arrays, patient = {}, 0
    for part, count in COUNTS.items():
        images = []
        for index in range(count):
            phantom = draw_phantom(3, patient, 0, diseased=index % 2 == 1, image_size=32)
            images.append(phantom.pixels[2:30, 2:30])
            patient += 1
        arrays[f"{part}_images"] = np.stack(images)
        arrays[f"{part}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    np.savez_compressed(root / "pneumoniamnist.npz", **arrays)
