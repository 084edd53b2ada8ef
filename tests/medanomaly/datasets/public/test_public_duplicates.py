from __future__ import annotations

from pathlib import Path

import pytest

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.public.duplicates import without_duplicates, without_leakage
from medanomaly.datasets.public.sampling import at_most
from medanomaly.errors import ConfigError


def record(root: Path, name: str, content: str, label: str = "healthy", split: str = "train", patient: str = "") -> Record:
    (root / name).write_text(content)
    return Record(id=name, patient_id=patient or name, image=root / name, label=label, split=split)


def test_of_equal_files_the_one_in_test_stays_then_val_then_the_first_by_id(tmp_path: Path) -> None:
    records = [
        *(record(tmp_path, "b", "same"), record(tmp_path, "a", "same"), record(tmp_path, "c", "same", split="test")),
        *(record(tmp_path, "d", "other", split="val"), record(tmp_path, "e", "other")),
        *(record(tmp_path, "g", "third"), record(tmp_path, "f", "third"), record(tmp_path, "h", "alone")),
    ]
    kept, findings = without_duplicates(records)
    assert [one.id for one in kept] == ["c", "d", "f", "h"]
    assert [(finding.code, finding.ids) for finding in findings] == [("W_DUPLICATE", ("a", "b", "e", "g"))]


def test_equal_files_with_different_labels_are_all_left_out(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "a", "same"),
        record(tmp_path, "b", "same", "diseased"),
        record(tmp_path, "c", "same"),
        record(tmp_path, "d", "size"),
    ]
    kept, findings = without_duplicates(records)
    assert [one.id for one in kept] == ["d"]
    assert [(finding.code, finding.ids) for finding in findings] == [("W_LABEL_CONFLICT", ("a", "b", "c"))]


def test_a_patient_in_two_splits_stays_in_the_later_one_with_all_images(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "a", "1", split="train", patient="p"),
        record(tmp_path, "b", "2", split="val", patient="p"),
        record(tmp_path, "c", "3", split="val", patient="p"),
        record(tmp_path, "d", "4", split="train", patient="q"),
        record(tmp_path, "e", "5", split="test", patient="r"),
        record(tmp_path, "f", "6", split="val", patient="r"),
    ]
    kept, findings = without_leakage(records)
    assert [one.id for one in kept] == ["b", "c", "d", "e"]
    assert [(finding.code, finding.ids) for finding in findings] == [("W_LEAKAGE", ("a", "f"))]


def test_a_sample_has_as_many_of_each_class_and_split_and_depends_on_seed_and_ids_only(tmp_path: Path) -> None:
    records = [
        record(tmp_path, f"{split}-{label}-{number}", "x", label, split)
        for split in ("train", "test")
        for label in ("healthy", "diseased")
        for number in range(9)
    ]
    chosen = at_most(records, 3, seed=1)
    groups = [(one.split, one.label) for one in chosen]
    assert {group: groups.count(group) for group in groups} == {
        (split, label): 3 for split in ("train", "test") for label in ("healthy", "diseased")
    }
    assert {one.id for one in at_most(records[::-1], 3, seed=1)} == {one.id for one in chosen}
    assert {one.id for one in at_most(records, 3, seed=2)} != {one.id for one in chosen}
    assert {one.id for one in at_most(records, 4, seed=1)} > {one.id for one in chosen}
    assert at_most(records, 0, seed=1) == records
    with pytest.raises(ConfigError, match="sample"):
        at_most(records, -1, seed=1)
