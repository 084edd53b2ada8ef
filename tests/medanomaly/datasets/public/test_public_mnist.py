from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tree_mnist import build, idx_bytes, write_idx

from medanomaly.datasets.manifest import read_manifest, write_manifest
from medanomaly.datasets.public.idx import read_idx
from medanomaly.datasets.public.listing import Listing
from medanomaly.datasets.public.mnist import mnist
from medanomaly.errors import ConfigError, InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    build(tmp_path / "set")
    return tmp_path / "set"


def listed(root: Path, **options: Any) -> Listing:
    return mnist(root, root.parent / "out", **options)


def code_of(root: Path, **options: Any) -> str:
    with pytest.raises((InputError, ConfigError)) as refused:
        listed(root, **options)
    return refused.value.code


def groups(listing: Listing) -> dict[tuple[str | None, str | None], int]:
    return dict(Counter((record.split, record.label) for record in listing.records))


def test_each_image_is_a_row_with_its_digit_and_its_own_pixels(root: Path) -> None:
    listing = listed(root)
    assert listing.findings == ()
    assert len(listing.records) == 48
    last = listing.records[-1]
    assert (last.id, last.patient_id, last.label, last.split) == ("t10k/00017", "t10k/00017", "1", "test")
    assert last.source == "MNIST"
    assert last.image == root.parent / "out/images/mnist/t10k/00017.png"
    expected = read_idx(root / "t10k-images-idx3-ubyte.gz", 3)[17]
    np.testing.assert_array_equal(np.asarray(Image.open(last.image)), expected)
    assert {record.split for record in listing.records if record.id.startswith("t10k")} == {"test"}
    assert Counter(record.split for record in listing.records) == {"train": 27, "val": 3, "test": 18}


def test_the_manifest_reads_back_as_equal_records(root: Path) -> None:
    listing = listed(root)
    write_manifest(listing.records, root.parent / "out/manifest.csv")
    assert read_manifest(root.parent / "out/manifest.csv") == listing.records


def test_chosen_digits_become_healthy_and_diseased_and_others_are_left_out(root: Path) -> None:
    options: dict[str, Any] = {"val_fraction": 0.2}
    assert groups(listed(root, healthy=("0",), diseased=("8",), **options)) == {
        **{("train", "healthy"): 8, ("train", "diseased"): 8, ("val", "healthy"): 2, ("val", "diseased"): 2},
        **{("test", "healthy"): 6, ("test", "diseased"): 6},
    }
    assert groups(listed(root, healthy=("0",), **options))["test", "diseased"] == 12
    assert groups(listed(root, diseased=("0",), **options))["test", "healthy"] == 12


def test_fashion_mnist_has_its_own_names(root: Path) -> None:
    listing = listed(root, source="fashion_mnist")
    assert {record.label for record in listing.records} == {"T-shirt/top", "Bag", "Trouser"}
    assert {record.source for record in listing.records} == {"Fashion-MNIST"}
    assert listing.records[0].image.parent.parent.name == "fashion_mnist"


def test_a_sample_is_of_each_class_and_split_and_known_by_its_seed(root: Path) -> None:
    options: dict[str, Any] = {"sample": 1, "seed": 3, "healthy": ("0",), "diseased": ("8",)}
    chosen = listed(root, **options)
    assert set(groups(chosen).values()) == {1}
    assert len(chosen.records) == 6
    assert listed(root, **options).records == chosen.records
    assert listed(root, **{**options, "seed": 4}).records != chosen.records
    assert len(list((root.parent / "out").rglob("*.png"))) < 12


@pytest.mark.parametrize("name", ["{}-{}-{}-ubyte", "{}-{}.{}-ubyte", "{}-{}.{}-ubyte.gz", "{0}-{1}-{2}-ubyte/{0}-{1}-{2}-ubyte"])
@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
def test_every_known_way_to_store_the_files_gives_the_same_rows(root: Path, name: str, below: str) -> None:
    expected = listed(root).records
    other = root.parent / "other" / below
    for part in ("train", "t10k"):
        for kind, dimensions in (("images", 3), ("labels", 1)):
            path = other / name.format(part, kind, f"idx{dimensions}")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_idx(path, read_idx(root / f"{part}-{kind}-idx{dimensions}-ubyte.gz", dimensions))
    assert listed(root.parent / "other").records == expected


@pytest.mark.parametrize("absent", ["train", "t10k"])
def test_one_part_alone_is_split_by_fractions_and_that_is_said(root: Path, absent: str) -> None:
    for path in root.glob(f"{absent}-*"):
        path.unlink()
    listing = listed(root, fractions=(0.5, 0.25, 0.25), healthy=("0",), diseased=("8",))
    assert [(finding.code, finding.ids) for finding in listing.findings] == [("W_MISSING", (absent,))]
    assert {split for split, _ in groups(listing)} == {"train", "val", "test"}
    assert {label for split, label in groups(listing) if split == "test"} == {"healthy", "diseased"}


def test_the_same_picture_twice_is_kept_in_test_only(root: Path) -> None:
    images = read_idx(root / "train-images-idx3-ubyte.gz", 3).copy()
    images[3] = read_idx(root / "t10k-images-idx3-ubyte.gz", 3)[0]
    images[4] = images[5]
    write_idx(root / "train-images-idx3-ubyte.gz", images)
    listing = listed(root)
    assert [(finding.code, finding.ids) for finding in listing.findings] == [
        ("W_DUPLICATE", ("train/00003",)),
        ("W_LABEL_CONFLICT", ("train/00004", "train/00005")),
    ]
    assert len(listing.records) == 45


def test_a_new_download_replaces_the_pictures_of_the_old_one(root: Path) -> None:
    listed(root)
    images = read_idx(root / "t10k-images-idx3-ubyte.gz", 3)
    write_idx(root / "t10k-images-idx3-ubyte.gz", 255 - images)
    last = listed(root).records[-1]
    np.testing.assert_array_equal(np.asarray(Image.open(last.image)), 255 - images[-1])


def test_a_root_without_idx_files_or_without_half_of_a_part_is_no_mnist(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert code_of(tmp_path / "empty") == "E_LAYOUT"
    assert code_of(tmp_path / "nowhere") == "E_LAYOUT"
    (root / "t10k-labels-idx1-ubyte.gz").unlink()
    assert code_of(root) == "E_LAYOUT"


def test_labels_that_do_not_fit_the_images_are_refused(root: Path) -> None:
    shutil.copyfile(root / "train-labels-idx1-ubyte.gz", root / "t10k-labels-idx1-ubyte.gz")
    assert code_of(root) == "E_LABEL"
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(18, 10, np.uint8)))
    assert code_of(root) == "E_LABEL"


@pytest.mark.parametrize(
    "options",
    [
        {"healthy": ("O",)},
        {"healthy": ("0",), "diseased": ("0", "8")},
        {"healthy": tuple("0123456789")},
        {"source": "fashion_mnist", "healthy": ("0",)},
    ],
)
def test_classes_that_cannot_be_are_refused(root: Path, options: dict[str, Any]) -> None:
    assert code_of(root, **options) == "E_CLASS"


def test_a_misspelt_garment_gets_the_nearest_name(root: Path) -> None:
    with pytest.raises(ConfigError, match="Sneaker"):
        listed(root, source="fashion_mnist", healthy=("Sneakers",))


def test_an_unknown_source_is_refused(root: Path) -> None:
    assert code_of(root, source="emnist") == "E_CONFIG"


def test_a_class_that_the_files_do_not_hold_is_named(tmp_path: Path) -> None:
    build(tmp_path / "tree")
    with pytest.raises(InputError) as refused:
        mnist(tmp_path / "tree", tmp_path, healthy=("0",), diseased=("5",))
    assert refused.value.code == "E_EMPTY"
    assert "no image of 5" in refused.value.message
