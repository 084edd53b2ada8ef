"""What is seen of colour and of several channels: one rule for overlays, sheets and reports."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.views.canvas import PREDICTED, REFERENCE
from medanomaly.views.overlay import map_overlay, overlay_figure
from medanomaly.views.sheet import SheetCase, contact_sheet
from medanomaly.views.shown import ground, in_rgb, map_unit, picture, shown_channel, to_gray8

CELL, LEFT, TOP, STRIDE = 256, 196, 104, 264


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).uniform(-1, 1, shape).astype(np.float32)


def test_three_channels_are_red_green_and_blue():
    pixels = np.full((3, 1, 3), -1, np.float32)
    for channel in range(3):
        pixels[channel, 0, channel] = 1
    np.testing.assert_array_equal(picture(pixels)[0], [[255, 0, 0], [0, 255, 0], [0, 0, 255]])


@pytest.mark.parametrize("num_channels", [1, 2, 4, 7])
def test_of_other_numbers_of_channels_the_first_is_shown(num_channels):
    pixels = noise(num_channels, 5, 6)
    for shown in (picture(pixels), ground(pixels), picture(pixels[0]), ground(pixels[0])):
        np.testing.assert_array_equal(shown, to_gray8(pixels[0]))


def test_marks_stand_on_the_luma_of_a_colour_image():
    pixels = noise(3, 5, 6)
    red, green, blue = (pixels + 1) * 127.5
    np.testing.assert_allclose(ground(pixels), 0.299 * red + 0.587 * green + 0.114 * blue, atol=1.5)


def test_an_overlay_on_a_colour_image_has_no_colour_but_the_maps_and_the_outlines():
    pixels, anomaly_map = noise(3, 40, 40), np.zeros((40, 40), np.float32)
    anomaly_map[10:20, 10:20] = 0.8
    overlay = map_overlay(pixels, anomaly_map, threshold=0.5, scale_max=1.0).astype(int)
    coloured = np.ptp(overlay, axis=2) > 0
    surrounded = np.zeros((40, 40), bool)
    surrounded[9:21, 9:21] = True
    assert coloured[10:20, 10:20].all()
    assert not coloured[~surrounded].any()
    gray = in_rgb(ground(pixels))
    np.testing.assert_array_equal(overlay, map_overlay(2 * (gray[..., 0] / 255) - 1, anomaly_map, threshold=0.5, scale_max=1.0))


@pytest.mark.parametrize(
    ("count", "channel", "unit"),
    [(1, "", "u"), (3, "", "u (3 channels summed)"), (4, "channel 1 of 4 shown", "u (4 channels summed)")],
)
def test_what_is_shown_and_summed_is_said(count, channel, unit):
    assert shown_channel(count) == channel
    assert map_unit("u", count) == unit


@pytest.mark.parametrize("pixels", [np.zeros((1, 1, 4, 4)), np.zeros(4), np.zeros((3, 0, 4)), np.full((3, 2, 2), np.inf)])
def test_what_is_no_image_is_refused(pixels):
    with pytest.raises(InputError):
        picture(pixels)


def figure(path: Path, pixels: np.ndarray, unit: str = "|x - pseudo-healthy|, model units") -> np.ndarray:
    anomaly_map = np.ones(pixels.shape[-2:], np.float32)
    overlay_figure(path, pixels, anomaly_map, threshold=0.5, scale_max=2.0, unit=unit)
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_colour_bar_says_which_channel_is_shown_and_stays_where_there_is_nothing_to_say(tmp_path):
    pixels = noise(4, 64, 64)
    four, gray = figure(tmp_path / "4.png", pixels), figure(tmp_path / "1.png", pixels[:1])
    np.testing.assert_array_equal(four[:64, :64], gray[:64, :64])
    assert four.shape[0] > gray.shape[0]
    np.testing.assert_array_equal(gray, figure(tmp_path / "plane.png", pixels[0]))
    other = figure(tmp_path / "7.png", noise(7, 64, 64))
    assert not np.array_equal(other[:100, 64:], four[:100, 64:])


def sheet_of(path: Path, *cases: SheetCase) -> np.ndarray:
    contact_sheet(path / "sheet.png", cases, threshold=0.5, scale_max=1.0, unit="u")
    with Image.open(path / "sheet.png") as image:
        return np.asarray(image)


def case_of(pixels: np.ndarray) -> SheetCase:
    side = pixels.shape[-1]
    anomaly_map, lesion = np.zeros((side, side), np.float32), np.zeros((side, side), bool)
    anomaly_map[2:6, 2:6], lesion[2:6, 2:6] = 0.8, True
    return SheetCase(caption="", pixels=pixels, anomaly_map=anomaly_map, pseudo_healthy=pixels / 2, reference=lesion)


def cell(sheet: np.ndarray, column: int) -> np.ndarray:
    return sheet[TOP:, LEFT + column * STRIDE :][:CELL, :CELL]


def enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def test_a_sheet_shows_colour_images_in_colour_and_outlines_on_gray(tmp_path):
    pixels = noise(3, 64, 64)
    sheet = sheet_of(tmp_path, case_of(pixels))
    np.testing.assert_array_equal(cell(sheet, 0), enlarged(picture(pixels), 4))
    np.testing.assert_array_equal(cell(sheet, 1), enlarged(picture(pixels / 2), 4))
    for column, colour in ((3, PREDICTED), (4, REFERENCE)):
        drawn = cell(sheet, column)
        line = (drawn == colour).all(-1)
        assert line.any()
        np.testing.assert_array_equal(drawn[~line], enlarged(in_rgb(ground(pixels)), 4)[~line])


def test_a_large_colour_image_shrinks_plane_by_plane(tmp_path):
    pixels = noise(3, 512, 512)
    means = pixels.reshape(3, 256, 2, 256, 2).mean(axis=(2, 4))
    np.testing.assert_array_equal(cell(sheet_of(tmp_path, case_of(pixels)), 0), picture(means))


def test_a_sheet_of_several_channels_says_which_is_shown(tmp_path):
    pixels = noise(4, 64, 64)
    four, gray = sheet_of(tmp_path, case_of(pixels)), sheet_of(tmp_path, case_of(pixels[:1]))
    changed = (four != gray).any(-1)
    rows, columns = np.nonzero(changed)
    assert rows.max() < TOP
    assert columns.max() < LEFT
    np.testing.assert_array_equal(gray, sheet_of(tmp_path, case_of(pixels[0])))


def test_a_pseudo_healthy_image_with_other_channels_is_refused(tmp_path):
    case = case_of(noise(4, 64, 64))
    wrong = SheetCase(caption="", pixels=case.pixels, anomaly_map=case.anomaly_map, pseudo_healthy=case.pixels[:3])
    with pytest.raises(InputError, match="pseudo_healthy"):
        sheet_of(tmp_path, wrong)


def test_a_long_unit_is_written_whole_above_a_small_images_bar_and_above_a_sheets(tmp_path):
    """Two units that differ in their last letters only are two pictures: nothing was cut off."""
    pixels = noise(3, 64, 64)
    unit = map_unit("|x - pseudo-healthy|, model units", 3)
    ends = [unit, unit[:-2] + "x)"]
    one, other = (figure(tmp_path / "a.png", pixels, unit) for unit in ends)
    assert not np.array_equal(one, other)
    sheets = []
    for unit in ends:
        contact_sheet(tmp_path / "s.png", [case_of(pixels)], threshold=0.5, scale_max=1.0, unit=unit)
        with Image.open(tmp_path / "s.png") as image:
            sheets.append(np.asarray(image)[:TOP])
    assert not np.array_equal(*sheets)
