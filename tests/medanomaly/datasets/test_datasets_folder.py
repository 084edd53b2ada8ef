from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest
from datasets_builders import mask_png, png

from medanomaly.datasets.folder import folder_manifest, plain_folder
from medanomaly.datasets.manifest import Record, read_manifest, write_manifest
from medanomaly.errors import ConfigError, InputError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def full_tree(root: Path) -> Path:
    """Ten patients with two images each, p0..p4 healthy, p5..p9 diseased; four test patients."""
    train = [f"training/{'healthy' if n < 5 else 'diseased'}/p{n}_{film}.png" for n in range(10) for film in "ab"]
    test = [f"testing/{'healthy' if n < 2 else 'diseased'}/q{n}_a.png" for n in range(4)]
    return tree(root, *train, *test)


def by_id(records: list[Record]) -> dict[str, Record]:
    return {record.id: record for record in records}


def code_of(root: Path, **options: object) -> str:
    with pytest.raises(InputError) as refused:
        folder_manifest(root, **{"val_fraction": 0.0, **options})  # type: ignore[arg-type]
    return refused.value.code


def test_the_tree_of_the_first_commands_becomes_records(tmp_path: Path) -> None:
    records = folder_manifest(full_tree(tmp_path), val_fraction=0.2, patient_pattern=r"([pq]\d+)_")
    assert [record.id for record in records] == sorted(record.id for record in records)
    assert len(records) == 24
    first = by_id(records)["training/diseased/p5_a.png"]
    assert (first.label, first.patient_id, first.image) == ("diseased", "p5", tmp_path.resolve() / "training/diseased/p5_a.png")
    splits: dict[str, set[str | None]] = defaultdict(set)
    for record in records:
        splits[record.patient_id].add(record.split)
        assert (record.split == "test") == record.id.startswith("testing/")
        assert record.label == record.id.split("/")[1]
    val = sorted(patient for patient, names in splits.items() if names == {"val"})
    assert all(len(names) == 1 for names in splits.values())
    assert len(val) == 2
    assert len([patient for patient in val if patient >= "p5"]) == 1


def test_train_and_val_both_have_their_share_of_disease_for_any_seed(tmp_path: Path) -> None:
    root = full_tree(tmp_path)
    for seed in range(20):
        val = [record.label for record in folder_manifest(root, val_fraction=0.2, seed=seed) if record.split == "val"]
        assert sorted(label for label in val if label) == ["diseased", "diseased", "healthy", "healthy"]


def test_the_division_depends_on_the_seed_only(tmp_path: Path) -> None:
    root = full_tree(tmp_path)
    assert folder_manifest(root, seed=1) == folder_manifest(root, seed=1)
    assert len({tuple(record.split for record in folder_manifest(root, seed=seed)) for seed in range(8)}) > 1


def test_the_patient_is_the_stem_unless_a_pattern_says_otherwise(tmp_path: Path) -> None:
    root = tree(tmp_path, "testing/healthy/site1/007.nii.gz", "testing/diseased/site2/007.nii.gz")
    assert [record.patient_id for record in folder_manifest(root)] == ["007", "007"]
    assert [record.patient_id for record in folder_manifest(root, patient_pattern=r"(site\d)/")] == ["site2", "site1"]


def test_a_pattern_that_finds_no_patient_or_cannot_be_one_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, "testing/healthy/a.png")
    assert code_of(root, patient_pattern=r"(\d+)") == "E_PATIENT_PATTERN"
    assert code_of(root, patient_pattern=r"healthy(x)?") == "E_PATIENT_PATTERN"
    for pattern in ("a", "(a)(b)", "("):
        with pytest.raises(ConfigError):
            folder_manifest(root, patient_pattern=pattern)


def test_classes_are_names_whatever_folders_are_there(tmp_path: Path) -> None:
    (record,) = folder_manifest(tree(tmp_path / "a", "testing/diseased/x.png"))
    assert record.label == "diseased"
    records = folder_manifest(tree(tmp_path / "b", "testing/b/x.png", "testing/a/y.png"), ("b", "a"), healthy_class="b")
    assert [record.label for record in records] == ["a", "b"]


def test_a_class_folder_in_another_case_is_read_as_the_class_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (record,) = folder_manifest(tree(tmp_path, "testing/HEALTHY/x.png"))
    assert record.label == "healthy"
    assert record.id == "testing/HEALTHY/x.png"
    assert "is read as class" in caplog.text


def test_a_folder_that_is_no_class_is_an_error_that_names_it(tmp_path: Path) -> None:
    root = tree(tmp_path, "testing/healthy/a.png", "testing/pneumonia/b.png")
    with pytest.raises(InputError, match="'pneumonia' is not one of the classes 'healthy', 'diseased'") as refused:
        folder_manifest(root)
    assert refused.value.code == "E_CLASS"


def test_two_folders_for_one_class_are_refused(tmp_path: Path) -> None:
    assert code_of(tree(tmp_path, "testing/healthy/a.png", "testing/Healthy/b.png")) == "E_CLASS"


@pytest.mark.parametrize("names", [["train/healthy/a.png"], ["a.png"], ["testing/a.png"], ["testing/healthy/a.txt"]])
def test_another_layout_is_refused(tmp_path: Path, names: list[str]) -> None:
    assert code_of(tree(tmp_path, *names)) == "E_LAYOUT"


def test_classes_that_a_folder_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    for classes in (("a", "A"), ("healthy", "masks")):
        with pytest.raises(ConfigError):
            folder_manifest(tmp_path, classes)


@pytest.mark.parametrize(
    "mask",
    [
        "testing/diseased/s/b_mask.npy",
        "testing/masks/diseased/s/b.png",
        "testing/masks/diseased/s/b_mask.png",
        "testing/masks/s/b.nii.gz",
        "testing/masks/s/b_mask.nii.gz",
    ],
)
def test_a_mask_is_found_in_each_place_it_may_lie_and_blank_means_not_annotated(tmp_path: Path, mask: str) -> None:
    records = by_id(folder_manifest(tree(tmp_path, "testing/diseased/s/b.png", "testing/diseased/s/c.png", mask)))
    assert set(records) == {"testing/diseased/s/b.png", "testing/diseased/s/c.png"}
    assert records["testing/diseased/s/b.png"].mask == tmp_path.resolve() / mask
    assert records["testing/diseased/s/c.png"].mask is None
    assert not records["testing/diseased/s/c.png"].annotated_empty


def test_a_mask_without_an_image_is_refused_because_its_image_would_count_as_not_annotated(tmp_path: Path) -> None:
    assert code_of(tree(tmp_path, "testing/diseased/b.png", "testing/masks/B1.png")) == "E_MASK_ORPHAN"
    assert code_of(tree(tmp_path / "2", "testing/diseased/b.png", "testing/healthy/b_mask.png")) == "E_MASK_ORPHAN"
    assert code_of(tree(tmp_path / "3", "training/diseased/b.png", "testing/masks/b.png")) == "E_MASK_ORPHAN"


def test_a_mask_of_two_images_and_two_masks_of_one_are_refused(tmp_path: Path) -> None:
    two_images = tree(tmp_path / "1", "testing/diseased/b.png", "testing/healthy/b.png", "testing/masks/b.png")
    assert code_of(two_images) == "E_MASK_AMBIGUOUS"
    two_masks = tree(tmp_path / "2", "testing/diseased/b.png", "testing/diseased/b_mask.png", "testing/masks/b.png")
    assert code_of(two_masks) == "E_MASK_AMBIGUOUS"


def test_a_tree_can_be_written_as_a_manifest_and_read_back(tmp_path: Path) -> None:
    png(tmp_path / "testing" / "diseased" / "b.png")
    mask_png(tmp_path / "testing" / "masks" / "b.png")
    records = folder_manifest(tmp_path)
    write_manifest(records, tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv") == records


def test_any_folder_of_images_becomes_unlabelled_records(tmp_path: Path) -> None:
    root = tree(tmp_path, "b.png", "a/c.dcm", "a/c_mask.png", "notes.txt")
    records = plain_folder(root)
    assert [record.id for record in records] == ["a/c.dcm", "a/c_mask.png", "b.png"]
    assert {(record.label, record.split, record.mask) for record in records} == {(None, None, None)}
    assert [record.id for record in plain_folder(root, recursive=False)] == ["b.png"]


def test_names_that_are_no_utf8_survive_a_manifest(tmp_path: Path) -> None:
    tree(tmp_path, os.fsdecode(b"bad\xff.png"), "new\nline.png", " blank.png")
    records = plain_folder(tmp_path)
    write_manifest(records, tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv") == records
    assert all(record.image.is_file() for record in records)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        plain_folder(tree(tmp_path, "a.txt"))
    assert refused.value.code == "E_NO_IMAGES"


def test_folders_that_are_not_used_are_named_and_case_does_not_matter_at_the_top(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("Training/healthy", "training/diseased", "validation/healthy", "test/diseased"):
        for index in range(2):
            path = tmp_path / folder / f"{folder[0]}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    records = folder_manifest(tmp_path, val_fraction=0)
    assert sorted(record.label or "" for record in records) == ["diseased"] * 2 + ["healthy"] * 2
    said = [record.getMessage() for record in caplog.records]
    assert any("'Training' is read as training" in text for text in said)
    assert any("2 images below 'test' are not used" in text for text in said)
    assert any("2 images below 'validation' are not used" in text for text in said)
