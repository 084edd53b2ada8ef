from __future__ import annotations

import gzip
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from tree_pcam import PREFIX, build, write_meta

from medanomaly.datasets.public.listing import Listing
from medanomaly.datasets.public.pcam import pcam
from medanomaly.errors import InputError

X, Y, META = (f"{PREFIX}train_{kind}" for kind in ("x.h5", "y.h5", "meta.csv"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    build(tmp_path / "set")
    return tmp_path / "set"


def listed(root: Path, **options: Any) -> Listing:
    return pcam(root, root.parent / "out", **options)


def code_of(root: Path, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        listed(root, **options)
    return refused.value.code


def findings_of(listing: Listing) -> dict[str, tuple[str, ...]]:
    return {finding.code: finding.ids for finding in listing.findings}


def rewrite(path: Path, write: Callable[[h5py.File], Any]) -> None:
    path.unlink()
    with h5py.File(path, "w") as file:
        write(file)


def patches(count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)


def class_folders(root: Path, classes: tuple[str, str] = ("0", "1"), val: str = "valid") -> Path:
    rng = np.random.default_rng(1)
    for split, count in (("train", 10), (val, 4), ("test", 4)):
        for number in range(count):
            path = root / split / classes[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(path)
    return root


def test_each_patch_is_a_row_of_its_slide_with_its_own_pixels(root: Path) -> None:
    listing = listed(root)
    assert listing.findings == ()
    assert Counter((record.split, record.label) for record in listing.records) == {
        **{("train", "healthy"): 6, ("train", "diseased"): 6, ("val", "healthy"): 3, ("val", "diseased"): 3},
        **{("test", "healthy"): 4, ("test", "diseased"): 4},
    }
    record = listing.records[13]
    assert (record.id, record.patient_id, record.label) == ("valid/000001", "camelyon16_train_valid_000", "diseased")
    assert record.source == "PatchCamelyon"
    with h5py.File(root / f"{PREFIX}valid_x.h5") as file:
        np.testing.assert_array_equal(np.asarray(Image.open(record.image)), file["x"][1])


def test_blocks_do_not_change_which_patch_is_which(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("medanomaly.datasets.public.pcam"), "BLOCK", 5)
    chosen = listed(root, sample=2, seed=1).records
    assert Counter((record.split, record.label) for record in chosen) == {
        (split, label): 2 for split in ("train", "val", "test") for label in ("healthy", "diseased")
    }
    for record in chosen:
        part, number = record.id.split("/")
        with h5py.File(root / f"{PREFIX}{part}_x.h5") as file:
            np.testing.assert_array_equal(np.asarray(Image.open(record.image)), file["x"][int(number)])
    assert {record.id for record in listed(root, sample=2, seed=2).records} != {record.id for record in chosen}


def test_the_folder_that_torchvision_makes_is_accepted(root: Path) -> None:
    (root.parent / "data").mkdir()
    root.rename(root.parent / "data/pcam")
    assert len(listed(root.parent / "data").records) == 26


def test_without_meta_tables_each_patch_is_its_own_patient_and_that_is_said(root: Path) -> None:
    for path in root.glob("*_meta.csv"):
        path.unlink()
    listing = listed(root)
    assert len(findings_of(listing)["W_NO_PATIENT"]) == 26
    assert all(record.patient_id == record.id for record in listing.records)


def test_a_slide_in_two_published_splits_stays_in_test(root: Path) -> None:
    labels = np.arange(12, dtype=np.uint8) % 2
    slides = ["camelyon16_test_test_000"] * 3 + ["camelyon16_train_valid_001"] * 2 + ["own"] * 7
    write_meta(root / META, labels, slides)
    listing = listed(root)
    assert findings_of(listing) == {"W_LEAKAGE": tuple(f"train/{number:06d}" for number in range(5))}
    splits: dict[str, set[str | None]] = defaultdict(set)
    for record in listing.records:
        splits[record.patient_id].add(record.split)
    assert {len(names) for names in splits.values()} == {1}
    assert len(listing.records) == 21


def test_a_meta_table_with_other_labels_is_reported_and_one_with_other_rows_refused(root: Path) -> None:
    labels = np.arange(12, dtype=np.uint8) % 2
    labels[4] = 1
    write_meta(root / META, labels, ["slide"] * 12)
    assert findings_of(listed(root)) == {"W_META": ("train/000004",)}
    assert next(record for record in listed(root).records if record.id == "train/000004").label == "healthy"
    write_meta(root / META, labels[:11], ["slide"] * 11)
    assert code_of(root) == "E_ROW"
    write_meta(root / META, labels, ["slide"] * 11 + [" "])
    with pytest.raises(InputError, match="has a row without a slide"):
        listed(root)
    (root / META).write_text("wsi,centre\nslide,1\n")
    assert code_of(root) == "E_COLUMN"


def test_the_same_patch_in_train_and_test_is_kept_in_test(root: Path) -> None:
    with h5py.File(root / f"{PREFIX}test_x.h5") as file:
        test = file["x"][0]
    content = patches()
    content[2], content[3] = test, content[5]
    rewrite(root / X, lambda file: file.create_dataset("x", data=content))
    assert findings_of(listed(root)) == {"W_DUPLICATE": ("train/000002", "train/000005")}


def test_parts_that_are_not_there_are_named_and_val_comes_from_whole_train_slides(root: Path) -> None:
    for path in root.glob(f"{PREFIX}valid_*"):
        path.unlink()
    (root / f"{PREFIX}valid_x.h5.gz").write_bytes(gzip.compress(b"x"))
    listing = listed(root, val_fraction=0.34)
    assert findings_of(listing) == {"W_MISSING": (f"{PREFIX}valid_x.h5.gz still packed",)}
    val = {record.patient_id for record in listing.records if record.split == "val"}
    assert len(val) == 2
    assert val.isdisjoint(record.patient_id for record in listing.records if record.split == "train")


def test_files_that_are_all_packed_are_to_be_unpacked(root: Path) -> None:
    for path in sorted(root.glob("*.h5")):
        (root / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    with pytest.raises(InputError, match="gunzip") as refused:
        listed(root)
    assert refused.value.code == "E_PACKED"


def test_values_in_another_file_are_never_read(root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file.create_dataset("x", data=patches())
    raw = tmp_path / "secret.raw"
    patches().tofile(raw)
    layout = h5py.VirtualLayout((12, 96, 96, 3), np.uint8)
    layout[:] = h5py.VirtualSource(secret, "x", (12, 96, 96, 3))
    rewrite(root / X, lambda file: file.__setitem__("x", h5py.ExternalLink(secret, "x")))
    assert code_of(root) == "E_TRAVERSAL"
    rewrite(root / X, lambda file: file.create_virtual_dataset("x", layout))
    assert code_of(root) == "E_TRAVERSAL"
    size = raw.stat().st_size
    rewrite(root / X, lambda file: file.create_dataset("x", (12, 96, 96, 3), np.uint8, external=[(raw, 0, size)]))
    assert code_of(root) == "E_TRAVERSAL"
    rewrite(root / X, lambda file: (file.create_dataset("y", data=patches()), file.__setitem__("x", h5py.SoftLink("/y"))))
    assert code_of(root) == "E_TRAVERSAL"
    rewrite(root / Y, lambda file: file.__setitem__("y", h5py.ExternalLink(secret, "x")))
    rewrite(root / X, lambda file: file.create_dataset("x", data=patches()))
    assert code_of(root) == "E_TRAVERSAL"
    assert not (root.parent / "out").exists()


def test_an_external_link_is_not_even_opened(root: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    rewrite(root / X, lambda file: file.__setitem__("x", h5py.ExternalLink(pipe, "x")))
    assert code_of(root) == "E_TRAVERSAL"


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (lambda file: file.create_dataset("z", data=patches()), "E_LAYOUT"),
        (lambda file: file.create_group("x"), "E_LAYOUT"),
        (lambda file: file.create_dataset("x", data=patches()[:, :64]), "E_SHAPE"),
        (lambda file: file.create_dataset("x", data=patches()[:0]), "E_SHAPE"),
        (lambda file: file.create_dataset("x", data=np.uint8(3)), "E_SHAPE"),
        (lambda file: file.create_dataset("x", data=patches().astype(np.float32)), "E_DTYPE"),
        (lambda file: file.create_dataset("x", data=patches(11)), "E_LABEL"),
        (lambda file: file.create_dataset("x", (2**25, 96, 96, 3), np.uint8, chunks=(2**16, 96, 96, 3)), "E_LIMIT"),
        (lambda file: file.create_dataset("x", data=patches(), chunks=True, scaleoffset=0), "E_FILTER"),
    ],
)
def test_another_kind_of_array_is_refused(root: Path, write: Callable[[h5py.File], Any], code: str) -> None:
    rewrite(root / X, write)
    assert code_of(root) == code


def test_labels_other_than_0_and_1_are_refused(root: Path) -> None:
    rewrite(root / Y, lambda file: file.create_dataset("y", data=np.full((12, 1, 1, 1), 2, np.uint8)))
    assert code_of(root) == "E_LABEL"


def test_damaged_files_are_refused_by_name(root: Path) -> None:
    whole = (root / X).read_bytes()
    (root / X).write_bytes(whole[: len(whole) // 2])
    assert code_of(root) in ("E_TRUNCATED", "E_MALFORMED")
    (root / X).write_bytes(gzip.compress(whole))
    assert code_of(root) == "E_FORMAT"
    (root / X).write_bytes(whole)
    (root / Y).unlink()
    with pytest.raises(InputError, match="train_y") as refused:
        listed(root)
    assert refused.value.code == "E_MISSING"


@pytest.mark.parametrize("classes", [("0", "1"), ("no_cancer", "cancer"), ("No_Cancer", "Cancer")])
@pytest.mark.parametrize("val", ["valid", "val"])
def test_class_folders_are_read_where_they_are(tmp_path: Path, classes: tuple[str, str], val: str) -> None:
    root = class_folders(tmp_path / "set", classes, val)
    listing = listed(root)
    assert Counter((record.split, record.label) for record in listing.records) == {
        **{("train", "healthy"): 5, ("train", "diseased"): 5, ("val", "healthy"): 2, ("val", "diseased"): 2},
        **{("test", "healthy"): 2, ("test", "diseased"): 2},
    }
    assert listing.records[0].image.is_relative_to(root)
    assert len(findings_of(listing)["W_NO_PATIENT"]) == 18
    assert not (tmp_path / "out").exists()
    assert len(listed(root, sample=1).records) == 6


def test_another_order_of_the_folder_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "set")
    expected = listed(root, sample=2).records
    scan = os.scandir

    class Backwards:
        def __init__(self, path: Any) -> None:
            with scan(path) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __iter__(self) -> Any:
            return self.entries

        def __next__(self) -> Any:
            return next(self.entries)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *reason: object) -> None:
            pass

        def close(self) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    assert listed(root, sample=2).records == expected


def test_a_folder_that_is_no_class_and_an_image_in_none_are_refused(tmp_path: Path) -> None:
    assert code_of(class_folders(tmp_path / "a", ("0", "2"))) == "E_CLASS"
    root = class_folders(tmp_path / "b")
    (root / "train/0/0.png").rename(root / "train/0.png")
    assert code_of(root) == "E_LAYOUT"


def test_anything_else_is_no_patchcamelyon(tmp_path: Path) -> None:
    assert code_of(tmp_path) == "E_LAYOUT"
    assert code_of(tmp_path / "nowhere") == "E_LAYOUT"
