from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from medanomaly.datasets.manifest import SPLITS, Record
from medanomaly.datasets.splits import shares, split_by_patient
from medanomaly.errors import ConfigError, InputError

FRACTIONS = (0.6, 0.2, 0.2)


def random_records(rng: np.random.Generator) -> list[Record]:
    """3..60 patients with 1..6 images each; a patient's images may differ in label, as slices do."""
    labels = ["healthy", "diseased", None]
    return [
        Record(
            id=f"{patient}/{film}", patient_id=f"p{patient}", image=Path(f"{patient}-{film}.png"), label=labels[rng.integers(3)]
        )
        for patient in range(rng.integers(6, 60))
        for film in range(rng.integers(1, 7))
    ]


def split_of_patients(records: list[Record]) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = defaultdict(set)
    for record in records:
        found[record.patient_id].add(record.split)
    return found


@pytest.mark.parametrize("seed", range(200))
def test_no_patient_is_in_two_splits_and_the_order_of_the_listing_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    records = random_records(rng)
    fractions = (1.0, 0.0, 0.0) if seed % 10 == 0 else (0.5, 0.25, 0.25)
    split = split_by_patient(records, fractions, seed)
    assert [record.id for record in split] == [record.id for record in records]
    assert all(len(names) == 1 and names < set(SPLITS) for names in split_of_patients(split).values())
    shuffled = split_by_patient([records[index] for index in rng.permutation(len(records))], fractions, seed)
    assert {record.id: record.split for record in shuffled} == {record.id: record.split for record in split}


@pytest.mark.parametrize("diseased", [3, 10, 50])
def test_each_split_has_its_share_of_patients_and_of_disease(diseased: int) -> None:
    records = [
        Record(
            id=f"{n}-{film}",
            patient_id=str(n),
            image=Path(f"{n}-{film}"),
            label="diseased" if n < diseased and film else "healthy",
        )
        for n in range(100)
        for film in range(2)
    ]
    split = split_by_patient(records, FRACTIONS, seed=3)
    patients = Counter(next(iter(names)) for names in split_of_patients(split).values())
    ill = Counter(record.split for record in split if record.label == "diseased")
    for name, fraction in zip(SPLITS, FRACTIONS, strict=True):
        assert abs(patients[name] - 100 * fraction) <= 2
        assert abs(ill[name] - diseased * fraction) <= 1
        assert ill[name] >= 1


def test_another_seed_gives_another_split_and_the_same_seed_the_same_in_another_process() -> None:
    records = [Record(id=str(n), patient_id=str(n), image=Path(str(n))) for n in range(40)]
    splits = [[record.split for record in split_by_patient(records, FRACTIONS, seed)] for seed in range(5)]
    assert len({tuple(split) for split in splits}) == 5
    program = (
        "from pathlib import Path; from medanomaly.datasets.manifest import Record;"
        "from medanomaly.datasets.splits import split_by_patient;"
        "records = [Record(id=str(n), patient_id=str(n), image=Path(str(n))) for n in range(40)];"
        "print(*[record.split for record in split_by_patient(records, (0.6, 0.2, 0.2), 4)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment).stdout
    assert out.split() == splits[4]


def test_patients_that_stay_in_their_stratum_keep_their_rank_when_images_are_added() -> None:
    records = [Record(id=str(n), patient_id=str(n), image=Path(str(n))) for n in range(40)]
    more = [Record(id=f"{n}b", patient_id=str(n), image=Path(f"{n}b")) for n in range(0, 40, 3)]
    before, after = split_by_patient(records, FRACTIONS, 0), split_by_patient([*more, *records], FRACTIONS, 0)
    assert [record.split for record in before] == [record.split for record in after[len(more) :]]


@pytest.mark.parametrize("seed", range(100))
def test_shares_sum_to_the_count_and_stay_near_their_quota(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fractions = rng.dirichlet((1, 1, 1)) * rng.integers(0, 2, 3)
    fractions = fractions / fractions.sum() if fractions.sum() else np.array([1.0, 0, 0])
    count = int(rng.integers(0, 50))
    dealt = shares(count, tuple(fractions))
    assert sum(dealt) == count
    assert min(dealt) >= 0
    assert all(number == 0 for number, fraction in zip(dealt, fractions, strict=True) if fraction == 0)
    assert np.abs(np.array(dealt) - count * fractions).max() < 3
    if count >= 3:
        assert all(number > 0 for number, fraction in zip(dealt, fractions, strict=True) if fraction > 0)


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.2, 0.0), (0.5, 0.5), (float("nan"), 0.5, 0.5)])
def test_fractions_that_are_no_division_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError):
        split_by_patient([Record(id="1", patient_id="1", image=Path("1"))], fractions, 0)


def test_a_split_that_would_stay_empty_is_an_error_that_names_it() -> None:
    records = [Record(id=str(n), patient_id="one", image=Path(str(n))) for n in range(9)]
    with pytest.raises(InputError, match="no patient is left for val, test") as refused:
        split_by_patient(records, FRACTIONS, 0)
    assert refused.value.code == "E_TOO_FEW"
