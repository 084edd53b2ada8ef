"""Is this data set fit to train and to measure on? All that is wrong at once, not the first thing."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from medanomaly.datasets.findings import CheckReport, Finding
from medanomaly.datasets.manifest import Record
from medanomaly.errors import InputError
from medanomaly.files import sha256_of
from medanomaly.io.integrity import check_integrity
from medanomaly.io.reader import ReadOptions, read_image, read_mask
from medanomaly.types import Box

MIN_TEST_PATIENTS = 20
MIN_TEST_DISEASED = 5
"""Below these numbers of patients an interval is so wide that a table of the test split says little."""
BOX_SLACK_PX = 1
"""How far a box may reach beyond its image: tables count pixels from 0 or from 1, and round."""
BOX_ADVICE = (
    "boxes must be in px of the image as it lies on disk; for resized copies make the manifest first and preprocess that, "
    "or use --image-size / --resized-to"
)


def check_manifest(
    records: Sequence[Record], deep: bool = False, *, healthy_class: str = "healthy", options: ReadOptions | None = None
) -> CheckReport:
    """All findings about a data set; nothing is raised for what the data hold.

    Errors: E_MISSING (files that are not there), E_LEAKAGE (patients in two splits), E_DUPLICATE (the same bytes in two
    splits), E_LABEL_CONFLICT (the same bytes with two labels), E_MASK_LABEL (a healthy image with lesion in its mask).
    Warnings: W_DUPLICATE (the same bytes twice in one split), W_LABEL_CASE, W_ONE_CLASS (train has one class), W_NO_SPLIT,
    W_NO_VAL, W_N_TOO_SMALL (test: fewer than 20 patients, or fewer than 5 with disease), W_NO_MASK (diseased test images
    with neither mask nor box), W_MASK_EMPTY (diseased and annotated as empty), W_NO_PATIENT (each image is its own patient),
    W_CONSTANT, W_CHANNELS (images of several channels where ``options`` do not say how many the model takes).

    Args:
        records: the manifest.
        deep: decode every image and mask as well, to the last byte. Adds the reader's own codes (E_TRUNCATED, E_MASK_SIZE,
            E_GEOMETRY, E_CHECKSUM, ...), E_BOX_SIZE (boxes that reach beyond their image), lesion in the masks of healthy images,
            empty masks of diseased ones, constant images, and images with the same pixels in other bytes (E_DUPLICATE,
            E_LABEL_CONFLICT, W_DUPLICATE).
        healthy_class: name of the class without disease.
        options: how images are read, for ``deep``; None = with as many channels as each file holds.
    """
    absent = absent_files(records)
    findings = [
        *some("E_MISSING", "files that are not there or may not be read", map(str, absent), fix_of_paths(absent)),
        *leakage(records),
        *duplicates([record for record in records if record.image not in absent]),
        *labels(records, healthy_class),
        *sizes(records, healthy_class),
    ]
    if deep:
        readable = [record for record in records if not {record.image, record.mask} & absent.keys()]
        findings += pixel_findings(readable, healthy_class, ReadOptions(channels=None) if options is None else options)
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in records:
        groups[record.split or "", record.label or ""].append(record.patient_id)
    return CheckReport(
        findings=tuple(findings),
        num_images={group: len(patients) for group, patients in groups.items()},
        num_patients={group: len(set(patients)) for group, patients in groups.items()},
    )


def absent_files(records: Sequence[Record]) -> dict[Path, None]:
    """Images and masks, in the manifest's order, that are no regular file or may not be read."""
    wanted = dict.fromkeys(file for record in records for file in (record.image, record.mask) if file is not None)
    return {file: None for file in wanted if not (os.path.isfile(file) and os.access(file, os.R_OK))}  # noqa: PTH113


def fix_of_paths(absent: Iterable[Path]) -> str:
    """Advice on paths; a backslash that is not a separator here comes from a table written on Windows."""
    is_foreign = os.sep == "/" and any("\\" in file.name for file in absent)
    return "write paths with forward slashes" if is_foreign else "correct the paths or fetch the files"


def leakage(records: Sequence[Record]) -> list[Finding]:
    """E_LEAKAGE with every patient that is in two splits."""
    splits: dict[str, set[str | None]] = defaultdict(set)
    for record in records:
        splits[record.patient_id].add(record.split)
    leaking = sorted(patient for patient, names in splits.items() if len(names - {None}) > 1)
    return some("E_LEAKAGE", "patients in more than one split", leaking, "keep all images of a patient in one split")


def duplicates(records: Sequence[Record]) -> list[Finding]:
    """Images with the same bytes: in two splits, with two labels, or merely twice."""
    same_size: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        same_size[record.image.stat().st_size].append(record)
    same_bytes: dict[str, list[Record]] = defaultdict(list)
    # Files of different sizes differ: only the others are worth reading.
    for group in same_size.values():
        for record in group if len(group) > 1 else ():
            same_bytes[sha256_of(record.image)].append(record)
    return twins(same_bytes.values(), "bytes")


def twins(groups: Iterable[Sequence[Record]], what: str) -> list[Finding]:
    """Findings on groups of records that share their ``what``: in two splits, with two labels, or merely twice."""
    across: list[str] = []
    conflicting: list[str] = []
    repeated: list[str] = []
    for group in groups:
        ids = [record.id for record in group]
        is_across = len({record.split for record in group} - {None}) > 1
        is_conflict = len({record.label for record in group} - {None}) > 1
        across += ids if is_across else []
        conflicting += ids if is_conflict else []
        repeated += ids if len(ids) > 1 and not is_across and not is_conflict else []
    return [
        *some("E_DUPLICATE", f"images with the same {what} in more than one split", across, "keep one of each"),
        *some("E_LABEL_CONFLICT", f"images with the same {what} and different labels", conflicting, "find out which is right"),
        *some("W_DUPLICATE", f"images with the same {what} as another", repeated, "keep one of each"),
    ]


def labels(records: Sequence[Record], healthy_class: str) -> list[Finding]:
    """Labels that contradict each other or the mask column."""
    by_fold: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.label is not None:
            by_fold[record.label.casefold()].add(record.label)
    twins = sorted(name for names in by_fold.values() if len(names) > 1 for name in names)
    diseased = [record for record in records if is_diseased(record, healthy_class)]
    unmasked = [r.id for r in diseased if r.split == "test" and r.mask is None and not r.annotated_empty and not r.boxes]
    emptied = [record.id for record in diseased if record.annotated_empty]
    train = {record.label for record in records if record.split == "train" and record.label is not None}
    return [
        *some("W_LABEL_CASE", "labels that differ in case only, and so are different classes", twins, "spell each one way"),
        *some("W_ONE_CLASS", "the only class of train", train if len(train) == 1 else (), "add the others"),
        *some(
            "W_NO_MASK",
            "diseased test images without mask or box, which no localization metric counts",
            unmasked,
            "annotate them",
        ),
        *some("W_MASK_EMPTY", "diseased images annotated as empty", emptied, "check the label and the mask column"),
    ]


def sizes(records: Sequence[Record], healthy_class: str) -> list[Finding]:
    """Splits and patients that are absent or too few to say much."""
    unassigned = [record.id for record in records if record.split is None]
    findings = some("W_NO_SPLIT", "images in no split", unassigned, "split by patient")
    present = Counter(record.split for record in records)
    if present["train"] and not present["val"]:
        message = "there is no val split to choose thresholds on"
        findings.append(Finding(code="W_NO_VAL", message=message, fix="take patients out of train"))
    test = [record for record in records if record.split == "test"]
    patients = {record.patient_id for record in test}
    diseased = {record.patient_id for record in test if is_diseased(record, healthy_class)}
    if test and (len(patients) < MIN_TEST_PATIENTS or len(diseased) < MIN_TEST_DISEASED):
        message = (
            f"n too small: test has {len(patients)} patients ({MIN_TEST_PATIENTS} wanted), "
            f"{len(diseased)} of them with disease ({MIN_TEST_DISEASED} wanted)"
        )
        findings.append(Finding(code="W_N_TOO_SMALL", message=message, fix="read every number together with its interval"))
    if len(records) > 1 and all(record.patient_id == record.id for record in records):
        message = "every image is its own patient: leakage between splits cannot be seen"
        findings.append(Finding(code="W_NO_PATIENT", message=message, fix="add the column patient_id"))
    return findings


def pixel_findings(records: Sequence[Record], healthy_class: str, options: ReadOptions) -> list[Finding]:
    """What only decoding shows: one finding for each of the reader's codes, masks that contradict labels, constant images."""
    faults: dict[str, list[tuple[str, InputError]]] = defaultdict(list)
    lesion_in_healthy, empty_in_diseased, constant, misboxed = [], [], [], []
    by_channels: dict[int, list[str]] = defaultdict(list)
    by_pixels: dict[bytes, list[Record]] = defaultdict(list)
    for record in records:
        try:
            num_channels, is_constant, has_lesion, digest, boxes_fit = what_it_holds(record, options)
        except InputError as error:
            faults[error.code].append((record.id, error))
            continue
        by_channels[num_channels].append(record.id)
        if not boxes_fit:
            misboxed.append(record.id)
        if is_constant:
            constant.append(record.id)
        else:
            by_pixels[digest].append(record)
        if has_lesion is True and record.label == healthy_class:
            lesion_in_healthy.append(record.id)
        if has_lesion is False and is_diseased(record, healthy_class):
            empty_in_diseased.append(record.id)
    unusable = []
    for code, pairs in sorted(faults.items()):
        first = pairs[0][1]
        ids = [identifier for identifier, _ in pairs]
        unusable += some(code, f"images or masks that cannot be used, the first: {first.message}", ids, first.fix)
    # The same bytes were found before anything was decoded; a PNG saved again as TIFF is found here.
    recoded = [group for group in by_pixels.values() if len(group) > 1 and len({sha256_of(one.image) for one in group}) > 1]
    several = []
    for count, ids in sorted(by_channels.items()) if options.channels is None else ():
        advice = f"train with --preprocess.channels {count}, and check with --channels {count}"
        several += some("W_CHANNELS", f"images with {count} channels", ids if count > 1 else (), advice)
    return [
        *unusable,
        *some("E_BOX_SIZE", "images with boxes that lie outside of them", misboxed, BOX_ADVICE),
        *several,
        *twins(recoded, "pixels"),
        *some("E_MASK_LABEL", "healthy images with lesion in their mask", lesion_in_healthy, "correct the label or the mask"),
        *some("W_MASK_EMPTY", "diseased images with an empty mask file", empty_in_diseased, "check the label and the mask"),
        *some("W_CONSTANT", "images that hold one value only", constant, "export them again, or leave them out"),
    ]


def what_it_holds(record: Record, options: ReadOptions) -> tuple[int, bool, bool | None, bytes, bool]:
    """(channels, all pixels are equal, its mask file holds lesion or None = no file, digest of the pixels, its boxes fit).

    Equal planes count as one channel. Checksums that a reading does not see are verified as well (``io.integrity``).
    """
    raw = read_image(record.image, options)
    check_integrity(record.image, options.limits)
    has_lesion = None
    if record.mask is not None:
        has_lesion = bool(read_mask(record.mask, raw.native_size, image_path=record.image).any())
        check_integrity(record.mask, options.limits)
    is_gray = all(np.array_equal(raw.pixels[0], plane) for plane in raw.pixels[1:])
    planes = raw.pixels[:1] if is_gray else raw.pixels
    digest = hashlib.blake2b(str(planes.shape).encode() + planes.tobytes(), digest_size=16).digest()
    boxes_fit = all(is_inside(box, raw.native_size) for box in record.boxes or ())
    return len(planes), bool(raw.pixels.min() == raw.pixels.max()), has_lesion, digest, boxes_fit


def is_inside(box: Box, native_size: tuple[int, int]) -> bool:
    """Whether a box shows in an image of (rows, columns) and reaches at most ``BOX_SLACK_PX`` beyond its border."""
    rows, columns = native_size
    fits_across = -BOX_SLACK_PX <= box.x_min < columns and 0 < box.x_max <= columns + BOX_SLACK_PX
    return fits_across and -BOX_SLACK_PX <= box.y_min < rows and 0 < box.y_max <= rows + BOX_SLACK_PX


def some(code: str, what: str, ids: Iterable[str], fix: str) -> list[Finding]:
    """A finding that counts its ids; none where there are no ids."""
    names = tuple(ids)
    return [Finding(code=code, message=f"{len(names)} {what}", ids=names, fix=fix)] if names else []


def is_diseased(record: Record, healthy_class: str) -> bool:
    """Whether the record has a label that is not the healthy one."""
    return record.label is not None and record.label != healthy_class
