from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.views.sample_grid import COLUMNS, GridBlock, sample_grid


def grid(*blocks: GridBlock) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sample_grid(blocks, title="toys"))))


def flat(value: float, channels: int = 1, side: int = 96) -> np.ndarray:
    return np.full((channels, side, side), value, np.float32)


def count(page: np.ndarray, value: int) -> int:
    """Pixels of exactly this gray."""
    return int((page == value).all(axis=-1).sum())


def test_every_image_is_there_whole_below_the_one_before_and_small_ones_grow_by_a_factor() -> None:
    page = grid(GridBlock(name="a", images=[flat(1.0, side=32)] * 10), GridBlock(name="b", images=[flat(-1.0, side=32)]))
    assert count(page, 255) == 10 * 96 * 96
    assert count(page, 0) == 96 * 96
    white, black = (np.nonzero((page == value).all(axis=-1))[0] for value in (255, 0))
    assert white.max() < black.min()


def test_of_many_images_the_first_are_shown_and_colours_are_kept() -> None:
    red = flat(-1.0, channels=3)
    red[0] = 1
    page = grid(*[GridBlock(name=str(name), images=[red] * 20) for name in range(10)])
    assert int((page == (255, 0, 0)).all(axis=-1).sum()) == 10 * COLUMNS * 96 * 96


def test_without_an_image_there_is_no_grid() -> None:
    with pytest.raises(InputError, match="E_EMPTY"):
        grid(GridBlock(name="a", images=[]))
