"""Images of several channels on their way into model space, and what `data check` says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets_builders import cohort

from medanomaly.datasets.check import check_manifest
from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig, intensity_windows, to_model, to_native
from medanomaly.io.options import ReadOptions
from medanomaly.io.writers import write_npy, write_png
from medanomaly.types import RawImage


def sequences(num_channels: int = 4, side: int = 16) -> RawImage:
    """Uniform noise, channel c from 0 to 10^c; no known range, as of a float array."""
    noise = np.random.default_rng(0).uniform(0, 1, (num_channels, side, side))
    return RawImage(pixels=(noise * 10.0 ** np.arange(num_channels)[:, None, None]).astype(np.float32), value_range=None)


@pytest.mark.parametrize("intensity", ["auto", "percentile"])
def test_each_mri_sequence_is_scaled_by_its_own_percentiles(intensity: str) -> None:
    raw = sequences()
    x, _ = to_model(raw, PreprocessConfig(image_size=16, channels=4, intensity=intensity))  # type: ignore[arg-type]
    for channel in range(4):
        alone = RawImage(pixels=raw.pixels[channel : channel + 1], value_range=None)
        expected, _ = to_model(alone, PreprocessConfig(image_size=16, intensity=intensity))  # type: ignore[arg-type]
        torch.testing.assert_close(x[channel], expected[0], atol=0, rtol=0)
        assert (float(x[channel].min()), float(x[channel].max())) == (-1, 1)


def test_the_colours_of_a_colour_image_keep_their_balance() -> None:
    """Red twice green twice blue, in units nobody knows: one window for all three keeps the ratios."""
    noise = np.random.default_rng(0).uniform(0.2, 1, (16, 16))
    raw = RawImage(pixels=np.stack([1000 * noise, 500 * noise, 250 * noise]).astype(np.float32), value_range=None)
    config = PreprocessConfig(image_size=16, channels=3, intensity="percentile", percentiles=(0, 100))
    low, high = intensity_windows(raw, config)[0]
    assert intensity_windows(raw, config) == ((low, high),) * 3
    x, _ = to_model(raw, config)
    restored = (x + 1) / 2 * (high - low) + low
    torch.testing.assert_close(restored[0] / restored[1], torch.full((16, 16), 2.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(restored[1] / restored[2], torch.full((16, 16), 2.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("num_channels", [3, 4])
def test_a_range_that_is_given_is_for_all_channels(num_channels: int) -> None:
    raw = sequences(num_channels)
    by_hand = PreprocessConfig(image_size=16, channels=num_channels, intensity="range", low=-1.0, high=3.0)
    auto = PreprocessConfig(image_size=16, channels=num_channels)
    assert intensity_windows(raw, by_hand, (0.0, 1.0)) == ((-1, 3),) * num_channels
    assert intensity_windows(raw, auto, (0.0, 1.0)) == ((0, 1),) * num_channels
    assert intensity_windows(replace(raw, value_range=(0.0, 255.0)), auto) == ((0, 255),) * num_channels


def test_a_constant_channel_is_black_and_spoils_no_other() -> None:
    raw = sequences()
    raw.pixels[2] = 7
    x, _ = to_model(raw, PreprocessConfig(image_size=16, channels=4))
    assert bool((x[2] == -1).all())
    assert float(x[3].max()) == 1


@pytest.mark.parametrize("num_channels", [2, 3, 4])
def test_planes_come_back_at_native_size_each_where_it_was(num_channels: int) -> None:
    pixels = np.zeros((num_channels, 10, 14), np.float32)
    for channel in range(num_channels):
        pixels[channel, 2 * channel : 2 * channel + 2] = 1
    raw = RawImage(pixels=pixels, value_range=(0, 1))
    x, geometry = to_model(raw, PreprocessConfig(image_size=28, channels=num_channels))
    assert x.shape == (num_channels, 28, 28)
    back = to_native(x, geometry)
    assert back.shape == pixels.shape
    np.testing.assert_array_equal(back > 0, pixels > 0.5)


def test_a_dataset_of_arrays_gives_samples_with_their_channels(tmp_path: Path) -> None:
    write_npy(tmp_path / "a.npy", sequences().pixels)
    record = Record(id="a", patient_id="a", image=tmp_path / "a.npy", label="healthy")
    sample = ManifestDataset([record], PreprocessConfig(image_size=8, channels=4), ("healthy",))[0]
    assert sample.x.shape == (4, 8, 8)
    assert sample.geometry.native_size == (16, 16)


def with_planes(root: Path, num_channels: int) -> list[Record]:
    """The faultless cohort with colour PNGs (3), or arrays of another number of planes, instead of gray ones."""
    records = []
    for index, record in enumerate(cohort(root)):
        planes = np.random.default_rng(index).integers(0, 256, (num_channels, 6, 9), dtype=np.uint8)
        path = record.image.with_suffix(".png" if num_channels == 3 else ".npy")
        if num_channels == 3:
            write_png(path, np.moveaxis(planes, 0, 2))
        else:
            write_npy(path, planes.astype(np.float32))
        records.append(replace(record, image=path))
    return records


@pytest.mark.parametrize("num_channels", [3, 4])
def test_a_check_reads_what_the_files_hold_and_tells_how_to_train_on_it(tmp_path: Path, num_channels: int) -> None:
    records = with_planes(tmp_path, num_channels)
    report = check_manifest(records, deep=True)
    assert report.ok
    (finding,) = report.findings
    assert (finding.code, len(finding.ids)) == ("W_CHANNELS", len(records))
    assert f"--preprocess.channels {num_channels}" in str(finding.fix)
    assert check_manifest(records).findings == ()


@pytest.mark.parametrize(("num_channels", "code"), [(3, "E_COLOR"), (4, "E_CHANNELS")])
def test_a_check_for_a_model_refuses_what_the_model_would(tmp_path: Path, num_channels: int, code: str) -> None:
    records = with_planes(tmp_path, num_channels)
    assert check_manifest(records, deep=True, options=ReadOptions(channels=num_channels)).findings == ()
    report = check_manifest(records, deep=True, options=ReadOptions(channels=1))
    assert [finding.code for finding in report.findings] == [code]
    assert not report.ok


def test_a_few_colour_images_among_gray_ones_are_named_and_gray_saved_as_colour_is_gray(tmp_path: Path) -> None:
    records = cohort(tmp_path)
    gray = np.random.default_rng(99).integers(0, 256, (6, 9, 1), dtype=np.uint8)
    write_png(records[4].image, np.repeat(gray, 3, axis=2))
    assert check_manifest(records, deep=True).findings == ()
    write_png(records[4].image, np.concatenate([gray, gray, 255 - gray], axis=2))
    (finding,) = check_manifest(records, deep=True).findings
    assert (finding.code, finding.ids) == ("W_CHANNELS", (records[4].id,))
