"""A folder of generated images: pictures for eyes, arrays for numbers, a manifest for every other command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medanomaly.datasets.manifest import Record, write_manifest
from medanomaly.files import atomic_write
from medanomaly.generation.drawing import Drawn
from medanomaly.generation.labels import Label, text_of
from medanomaly.io.writers import write_npy, write_png
from medanomaly.types import FloatArray
from medanomaly.views.sample_grid import GridBlock, sample_grid
from medanomaly.views.shown import picture

IMAGES, SAMPLES, GRID, MANIFEST, GIF = "images", "samples.npz", "grid.png", "manifest.csv", "reverse.gif"
NULL_NAME = "no label"
"""What a picture says of images of which nothing was asked."""
PICTURE_CHANNELS = (1, 3)
"""What a PNG can hold."""


def file_name(index: int, label: Label, channels: int) -> str:
    """``00007-Edema_Cardiomegaly.png``: the position, and the label's letters and digits; npy where a PNG cannot hold the channels."""
    words = "-" + re.sub(r"[^A-Za-z0-9]+", "_", text_of(label)).strip("_")[:60] if label else ""
    return f"{index:05d}{words.rstrip('-')}.{'png' if channels in PICTURE_CHANNELS else 'npy'}"


def remove_earlier(out: Path) -> None:
    """Delete what an earlier run left, of ``images/`` by the names it gives: pictures of other settings never pass for new ones."""
    for name in (SAMPLES, GRID, MANIFEST, GIF):
        (out / name).unlink(missing_ok=True)
    for path in sorted((out / IMAGES).glob("*")):
        if re.fullmatch(r"\d{5,}(-\w+)?\.(png|npy)", path.name) and path.is_file():
            path.unlink()


def write_batch(out: Path, drawn: Drawn) -> list[Record]:
    """Write the images of a batch below ``images/``; their rows for the manifest.

    A PNG rounds to 8 bits: samples.npz keeps the numbers. A row of one class has it as label, one of several findings has them as
    observations, 1 each; what was not asked for is not mentioned.
    """
    records = []
    for index, x in zip(drawn.indices, drawn.x, strict=True):
        pixels: FloatArray = x.numpy()
        name = file_name(index, drawn.label, len(pixels))
        path = out / IMAGES / name
        is_picture = path.suffix == ".png"
        if is_picture:
            write_png(path, picture(pixels))
        else:
            write_npy(path, pixels)
        records.append(
            Record(
                id=f"{index:05d}",
                patient_id=f"{index:05d}",
                image=path,
                label=drawn.label[0] if len(drawn.label) == 1 else None,
                split="test",
                intensity_low=None if is_picture else -1.0,
                intensity_high=None if is_picture else 1.0,
                observations=tuple((name, 1) for name in drawn.label) if len(drawn.label) > 1 else (),
                source="generated",
            )
        )
    return records


def write_collection(out: Path, batches: Sequence[Drawn], records: Sequence[Record], *, title: str) -> None:
    """samples.npz (``x`` (n, C, S, S) float32 in [-1, 1], ``labels`` (n,) text), manifest.csv and grid.png, in the images' order."""
    order = [index for drawn in batches for index in drawn.indices]
    rows = np.argsort(np.array(order))
    x = torch.cat([drawn.x for drawn in batches]).numpy()[rows]
    texts = [text_of(drawn.label) for drawn in batches for _ in drawn.indices]
    labels = np.array([texts[row] for row in rows], dtype=np.str_)
    with atomic_write(out / SAMPLES) as stream:
        np.savez(stream, x=x, labels=labels)
    write_manifest(sorted(records, key=lambda record: record.id), out / MANIFEST)
    blocks = [
        GridBlock(name=name or NULL_NAME, images=[image for image, text in zip(x, labels, strict=True) if text == name])
        for name in dict.fromkeys(labels.tolist())
    ]
    with atomic_write(out / GRID) as stream:
        stream.write(sample_grid(blocks, title=title))
