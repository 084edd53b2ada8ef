"""The same picture twice, and the same patient in two published splits: what is kept, and what is said about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from medanomaly.datasets.findings import Finding
from medanomaly.datasets.manifest import Record
from medanomaly.files import sha256_of

SPLIT_RANK = {"test": 0, "val": 1, "train": 2, None: 3}
"""What is in two splits stays in the first of these: the published test set remains what others measured on."""


def without_duplicates(records: Sequence[Record]) -> tuple[list[Record], list[Finding]]:
    """One record of each image file's content, in the order they came in; the files are read.

    Equal bytes with one label: the record in test, else val, else train is kept, the first by id among several. Equal bytes
    with different labels: nobody can say which is right, none is kept.

    Returns:
        The records, and W_DUPLICATE and W_LABEL_CONFLICT with the ids left out.
    """
    same_size: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        same_size[record.image.stat().st_size].append(record)
    same_bytes: dict[str, list[Record]] = defaultdict(list)
    # Files of different sizes differ: only the others are worth reading.
    for group in same_size.values():
        for record in group if len(group) > 1 else ():
            same_bytes[sha256_of(record.image)].append(record)
    repeated: set[str] = set()
    conflicting: set[str] = set()
    for group in same_bytes.values():
        ranked = [record.id for record in sorted(group, key=lambda record: (SPLIT_RANK[record.split], record.id))]
        is_conflict = len({record.label for record in group}) > 1
        conflicting.update(ranked if is_conflict else ())
        repeated.update(() if is_conflict else ranked[1:])
    kept = [record for record in records if record.id not in repeated | conflicting]
    return kept, [
        *finding("W_DUPLICATE", "images left out: their bytes are those of another that is kept", repeated),
        *finding("W_LABEL_CONFLICT", "images left out: equal bytes with different labels", conflicting),
    ]


def without_leakage(records: Sequence[Record]) -> tuple[list[Record], list[Finding]]:
    """Records whose patient is in one split only: who is in several stays in test, else in val.

    Returns:
        The records in their order, and W_LEAKAGE with the ids left out.
    """
    best: dict[str, str | None] = {}
    for record in records:
        best[record.patient_id] = min(best.get(record.patient_id), record.split, key=SPLIT_RANK.__getitem__)
    kept = [record for record in records if record.split == best[record.patient_id]]
    leaking = {record.id for record in records if record.split != best[record.patient_id]}
    return kept, finding("W_LEAKAGE", "images left out: their patient is also in a later one of train, val, test", leaking)


def finding(code: str, what: str, ids: Iterable[str], fix: str = "") -> list[Finding]:
    """A finding that counts its ids, sorted; none where there are none."""
    names = tuple(sorted(ids))
    return [Finding(code=code, message=f"{len(names)} {what}", ids=names, fix=fix)] if names else []
