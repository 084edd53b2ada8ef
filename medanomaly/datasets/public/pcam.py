"""PatchCamelyon: patches of lymph-node sections, tumour in their centre or not (Veeling et al. 2018, arXiv:1806.03962)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medanomaly.datasets.csv_rows import rows_of
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.public.duplicates import finding, without_duplicates, without_leakage
from medanomaly.datasets.public.extracted import Pixels, file_identity, picture_folder, write_pictures
from medanomaly.datasets.public.hdf5 import open_hdf5, plain_dataset
from medanomaly.datasets.public.listing import Listing, Progress, silent
from medanomaly.datasets.public.pcam_folders import FOLDER_TREE, folder_records
from medanomaly.datasets.public.sampling import at_most
from medanomaly.datasets.splits import hold_out_validation
from medanomaly.errors import InputError
from medanomaly.io.faults import library_faults

PREFIX = "camelyonpatch_level_2_split_"
PARTS = {"train": "train", "valid": "val", "test": "test"}
"""Word in the file names -> split."""
SIDE = 96
"""Rows and columns of a patch, px of 0.972 um; the label speaks of the 32 x 32 px in its centre."""
BLOCK = 256
"""Patches read at a time: 7 MB."""
MOST_PATCHES = 10**6
H5_TREE = f"{PREFIX}train_x.h5, {PREFIX}train_y.h5, {PREFIX}train_meta.csv and the same for valid and test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One published split in HDF5."""

    images: Path
    labels: npt.NDArray[np.uint8]
    """(N,) 1 = at least one pixel of tumour in the central 32 x 32 px."""
    slides: tuple[str, ...] | None
    """Whole-slide image of each patch; None = not said."""
    contradicted: tuple[int, ...]
    """Patches of which the meta table says another label."""


def pcam(
    root: Path,
    folder: Path,
    *,
    sample: int = 0,
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress[Any] = silent,
) -> Listing:
    """Manifest of PatchCamelyon, in HDF5 (written as PNG beside the manifest) or as class folders; diseased = tumour in the centre.

    Args:
        root: the folder that holds camelyonpatch_level_2_split_train_x.h5 and the others, or train/0, train/1, ...
        folder: of the manifest; images go below it
        sample: at most so many patches of a class and split; 0 = all 327,680
        val_fraction: share of the training slides that becomes val, only where the published valid part is not there
        seed: of the sample, and of that share
        progress: shown while images are written
    """
    base = next((place for place in (root, root / "pcam") if any(place.glob(f"{PREFIX}*_x.h5*"))), None)
    if base is None:
        records = folder_records(root)
        if not records:
            raise InputError("is no PatchCamelyon", code="E_LAYOUT", path=root, fix=f"it should hold {H5_TREE}, or {FOLDER_TREE}")
        notes = finding("W_NO_PATIENT", "patches count as their own patient: folders do not tell slides", ids_of(records))
        records, repeated = without_duplicates(chosen(records, sample, val_fraction, seed))
        return Listing(records=records, findings=(*notes, *repeated))
    parts = {part: read_part(base, part) for part in PARTS if (base / f"{PREFIX}{part}_x.h5").is_file()}
    absent = [part_text(base, part) for part in PARTS if part not in parts]
    if not parts:
        raise InputError(f"has {', '.join(absent)}", code="E_PACKED", path=base, fix="unpack the files (gunzip *.gz)")
    target = picture_folder(folder, "pcam")
    records = [record_of(target, name, index, part) for name, part in parts.items() for index in range(len(part.labels))]
    records, leaking = without_leakage(records)
    unknown = [record.id for record in records if record.patient_id == record.id]
    contradicted = [f"{name}/{index:06d}" for name, part in parts.items() for index in part.contradicted]
    notes = [
        *finding("W_MISSING", "parts of the set are not there", absent),
        *leaking,
        *finding("W_NO_PATIENT", "patches count as their own patient: no meta table tells their slide", unknown),
        *finding("W_META", "patches of which the meta table says another label; that of the HDF5 file is used", contradicted),
    ]
    records = chosen(records, sample, val_fraction, seed)

    def read(indices: Sequence[int]) -> Iterator[Pixels]:
        for name, part in parts.items():
            wanted = [int(records[index].id.split("/")[1]) for index in indices if records[index].id.startswith(f"{name}/")]
            yield from patches(part.images, wanted) if wanted else ()

    settings = {"set": "pcam", "sources": [file_identity(part.images) for part in parts.values()]}
    write_pictures(target, ids_of(records), read, settings, progress)
    records, repeated = without_duplicates(records)
    return Listing(records=records, findings=(*notes, *repeated))


def chosen(records: list[Record], sample: int, val_fraction: float, seed: int) -> list[Record]:
    """The records with a val split, and at most ``sample`` of each class and split."""
    if not any(record.split == "val" for record in records):
        records = hold_out_validation(records, val_fraction, seed)
    return at_most(records, sample, seed)


def record_of(target: Path, name: str, index: int, part: Part) -> Record:
    """The row of one patch."""
    identifier = f"{name}/{index:06d}"
    return Record(
        id=identifier,
        patient_id=identifier if part.slides is None else part.slides[index],
        image=target / f"{identifier}.png",
        label="diseased" if part.labels[index] else "healthy",
        split=PARTS[name],
        source="PatchCamelyon",
    )


def read_part(base: Path, name: str) -> Part:
    """Labels and slides of one published split, checked against the images' count."""
    images, labels, meta = (base / f"{PREFIX}{name}_{kind}" for kind in ("x.h5", "y.h5", "meta.csv"))
    with open_hdf5(images) as file:
        count = int(plain_dataset(file, images, "x", (SIDE, SIDE, 3)).shape[0])
    with open_hdf5(labels) as file:
        dataset = plain_dataset(file, labels, "y", (1, 1, 1))
        if dataset.shape[0] != count or count > MOST_PATCHES:
            raise InputError(
                f"holds {dataset.shape[0]} labels for {count} patches", code="E_LABEL", path=labels, fix="download both again"
            )
        with library_faults(labels, "HDF5"):
            values = np.asarray(dataset[...], np.uint8).reshape(-1)
    if values.max() > 1:
        raise InputError(f"holds the label {values.max()}, not 0 or 1", code="E_LABEL", path=labels, fix="download it again")
    rows = meta_rows(meta, count)
    slides = None if rows is None or "wsi" not in rows[0] else tuple(row["wsi"].strip() for row in rows)
    if slides is not None and "" in slides:
        raise InputError("has a row without a slide", code="E_ROW", path=meta, fix="download it again")
    return Part(images=images, labels=values, slides=slides, contradicted=contradictions(rows or [], values))


def meta_rows(path: Path, count: int) -> list[dict[str, str]] | None:
    """The meta table, one row a patch in the order of the HDF5 files; None = there is none."""
    if not path.is_file():
        return None
    rows = [row for _, row in rows_of(path, ("wsi", "tumor_patch", "center_tumor_patch"), required="tumor_patch")]
    if len(rows) != count:
        raise InputError(f"has {len(rows)} rows for {count} patches", code="E_ROW", path=path, fix="download it again")
    return rows


def contradictions(rows: list[dict[str, str]], labels: npt.NDArray[np.uint8]) -> tuple[int, ...]:
    """Indices where the column center_tumor_patch, if it is there, is not the label."""
    said = [{"true": 1, "1": 1, "false": 0, "0": 0}.get(row.get("center_tumor_patch", "").strip().lower()) for row in rows]
    return tuple(index for index, value in enumerate(said) if value is not None and value != labels[index])


def patches(path: Path, indices: Sequence[int]) -> Iterator[Pixels]:
    """(96, 96, 3) RGB of each index, which rise; read in blocks."""
    with open_hdf5(path) as file:
        dataset = plain_dataset(file, path, "x", (SIDE, SIDE, 3))

        @lru_cache(maxsize=1)
        def block(number: int) -> Pixels:
            with library_faults(path, "HDF5"):
                return np.asarray(dataset[number * BLOCK : (number + 1) * BLOCK], np.uint8)

        for index in indices:
            yield block(index // BLOCK)[index % BLOCK]


def part_text(base: Path, part: str) -> str:
    """An absent part in words: not there, or still packed."""
    name = f"{PREFIX}{part}_x.h5"
    return f"{name}.gz still packed" if (base / f"{name}.gz").is_file() else f"no {name}"


def ids_of(records: Sequence[Record]) -> list[str]:
    """Their ids."""
    return [record.id for record in records]
