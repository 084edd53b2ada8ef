import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from medanomaly.views.overlay import map_overlay
from medanomaly.views.side_marker import side_markers

SIDE = 512


def film(side: int = SIDE) -> np.ndarray:
    """A soft gray film: smooth noise, brighter in the middle, with one blurred bright bar at the left margin as a rib would lie."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(side, side)), side / 40)
    rows, columns = np.mgrid[:side, :side] / side
    gray = 110 + 60 * np.exp(-8 * ((rows - 0.5) ** 2 + (columns - 0.5) ** 2)) + 15 * noise / noise.std()
    bar = np.zeros((side, side))
    bar[round(0.6 * side) : round(0.66 * side), round(0.05 * side) : round(0.07 * side)] = 120
    return np.clip(gray + ndimage.gaussian_filter(bar, side / 100), 0, 255).astype(np.uint8)


def with_letter(gray: np.ndarray, text: str, at: tuple[float, float], *, height: float = 0.06) -> tuple[np.ndarray, np.ndarray]:
    """The film with a white letter, and where its strokes are."""
    side = gray.shape[0]
    picture = Image.fromarray(gray)
    font = ImageFont.load_default(size=height * side)
    ImageDraw.Draw(picture).text((at[0] * side, at[1] * side), text, fill=255, font=font)
    drawn = np.asarray(picture)
    return drawn, drawn.astype(int) - gray > 60


@pytest.mark.parametrize("side", [400, 512, 1024])
@pytest.mark.parametrize("text", ["L", "R"])
def test_a_letter_at_the_margin_is_found_whole(side, text):
    drawn, strokes = with_letter(film(side), text, (0.88, 0.05))
    found = side_markers(drawn)
    assert strokes.sum() > 40
    assert (found & strokes).sum() >= 0.99 * strokes.sum()
    assert found.sum() <= 3.5 * strokes.sum()


def test_soft_anatomy_at_the_margin_is_not_lettering():
    assert not side_markers(film()).any()


def test_a_letter_in_the_middle_is_not_taken_for_a_marker():
    drawn, strokes = with_letter(film(), "L", (0.48, 0.45))
    assert strokes.sum() > 40
    assert not side_markers(drawn).any()


def test_a_collimated_border_is_not_lettering():
    gray = film()
    gray[:, :40] = 0
    gray[:30] = 0
    assert not side_markers(gray).any()


def test_below_400_pixels_nothing_is_claimed():
    assert not side_markers(with_letter(film(399), "L", (0.88, 0.05))[0]).any()


def model_space(gray: np.ndarray) -> np.ndarray:
    return (gray / 127.5 - 1).astype(np.float32)


def test_the_overlay_leaves_the_marker_as_it_is_and_colours_all_around_it():
    drawn, strokes = with_letter(film(), "L", (0.88, 0.05))
    overlay = map_overlay(model_space(drawn), np.full(drawn.shape, 0.9, np.float32), threshold=0.2, scale_max=1.0)
    gray = np.repeat(drawn[..., None], 3, axis=-1)
    np.testing.assert_array_equal(overlay[strokes], gray[strokes])
    touched = (overlay != gray).any(axis=-1)
    assert touched[~side_markers(drawn)].all()


def test_no_outline_runs_through_the_marker():
    drawn, strokes = with_letter(film(), "L", (0.88, 0.05))
    column = int(np.flatnonzero(strokes.any(axis=0))[1])
    anomaly_map = np.zeros(drawn.shape, np.float32)
    anomaly_map[:, :column] = 0.9
    overlay = map_overlay(model_space(drawn), anomaly_map, threshold=0.2, scale_max=1.0)
    assert (overlay[strokes] == drawn[strokes][:, None]).all()


def test_bright_spots_of_a_colour_image_are_no_markers():
    drawn, strokes = with_letter(film(), "L", (0.88, 0.05))
    overlay = map_overlay(np.stack([model_space(drawn)] * 3), np.full(drawn.shape, 0.9, np.float32), threshold=0.2, scale_max=1.0)
    assert (overlay[strokes] != drawn[strokes][:, None]).any(axis=-1).all()
