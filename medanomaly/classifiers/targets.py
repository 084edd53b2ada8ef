"""What a classifier is told of an image: one class of many, or for each observation present, absent or not known."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from medanomaly.classifiers.loss import MASKED
from medanomaly.datasets.dataset import refuse_unknown_labels
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.observations import Observations
from medanomaly.errors import InputError
from medanomaly.types import Batch, Sample

Uncertain = Literal["masked", "ones", "zeros"]
"""What -1 means to the loss: nothing, present or absent (U-Ignore, U-Ones, U-Zeros of Irvin et al. 2019, arXiv:1901.07031)."""
Blank = Literal["masked", "zeros"]
"""What an observation that the source does not mention means to the loss: nothing, or absent."""
OF_UNCERTAIN: Mapping[str, int] = {"masked": MASKED, "ones": 1, "zeros": 0}
OF_BLANK: Mapping[str, int] = {"masked": MASKED, "zeros": 0}


def targets_of(observations: Observations, classes: Sequence[str], *, uncertain: Uncertain, blank: Blank) -> tuple[int, ...]:
    """1, 0 or ``MASKED`` for each class."""
    said = dict(observations)
    meaning = {1: 1, 0: 0, -1: OF_UNCERTAIN[uncertain], None: OF_BLANK[blank]}
    return tuple(meaning[said.get(name)] for name in classes)


def batch_of_observations(samples: Sequence[Sample], classes: Sequence[str], *, uncertain: Uncertain, blank: Blank) -> Batch:
    """Training batch whose labels are (B, classes) int64: 1, 0 or ``MASKED``."""
    rows = [targets_of(sample.observations, classes, uncertain=uncertain, blank=blank) for sample in samples]
    return Batch(x=torch.stack([sample.x for sample in samples]), label=torch.tensor(rows, dtype=torch.int64))


def labelled(records: Sequence[Record], classes: tuple[str, ...], split: str, data: Path) -> list[Record]:
    """The records with a class, of which training needs every one.

    Raises:
        ConfigError: E_CLASS, a label that is no class.
        InputError: E_LABEL, no image has a label; E_ONE_CLASS, all have the same; E_CLASS_EMPTY, a class has no image to train on.
    """
    refuse_unknown_labels(records, classes)
    kept = [record for record in records if record.label is not None]
    if not kept:
        raise InputError(
            f"none of {len(records)} {split} images has a label",
            code="E_LABEL",
            path=data,
            fix="fill the column label, or set --method.multi-label true to learn the column observations",
        )
    found = {record.label for record in kept}
    absent = [name for name in classes if name not in found]
    if split == "train" and len(found) == 1:
        raise InputError(
            f"all labelled train images are {kept[0].label!a}: there is nothing to tell apart",
            code="E_ONE_CLASS",
            path=data,
            fix="add images of the other classes",
        )
    if split == "train" and absent:
        raise InputError(
            f"no train image of {', '.join(map(ascii, absent))}",
            code="E_CLASS_EMPTY",
            path=data,
            fix="add images, or leave these out of --method.classes",
        )
    return kept


def observed(
    records: Sequence[Record],
    classes: tuple[str, ...],
    split: str,
    data: Path,
    targets: Callable[[Observations], tuple[int, ...]],
) -> list[Record]:
    """The records of which at least one class is known; to train, each class needs images with it and without it.

    Raises:
        InputError: E_LABEL, no image has an observation; E_CLASS, a class that no image mentions; E_ONE_CLASS, one that is never,
            or always, present.
    """
    mentioned = {name for record in records for name, _ in record.observations}
    if not mentioned:
        raise InputError(
            f"none of {len(records)} {split} images has an observation",
            code="E_LABEL",
            path=data,
            fix="fill the column observations, e.g. by `medanomaly data chexpert`, or set --method.multi-label false",
        )
    if split == "train":
        for name in (one for one in classes if one not in mentioned):
            near = difflib.get_close_matches(name, sorted(mentioned), n=1)
            known = f"its observations are {', '.join(map(ascii, sorted(mentioned)))}"
            raise InputError(
                f"no train image mentions {name!a}",
                code="E_CLASS",
                path=data,
                fix=f"did you mean {near[0]!a}? {known}" if near else known,
            )
    rows = [targets(record.observations) for record in records]
    for name, column in zip(classes, zip(*rows, strict=True), strict=True):
        lacking = [word for word, value in (("present", 1), ("absent", 0)) if value not in column]
        if split == "train" and lacking:
            raise InputError(
                f"{name!a} is {' and '.join(lacking)} in no train image: there is nothing to tell apart",
                code="E_ONE_CLASS",
                path=data,
                fix="leave it out of --method.classes, or set --method.blank zeros where the source mentions only what it found",
            )
    return [record for record, row in zip(records, rows, strict=True) if set(row) != {MASKED}]
