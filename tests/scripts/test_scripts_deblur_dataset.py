"""scripts/deblur_dataset.py: the seed's setting by flags, and what the gate makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import deblur_dataset
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from medanomaly.datasets.manifest import read_manifest
from medanomaly.errors import ConfigError


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(size=(40, 40))
    field = ndimage.gaussian_filter(noise, 2)
    pixels = np.rint(20 + 200 * (field - field.min()) / np.ptp(field)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("id,image,label,split\nfirst,a.png,healthy,train\n")
    return tmp_path / "list.csv"


def deblur(manifest: Path, out: Path, *more: str) -> int:
    return deblur_dataset.main(
        ["--data_dir", str(manifest), "--out_dir", str(out), "--prior", "wiener", "--device", "cpu", *more]
    )


def test_the_seeds_setting_is_the_default_and_the_gate_keeps_the_images(manifest: Path, tmp_path: Path) -> None:
    assert deblur(manifest, tmp_path / "out") == 0
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["settings"]["kernel"], run["settings"]["noise_level"], run["seed"]) == ("random 10", 0.5, 0)
    (record,) = read_manifest(tmp_path / "out" / "manifest.csv")
    assert (record.id, record.label, record.split) == ("first", "healthy", "train")
    with Image.open(record.image) as made, Image.open(manifest.parent / "a.png") as source:
        np.testing.assert_array_equal(np.asarray(made), np.asarray(source))
    assert (tmp_path / "out" / "report.html").is_file()


def test_without_the_gate_the_literal_setting_changes_the_images(manifest: Path, tmp_path: Path) -> None:
    assert deblur(manifest, tmp_path / "out", "--gate", "false", "--kernel_size", "7") == 0
    (record,) = read_manifest(tmp_path / "out" / "manifest.csv")
    with Image.open(record.image) as made, Image.open(manifest.parent / "a.png") as source:
        assert not np.array_equal(np.asarray(made), 257 * np.asarray(source).astype(int))


def test_a_missing_folder_or_another_blur_is_refused(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--out_dir is missing"):
        deblur_dataset.main(["--data_dir", str(manifest)])
    with pytest.raises(ConfigError, match="blur_type"):
        deblur(manifest, tmp_path / "out", "--blur_type", "gaussian")
