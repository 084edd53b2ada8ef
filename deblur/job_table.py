"""What a deblurring job leaves beside its images: a manifest of the new images, and deblur.csv with the story of each."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from deblur.quality import blur_effect, laplacian_variance, tenengrad
from medanomaly.datasets.manifest import Record, write_manifest
from medanomaly.files import atomic_write, safe_name
from medanomaly.io.formats import image_suffix

COLUMNS = (
    *("id", "parent_sha256", "image", "outcome", "verdict", "reasons", "kernel", "kernel_rows", "kernel_columns", "kernel_file"),
    *("kernel_source", "confidence", "noise_level", "gate", "notes"),
)
"""Of deblur.csv, before the numbers."""
NUMBERS = ("tenengrad", "laplacian_variance", "blur_effect")


def quality_of(y: Tensor) -> dict[str, float | None]:
    """Sharpness by three measures, reported and never selected on: it rises under failure. None below 16 px a side.

    Args:
        y: (1, H, W) in [0, 1].
    """
    if min(y.shape[-2:]) < 16:
        return dict.fromkeys(NUMBERS)
    found = {"tenengrad": tenengrad(y), "laplacian_variance": laplacian_variance(y), "blur_effect": blur_effect(y)}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def new_records(records: Sequence[Record], lines: Mapping[str, Mapping[str, Any]], out: Path) -> list[Record]:
    """A record for each image that is there: its new file, the same id, patient, label, mask, boxes and split.

    Masks are copied below ``out``, since a manifest names files of its own folder; their pixels are those of the old image.
    """
    made = []
    for record in records:
        if record.id not in lines:
            continue
        new = lines[record.id]["record"]
        low, high = new["intensity_range"] or (None, None)
        spacing = new["spacing_mm"]
        made.append(
            replace(
                record,
                image=out / new["image"],
                mask=None if record.mask is None else copied(record.mask, out / "masks", record.id),
                spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
                intensity_low=low,
                intensity_high=high,
            )
        )
    return made


def copied(mask: Path, folder: Path, identifier: str) -> Path:
    """The mask file, byte for byte, under the name of its image."""
    target = folder / f"{safe_name(identifier)}{image_suffix(mask)}"
    content = mask.read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        with atomic_write(target) as stream:
            stream.write(content)
    return target


def write_tables(records: Sequence[Record], lines: Mapping[str, Mapping[str, Any]], out: Path) -> list[Record]:
    """Write manifest.csv and deblur.csv of the images that are there; returns the new records (none: nothing is written)."""
    made = new_records(records, lines, out)
    if not made:
        return []
    write_manifest(made, out / "manifest.csv")
    keys = sorted({key for record in made for key in lines[record.id]["deblur"]["values"]} - set(COLUMNS))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    measured = [f"{name}_{when}" for when in ("before", "after") for name in NUMBERS]
    writer.writerow([*COLUMNS, *keys, *measured])
    for record in made:
        writer.writerow(row_of(lines[record.id], keys))
    with atomic_write(out / "deblur.csv") as stream:
        stream.write(text.getvalue().encode("utf-8", "surrogateescape"))
    return made


def row_of(line: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """The cells of one image."""
    facts = line["deblur"]
    cells = [
        line["id"],
        line["sha256_in"],
        line["record"]["image"],
        line["outcome"],
        facts["verdict"],
        "; ".join(facts["reasons"]),
    ]
    cells += [facts["kernel"], *facts["kernel_size"], facts["kernel_file"], facts["kernel_source"], facts["confidence"]]
    cells += [facts["noise_level"], facts["gate"], line["message"]]
    cells += [facts["values"].get(key) for key in keys]
    for when in ("before", "after"):
        cells += [(facts[when] or {}).get(name) for name in NUMBERS]
    return [cell_of(cell) for cell in cells]


def cell_of(value: Any) -> str:
    """Text of a cell; blank where there is nothing to say."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, bool) else f"{value:.6g}"
