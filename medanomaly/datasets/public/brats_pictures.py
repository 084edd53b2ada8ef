"""Pictures of BraTS slices on the disk: written once, and found again when the same is asked for again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medanomaly.datasets.public.brats_layout import Case
from medanomaly.datasets.public.brats_slices import CasePictures, Facts
from medanomaly.files import atomic_write, write_json
from medanomaly.io.writers import write_png

STAMP = "slices.json"
"""Beside the pictures of a case: what they were made of. Written last, so a case without it was interrupted."""
FORMAT = 1
"""Of pictures and stamp; another number = written again."""


def image_path(folder: Path, case: Case, number: int) -> Path:
    """Where the picture of a slice is kept."""
    return folder / "images" / case.id / f"z{number:03d}.npy"


def mask_path(folder: Path, case: Case, number: int) -> Path:
    """Where the mask of a diseased slice is kept."""
    return folder / "masks" / case.id / f"z{number:03d}.png"


def missing_slices(folder: Path, case: Case, diseased: Mapping[int, bool]) -> list[int]:
    """The slices, of those wanted, whose picture or (where diseased) mask is not there."""
    return [
        number
        for number, has_mask in diseased.items()
        if not image_path(folder, case, number).is_file() or (has_mask and not mask_path(folder, case, number).is_file())
    ]


def write_slices(folder: Path, case: Case, pictures: CasePictures, numbers: Collection[int]) -> None:
    """The pictures of these slices as ``.npy`` (C, H, W) float16, and masks as ``.png`` where there is lesion."""
    for index, number in enumerate(pictures.facts.numbers):
        if number not in numbers:
            continue
        with atomic_write(image_path(folder, case, number)) as stream:
            np.lib.format.write_array(stream, pictures.image[index], version=(1, 0), allow_pickle=False)
        if pictures.facts.lesion_px[index]:
            write_png(mask_path(folder, case, number), pictures.lesion[index])


def made_of(case: Case, modalities: Sequence[str], percentile: float) -> dict[str, Any]:
    """Everything the pictures of a case depend on: settings, and name, size and time of each source file."""
    sources = {path.name: size_and_time(path) for path in sorted(case.files)}
    return {"format": FORMAT, "modalities": list(modalities), "percentile": float(percentile), "sources": sources}


def size_and_time(path: Path) -> list[int]:
    """Bytes and nanoseconds; zeros for a link to nothing, which reading will report."""
    try:
        status = path.stat()
    except OSError:
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]


def kept_facts(folder: Path, case: Case, origin: Mapping[str, Any]) -> Facts | None:
    """Facts of pictures that lie there and were made of the same; None = read the case (again)."""
    try:
        stamp = json.loads((folder / "images" / case.id / STAMP).read_text(encoding="utf-8"))
        if stamp["origin"] != origin:
            return None
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in stamp["facts"].items()
        }
        return Facts(**known)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep_facts(folder: Path, case: Case, origin: Mapping[str, Any], facts: Facts) -> None:
    """Says that the pictures of a case are complete, and what they were made of."""
    write_json(folder / "images" / case.id / STAMP, {"origin": origin, "facts": asdict(facts)})


def forget_facts(folder: Path, case: Case) -> None:
    """From now on the pictures of a case count as unfinished."""
    stamp = folder / "images" / case.id / STAMP
    if stamp.exists():
        write_json(stamp, {"origin": None})
