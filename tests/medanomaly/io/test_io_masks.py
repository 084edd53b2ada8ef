"""Masks as drawing programs save them, and images of a single value."""

import numpy as np
import pytest
from io_builders import ALL_SUFFIXES, ramp, write_image
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.io.reader import ReadOptions, read_image, read_mask

TRUTH = ramp() % 7 == 0


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1"])
def test_a_black_and_white_mask_is_the_same_in_every_colour_mode(tmp_path, mode, suffix):
    path = tmp_path / f"mask{suffix}"
    Image.fromarray(TRUTH.astype(np.uint8) * np.uint8(255)).convert(mode).save(path)
    np.testing.assert_array_equal(read_mask(path, TRUTH.shape), TRUTH)


def test_a_red_mask_is_refused_because_its_colour_may_mean_anything(tmp_path):
    red = np.zeros((*TRUTH.shape, 3), np.uint8)
    red[TRUTH, 0] = 255
    Image.fromarray(red).save(tmp_path / "red.png")
    with pytest.raises(InputError) as caught:
        read_mask(tmp_path / "red.png")
    assert caught.value.code == "E_COLOR"


def test_a_jpeg_mask_is_refused_because_its_edges_are_smeared(tmp_path):
    path = write_image(tmp_path / "mask.jpg", TRUTH.astype(np.uint8) * np.uint8(255))
    with pytest.raises(InputError) as caught:
        read_mask(path)
    assert caught.value.code == "E_MASK_VALUES"


@pytest.mark.parametrize("suffix", [suffix for suffix in ALL_SUFFIXES if suffix != ".jpg"])
def test_the_canary_of_a_mask_lands_where_that_of_its_image_does(tmp_path, suffix):
    canary = np.zeros((40, 60), np.uint8)
    canary[7, 31] = 1
    mask = read_mask(write_image(tmp_path / f"mask{suffix}", canary), (40, 60))
    assert np.argwhere(mask).tolist() == [[7, 31]]


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
@pytest.mark.parametrize("value", [0, 5])
def test_an_image_of_one_value_says_so_in_every_format(tmp_path, suffix, value):
    path = write_image(tmp_path / f"constant{suffix}", np.full((40, 60), value, np.uint8))
    assert read_image(path).notes[-1] == f"every pixel holds {value}"
    path = write_image(tmp_path / f"ramp{suffix}", ramp())
    assert not any("every pixel" in note for note in read_image(path).notes)


def test_an_image_of_nothing_but_nan_is_refused_and_constant_once_filled(tmp_path):
    np.save(tmp_path / "nan.npy", np.full((4, 6), np.nan, np.float32))
    with pytest.raises(InputError, match="24 non-finite"):
        read_image(tmp_path / "nan.npy")
    assert read_image(tmp_path / "nan.npy", ReadOptions(nan_to=2)).notes[-1] == "every pixel holds 2"
