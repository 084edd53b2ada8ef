"""The picture of samples over their nearest training images, and of the bound over the levels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.views.bound_curve import bound_figure
from medanomaly.views.neighbours import neighbour_figure

WHITE_SAMPLE = np.ones((1, 8, 8), np.float32)


def opened(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.array(image.convert("L"))


def test_the_sample_is_above_its_neighbour() -> None:
    shown = opened(neighbour_figure([-WHITE_SAMPLE] * 2, [WHITE_SAMPLE * 0] * 2, [0.5, 1.0]))
    half = len(shown) // 2
    assert (shown[:half] < 5).mean() > 0.2
    assert (np.abs(shown[half:].astype(int) - 128) < 3).mean() > 0.2


def test_three_channels_are_shown_in_colour_and_pairs_must_be_complete() -> None:
    assert neighbour_figure([np.zeros((3, 8, 8), np.float32)], [np.zeros((3, 8, 8), np.float32)], [0.1])[:4] == b"\x89PNG"
    with pytest.raises(InputError, match="E_COUNT"):
        neighbour_figure([WHITE_SAMPLE], [], [0.1])
    with pytest.raises(InputError, match="E_EMPTY"):
        neighbour_figure([], [], [])


def test_a_bound_is_drawn_with_terms_that_rounding_made_negative() -> None:
    levels, terms = np.array([[2, 9], [2, 7]]), np.array([[0.1, -1e-9], [0.2, 0.0]])
    assert opened(bound_figure(levels, terms, decoder=0.5, title="a $ set", strata=[(2, 2), (3, 10)])).ndim == 2
    with pytest.raises(InputError, match="E_EMPTY"):
        bound_figure(np.zeros((0, 2), np.int64), np.zeros((0, 2)), decoder=0.1, strata=[(2, 2), (3, 10)])
