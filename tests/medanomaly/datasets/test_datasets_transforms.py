from __future__ import annotations

import numpy as np
import pytest
import torch

from medanomaly.datasets.transforms import PreprocessConfig, to_model, to_native
from medanomaly.errors import ConfigError, InputError
from medanomaly.types import FloatArray, RawImage

SIZES = [(30, 33), (33, 30), (200, 201), (1955, 1841), (1, 40), (40, 1), (64, 64), (1, 1)]


def image(pixels: FloatArray, value_range: tuple[float, float] | None = (0, 255)) -> RawImage:
    return RawImage(pixels=pixels[None].astype(np.float32) if pixels.ndim == 2 else pixels, value_range=value_range)


def smooth(rows: int, columns: int) -> FloatArray:
    """Asymmetric, and so slow that resampling to 64 px loses next to nothing; 0..255."""
    y, x = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    return np.asarray(127.5 + 80 * np.cos(2.5 * y + 0.3) + 40 * np.sin(2 * x), dtype=np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_a_map_comes_back_at_the_rows_and_columns_of_its_source(size: tuple[int, int]) -> None:
    x, geometry = to_model(image(smooth(*size)), PreprocessConfig(image_size=64))
    assert x.shape == (1, 64, 64)
    assert x.dtype == torch.float32
    assert to_native(x, geometry).shape == (1, *size)
    assert to_native(torch.cat([x, x, x]), geometry).shape == (3, *size)


@pytest.mark.parametrize("size", [(30, 33), (33, 30), (200, 201), (1955, 1841)])
def test_a_smooth_image_survives_the_way_there_and_back_away_from_the_padding(size: tuple[int, int]) -> None:
    raw = image(smooth(*size))
    x, geometry = to_model(raw, PreprocessConfig(image_size=64))
    away = max(2, 2 * max(size) // 64)
    inner = (slice(away, -away), slice(away, -away))
    expected = raw.pixels[0] / 127.5 - 1
    np.testing.assert_allclose(to_native(x, geometry)[0][inner], expected[inner], atol=0.02)


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (41, 60)])
@pytest.mark.parametrize("model_size", [32, 60, 64, 97])
def test_a_bright_pixel_off_the_axes_comes_back_where_it_was(size: tuple[int, int], model_size: int) -> None:
    pixels = np.zeros(size, np.float32)
    pixels[7:10, 31:34] = 255
    x, geometry = to_model(image(pixels), PreprocessConfig(image_size=model_size))
    bright = np.argwhere(to_native(x, geometry)[0] > 0)
    np.testing.assert_allclose(bright.mean(axis=0), (8, 32), atol=0.75)


def test_moving_the_image_moves_what_the_model_sees_and_what_comes_back() -> None:
    config = PreprocessConfig(image_size=30)
    pixels = np.zeros((40, 60), np.float32)
    pixels[8:13, 10:17] = np.arange(35).reshape(5, 7)
    moved = np.roll(pixels, (4, 22), axis=(0, 1))  # two model pixels down, eleven to the right
    (x, geometry), (x_moved, _) = to_model(image(pixels), config), to_model(image(moved), config)
    assert x.max() > -1
    torch.testing.assert_close(x_moved, torch.roll(x, (2, 11), dims=(1, 2)))
    np.testing.assert_allclose(
        to_native(x_moved, geometry), np.roll(to_native(x, geometry), (4, 22), axis=(1, 2)), rtol=0, atol=1e-6
    )


def test_padding_is_split_evenly_holds_the_pad_value_and_is_cut_off_on_the_way_back() -> None:
    raw = image(np.full((5, 8), 255, np.float32))
    x, geometry = to_model(raw, PreprocessConfig(image_size=8, pad_value=-0.5))
    assert geometry.pad_before == (1, 0)
    assert torch.equal(x[0, 1:6], torch.ones(5, 8))
    assert torch.equal(x[0, [0, 6, 7]], torch.full((3, 8), -0.5))
    only_padding = torch.ones(1, 8, 8)
    only_padding[:, 1:6] = 0
    assert not to_native(only_padding, geometry).any()


def test_an_image_of_the_models_size_is_scaled_and_not_resampled() -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (16, 16)).astype(np.float32)
    x, geometry = to_model(image(pixels, (-1, 1)), PreprocessConfig(image_size=16))
    np.testing.assert_allclose(x[0].numpy(), pixels, atol=1e-7, rtol=0)
    np.testing.assert_array_equal(to_native(x, geometry), x.numpy())


@pytest.mark.parametrize("side", [25, 61, 100, 127])
def test_a_bright_image_keeps_its_edge_and_stays_in_range_when_it_is_resized(side: int) -> None:
    for model_size in (17, 25, 64, 99):
        x, _ = to_model(image(np.full((side, side), 255, np.float32)), PreprocessConfig(image_size=model_size))
        torch.testing.assert_close(x, torch.ones(1, model_size, model_size))
        assert x.max() <= 1


def test_stripes_finer_than_a_model_pixel_become_gray_instead_of_an_alias() -> None:
    pixels = np.zeros((256, 256), np.float32)
    pixels[:, ::2] = 255
    x, _ = to_model(image(pixels), PreprocessConfig(image_size=60))
    assert x[:, 5:-5, 5:-5].abs().max() < 0.1


@pytest.mark.parametrize("value", [0.0, 5.0, 4000.0, -3e38])
def test_a_constant_image_without_a_known_range_is_minus_one_everywhere(value: float) -> None:
    x, _ = to_model(image(np.full((20, 30), value, np.float32), None), PreprocessConfig(image_size=16))
    torch.testing.assert_close(x, torch.full((1, 16, 16), -1.0), atol=2e-7, rtol=0)


def test_a_constant_image_of_a_known_range_keeps_its_gray() -> None:
    x, _ = to_model(image(np.full((16, 16), 51, np.float32)), PreprocessConfig(image_size=16))
    torch.testing.assert_close(x, torch.full((1, 16, 16), -0.6))


def test_a_lesion_smaller_than_the_percentile_tail_is_not_lost() -> None:
    pixels = np.zeros((64, 64), np.float32)
    pixels[20, 40] = 900
    x, _ = to_model(image(pixels, None), PreprocessConfig(image_size=64))
    assert x[0, 20, 40] == 1
    assert (x == -1).sum() == 64 * 64 - 1


def test_the_manifests_range_wins_over_the_formats_and_the_formats_over_percentiles() -> None:
    raw = image(np.array([[0.0, 100.0], [200.0, 255.0]], np.float32))
    auto = PreprocessConfig(image_size=2)
    from_manifest, _ = to_model(raw, auto, (0.0, 200.0))
    from_format, _ = to_model(raw, auto)
    from_config, _ = to_model(raw, PreprocessConfig(image_size=2, intensity="range", low=100.0, high=300.0), (0.0, 1.0))
    from_pixels, _ = to_model(raw, PreprocessConfig(image_size=2, intensity="percentile", percentiles=(0, 100)), (0.0, 1.0))
    assert from_manifest[0].tolist() == [[-1, 0], [1, 1]]
    np.testing.assert_allclose(from_format[0], raw.pixels[0] / 127.5 - 1, atol=1e-6)
    assert from_config[0].tolist() == [[-1, -1], [0, pytest.approx(0.55)]]
    np.testing.assert_allclose(from_pixels[0], from_format[0], atol=1e-6)


def test_all_steps_of_a_16_bit_ramp_stay_distinct_and_in_order() -> None:
    ramp = np.arange(65536, dtype=np.float32).reshape(256, 256)
    x, _ = to_model(image(ramp, (0, 65535)), PreprocessConfig(image_size=256))
    steps = x.flatten().diff()
    assert (steps > 0).all()
    assert x.min() == -1
    assert x.max() == 1


@pytest.mark.parametrize("seed", range(20))
def test_any_finite_image_lands_in_model_space(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 50, size=2)
    pixels = (rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-30, 37)).astype(np.float32)
    x, geometry = to_model(image(pixels, None), PreprocessConfig(image_size=int(rng.integers(1, 50)), pad_value=0.25))
    assert torch.isfinite(x).all()
    assert x.min() >= -1
    assert x.max() <= 1
    assert to_native(x, geometry).shape == (1, rows, columns)


def test_the_result_shares_no_memory_with_the_pixels() -> None:
    raw = image(np.zeros((8, 8), np.float32), (-1, 1))
    before = raw.pixels.copy()
    x, geometry = to_model(raw, PreprocessConfig(image_size=8))
    to_native(x, geometry)[:] = 9
    assert x.max() <= 1
    x.fill_(1)
    np.testing.assert_array_equal(raw.pixels, before)


def test_a_colour_image_keeps_its_planes_apart() -> None:
    pixels = np.zeros((3, 10, 14), np.float32)
    pixels[1] = 255
    raw = RawImage(pixels=pixels, value_range=(0, 255))
    x, geometry = to_model(raw, PreprocessConfig(image_size=28, channels=3))
    back = to_native(x, geometry)
    np.testing.assert_allclose(back[1, 3:7], 1, atol=1e-6)
    np.testing.assert_allclose(back[[0, 2], 3:7], -1, atol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        (np.array([[1.0, np.nan]], np.float32), "E_NONFINITE"),
        (np.array([[1.0, np.inf]], np.float32), "E_NONFINITE"),
        (np.zeros((3, 4, 4), np.float32), "E_CHANNELS"),
        (np.zeros((1, 0, 4), np.float32), "E_HEADER"),
        (np.zeros((1, 8193), np.float32), "E_LIMIT"),
    ],
)
def test_an_image_that_cannot_become_a_square_is_refused(pixels: FloatArray, code: str) -> None:
    with pytest.raises(InputError) as refused:
        to_model(image(pixels), PreprocessConfig(image_size=8))
    assert refused.value.code == code


def test_a_map_of_another_size_or_a_whole_batch_is_refused_on_the_way_back() -> None:
    _, geometry = to_model(image(np.zeros((4, 5), np.float32)), PreprocessConfig(image_size=8))
    for wrong in (torch.zeros(1, 1, 8, 8), torch.zeros(1, 8, 9), torch.zeros(8, 8)):
        with pytest.raises(ValueError, match="must be"):
            to_native(wrong, geometry)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 0},
        {"image_size": 8, "channels": 0},
        {"image_size": 8, "intensity": "minmax"},
        {"image_size": 8, "intensity": "range"},
        {"image_size": 8, "low": 0.0, "high": 1.0},
        {"image_size": 8, "intensity": "range", "low": 1.0, "high": 1.0},
        {"image_size": 8, "intensity": "range", "low": 0.0, "high": float("nan")},
        {"image_size": 8, "percentiles": (99.5, 0.5)},
        {"image_size": 8, "pad_value": -2.0},
    ],
)
def test_settings_that_cannot_be_are_refused_where_they_are_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        PreprocessConfig(**wrong)  # type: ignore[arg-type]
