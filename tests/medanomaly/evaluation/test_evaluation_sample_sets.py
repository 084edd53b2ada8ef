"""Samples keep their gray values, and a folder that holds anything else than samples is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import InputError
from medanomaly.evaluation.sample_sets import npz_array, read_records, read_samples


def write_png(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def gray(value: int, side: int = 4) -> np.ndarray:
    return np.full((side, side), value, np.uint8)


def test_black_and_white_of_a_folder_are_the_ends_of_model_space_whatever_an_image_holds(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", gray(0))
    write_png(tmp_path / "b.png", gray(51))
    found = read_samples(tmp_path, channels=1, image_size=None)
    assert found.ids == found.patient_ids == ("a.png", "b.png")
    torch.testing.assert_close(found.x[:, 0, 0, 0], torch.tensor([-1.0, -0.6]))


def test_samples_are_resized_to_the_side_that_is_asked_for(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    found = read_samples(tmp_path, channels=1, image_size=4)
    assert found.x.shape == (1, 1, 4, 4)
    assert float(found.x.mean()) == pytest.approx(31.5 / 127.5 - 1, abs=1e-3)


def test_a_contact_sheet_among_samples_is_refused_by_name(tmp_path: Path) -> None:
    for name in "abc":
        write_png(tmp_path / f"{name}.png", gray(1))
    write_png(tmp_path / "aaa-grid.png", gray(1, side=12))
    with pytest.raises(InputError, match=r"'aaa-grid.png' is not 4 x 4 px like most \[E_SIZES\]"):
        read_samples(tmp_path, channels=1, image_size=None)


def test_an_npz_is_read_as_it_is(tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 1, 4, 4)
    np.savez(tmp_path / "samples.npz", x=x)
    found = read_samples(tmp_path / "samples.npz", channels=1, image_size=None)
    assert found.ids == ("0", "1")
    torch.testing.assert_close(found.x, torch.from_numpy(x))


@pytest.mark.parametrize(
    ("x", "code"),
    [
        (np.zeros((2, 4, 4), np.float32), "E_SHAPE"),
        (np.zeros((2, 3, 4, 4), np.float32), "E_SHAPE"),
        (np.zeros((2, 1, 4, 5), np.float32), "E_SHAPE"),
        (np.zeros((0, 1, 4, 4), np.float32), "E_SHAPE"),
        (np.zeros((2, 1, 4, 4), np.uint8), "E_RANGE"),
        (np.full((2, 1, 4, 4), 255.0), "E_RANGE"),
        (np.full((2, 1, 4, 4), np.nan), "E_RANGE"),
        (np.array([{"a": 1}], dtype=object), "E_MALFORMED"),
    ],
)
def test_an_npz_of_anything_else_is_refused(tmp_path: Path, x: np.ndarray, code: str) -> None:
    np.savez(tmp_path / "samples.npz", x=x)
    with pytest.raises(InputError, match=code):
        read_samples(tmp_path / "samples.npz", channels=1, image_size=None)


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", y=np.zeros(3))
    with pytest.raises(InputError, match="has no array 'x'"):
        npz_array(tmp_path / "good.npz", "x")
    content = (tmp_path / "good.npz").read_bytes()
    np.save(tmp_path / "plain.npy", np.zeros(3))
    for name, written in (
        ("cut", content[:-30]),
        ("text", b"hello"),
        ("empty", b""),
        ("plain", (tmp_path / "plain.npy").read_bytes()),
    ):
        (tmp_path / f"{name}.npz").write_bytes(written)
        with pytest.raises(InputError, match="is no npz of plain arrays"):
            npz_array(tmp_path / f"{name}.npz", "y")


def test_real_images_keep_their_patients_and_their_manifests_range(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", gray(50))
    record = Record(id="i", patient_id="p", image=path, intensity_low=0.0, intensity_high=100.0)
    found = read_records([record], PreprocessConfig(image_size=4))
    assert (found.ids, found.patient_ids) == (("i",), ("p",))
    assert float(found.x.mean()) == pytest.approx(0)
