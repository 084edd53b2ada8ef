from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tree_medmnist import build

from medanomaly.datasets.public.listing import Listing
from medanomaly.datasets.public.medmnist import CHEST, medmnist
from medanomaly.errors import ConfigError, InputError

Arrays = dict[str, np.ndarray]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    build(tmp_path / "set")
    return tmp_path / "set"


def arrays(channels: int = 1, count: int = 6, num_labels: int = 2) -> Arrays:
    rng = np.random.default_rng(0)
    shape = (count, 28, 28) if channels == 1 else (count, 28, 28, channels)
    return {
        f"{part}_{kind}": rng.integers(0, 256, shape, dtype=np.uint8)
        if kind == "images"
        else (np.arange(count, dtype=np.uint8) % num_labels)[:, None]
        for part in ("train", "val", "test")
        for kind in ("images", "labels")
    }


def npz(path: Path, content: Arrays) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **content)
    return path


def listed(root: Path, **options: Any) -> Listing:
    return medmnist(root, root.parent / "out", **options)


def code_of(root: Path, **options: Any) -> str:
    with pytest.raises((InputError, ConfigError)) as refused:
        listed(root, **options)
    return refused.value.code


def labels_of(listing: Listing, split: str = "test") -> list[str | None]:
    return [record.label for record in listing.records if record.split == split]


def test_each_image_is_a_row_in_its_published_split_with_its_own_pixels(root: Path) -> None:
    listing = listed(root)
    assert listing.findings == ()
    assert Counter(record.split for record in listing.records) == {"train": 12, "val": 6, "test": 8}
    assert labels_of(listing) == ["healthy", "diseased"] * 4
    record = listing.records[13]
    assert (record.id, record.patient_id, record.split) == (*["pneumoniamnist/val/000001"] * 2, "val")
    assert record.source == "pneumoniamnist"
    with np.load(root / "pneumoniamnist.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(np.asarray(Image.open(record.image)), stored["val_images"][1])


def test_the_labels_of_breastmnist_are_the_other_way_round(tmp_path: Path) -> None:
    npz(tmp_path / "set/breastmnist_64.npz", arrays())
    assert labels_of(listed(tmp_path / "set")) == ["diseased", "healthy"] * 3


def test_grade_zero_of_retinamnist_and_label_three_of_octmnist_are_healthy(tmp_path: Path) -> None:
    npz(tmp_path / "a/retinamnist.npz", arrays(3, 5, 5))
    assert labels_of(listed(tmp_path / "a")) == ["healthy", *["diseased"] * 4]
    npz(tmp_path / "b/octmnist.npz", arrays(1, 4, 4))
    assert labels_of(listed(tmp_path / "b")) == [*["diseased"] * 3, "healthy"]


def test_colour_is_kept(tmp_path: Path) -> None:
    content = arrays(3)
    npz(tmp_path / "set/retinamnist.npz", content)
    record = listed(tmp_path / "set").records[-1]
    np.testing.assert_array_equal(np.asarray(Image.open(record.image)), content["test_images"][-1])


def test_chestmnist_is_healthy_without_any_of_its_fourteen_observations(tmp_path: Path) -> None:
    content = arrays(count=4)
    for part in ("train", "val", "test"):
        content[f"{part}_labels"] = np.zeros((4, 14), np.uint8)
        content[f"{part}_labels"][1, [2, 13]] = 1
        content[f"{part}_labels"][3, 0] = 1
    npz(tmp_path / "set/chestmnist.npz", content)
    listing = listed(tmp_path / "set")
    assert labels_of(listing) == ["healthy", "diseased", "healthy", "diseased"]
    assert dict(listing.records[1].observations) == {**dict.fromkeys(CHEST, 0), "effusion": 1, "hernia": 1}
    assert set(dict(listing.records[0].observations).values()) == {0}
    assert code_of(tmp_path / "set", classes=True) == "E_CONFIG"
    content["val_labels"][0, 0] = 2
    npz(tmp_path / "set/chestmnist.npz", content)
    assert code_of(tmp_path / "set") == "E_LABEL"


def test_other_sets_need_to_be_told_what_is_healthy_or_keep_their_labels(tmp_path: Path) -> None:
    npz(tmp_path / "set/pathmnist.npz", arrays(3, 9, 9))
    assert code_of(tmp_path / "set") == "E_CONFIG"
    assert labels_of(listed(tmp_path / "set", healthy=(6,))) == [*["diseased"] * 6, "healthy", *["diseased"] * 2]
    assert labels_of(listed(tmp_path / "set", classes=True)) == [str(label) for label in range(9)]
    assert code_of(tmp_path / "set", healthy=(9,)) == "E_CONFIG"
    assert code_of(tmp_path / "set", healthy=tuple(range(9))) == "E_CONFIG"
    assert code_of(tmp_path / "set", healthy=(6,), classes=True) == "E_CONFIG"


def test_of_several_sets_one_is_chosen_by_name(root: Path) -> None:
    npz(root / "breastmnist.npz", arrays())
    assert code_of(root) == "E_CONFIG"
    assert listed(root, name="breastmnist").records[0].source == "breastmnist"
    assert listed(root / "breastmnist.npz").records[0].source == "breastmnist"
    with pytest.raises(ConfigError, match="did you mean 'breastmnist'"):
        listed(root, name="brestmnist")


def test_a_manifest_in_the_npz_itself_is_refused_with_the_way_out(root: Path) -> None:
    path = root / "pneumoniamnist.npz"
    with pytest.raises(ConfigError, match="--out"):
        medmnist(path, path)


def test_a_sample_reads_on_to_the_right_images(root: Path) -> None:
    listing = listed(root, sample=1, seed=5)
    assert len(listing.records) == 6
    with np.load(root / "pneumoniamnist.npz", allow_pickle=False) as stored:
        for record in listing.records:
            part, number = record.id.split("/")[1:]
            np.testing.assert_array_equal(np.asarray(Image.open(record.image)), stored[f"{part}_images"][int(number)])


def test_volumes_are_refused_by_shape_and_by_name(tmp_path: Path) -> None:
    content = arrays()
    for part in ("train", "val", "test"):
        content[f"{part}_images"] = np.zeros((6, 28, 28, 28), np.uint8)
    npz(tmp_path / "a/organ.npz", content)
    with pytest.raises(InputError, match="volumes"):
        listed(tmp_path / "a")
    npz(tmp_path / "b/organmnist3d.npz", arrays())
    assert code_of(tmp_path / "b") == "E_SHAPE"


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("train_images", None, "E_LAYOUT"),
        ("test_labels", None, "E_LAYOUT"),
        ("train_images", np.zeros((6, 28, 28), np.int64), "E_SHAPE"),
        ("train_images", np.zeros((6, 28, 28), np.float32), "E_DTYPE"),
        ("train_images", np.zeros((6, 784), np.uint8), "E_SHAPE"),
        ("train_images", np.zeros((0, 28, 28), np.uint8), "E_SHAPE"),
        ("train_images", np.asfortranarray(np.zeros((6, 28, 28), np.uint8)), "E_SHAPE"),
        ("train_images", np.zeros((1, 9000, 9000), np.uint8), "E_LIMIT"),
        ("train_labels", np.zeros((5, 1), np.uint8), "E_LABEL"),
        ("train_labels", np.zeros((6, 14), np.uint8), "E_LABEL"),
        ("train_labels", np.full((6, 1), -1), "E_LABEL"),
    ],
)
def test_arrays_of_another_kind_are_refused_by_name(tmp_path: Path, member: str, value: np.ndarray | None, code: str) -> None:
    content = arrays() | ({} if value is None else {member: value})
    if value is None:
        del content[member]
    npz(tmp_path / "set/pneumoniamnist.npz", content)
    with pytest.raises(InputError) as refused:
        listed(tmp_path / "set")
    assert refused.value.code == code
    assert member in str(refused.value) or code == "E_LIMIT"


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"

    class Runs:
        def __reduce__(self) -> Any:
            return (Path.touch, (sentinel,))

    content = arrays()
    content["train_labels"] = np.array([Runs()] * 6, dtype=object)
    npz(tmp_path / "set/pneumoniamnist.npz", content)
    assert code_of(tmp_path / "set") == "E_PICKLE"
    assert not sentinel.exists()


def test_damaged_archives_are_refused(root: Path) -> None:
    path = root / "pneumoniamnist.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert code_of(root) in ("E_TRUNCATED", "E_MALFORMED")
    flipped = bytearray(whole)
    flipped[2000] ^= 0xFF
    path.write_bytes(bytes(flipped))
    assert code_of(root) == "E_MALFORMED"
    path.write_bytes(b"")
    assert code_of(root) in ("E_TRUNCATED", "E_MALFORMED")


def test_a_header_that_claims_more_than_there_is_gets_no_memory(tmp_path: Path) -> None:
    content = arrays()
    path = npz(tmp_path / "set/pneumoniamnist.npz", content)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["train_images.npy"] = members["train_images.npy"].replace(b"(6, 28, 28)", b"(9999999999, 28, 28)", 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name, stored in members.items():
            archive.writestr(name, stored)
    assert code_of(tmp_path / "set") in ("E_TRUNCATED", "E_MALFORMED")


def test_a_folder_without_npz_is_no_medmnist(tmp_path: Path) -> None:
    assert code_of(tmp_path) == "E_LAYOUT"
    assert code_of(tmp_path / "nowhere") == "E_LAYOUT"
