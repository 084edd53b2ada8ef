"""Radiologists' segmentations of CheXpert's validation and test films (CheXlocalize, Saporta et al. 2022,
https://doi.org/10.1038/s42256-022-00536-x), as published or as one PNG a film and observation.

The published files have an entry for each film and each of ten observations, and all zeros where the film's label is negative:
radiologists drew what the label says is there. So an empty entry means "no lesion" on a film without the observation, and "nobody
drew it" on a film with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medanomaly.datasets.check import some
from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.public.chexpert_labels import OTHER_NAME
from medanomaly.datasets.public.coco_rle import decode_rle
from medanomaly.datasets.public.listing import Progress, continue_or_empty
from medanomaly.datasets.walk_files import image_files
from medanomaly.errors import InputError
from medanomaly.files import sha256_of
from medanomaly.io.limits import ReadLimits, check_shape, regular_file_size
from medanomaly.io.reader import read_image, read_mask
from medanomaly.io.writers import write_png
from medanomaly.rng import stable_hash
from medanomaly.types import BoolArray

PUBLISHED = ("gt_segmentations_val.json", "gt_segmentations_test.json")
ASPECT_TOLERANCE = 0.02
"""How far the sides' ratio of a reduced film may be from its mask's: 390 x 320 px came from 2828 x 2320."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """What is known of one film: a mask to read, or that there is none."""

    read: Callable[[], BoolArray] | None
    """None = the film is listed, without this observation."""
    file: Path | None = None
    """The mask's own file, if it has one."""


def with_masks(
    records: Sequence[Record],
    masks: Path,
    observation: str,
    folder: Path,
    *,
    resize: bool,
    progress: Progress[Any],
) -> tuple[list[Record], list[Finding]]:
    """The records with the masks of one observation; those of the published files are written as PNG below ``folder/masks``.

    A film that is not listed stays not annotated. Empty or no entry for the observation: annotated without lesion, unless the
    film is labelled diseased, which stays not annotated (W_MASK_EMPTY). A healthy film with lesion in its mask is left out
    (W_LABEL_CONFLICT).

    Args:
        records: of CheXpert, with ids such as ``valid/patient64541/study1/view1_frontal.jpg``.
        masks: a published JSON, a folder with one or both of ``PUBLISHED``, or a folder of PNG files ``KEY/OBSERVATION.png`` or
            ``KEY_OBSERVATION.png``.
        observation: CheXpert's name of it.
        folder: of the manifest.
        resize: bring masks of another size to the film's, a pixel being lesion if at least half of it is covered.
        progress: of reading and writing.

    Raises:
        InputError: E_MISSING, E_LAYOUT (nothing of the above at ``masks``), E_MALFORMED, E_LIMIT, E_MASK_SIZE with all films whose mask
            has another size, E_EMPTY (no film is listed), and what reading an image raises.
    """
    found = segmentations(masks, observation)
    listed = [record for record in records if key_of(record) in found]
    if not listed:
        raise InputError(
            "lists none of the films",
            code="E_EMPTY",
            path=masks,
            fix="CheXlocalize covers the validation and test films: choose their part with --test",
        )
    target = folder / "masks" / observation.replace(" ", "_")
    is_prepared = False
    changed: dict[str, Record | None] = {}
    other_size, empty, contradicting = [], [], []
    for record in progress(listed, "masks"):
        segmentation = found[key_of(record)]
        mask = None if segmentation.read is None else segmentation.read()
        if mask is None or not mask.any():
            if record.label == "diseased":
                empty.append(record.id)
            else:
                changed[record.id] = replace(record, annotated_empty=True)
            continue
        if record.label == "healthy":
            contradicting.append(record.id)
            changed[record.id] = None
            continue
        size = read_image(record.image).native_size
        fitted = mask if mask.shape == size else on_grid(mask, size) if resize else None
        if fitted is None:
            other_size.append(f"{record.id} ({shape_text(mask.shape)} for {shape_text(size)})")
            continue
        file = segmentation.file
        if file is None or fitted is not mask:
            file = target / f"{key_of(record)}.png"
            if not is_prepared:
                settings: dict[str, Any] = {"masks": fingerprints(masks), "observation": observation}
                # Only resized masks depend on the films, of which there may be a full and a small copy.
                settings["films"] = stable_hash(*sorted(str(other.image) for other in listed)) if resize else None
                continue_or_empty(target, settings)
                is_prepared = True
            if not file.is_file():
                write_png(file, fitted)
        changed[record.id] = replace(record, mask=file)
    if other_size:
        raise InputError(
            f"{len(other_size)} masks are not of the size of their film: {', '.join(other_size)}",
            code="E_MASK_SIZE",
            path=masks,
            fix="use the films in full resolution (CheXlocalize ships them), or --resize-masks true for reduced ones",
        )
    kept = [changed.get(record.id, record) for record in records]
    return [record for record in kept if record is not None], [
        *some("W_MASK_EMPTY", f"films with {observation} whose mask is empty, taken as not annotated", empty, ""),
        *some("W_LABEL_CONFLICT", f"films labelled healthy with {observation} in their mask, left out", contradicting, ""),
    ]


def segmentations(masks: Path, observation: str) -> dict[str, Segmentation]:
    """Film's key -> its segmentation, of every film that ``masks`` lists."""
    if not masks.exists():
        raise InputError("does not exist", code="E_MISSING", path=masks, fix="give CheXlocalize's folder or JSON file")
    if masks.is_file():
        return published(masks, observation)
    files = [masks / name for name in PUBLISHED if (masks / name).is_file()]
    found = {key: value for file in files for key, value in published(file, observation).items()}
    if not files:
        found = drawn(masks, observation)
    if not found:
        raise InputError(
            f"holds neither {' nor '.join(PUBLISHED)}, nor PNG masks",
            code="E_LAYOUT",
            path=masks,
            fix="expected one of these files, KEY/OBSERVATION.png or KEY_OBSERVATION.png, with keys such as "
            "patient64541_study1_view1_frontal",
        )
    return found


def published(path: Path, observation: str) -> dict[str, Segmentation]:
    """Segmentations of a JSON file ``{key: {observation: {"size": [rows, columns], "counts": run lengths}}}``."""
    regular_file_size(path, ReadLimits())
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON ({error})", code="E_MALFORMED", path=path, fix="fetch the file again") from error
    if not isinstance(content, dict) or not all(isinstance(films, dict) for films in content.values()):
        raise InputError(
            "is not an object of films", code="E_MALFORMED", path=path, fix=f"give {' or '.join(PUBLISHED)} of CheXlocalize"
        )
    found = {}
    for key, entry in content.items():
        encoded = entry.get(observation, entry.get(OTHER_NAME.get(observation, observation)))
        read = None if encoded is None else decoder(encoded, f"{key}, {observation}", path)
        found[key] = Segmentation(read=read)
    return found


def decoder(encoded: Any, name: str, path: Path) -> Callable[[], BoolArray]:
    """Function that decodes an entry; what is wrong with it is said with its name."""

    def read() -> BoolArray:
        entry: dict[str, Any] = encoded if isinstance(encoded, dict) else {}
        size, counts = entry.get("size", ()), entry.get("counts")
        is_size = isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)
        if not is_size or not isinstance(counts, str | list):
            raise InputError(f"{name}: needs size and counts", code="E_MALFORMED", path=path, fix="fetch the file again")
        check_shape(path, size[0], size[1], ReadLimits())
        try:
            return decode_rle(counts, size[0], size[1])
        except InputError as error:
            raise InputError(f"{name}: {error.message}", code=error.code, path=path, fix=error.fix) from error

    return read


def drawn(masks: Path, observation: str) -> dict[str, Segmentation]:
    """Segmentations of a folder of PNG files; a film is listed if it has a mask of any observation."""
    names = {observation, OTHER_NAME.get(observation, observation)}
    names |= {name.replace(" ", "_") for name in names}
    found: dict[str, Segmentation] = {}
    for relative in image_files(masks):
        key, name = "_".join(relative.parts[:-1]), relative.stem
        if not key:
            # The film's name ends in its side: patient64541_study1_view1_frontal_Pleural Effusion.png.
            side = next((side for side in ("_frontal", "_lateral") if f"{side}_" in name), "")
            key, _, name = name.partition(f"{side}_") if side else ("", "", name)
            key += side
        if not key:
            continue
        file = (masks / relative).resolve()
        if name in names:
            found[key] = Segmentation(read=partial(read_mask, file), file=file)
        found.setdefault(key, Segmentation(read=None))
    return found


def key_of(record: Record) -> str:
    """What the masks call a film: ``valid/patient64541/study1/view1_frontal.jpg`` is ``patient64541_study1_view1_frontal``."""
    return record.id.partition("/")[2].rpartition(".")[0].replace("/", "_")


def on_grid(mask: BoolArray, size: tuple[int, int]) -> BoolArray | None:
    """The mask on another grid of the same frame, True where at least half of a pixel is covered; None if the frames differ."""
    rows, columns = size
    if abs(mask.shape[0] * columns / (mask.shape[1] * rows) - 1) > ASPECT_TOLERANCE:
        return None
    coverage = Image.fromarray(np.where(mask, np.float32(1), np.float32(0))).resize((columns, rows), Image.Resampling.BOX)
    covered: BoolArray = np.asarray(coverage) >= 0.5
    return covered


def fingerprints(masks: Path) -> dict[str, str]:
    """File name -> SHA-256 of each published file; a folder of PNG files is told by their names and sizes."""
    files = [masks] if masks.is_file() else [masks / name for name in PUBLISHED if (masks / name).is_file()]
    if files:
        return {file.name: sha256_of(file) for file in files}
    return {path.as_posix(): str((masks / path).stat().st_size) for path in image_files(masks)}


def shape_text(shape: tuple[int, ...]) -> str:
    """``rows x columns``."""
    return " x ".join(map(str, shape))
