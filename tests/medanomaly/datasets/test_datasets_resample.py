"""Area averages against their definition, and masks, boxes and spacing on the same grid."""

from __future__ import annotations

import numpy as np
import pytest

from medanomaly.datasets.resample import (
    Extent,
    axis_weights,
    extent_of,
    resample,
    resample_boxes,
    resample_mask,
    resample_spacing,
)
from medanomaly.datasets.transforms import PreprocessConfig, to_model
from medanomaly.types import Box, RawImage


def square(side: int, size: int) -> Extent:
    return extent_of((side, side), size, "pad")


def test_reducing_by_a_whole_factor_is_the_mean_of_each_block() -> None:
    pixels = np.random.default_rng(0).random((1, 12, 12), dtype=np.float32)
    (averaged,), inside = resample(pixels, square(12, 4))
    np.testing.assert_allclose(averaged, pixels[0].reshape(4, 3, 4, 3).mean(axis=(1, 3)), atol=1e-6)
    np.testing.assert_allclose(inside, 1)


def test_reducing_by_a_fraction_weights_each_pixel_by_the_part_that_is_covered() -> None:
    # Each pixel repeated 4 times and reduced by 10 is the same picture reduced by 2.5.
    pixels = np.random.default_rng(1).random((1, 10, 10), dtype=np.float32)
    fine = pixels.repeat(4, axis=1).repeat(4, axis=2)
    (averaged,), _ = resample(pixels, square(10, 4))
    np.testing.assert_allclose(averaged, fine[0].reshape(4, 10, 4, 10).mean(axis=(1, 3)), atol=1e-6)


def test_enlarging_is_bilinear_between_pixel_centres_with_the_edge_repeated() -> None:
    ramp = np.broadcast_to(np.arange(4, dtype=np.float32), (1, 4, 4))
    (enlarged,), _ = resample(ramp, square(4, 8))
    np.testing.assert_allclose(enlarged[3], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], atol=1e-6)


@pytest.mark.parametrize("size", [3, 7, 10, 13, 40])
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_a_constant_stays_that_constant_wherever_the_image_is(size: int, fit: str) -> None:
    pixels = np.full((1, 7, 13), 5, dtype=np.float32)
    (result,), inside = resample(pixels, extent_of((7, 13), size, fit))  # type: ignore[arg-type]
    np.testing.assert_allclose(result, 5 * inside, atol=1e-5)
    assert (inside.min() < 0.5) == (fit == "pad")
    assert inside.max() == pytest.approx(1, abs=1e-6)


def test_the_mean_of_a_reduced_image_is_the_mean_of_the_image() -> None:
    pixels = np.random.default_rng(2).random((3, 31, 31), dtype=np.float32)
    averaged, _ = resample(pixels, square(31, 8))
    np.testing.assert_allclose(averaged.mean(axis=(1, 2)), pixels.mean(axis=(1, 2)), atol=1e-6)


@pytest.mark.parametrize("native_size", [(11, 24), (24, 11), (23, 10)])
def test_a_padded_square_begins_where_the_networks_does(native_size: tuple[int, int]) -> None:
    raw = RawImage(pixels=np.zeros((1, *native_size), np.float32), value_range=(0, 1))
    geometry = to_model(raw, PreprocessConfig(image_size=8))[1]
    extent = extent_of(native_size, 8, "pad")
    assert (-extent.start[0], -extent.start[1]) == geometry.pad_before
    assert extent.shown == (geometry.square_side,) * 2


def test_rows_of_weights_sum_to_one_and_less_only_over_padding() -> None:
    np.testing.assert_allclose(axis_weights(10, 0, 10, 3).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(axis_weights(4, -4, 12, 3).sum(axis=1), [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(axis_weights(4, -3, 12, 3).sum(axis=1), [0.25, 0.75, 0], atol=1e-6)


def test_a_mask_takes_the_pixel_under_each_centre_and_stays_on_its_image() -> None:
    mask = np.zeros((6, 12), np.bool_)
    mask[2:4, 6:9] = True
    # Blocks of 3 px: the centres lie in columns 1, 4, 7, 10 and, as rows begin at -3, in rows 1 and 4.
    assert not resample_mask(mask, extent_of((6, 12), 4, "pad")).any()
    np.testing.assert_array_equal(
        np.argwhere(resample_mask(~mask, extent_of((6, 12), 4, "pad"))[:, :2]), [[1, 0], [1, 1], [2, 0], [2, 1]]
    )
    large = resample_mask(mask, extent_of((6, 12), 24, "pad"))
    assert large.sum() == 4 * mask.sum()
    assert large[2 * (3 + 2), 2 * 6]
    assert not large[:6].any()
    np.testing.assert_array_equal(resample_mask(mask, extent_of((6, 12), 6, "crop")), mask[:, 3:9])


def test_the_box_around_a_mask_is_the_box_around_the_resized_mask() -> None:
    mask = np.zeros((20, 40), np.bool_)
    mask[4:10, 12:30] = True
    box = Box(x_min=12, y_min=4, x_max=30, y_max=10, label="mass")
    for fit in ("pad", "stretch", "crop"):
        extent = extent_of((20, 40), 80, fit)  # type: ignore[arg-type]
        rows, columns = np.nonzero(resample_mask(mask, extent))
        (moved,) = resample_boxes((box,), extent) or ()
        assert (moved.x_min, moved.y_min) == (columns.min(), rows.min()), fit
        assert (moved.x_max, moved.y_max) == (columns.max() + 1, rows.max() + 1), fit
        assert moved.label == "mass"


def test_boxes_beyond_the_crop_are_dropped_and_where_none_is_left_the_image_counts_as_not_annotated() -> None:
    extent = extent_of((10, 30), 10, "crop")
    beyond, cut = Box(x_min=0, y_min=0, x_max=10, y_max=5), Box(x_min=8, y_min=0, x_max=12, y_max=5)
    assert resample_boxes((beyond,), extent) is None
    assert resample_boxes((beyond, cut), extent) == (Box(x_min=0, y_min=0, x_max=2, y_max=5),)
    assert resample_boxes(None, extent) is None
    assert resample_boxes((), extent) == ()


def test_spacing_grows_as_pixels_do() -> None:
    assert resample_spacing((0.5, 0.25), extent_of((100, 200), 50, "pad")) == (2.0, 1.0)
    assert resample_spacing((0.5, 0.25), extent_of((100, 200), 50, "stretch")) == (1.0, 1.0)
    assert resample_spacing(None, extent_of((100, 200), 50, "pad")) is None
