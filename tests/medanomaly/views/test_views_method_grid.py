from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import ConfigError, InputError
from medanomaly.views.canvas import PREDICTED, REFERENCE
from medanomaly.views.method_grid import GridCase, GridMethod, method_grid
from medanomaly.views.overlay import map_colours

CELL = 64


def case(*, reference: bool = True, channels: int = 1) -> GridCase:
    truth = np.zeros((16, 16), np.bool_)
    truth[4:8, 4:8] = True
    pixels = np.zeros((channels, 16, 16), np.float32)
    return GridCase(caption="case 1\ndiseased", pixels=pixels, reference=truth if reference else None)


def method(*, threshold: float | None = 0.5, scale_max: float = 1.0, height: float = 1.0) -> GridMethod:
    found = np.full((16, 16), 0.25, np.float32)
    found[10:14, 10:14] = height
    return GridMethod(name="method", maps=(found,), threshold=threshold, scale_max=scale_max)


def page(*methods: GridMethod, cases: tuple[GridCase, ...] | None = None) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(method_grid(cases or (case(),), methods, title="Title", cell_px=CELL))))


def cells(drawn: np.ndarray, count: int) -> list[np.ndarray]:
    """The last row's cells, from left to right."""
    side, gap, margin = CELL, 8, 20
    right = drawn.shape[1] - margin
    lefts = [right - side - (count - 1 - index) * (side + gap) for index in range(count)]
    return [drawn[-margin - side : -margin, left : left + side] for left in lefts]


def has(cell: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (cell == np.array(colour, np.uint8)).all(axis=-1)


def test_columns_are_image_reference_and_one_map_a_method_on_its_own_scale() -> None:
    image, reference, one, other = cells(page(method(), method(scale_max=2.0)), 4)
    assert not has(image, REFERENCE).any()
    inside = np.zeros((CELL, CELL), np.bool_)
    inside[14:34, 14:34] = True
    assert has(reference, REFERENCE).any()
    assert not has(reference, REFERENCE)[~inside].any()
    for cell, scale in ((one, 1.0), (other, 2.0)):
        colour = map_colours(np.array([[0.25]], np.float32), scale_max=scale)[0, 0]
        assert (cell[0, 0] == colour).all()
    assert not (one[0, 0] == other[0, 0]).all()


def test_the_contour_is_that_of_the_methods_own_threshold() -> None:
    flagged, nothing, without = cells(page(method(), method(threshold=1.0), method(threshold=None)), 5)[2:]
    assert has(flagged, PREDICTED)[38:58, 38:58].any()
    assert not has(flagged, PREDICTED)[:36, :36].any()
    assert not has(nothing, PREDICTED).any()
    assert not has(without, PREDICTED).any()


def test_a_case_without_a_reference_says_so_and_colour_is_shown_in_colour() -> None:
    unknown = cells(page(method(), cases=(case(reference=False),)), 3)[1]
    assert not has(unknown, REFERENCE).any()
    assert unknown.max() > 60  # words
    red = case(channels=3)
    red.pixels[0] = 1
    image, reference, _ = cells(page(method(), cases=(red,)), 3)
    assert image[0, 0].tolist() == [255, 128, 128]
    assert len(set(reference[0, 0].tolist())) == 1


def test_a_grid_that_cannot_be_is_refused() -> None:
    for cases, methods in (((), (method(),)), ((case(),), ()), ((case(), case()), (method(),))):
        with pytest.raises(InputError, match="a map of each under every method"):
            method_grid(cases, methods, title="")
    wrong = GridMethod(name="m", maps=(np.zeros((8, 8), np.float32),), threshold=None, scale_max=1.0)
    with pytest.raises(InputError, match="E_GEOMETRY"):
        method_grid((case(),), (wrong,), title="")
    with pytest.raises(ConfigError, match="scale_max"):
        page(method(scale_max=0.0, threshold=None))
