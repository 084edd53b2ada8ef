"""NIH ChestX-ray14: 112,120 frontal chest radiographs of 30,805 patients (Wang et al. 2017, arXiv:1705.02315), some with boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from medanomaly.datasets.check import some
from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.public.linked_files import inside
from medanomaly.datasets.public.listing import Listing, Progress, silent
from medanomaly.datasets.public.nih_layout import BOX_TABLES, TREE, find_images, find_tables, first_file, is_there
from medanomaly.datasets.public.nih_tables import FINDINGS, NO_FINDING, PUBLISHED_SIDE, Film, read_boxes, read_films, read_list
from medanomaly.datasets.public.sampling import at_most
from medanomaly.datasets.splits import hold_out_validation
from medanomaly.errors import ConfigError, InputError
from medanomaly.io.faults import library_faults
from medanomaly.rng import stable_hash
from medanomaly.types import Box

SOURCE = "NIH ChestX-ray14"
VIEWS = ("PA", "AP")


def nih(
    root: Path,
    folder: Path,  # noqa: ARG001 (the signature of a reader)
    *,
    finding: str = "Effusion",
    views: tuple[str, ...] = VIEWS,
    one_image_a_patient: bool = False,
    sample: int = 0,
    keep_unlabelled: bool = False,
    image_size: int = PUBLISHED_SIDE,
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress[Any] = silent,  # noqa: ARG001
) -> Listing:
    """NIH ChestX-ray14: healthy = No Finding, diseased = one finding, with boxes where the set has them.

    The official test list is test, the rest train and val by patient. A patient with a box of the finding is in test with all
    images. An image without a box was not looked at for boxes: only diseased images of the table of boxes have any. Spacing
    is that of the PNG, which was stretched to a square, so rows and columns may differ. One image's header is read.

    Args:
        root: folder with Data_Entry_2017.csv, the two lists and the images
        folder: of the manifest; nothing is written
        finding: what makes an image diseased, one of the 14
        views: kept, of PA and AP
        one_image_a_patient: keep one training image of each patient, chosen by a hash of the seed; test images are all kept
        sample: at most so many images of each class in the training part and in test, 0 = all; images with boxes are all kept
        keep_unlabelled: keep images that are neither healthy nor diseased, without a label
        image_size: side in px of the PNGs where they were made smaller than published; boxes and spacing follow
        val_fraction: share of the training patients that becomes val
        seed: of the choice of images and of val patients
        progress: a progress bar

    Raises:
        ConfigError: E_CONFIG, an option that cannot be.
        InputError: E_MISSING, E_LAYOUT, E_EMPTY, E_TRAVERSAL, E_LEAKAGE (a patient in both lists), E_BOX_SIZE (PNGs of another
            side than ``image_size``), and what :func:`read_films` and :func:`read_boxes` refuse.
    """
    check_options(finding, views, image_size, val_fraction)
    table, list_paths = find_tables(root)
    films, repeated = read_films(table)
    lists = {split: read_list(path) for split, path in list_paths.items()}
    refuse_leakage(films, lists, root)
    split_of = {image: split for split, names in lists.items() for image in names}
    box_table = first_file(root, BOX_TABLES)
    boxes = read_boxes(box_table, finding) if box_table is not None else {}
    findings = [
        *some("W_DUPLICATE", "images have a row that is there twice, counted once", repeated, ""),
        *([] if box_table else [Finding(code="W_NO_BOXES", message=f"there is no {BOX_TABLES[0]}: no image has boxes")]),
    ]

    listed = [film for film in films if film.image in split_of]
    unlisted = sorted(film.image for film in films if film.image not in split_of)
    findings += some("W_NO_SPLIT", "images are in neither list, left out", unlisted, "use the lists as published")
    chosen, doubts = choose(listed, finding, views, boxes, keep_unlabelled=keep_unlabelled)
    findings += doubts
    splits, doubts = boxed_to_test(listed, {film.image for film, _ in chosen} & boxes.keys(), split_of)
    findings += doubts

    images, doubts = find_images(root)
    findings += doubts
    missing = sorted(film.image for film, _ in chosen if not is_there(film.image, images, root, table))
    findings += some("W_MISSING", "images that are not there, left out", missing, "fetch them")
    absent = set(missing)
    records = [
        record_of(film, label, inside(*images[film.image]), splits[film.patient, film.image], boxes.get(film.image), image_size)
        for film, label in chosen
        if film.image not in absent
    ]
    if not records:
        raise InputError(
            f"no image is left of {len(films)} rows, {len(missing)} files are missing",
            code="E_EMPTY",
            path=root,
            fix=f"loosen the options, or mend the tree; expected {TREE}",
        )
    refuse_other_size(records, image_size)
    if one_image_a_patient:
        records = first_of_patients(records, seed)
    kept = [record for record in records if record.boxes]
    records = kept + at_most([record for record in records if not record.boxes], sample, seed)
    if any(record.split == "train" for record in records):
        records = hold_out_validation(records, val_fraction, seed)
    return Listing(records=sorted(records, key=lambda record: record.id), findings=tuple(findings))


def check_options(finding: str, views: Sequence[str], image_size: int, val_fraction: float) -> None:
    """ConfigError for an option that cannot be."""
    if finding not in FINDINGS:
        raise ConfigError(f"finding must be one of {', '.join(FINDINGS)}, got {finding!a}", code="E_CONFIG")
    if not views or set(views) - set(VIEWS):
        raise ConfigError(f"views must be of {', '.join(VIEWS)}, got {list(views)}", code="E_CONFIG")
    if image_size < 1 or not 0 <= val_fraction < 1:
        raise ConfigError("image_size must be at least 1 and val_fraction in 0..1, 1 excluded", code="E_CONFIG")


def refuse_other_size(records: Sequence[Record], image_size: int) -> None:
    """InputError where the PNG of a record, one with boxes if there is any, is not ``image_size`` px high and wide.

    One header tells of all: copies are resized together. A file that is no PNG tells nothing, and is left to the data check.
    """
    for record in sorted(records, key=lambda record: (not record.boxes, record.id)):
        try:
            with library_faults(record.image, "PNG"), Image.open(record.image, formats=["PNG"]) as picture:
                columns, rows = picture.size
        except InputError:
            continue
        if (rows, columns) != (image_size, image_size):
            raise InputError(
                f"has {rows} rows x {columns} columns, boxes and spacing would be those of {image_size} x {image_size}",
                code="E_BOX_SIZE",
                path=record.image,
                fix=f"give --image-size {rows}" if rows == columns else "use the square PNGs as published",
            )
        return


def refuse_leakage(films: Sequence[Film], lists: Mapping[str, set[str]], root: Path) -> None:
    """InputError naming every patient with images in both official lists."""
    patients = {split: {film.patient for film in films if film.image in names} for split, names in lists.items()}
    shared = sorted(patients["train"] & patients["test"])
    if shared:
        raise InputError(
            f"{len(shared)} patients are in both lists: {', '.join(shared)}",
            code="E_LEAKAGE",
            path=root,
            fix="use the lists as published",
        )


def choose(
    films: Sequence[Film], finding: str, views: Sequence[str], boxes: Mapping[str, Sequence[Box]], *, keep_unlabelled: bool
) -> tuple[list[tuple[Film, str | None]], list[Finding]]:
    """Films of the wanted views with their label, and what contradicts itself."""
    chosen: list[tuple[Film, str | None]] = []
    contradictory, misboxed = [], []
    for film in films:
        if film.view not in views:
            continue
        if film.is_contradictory:
            contradictory.append(film.image)
        elif film.image in boxes and finding not in film.findings:
            misboxed.append(film.image)
        elif finding in film.findings:
            chosen.append((film, "diseased"))
        elif NO_FINDING in film.findings:
            chosen.append((film, "healthy"))
        elif keep_unlabelled:
            chosen.append((film, None))
    unknown = sorted(boxes.keys() - {film.image for film in films})
    return chosen, [
        *some("W_CONFLICT", f"images say both {NO_FINDING} and a finding, left out", sorted(contradictory), ""),
        *some("W_CONFLICT", f"images have a box of {finding} and not the label, left out", sorted(misboxed), ""),
        *some("W_BOX", f"images with a box of {finding} are in no list or table", unknown, ""),
    ]


def boxed_to_test(
    films: Sequence[Film], boxed: set[str], split_of: Mapping[str, str]
) -> tuple[dict[tuple[str, str], str], list[Finding]]:
    """(patient, image) -> split, every patient with a boxed image in test with all images; and who was moved for that."""
    patients = {film.patient for film in films if film.image in boxed}
    moved = sorted({film.patient for film in films if film.patient in patients and split_of[film.image] != "test"})
    splits = {(film.patient, film.image): "test" if film.patient in patients else split_of[film.image] for film in films}
    return splits, some("W_MOVED", "patients of the training list have boxes and are in test, with all their images", moved, "")


def record_of(film: Film, label: str | None, image: Path, split: str, boxes: Sequence[Box] | None, image_size: int) -> Record:
    """The manifest's row of a film."""
    scale = image_size / PUBLISHED_SIDE
    return Record(
        id=film.image,
        patient_id=film.patient,
        image=image,
        label=label,
        boxes=tuple(scaled(box, scale) for box in boxes) if boxes and label == "diseased" else None,
        split=split,
        spacing_mm=None if film.spacing_mm is None else (film.spacing_mm[0] / scale, film.spacing_mm[1] / scale),
        observations=tuple((name, int(name in film.findings)) for name in FINDINGS),
        view=film.view,
        source=SOURCE,
    )


def scaled(box: Box, scale: float) -> Box:
    """The box in px of an image ``scale`` times as large."""
    return replace(box, x_min=box.x_min * scale, y_min=box.y_min * scale, x_max=box.x_max * scale, y_max=box.y_max * scale)


def first_of_patients(records: Sequence[Record], seed: int) -> list[Record]:
    """All test records, and of each other patient the one that comes first by a hash of (seed, id)."""
    ranked = sorted(records, key=lambda record: (stable_hash(seed, SOURCE, record.id), record.id))
    first: dict[str, str] = {}
    for record in ranked:
        first.setdefault(record.patient_id, record.id)
    return [record for record in records if record.split == "test" or first[record.patient_id] == record.id]
