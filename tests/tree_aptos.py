"""APTOS 2019 as Kaggle's competition gives it, with drawn eyes and the set's quirks: duplicates, a missing photograph."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

OPTIONS: list[str] = ["--fractions", "[0.6,0.2,0.2]"]
CHANNELS: int = 3
GRADES = (0, 2, 0, 1, 0, 3, 0, 4, 0, 2, 0, 1)
"""Of the photographs eye00 ... eye11."""
SAME = ("eye12", "eye00")
"""A copy with the same grade, and of which."""
CONTRARY = (("eye13", 2), ("eye14", 3))
"""Two copies of one photograph with different grades."""
MISSING = "eye15"

Photograph = npt.NDArray[np.uint8]


def build(root: Path) -> None:
    photographs = root / "train_images"
    photographs.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    rows: list[tuple[str, int]] = []
    for number, grade in enumerate(GRADES):
        write_png(photographs / f"eye{number:02d}.png", draw_eye(grade, rng, is_cut=number % 3 == 0))
        rows.append((f"eye{number:02d}", grade))
    shutil.copyfile(photographs / f"{SAME[1]}.png", photographs / f"{SAME[0]}.png")
    write_png(photographs / f"{CONTRARY[0][0]}.png", draw_eye(2, rng))
    shutil.copyfile(photographs / f"{CONTRARY[0][0]}.png", photographs / f"{CONTRARY[1][0]}.png")
    rows += [(SAME[0], GRADES[int(SAME[1][3:])]), *CONTRARY, (MISSING, 1)]
    write_table(root / "train.csv", ("id_code", "diagnosis"), rows)
    (root / "test_images").mkdir(exist_ok=True)
    write_png(root / "test_images" / "blind0.png", draw_eye(0, rng))
    write_table(root / "test.csv", ("id_code",), [("blind0",)])


def draw_eye(grade: int, rng: np.random.Generator, size: tuple[int, int] = (48, 60), *, is_cut: bool = False) -> Photograph:
    """(rows, columns, 3): an orange disc on black with vessels and an optic disc; a higher grade has more bright and dark spots.

    is_cut: the disc is larger than the picture is high, as some cameras deliver it.
    """
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    row, column = size[0] / 2 + rng.uniform(-1, 1), size[1] / 2 + rng.uniform(-3, 3)
    radius = min(size) * (0.56 if is_cut else 0.44)
    inside = np.hypot(rows - row, columns - column) <= radius
    image = np.zeros((*size, 3))
    image[inside] = (186 + rng.uniform(-15, 15), 92 + rng.uniform(-8, 8), 36)
    for phase in rng.uniform(0, 6.28, 4):
        wave = row + 0.5 * radius * np.sin((columns - column) / radius * 2.5 + phase)
        image[inside & (np.abs(rows - wave) < 0.7)] = (140, 44, 24)
    image[np.hypot(rows - row, columns - column - 0.5 * radius) < 0.16 * radius] = (240, 200, 120)
    for index in range(4 * grade):
        angle, far = rng.uniform(0, 6.28), rng.uniform(0.1, 0.8) * radius
        spot = np.hypot(rows - row - far * np.sin(angle), columns - column - far * np.cos(angle)) < 1.3
        image[inside & spot] = (235, 220, 110) if index % 2 else (90, 10, 10)
    # The surround of a real sensor is dark, not black.
    return np.clip(image + rng.integers(0, 4, (*size, 1)), 0, 255).astype(np.uint8)


def write_png(path: Path, photograph: Photograph) -> None:
    Image.fromarray(photograph).save(path)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([header, *rows])
