import io

import numpy as np
import pytest
from PIL import Image

from medanomaly.views.canvas import blank, hex_colour, pixels_of, png_bytes, put_text, text_width, wrapped


@pytest.mark.parametrize("size", [(1, 1), (49, 51), (333, 777), (1528, 1171)])
def test_a_figure_has_exactly_the_pixels_asked_for(size):
    width, height = size
    pixels = pixels_of(blank(width, height, (1, 2, 3)))
    assert pixels.shape == (height, width, 3)
    assert (pixels == (1, 2, 3)).all()


def test_text_hangs_from_the_point_it_is_put_at():
    figure = blank(200, 100, (0, 0, 0))
    put_text(figure, 50, 20, "HHH", size_px=20)
    rows, columns = np.nonzero(pixels_of(figure).max(axis=-1) > 128)
    assert 20 <= rows.min() <= 26
    assert rows.max() <= 42
    assert columns.min() == pytest.approx(52, abs=2)
    assert columns.max() - 50 == pytest.approx(text_width("HHH", size_px=20), abs=4)


def test_dollars_are_letters_and_not_mathematics():
    drawn = []
    for text in ("$a_1$", "a_1"):
        figure = blank(120, 40)
        put_text(figure, 2, 2, text, size_px=16)
        drawn.append(np.nonzero(pixels_of(figure).max(axis=-1) > 128)[1].max())
    assert drawn[0] - drawn[1] == pytest.approx(2 * text_width("$", size_px=16), abs=3)


def test_png_bytes_decode_to_the_same_pixels():
    for shape in ((5, 7), (5, 7, 3)):
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        with Image.open(io.BytesIO(png_bytes(pixels))) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
            assert image.info == {}


@pytest.mark.parametrize("text", ["one two three four five six seven", "W" * 90, "iiii WWWWWWWWWWWWWWWWWWWW i", "a\n\nb"])
def test_wrapped_text_fits_its_box_and_loses_no_letter_where_there_is_room(text):
    broken = wrapped(text, width_px=80, lines=99, size_px=13)
    assert text_width(broken, size_px=13) <= 80
    assert "".join(broken.split()) == "".join(text.split())


def test_text_too_long_for_its_box_ends_with_an_ellipsis_inside_it():
    broken = wrapped("word " * 50, width_px=80, lines=3, size_px=13)
    assert broken.count("\n") == 2
    assert broken.endswith("…")
    assert text_width(broken, size_px=13) <= 80


def test_colours_are_written_as_the_web_writes_them():
    assert hex_colour((0, 229, 255)) == "#00e5ff"
