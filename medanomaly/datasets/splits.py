"""Splits by patient: decided by a hash of the patient, never by the order files were listed in."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from medanomaly.datasets.manifest import SPLITS, Record
from medanomaly.errors import ConfigError, InputError
from medanomaly.rng import stable_hash


def split_by_patient(
    records: Sequence[Record], fractions: tuple[float, float, float], seed: int, *, healthy_class: str | None = "healthy"
) -> list[Record]:
    """The same records in the same order, each with a split; no patient is in two.

    Patients are divided in two strata, those with any image labelled other than ``healthy_class`` and the rest, so that each
    split has its share of disease. Within a stratum the patients are ranked by a hash of (seed, patient) and dealt in that
    order: the answer depends on the set of patients, the labels and the seed only.

    Args:
        records: any splits they have are replaced.
        fractions: of patients, for train, val and test; each >= 0, sum 1. A split with a positive fraction gets at least one
            patient of each stratum that has as many patients as there are such splits.
        seed: another seed, another split.
        healthy_class: name of the class without disease; None = one stratum.

    Raises:
        ConfigError: E_CONFIG, fractions that are negative or do not sum to 1.
        InputError: E_TOO_FEW, fewer patients than splits with a positive fraction, or so few in each stratum that one stays
            empty.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ConfigError(
            f"fractions must be three numbers >= 0 that sum to 1 (train, val, test), got {fractions}", code="E_CONFIG"
        )
    strata: dict[bool, list[str]] = {False: [], True: []}
    for patient, is_diseased in diseased_patients(records, healthy_class).items():
        strata[is_diseased].append(patient)
    split_of: dict[str, str] = {}
    for patients in strata.values():
        # The patient itself breaks a tie of hashes.
        ranked = sorted(patients, key=lambda patient: (stable_hash(seed, "split", patient), patient))
        dealt = [name for name, count in zip(SPLITS, shares(len(ranked), fractions), strict=True) for _ in range(count)]
        split_of.update(zip(ranked, dealt, strict=True))
    lacking = [name for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0 and name not in split_of.values()]
    if lacking:
        raise InputError(
            f"{len(split_of)} patients are too few: no patient is left for {', '.join(lacking)}",
            code="E_TOO_FEW",
            fix="add patients, or give that split the fraction 0",
        )
    return [replace(record, split=split_of[record.patient_id]) for record in records]


def hold_out_validation(
    records: Sequence[Record], fraction: float, seed: int, *, healthy_class: str | None = "healthy"
) -> list[Record]:
    """The same records in the same order, a ``fraction`` of the train patients moved to val; 0 changes nothing.

    Raises:
        ConfigError, InputError: as :func:`split_by_patient`.
    """
    if fraction == 0:
        return list(records)
    training = [record for record in records if record.split == "train"]
    divided = split_by_patient(training, (1 - fraction, fraction, 0), seed, healthy_class=healthy_class)
    split_of = {record.id: record.split for record in divided}
    return [replace(record, split=split_of.get(record.id, record.split)) for record in records]


def spread(records: Sequence[Record], num: int) -> list[Record]:
    """At most ``num`` records, evenly spaced in the order of their ids, so over patients and classes alike; 0 = all."""
    if num <= 0 or len(records) <= num:
        return list(records)
    ranked = sorted(records, key=lambda record: record.id)
    return [ranked[index * len(ranked) // num] for index in range(num)]


def diseased_patients(records: Sequence[Record], healthy_class: str | None) -> dict[str, bool]:
    """patient -> has any image with a label other than ``healthy_class``; all False where that is None."""
    is_diseased: dict[str, bool] = defaultdict(bool)
    for record in records:
        is_diseased[record.patient_id] |= healthy_class is not None and record.label not in (None, healthy_class)
    return dict(is_diseased)


def shares(count: int, fractions: Sequence[float]) -> list[int]:
    """``count`` in whole numbers by largest remainders; no positive fraction is left with 0 where there are enough to share."""
    quotas = [count * fraction / sum(fractions) for fraction in fractions]
    # A product such as 0.29 * 100 falls a rounding short of its whole number.
    dealt = [math.floor(quota + 1e-9) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda index: (dealt[index] - quotas[index], index))
    for index in by_remainder[: count - sum(dealt)]:
        dealt[index] += 1
    wanted = [index for index, fraction in enumerate(fractions) if fraction > 0]
    if count >= len(wanted):
        for index in wanted:
            if dealt[index] == 0:
                dealt[max(wanted, key=lambda other: dealt[other])] -= 1
                dealt[index] = 1
    return dealt
