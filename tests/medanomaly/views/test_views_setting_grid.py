from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.views.setting_grid import GridPanel, grid_figure

NAN = math.nan


def panel(**changes: object) -> GridPanel:
    settings: dict[str, object] = {
        "row": "a",
        "title": "gap",
        "noise_levels": (250, 400),
        "guidance_scales": (1.5, 3.0, 5.0),
        "values": ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    }
    return GridPanel(**(settings | changes))  # type: ignore[arg-type]


def picture(*panels: GridPanel) -> np.ndarray:
    with Image.open(io.BytesIO(grid_figure(panels))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of nearly this colour."""
    return int((np.abs(pixels - np.array(colour)).max(axis=2) < 12).sum())


def test_the_lowest_and_the_highest_number_have_the_ends_of_the_colours() -> None:
    pixels = picture(panel())
    # Viridis from (68, 1, 84) to (253, 231, 37).
    assert near(pixels, (68, 1, 84)) > 1000
    assert near(pixels, (253, 231, 37)) > 1000


def test_a_frame_stands_around_the_chosen_cell_and_only_there() -> None:
    assert near(picture(panel()), (213, 94, 0)) == 0
    framed = np.abs(picture(panel(marked=(1, 2))) - np.array((213, 94, 0))).max(axis=2) < 12
    rows, columns = np.nonzero(framed)
    # The last column of the upper row, for higher noise levels lie above.
    assert columns.min() > framed.shape[1] / 2
    assert rows.max() < 0.6 * framed.shape[0]


def test_a_number_that_is_not_defined_and_equal_numbers_are_drawn() -> None:
    picture(panel(values=((NAN, 0.2, 0.3), (0.4, 0.5, 0.6))))
    picture(panel(values=((NAN,) * 3,) * 2))
    picture(panel(values=((0.5,) * 3,) * 2))


def test_checkpoints_stand_below_each_other() -> None:
    one, two = picture(panel()), picture(panel(), panel(row="b"))
    assert two.shape[0] == 2 * one.shape[0]
    assert two.shape[1] == one.shape[1]


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(InputError, match="E_EMPTY"):
        grid_figure([])
