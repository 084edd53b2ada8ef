from __future__ import annotations

import numpy as np
import pytest

from medanomaly.datasets.public.fundus import Disc, find_disc, fundus_picture
from medanomaly.types import FloatArray

RETINA = np.array([190, 95, 40], np.float32)


def photograph(size: tuple[int, int], row: float, column: float, radius: float, light: float = 1.0, noise: int = 3) -> FloatArray:
    """A disc that is darker towards its rim, on a surround of sensor noise."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    distance = np.hypot(rows - row, columns - column) / radius
    image = np.where(distance <= 1, light * RETINA[:, None, None] * (1 - 0.5 * distance**2), 0)
    return np.asarray(np.clip(image + np.random.default_rng(0).integers(0, noise + 1, (1, *size)), 0, 255), np.float32)


def notched(image: FloatArray) -> FloatArray:
    image[:, 188:212, 415:] = 0
    return image


def annotated(image: FloatArray) -> FloatArray:
    image[:, 8:20, 10:120] = 220
    return image


def captioned(image: FloatArray) -> FloatArray:
    """A bright bar below the disc."""
    image[:, 382:396, 10:490] = 160
    return image


def tabbed(image: FloatArray) -> FloatArray:
    """A bright label that touches the disc."""
    image[:, 120:230, 40:100] = 160
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (photograph((400, 500), 200, 250, 175), (200, 250, 175)),
        (photograph((400, 600), 165, 410, 150), (165, 410, 150)),
        (photograph((300, 500), 150, 240, 210), (150, 240, 210)),
        (photograph((400, 400), 200, 200, 240), (200, 200, 240)),
        (photograph((400, 450), 235, 225, 210), (235, 225, 210)),
        (photograph((400, 500), 200, 250, 175, light=0.25, noise=4), (200, 250, 175)),
        (photograph((400, 500), 200, 250, 175, noise=14), (200, 250, 175)),
        (notched(photograph((400, 500), 200, 250, 175)), (200, 250, 175)),
        (annotated(photograph((400, 500), 200, 250, 175)), (200, 250, 175)),
        (captioned(photograph((400, 500), 200, 250, 175)), (200, 250, 175)),
        (tabbed(photograph((400, 500), 200, 250, 175)), (200, 250, 175)),
        (photograph((400, 500), 200, 250, 175) + np.float32(10), (200, 250, 175)),
        (photograph((60, 48), 30, 24, 20), (30, 24, 20)),
    ],
    ids=[
        "plain",
        "off centre",
        "cut above and below",
        "corners only",
        "cut on one side",
        "dim",
        "noisy",
        "notch",
        "text",
        "caption",
        "label",
        "hazy",
        "small",
    ],
)
def test_the_disc_is_found_within_two_hundredths_of_its_radius(image: FloatArray, expected: tuple[int, int, int]) -> None:
    disc = find_disc(image)
    assert disc is not None
    tolerance = 0.02 * expected[2] + 0.5
    assert (disc.row, disc.column, disc.radius) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((3, 200, 200), np.float32),
        np.full((3, 200, 200), 120, np.float32),
        np.pad(np.full((3, 100, 150), 150, np.float32), ((0, 0), (50, 50), (25, 25))),
        np.pad(np.full((3, 4, 4), 150, np.float32), ((0, 0), (98, 98), (98, 98))),
    ],
    ids=["black", "no surround", "rectangle", "speck"],
)
def test_where_there_is_no_disc_none_is_found(image: FloatArray) -> None:
    assert find_disc(image) is None


def test_the_picture_is_the_disc_on_exact_black_at_the_asked_side() -> None:
    image = photograph((400, 500), 200, 250, 175)
    image[:, :, :] += 5
    picture = fundus_picture(image, Disc(row=200, column=250, radius=175), 128, "rgb")
    assert (picture.shape, picture.dtype) == ((128, 128, 3), np.uint8)
    rows, columns = np.mgrid[:128, :128] - 63.5
    outside = np.hypot(rows, columns) > 64
    assert not picture[outside].any()
    assert picture[~outside].min() > 0
    assert np.abs(picture[64, 64].astype(int) - (RETINA + 5)).max() <= 4


def test_a_disc_that_leaves_the_photograph_is_filled_with_black_and_not_shifted() -> None:
    image = np.full((3, 40, 60), 100, np.float32)
    image[:, 20, 30] = 255
    picture = fundus_picture(image, Disc(row=20.5, column=30.5, radius=25.5), 512, "rgb")
    assert picture.shape == (51, 51, 3)
    assert not picture[:5].any()
    assert (picture[25, 25] == 255).all()


def test_green_is_the_green_plane_alone() -> None:
    image = np.stack([np.full((30, 30), level, np.float32) for level in (10, 77, 200)])
    picture = fundus_picture(image, None, 64, "green")
    np.testing.assert_array_equal(picture, np.full((30, 30), 77))


def test_uncut_photographs_keep_their_shape_and_are_never_enlarged() -> None:
    image = np.full((3, 100, 60), 50, np.float32)
    assert fundus_picture(image, None, 50, "rgb").shape == (50, 30, 3)
    assert fundus_picture(image, None, 500, "rgb").shape == (100, 60, 3)


def test_reduction_is_antialiased() -> None:
    stripes = np.zeros((3, 64, 64), np.float32)
    stripes[:, :, ::3] = 240
    picture = fundus_picture(stripes, None, 16, "rgb")
    assert np.abs(picture[2:-2, 2:-2].astype(int) - 80).max() <= 20
