from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import ConfigError, InputError
from medanomaly.views.canvas import DARK_GROUND, PREDICTED
from medanomaly.views.overlay import colour_bar, draw_outline, map_colours, map_overlay, overlay_figure, scale_ticks
from medanomaly.views.shown import to_gray8


def plane(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def disc(side: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return rows**2 + columns**2 <= radius**2


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE lightness from sRGB (IEC 61966-2-1 transfer curve, Y row of the D65 matrix)."""
    signal = rgb / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def test_gray_runs_from_black_at_minus_one_to_white_at_one_and_never_wraps():
    np.testing.assert_array_equal(to_gray8(plane(-1, 0, 1, -1.3, 1.01, 9)), [[0, 128, 255, 0, 255, 255]])


def test_every_gray_level_survives_the_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(to_gray8((levels / 127.5 - 1).astype(np.float32)), levels)


def test_below_the_operating_point_the_image_is_untouched():
    pixels = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    overlay = map_overlay(pixels, np.full((8, 8), 0.1999, np.float32), threshold=0.2, scale_max=1.0)
    np.testing.assert_array_equal(overlay, np.repeat(to_gray8(pixels)[..., None], 3, axis=-1))


def test_only_what_exceeds_the_operating_point_is_coloured_as_scoring_counts_it():
    just_above = np.nextafter(np.float32(0.7), np.float32(1))
    overlay = map_overlay(plane(0, 0), plane(0.7, just_above), threshold=0.7, scale_max=1.0, outline=False)
    assert overlay[0, 0].tolist() == [128, 128, 128]
    assert overlay[0, 1].tolist() != [128, 128, 128]


def test_colour_hides_the_anatomy_more_as_the_map_grows_but_never_wholly():
    values = np.linspace(0.21, 1, 9, dtype=np.float32)[None]
    on_black, on_white = (
        map_overlay(np.full_like(values, gray), values, threshold=0.2, scale_max=1.0, outline=False).astype(int)
        for gray in (-1, 1)
    )
    anatomy_left = (on_white - on_black)[0, :, 0] / 255
    assert (np.diff(anatomy_left) < 0).all()
    assert anatomy_left.min() > 0.1
    assert anatomy_left.max() < 0.6


def test_what_exceeds_the_scale_is_clipped_to_the_brightest_colour():
    overlay = map_overlay(plane(0, 0, 0), plane(1, 1.001, 1e30), threshold=0.5, scale_max=1.0, outline=False)
    assert (overlay == overlay[:, :1]).all()


def test_a_pixels_colour_does_not_depend_on_the_rest_of_the_map():
    alone = map_overlay(plane(0.3, 0.3), plane(0.6, 0), threshold=0.5, scale_max=1.0, outline=False)
    beside_a_maximum = map_overlay(plane(0.3, 0.3), plane(0.6, 50), threshold=0.5, scale_max=1.0, outline=False)
    np.testing.assert_array_equal(alone[0, 0], beside_a_maximum[0, 0])


def test_map_colours_grow_evenly_in_perceived_lightness():
    steps = np.diff(lightness(map_colours(np.linspace(0, 1, 33, dtype=np.float32)[None], scale_max=1.0)[0]))
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.mean()


def test_an_operating_point_at_the_top_of_the_scale_still_shows_what_exceeds_it():
    overlay = map_overlay(plane(0, 0), plane(0.5, 1.5), threshold=1.0, scale_max=1.0, outline=False)
    assert overlay[0, 0].tolist() == [128, 128, 128]
    assert overlay[0, 1, 0] > 200


def test_the_outline_surrounds_the_mask_without_covering_it():
    mask = disc(32, 8)
    drawn = (draw_outline(np.zeros((32, 32, 3), np.uint8), mask, (1, 2, 3)) == (1, 2, 3)).all(-1)
    assert not (drawn & mask).any()
    walls_off = np.zeros_like(mask)
    walls_off[1:-1, 1:-1] = mask[:-2, 1:-1] | mask[2:, 1:-1] | mask[1:-1, :-2] | mask[1:-1, 2:]
    assert drawn[walls_off & ~mask].all()
    assert not drawn[~disc(32, 10)].any()


@pytest.mark.parametrize(("side", "thickness"), [(64, 1), (512, 1), (1024, 2), (2048, 4)])
def test_the_outline_thickens_with_the_image(side, thickness):
    mask = np.zeros((side, side), dtype=bool)
    mask[: side // 2] = True
    drawn = draw_outline(np.zeros((side, side, 3), np.uint8), mask, (9, 9, 9))
    assert (drawn[:, side // 2, 0] == 9).sum() == thickness


@pytest.mark.parametrize("mask", [np.zeros((8, 8), bool), np.ones((8, 8), bool)])
def test_an_empty_or_full_mask_has_no_outline(mask):
    assert draw_outline(np.zeros((8, 8, 3), np.uint8), mask, (9, 9, 9)).max() == 0


def test_drawing_changes_none_of_its_inputs():
    pixels, anomaly_map = np.zeros((8, 8), np.float32), np.full((8, 8), 0.9, np.float32)
    anomaly_map[0] = 0
    before = pixels.copy(), anomaly_map.copy()
    map_overlay(pixels, anomaly_map, threshold=0.5, scale_max=1.0)
    np.testing.assert_array_equal((pixels, anomaly_map), before)


@pytest.mark.parametrize(
    ("pixels", "anomaly_map", "code"),
    [
        (np.zeros((4, 4)), np.zeros((4, 5)), "E_GEOMETRY"),
        (np.zeros((1, 1, 4, 4)), np.zeros((4, 4)), "E_GEOMETRY"),
        (np.zeros((0, 4)), np.zeros((0, 4)), "E_GEOMETRY"),
        (np.full((4, 4), np.nan), np.zeros((4, 4)), "E_NONFINITE"),
        (np.zeros((4, 4)), np.full((4, 4), np.inf), "E_NONFINITE"),
        (np.zeros((4, 4)), np.full((4, 4), -0.1), "E_RANGE"),
    ],
)
def test_an_overlay_of_unusable_planes_is_refused(pixels, anomaly_map, code):
    with pytest.raises(InputError) as refused:
        map_overlay(pixels, anomaly_map, threshold=0.5, scale_max=1.0)
    assert refused.value.code == code


@pytest.mark.parametrize(("threshold", "scale_max"), [(0.5, 0.4), (-0.1, 1), (0, 0), (np.nan, 1), (0.1, np.nan), (0.1, np.inf)])
def test_a_scale_that_cannot_hold_the_operating_point_is_refused(threshold, scale_max):
    with pytest.raises(ConfigError, match="scale_max"):
        map_overlay(plane(0), plane(0), threshold=threshold, scale_max=scale_max)


@pytest.mark.parametrize("height", [160, 257, 1000])
def test_the_colour_bar_shows_the_overlays_colours_in_order(height):
    bar = colour_bar(0.8, 0.2, height)
    assert bar.shape[0] == height
    assert bar.dtype == np.uint8
    strip = bar[:, round(max(11.0, height / 40)) + 2]
    strip = strip[(strip != DARK_GROUND).any(-1)]
    ramp = np.linspace(0.8, 0, len(strip), dtype=np.float32)[None]
    expected = map_overlay(np.zeros_like(ramp), ramp, threshold=0.2, scale_max=0.8, outline=False)[0]
    line = (strip == PREDICTED).all(-1)
    assert len(strip) > 0.75 * height
    np.testing.assert_array_equal(strip[~line], expected[~line])


def test_the_colour_bar_marks_the_operating_point_at_its_height():
    bar = colour_bar(1.0, 0.25, 400)
    line = np.flatnonzero((bar[:, 12] == PREDICTED).all(-1))
    inside = np.flatnonzero((bar[:, 12] != DARK_GROUND).any(-1))
    share_below = (inside.max() - line.mean()) / (inside.max() - inside.min())
    assert share_below == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.5, 0.999, 1.0])
def test_a_colour_bar_names_its_operating_point_wherever_it_lies(threshold):
    bar = colour_bar(1.0, threshold, 160, unit="a unit far too long for the room above a bar, " * 3)
    words = bar[:, 40:].astype(int)
    assert (words[..., 2] - words[..., 0] > 80).sum() > 100
    assert bar.shape[1] < 200


def test_a_colour_bar_too_low_for_its_labels_is_refused():
    with pytest.raises(ConfigError, match="160"):
        colour_bar(1.0, 0.5, 64)


@pytest.mark.parametrize("scale_max", [1e-4, 0.6, 1, 37, 4095])
def test_ticks_are_apart_and_leave_room_for_the_marked_value(scale_max):
    gap = scale_max / 8
    ticks = scale_ticks(scale_max, keep_clear=scale_max / 3, gap=gap)
    assert ticks[0] == 0
    assert all(abs(tick - scale_max / 3) >= gap and tick <= scale_max - gap for tick in ticks)
    assert (np.diff(ticks) >= gap).all()


@pytest.mark.parametrize("size", [(64, 64), (300, 200), (33, 400)])
def test_the_written_figure_holds_the_overlay_pixel_for_pixel(tmp_path: Path, size):
    noise = np.random.default_rng(0).uniform(size=size).astype(np.float32)
    overlay_figure(tmp_path / "a.png", 2 * noise - 1, noise, threshold=0.5, scale_max=0.9, unit="absolute difference")
    with Image.open(tmp_path / "a.png") as image:
        written = np.asarray(image)
    expected = map_overlay(2 * noise - 1, noise, threshold=0.5, scale_max=0.9)
    np.testing.assert_array_equal(written[: size[0], : size[1]], expected)
    assert written.shape[1] > size[1] + 40


def test_the_same_overlay_is_the_same_file(tmp_path: Path):
    for name in ("a.png", "b.png"):
        overlay_figure(tmp_path / name, plane(0, 0.5), plane(0, 1), threshold=0.5, scale_max=1.0, unit="u")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
