"""One image to a small PNG: its range, its contrast, its mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets_builders import mask_png, png
from PIL import Image

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.preprocess import ResizeConfig, Work, attempt, prepared
from medanomaly.errors import ConfigError, InputError
from medanomaly.io.reader import read_mask
from medanomaly.io.writers import write_png
from medanomaly.types import Box, RawImage


def gray(values: object, value_range: tuple[float, float] | None = (0, 255)) -> RawImage:
    return RawImage(pixels=np.asarray(values, np.float32)[None], value_range=value_range)


def test_an_image_of_the_right_size_keeps_every_byte() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16))
    np.testing.assert_array_equal(prepared(gray(pixels), ResizeConfig(size=16))[0], pixels)
    sixteen = prepared(gray(pixels * 257, (0, 65535)), ResizeConfig(size=16, bits=16))[0]
    assert sixteen.dtype == np.uint16
    np.testing.assert_array_equal(sixteen, pixels * 257)


def test_black_and_white_are_the_formats_not_the_images() -> None:
    stored = prepared(gray(np.full((8, 8), 100.0), (-1024, 3071)), ResizeConfig(size=4))[0]
    assert set(stored.ravel()) == {round((100 + 1024) / 4095 * 255)}


def test_padding_is_black_also_where_black_is_not_zero() -> None:
    stored = prepared(gray(np.full((4, 8), 3071.0), (-1024, 3071)), ResizeConfig(size=8))[0]
    np.testing.assert_array_equal(stored[:, 0], [0, 0, 255, 255, 255, 255, 0, 0])


def test_the_manifests_range_comes_first_and_is_clipped_before_the_average() -> None:
    checker = np.indices((8, 8)).sum(axis=0) % 2 * 1000.0
    stored = prepared(gray(checker, (0, 1000)), ResizeConfig(size=4), (0, 100))[0]
    # Averaged first, every pixel would be 500, which is white.
    assert set(stored.ravel()) == {round(0.5 * 255)}


def test_an_image_without_a_range_is_scaled_by_its_percentiles() -> None:
    ramp = np.arange(10_000.0).reshape(100, 100)
    stored = prepared(gray(ramp, None), ResizeConfig(size=100, bits=16))[0]
    assert (stored == 0).sum() == pytest.approx(50, abs=1)
    assert (stored == 65535).sum() == pytest.approx(50, abs=1)
    assert not prepared(gray(np.full((4, 4), 7.0), None), ResizeConfig(size=4))[0].any()


def test_colour_stays_colour() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (3, 8, 8)).astype(np.float32)
    raw = RawImage(pixels=pixels, value_range=(0, 255))
    np.testing.assert_array_equal(prepared(raw, ResizeConfig(size=8))[0], np.moveaxis(pixels, 0, 2))
    with pytest.raises(InputError, match="E_DEPTH"):
        prepared(raw, ResizeConfig(size=8, bits=16))


def test_four_planes_are_refused() -> None:
    with pytest.raises(InputError, match="E_CHANNELS"):
        prepared(RawImage(pixels=np.zeros((4, 8, 8), np.float32), value_range=None), ResizeConfig(size=8))


def test_global_equalisation_makes_the_histogram_flat_and_leaves_padding_black() -> None:
    values = np.random.default_rng(4).beta(2, 8, (64, 128)) * 255
    stored = prepared(gray(values), ResizeConfig(size=128, equalise="histogram"))[0]
    assert not stored[:32].any()
    assert not stored[96:].any()
    counts = np.histogram(stored[32:96], bins=8, range=(0, 256))[0] / (64 * 128)
    np.testing.assert_allclose(counts, 1 / 8, atol=0.03)


def test_clahe_raises_local_contrast_and_keeps_order_of_a_ramp() -> None:
    ramp = np.broadcast_to(np.linspace(100, 140, 64), (64, 64))
    stored = prepared(gray(ramp), ResizeConfig(size=64, equalise="clahe"))[0].astype(int)
    assert np.ptp(stored) > 2 * np.ptp(ramp)
    assert np.corrcoef(stored.mean(axis=0), ramp[0])[0, 1] > 0.95


def test_equalised_colour_keeps_the_ratio_of_its_channels() -> None:
    brightness = np.random.default_rng(5).random((16, 16)).astype(np.float32) * 100 + 20
    raw = RawImage(pixels=np.stack([brightness, brightness / 2, np.zeros_like(brightness)]), value_range=(0, 255))
    stored = prepared(raw, ResizeConfig(size=16, equalise="histogram"))[0].astype(float)
    assert np.abs(stored[..., 0] / 2 - stored[..., 1]).max() <= 1
    assert not stored[..., 2].any()
    assert stored[..., 0].max() == 255


@pytest.mark.parametrize("method", ["clahe", "histogram"])
def test_a_constant_image_is_left_as_it_is(method: str) -> None:
    stored = prepared(gray(np.full((8, 16), 60.0)), ResizeConfig(size=16, equalise=method))[0]  # type: ignore[arg-type]
    assert set(stored[4:12].ravel()) == {60}


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 9000}, {"fit": "fill"}, {"equalise": "x"}, {"bits": 12}, {"frame": -1}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ResizeConfig(**wrong)  # type: ignore[arg-type]


def test_a_mask_is_resized_with_its_image_and_stays_a_mask(tmp_path: Path) -> None:
    image, mask = png(tmp_path / "a.png", size=(20, 30)), tmp_path / "m.png"
    lesion = np.zeros((20, 30), np.uint8)
    lesion[5:15, 3:12] = 1
    Image.fromarray(lesion).save(mask)
    record = Record(id="a", patient_id="p", image=image, mask=mask)
    line = attempt(Work(record=record, image_out="a.png", mask_out="m.png"), tmp_path / "out", ResizeConfig(size=15))
    assert line["status"] == "ok"
    assert line["native_size"] == [20, 30]
    with Image.open(tmp_path / "out" / "m.png") as written:
        assert set(np.asarray(written).ravel()) == {0, 255}
    rows, columns = np.nonzero(read_mask(tmp_path / "out" / "m.png", (15, 15), image_path=tmp_path / "out" / "a.png"))
    # Native rows 5..14 and columns 3..11, 5 rows above, every second centre.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 9, 1, 5)


def test_a_lesion_too_small_for_the_new_grid_is_said_to_be_lost(tmp_path: Path) -> None:
    image, mask = png(tmp_path / "a.png", size=(40, 40)), mask_png(tmp_path / "m.png", (40, 40), (0, 0))
    work = Work(record=Record(id="a", patient_id="p", image=image, mask=mask), image_out="a.png", mask_out="m.png")
    assert "W_LESION_LOST: 1 px" in attempt(work, tmp_path / "out", ResizeConfig(size=8))["message"]
    assert "W_LESION_LOST" not in attempt(work, tmp_path / "out", ResizeConfig(size=40))["message"]


def test_a_mask_of_another_size_writes_neither_file_and_is_a_line(tmp_path: Path) -> None:
    image, mask = png(tmp_path / "a.png", size=(20, 30)), mask_png(tmp_path / "m.png", (30, 20))
    work = Work(record=Record(id="a", patient_id="p", image=image, mask=mask), image_out="a.png", mask_out="m.png")
    line = attempt(work, tmp_path / "out", ResizeConfig(size=15))
    assert (line["status"], line["reason_code"], line["error"]["exit_code"]) == ("failed", "E_MASK_SIZE", 4)
    assert not list(tmp_path.glob("out/*.png"))


def prepared_file(tmp_path: Path, pixels: object, config: ResizeConfig, **columns: object) -> dict[str, object]:
    write_png(tmp_path / "a.png", np.asarray(pixels))
    record = Record(id="a", patient_id="p", image=tmp_path / "a.png", **columns)  # type: ignore[arg-type]
    return attempt(Work(record=record, image_out="a.png"), tmp_path / "out", config)


TWELVE_BITS = np.arange(4096, dtype=np.uint16).reshape(64, 64)


@pytest.mark.parametrize(("pixels", "used"), [(TWELVE_BITS, "0..4095"), (65535 - TWELVE_BITS, "61440..65535")])
def test_twelve_bits_in_a_sixteen_bit_file_are_not_written_as_a_few_gray_levels(
    tmp_path: Path, pixels: object, used: str
) -> None:
    line = prepared_file(tmp_path, pixels, ResizeConfig(size=64))
    assert (line["status"], line["reason_code"]) == ("failed", "E_RANGE")
    said: dict[str, str] = line["error"]  # type: ignore[assignment]
    assert said["message"] == f"uses only {used} of 0..65535: 8 bits would leave 17 gray levels"
    assert said["fix"] == "--bits 16, or give intensity_low and intensity_high in a manifest"
    assert not list(tmp_path.glob("out/*.png"))


def test_the_manifests_intensity_columns_say_what_white_is_of_twelve_bits(tmp_path: Path) -> None:
    line = prepared_file(tmp_path, TWELVE_BITS, ResizeConfig(size=64), intensity_low=0, intensity_high=4095)
    assert (line["status"], line["message"]) == ("ok", "")
    with Image.open(tmp_path / "out" / "a.png") as written:
        np.testing.assert_array_equal(np.asarray(written), np.rint(TWELVE_BITS / 4095 * 255))


@pytest.mark.parametrize("config", [ResizeConfig(size=64, bits=16), ResizeConfig(size=64, equalise="histogram")])
def test_twelve_bits_that_keep_their_levels_are_written_with_a_note(tmp_path: Path, config: ResizeConfig) -> None:
    line = prepared_file(tmp_path, TWELVE_BITS, config)
    assert str(line["message"]).startswith("W_RANGE: uses only 0..4095 of 0..65535;")
    with Image.open(tmp_path / "out" / "a.png") as written:
        assert len(np.unique(np.asarray(written))) >= 250


@pytest.mark.parametrize(
    "pixels",
    [
        np.arange(40, dtype=np.uint8).repeat(10).reshape(20, 20),
        np.stack([np.arange(40, dtype=np.uint8).repeat(10).reshape(20, 20) // part for part in (1, 2, 3)], axis=2),
        np.zeros((20, 20), np.uint16),
        TWELVE_BITS * 4 + 10,
    ],
    ids=["8 bits", "8 bits of colour", "constant", "above a quarter"],
)
def test_dark_images_that_lose_nothing_are_left_alone(tmp_path: Path, pixels: object) -> None:
    line = prepared_file(tmp_path, pixels, ResizeConfig(size=20, gray=True))
    assert line["status"] == "ok"
    assert "W_RANGE" not in str(line["message"])


def test_boxes_that_a_crop_leaves_out_are_told(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (10, 30), dtype=np.uint8)
    config = ResizeConfig(size=10, fit="crop")
    beyond, seen = Box(x_min=0, y_min=0, x_max=9, y_max=5), Box(x_min=12, y_min=0, x_max=15, y_max=5)
    all_lost = prepared_file(tmp_path, image, config, boxes=(beyond,))["message"]
    assert all_lost == "W_BOX_LOST: 1 of 1 boxes lie outside of what is shown; boxes are left blank (not annotated)"
    assert prepared_file(tmp_path, image, config, boxes=(beyond, seen))["message"] == (
        "W_BOX_LOST: 1 of 2 boxes lie outside of what is shown"
    )
    for boxes in ((seen,), (), None):
        assert prepared_file(tmp_path, image, config, boxes=boxes)["message"] == ""
