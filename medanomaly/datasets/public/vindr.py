"""VinDr-CXR: 18,000 chest radiographs with the boxes of 17 radiologists (Nguyen et al. 2022, Scientific Data 9:429)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from medanomaly.datasets.check import some
from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.observations import Observations
from medanomaly.datasets.public.listing import Listing, Progress, silent
from medanomaly.datasets.public.reader_boxes import merged_boxes
from medanomaly.datasets.public.vindr_layout import TREE, Part, find_parts, native_sizes
from medanomaly.datasets.public.vindr_tables import NO_FINDING, Readings, boxes_around, checked_finding, read_tables
from medanomaly.datasets.resample import Extent, extent_of, resample_boxes
from medanomaly.datasets.splits import hold_out_validation, split_by_patient
from medanomaly.errors import ConfigError, InputError
from medanomaly.types import Box

SOURCE = "VinDr-CXR"
NUM_READERS = 3
"""Of each training image; a test image has one opinion, that of five who agreed."""


def vindr(
    root: Path,
    folder: Path,  # noqa: ARG001 (the signature of a reader)
    *,
    finding: str = "Pleural effusion",
    min_readers: int = 2,
    keep_unlabelled: bool = False,
    unlabelled: bool = False,
    merge_test: bool = False,
    resized_to: int = 0,
    resized_fit: Literal["pad", "stretch"] | None = None,
    test_fraction: float = 0.2,
    val_fraction: float = 0.1,
    seed: int = 0,
    progress: Progress[Any] = silent,  # noqa: ARG001
) -> Listing:
    """VinDr-CXR, PhysioNet or Kaggle: healthy = readers agree on No finding, diseased = on one finding, with its boxes.

    In the training part each image has three readers. It is diseased where at least ``min_readers`` of them have the finding,
    healthy where at least so many say "No finding" and nobody has the finding, and else without label. The boxes of a diseased
    image are those of the readers who have the finding; boxes of different readers that overlap (IoU >= 0.5) are averaged into
    one. A test image has one common opinion and its boxes as given. An image with a finding and no box around it (diagnoses such
    as Pneumonia have none) is not annotated with boxes. No image is opened.

    Args:
        root: folder with train, test and annotations, or with train and train.csv
        folder: of the manifest; nothing is written
        finding: what makes an image diseased, as the tables name it
        min_readers: how many of the three readers of a training image must agree
        keep_unlabelled: keep images that are neither healthy nor diseased, without a label
        unlabelled: every image, labels and boxes left out, for training without classes; test images stay in test
        merge_test: with unlabelled, test images join train and val, and can no longer be used for testing
        resized_to: side in px of pictures that were made square, so that boxes follow; needs resized_fit and train_meta.csv;
            0 = not resized
        resized_fit: how they were made square. stretch: rows and columns were scaled apart; pad: scaled together and padded to a
            centred square, as medanomaly preprocess does
        test_fraction: share of the images that becomes test where the test part has no labels (Kaggle)
        val_fraction: share of the training images that becomes val
        seed: of the choice of val and test images
        progress: a progress bar

    Raises:
        ConfigError: E_CONFIG, an option that cannot be, or a finding the tables do not know.
        InputError: E_MISSING, E_LAYOUT, E_EMPTY, E_TRAVERSAL, E_LEAKAGE (an image in both parts), and what :func:`read_tables` refuses.
    """
    if not 1 <= min_readers <= NUM_READERS:
        raise ConfigError(f"min_readers must be in 1..{NUM_READERS}, got {min_readers}", code="E_CONFIG")
    if resized_to < 0 or not 0 <= test_fraction < 1 or not 0 <= val_fraction < 1:
        raise ConfigError("resized_to must be at least 0, test_fraction and val_fraction in 0..1, 1 excluded", code="E_CONFIG")
    if bool(resized_to) != bool(resized_fit):
        raise ConfigError(
            "resized_to and resized_fit belong together: where boxes lie depends on how the pictures were made square",
            code="E_CONFIG",
            fix="stretch: rows and columns were scaled apart; pad: scaled together and padded to a centred square, "
            "as medanomaly preprocess does",
        )
    if merge_test and not unlabelled:
        raise ConfigError("merge_test would train on the images to test on", code="E_CONFIG", fix="use it with unlabelled only")
    parts = find_parts(root)
    if unlabelled:
        return without_labels(parts, root, merge_test=merge_test, val_fraction=val_fraction, seed=seed)

    labelled = {name: part for name, part in parts.items() if part.has_tables}
    if not labelled:
        raise InputError("has no table of labels", code="E_LAYOUT", path=root, fix=f"expected {TREE}, or choose unlabelled")
    readings = {name: read_tables(part.label_table, part.box_table, consensus=name == "test") for name, part in labelled.items()}
    wanted = checked_finding(finding, [name for read in readings.values() for name in read.names])
    refuse_leakage({name: set(read.said) for name, read in readings.items()}, root)
    extents = None
    if resized_fit:
        extents = {image: extent_of(size, resized_to, resized_fit) for image, size in native_sizes(labelled).items()}
    records: list[Record] = []
    findings: list[Finding] = []
    missing: list[str] = []
    lost: list[str] = []
    for name, part in labelled.items():
        chosen, doubts = choose(part, readings[name], wanted, min_readers, keep_unlabelled=keep_unlabelled)
        findings += doubts
        present = [(record, path) for record in chosen if (path := part.image(record.id)) is not None]
        missing += sorted({record.id for record in chosen} - {record.id for record, _ in present})
        placed = [with_image(record, path, extents) for record, path in present]
        lost += [now.id for (was, _), now in zip(present, placed, strict=True) if len(now.boxes or ()) < len(was.boxes or ())]
        records += placed
    findings += some("W_MISSING", "images that are not there, left out", missing, "fetch them")
    if not records:
        raise InputError(f"no image is left, {len(missing)} files are missing", code="E_EMPTY", path=root, fix=f"expected {TREE}")
    lost_boxes = "images lost boxes: train_meta.csv has no size of them, or one that the boxes do not fit into"
    findings += frame_findings(records) if extents is None else some("W_BOX_FRAME", lost_boxes, lost, "mend the table")
    if "test" not in labelled and test_fraction:
        records = split_by_patient(records, (1 - test_fraction, 0, test_fraction), seed)
    if any(record.split == "train" for record in records):
        records = hold_out_validation(records, val_fraction, seed)
    return Listing(records=sorted(records, key=lambda record: record.id), findings=tuple(findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the readers of an image say together."""

    label: str | None
    is_contradictory: bool
    """One of them says "No finding" and a finding."""
    agreeing: frozenset[str]
    """Readers who have the finding."""
    observations: Observations


def opinion_of(said: Mapping[str, set[str]], finding: str, names: list[str], min_readers: int) -> Opinion:
    """Agreement on one image: see :func:`vindr`; of every other finding: present, absent (nobody has it) or uncertain."""
    num = {name: sum(name in present for present in said.values()) for name in names}
    num_well = sum(NO_FINDING in present for present in said.values())
    is_contradictory = any(NO_FINDING in present and len(present) > 1 for present in said.values())
    label = None
    if num[finding] >= min_readers:
        label = "diseased"
    elif num_well >= min_readers and num[finding] == 0:
        label = "healthy"
    return Opinion(
        label=label,
        is_contradictory=is_contradictory,
        agreeing=frozenset(reader for reader, present in said.items() if finding in present),
        observations=tuple(
            (name, 1 if num[name] >= min_readers else 0 if num[name] == 0 else -1) for name in names if name != NO_FINDING
        ),
    )


def choose(
    part: Part, readings: Readings, finding: str, min_readers: int, *, keep_unlabelled: bool
) -> tuple[list[Record], list[Finding]]:
    """Records of a part by the readers' agreement, their files not looked for yet, and what was left out."""
    drawn, odd = boxes_around(readings.rectangles, finding, part.box_table)
    names = [*readings.names, *([finding] if finding not in readings.names else [])]
    needed = 1 if readings.is_consensus else min_readers
    records, contradictory, disputed, unboxed = [], [], [], []
    for image, said in sorted(readings.said.items()):
        opinion = opinion_of(said, finding, names, needed)
        if opinion.is_contradictory:
            contradictory.append(image)
            continue
        if opinion.label is None and opinion.agreeing:
            disputed.append(image)
        if opinion.label is None and not keep_unlabelled:
            continue
        boxes: tuple[Box, ...] | None = () if opinion.label == "healthy" else None
        if opinion.label == "diseased":
            boxes = merged_boxes({reader: drawn[image][reader] for reader in opinion.agreeing}) or None
            unboxed += [] if boxes else [image]
        records.append(
            Record(
                id=image,
                patient_id=image,
                image=part.folder / image,
                label=opinion.label,
                boxes=boxes,
                split=part.name,
                observations=opinion.observations,
                view="PA",
                source=SOURCE,
            )
        )
    where = f"of {part.name}"
    outcome = "kept without a label" if keep_unlabelled else "left out"
    return records, [
        *some("W_DUPLICATE", f"images {where} with a row that is there twice, counted once", sorted(readings.repeated), ""),
        *some(
            "W_CONFLICT", f"images {where} of which a reader says both {NO_FINDING} and a finding, left out", contradictory, ""
        ),
        *some("W_DISPUTED", f"images {where} with {finding} for fewer than {needed} readers, {outcome}", disputed, ""),
        *some("W_BOX", f"images {where} with a rectangle of {finding} that is blank or without area, which is left out", odd, ""),
        *some("W_NO_BOX", f"images {where} with {finding} and no box around it", unboxed, ""),
    ]


def with_image(record: Record, path: Path, extents: Mapping[str, Extent] | None) -> Record:
    """The record with its file, and its boxes in the px of that file; ``extents``: of resized pictures, None = not resized."""
    boxes = record.boxes
    if boxes and extents is not None:
        boxes = resample_boxes(boxes, extents[record.id]) if record.id in extents else None
    return replace(record, image=path, boxes=boxes)


def frame_findings(records: list[Record]) -> list[Finding]:
    """Doubts about the px that boxes are given in: pictures instead of DICOM images."""
    pictures = [record.id for record in records if record.boxes and not record.image.name.lower().endswith((".dicom", ".dcm"))]
    advice = "if they were made square: --resized-to SIDE with --resized-fit stretch (scaled apart) or pad (padded, centred)"
    return some("W_BOX_FRAME", "pictures with boxes in px of the DICOM image", pictures, advice)


def without_labels(parts: Mapping[str, Part], root: Path, *, merge_test: bool, val_fraction: float, seed: int) -> Listing:
    """Every image that is there, by the folders alone, without label and boxes."""
    refuse_leakage({name: set(part.images) for name, part in parts.items()}, root)
    records = [
        Record(
            id=image,
            patient_id=image,
            image=path,
            split="train" if merge_test else part.name,
            view="PA",
            source=SOURCE,
        )
        for part in parts.values()
        for image in sorted(part.images)
        if (path := part.image(image)) is not None
    ]
    if not records:
        raise InputError("has no images", code="E_EMPTY", path=root, fix=f"expected {TREE}")
    if any(record.split == "train" for record in records):
        records = hold_out_validation(records, val_fraction, seed)
    merged = sorted(parts["test"].images) if merge_test and "test" in parts else []
    doubts = some("W_TEST_MERGED", "test images are in train and val", merged, "do not measure anything on them")
    return Listing(records=sorted(records, key=lambda record: record.id), findings=tuple(doubts))


def refuse_leakage(images: Mapping[str, set[str]], root: Path) -> None:
    """InputError naming every image of both parts."""
    shared = sorted(images.get("train", set()) & images.get("test", set()))
    if shared:
        raise InputError(
            f"{len(shared)} images are in train and in test: {', '.join(shared)}",
            code="E_LEAKAGE",
            path=root,
            fix="use the parts as published",
        )
