from __future__ import annotations

import numpy as np
import pytest

from medanomaly.errors import ConfigError, InputError
from medanomaly.scoring.components import area_in_px, remove_small


def three_components() -> np.ndarray:
    """1 px, 3 px (touching at corners) and 6 px."""
    mask = np.zeros((10, 10), bool)
    mask[0, 0] = True
    mask[[3, 4, 5], [3, 4, 5]] = True
    mask[8:, 0:3] = True
    return mask


@pytest.mark.parametrize(("min_px", "num_left"), [(0, 10), (1, 10), (2, 9), (3, 9), (4, 6), (6, 6), (7, 0)])
def test_components_below_the_size_go_and_those_at_it_stay(min_px: int, num_left: int) -> None:
    assert remove_small(three_components(), min_px).sum() == num_left


def test_the_mask_given_is_not_changed() -> None:
    mask = three_components()
    kept = remove_small(mask, 100)
    assert mask.sum() == 10
    assert kept.dtype == np.bool_


@pytest.mark.parametrize("mask", [np.zeros((4, 5), bool), np.zeros((0, 3), bool)])
def test_an_empty_mask_stays_empty(mask: np.ndarray) -> None:
    assert remove_small(mask, 3).shape == mask.shape
    assert not remove_small(mask, 0).any()


def test_a_full_mask_is_one_component() -> None:
    assert remove_small(np.ones((4, 5), bool), 20).all()
    assert not remove_small(np.ones((4, 5), bool), 21).any()


@pytest.mark.parametrize(
    ("area_mm2", "spacing_mm", "num_px"),
    [(10.0, (1.0, 1.0), 10), (10.0, (2.0, 1.5), 4), (2.7, (0.3, 0.3), 30), (0.0, (0.5, 0.5), 0), (0.1, (1.0, 1.0), 1)],
)
def test_an_area_is_covered_by_whole_pixels(area_mm2: float, spacing_mm: tuple[float, float], num_px: int) -> None:
    assert area_in_px(area_mm2, spacing_mm) == num_px


def test_what_is_no_area_spacing_or_mask_is_refused() -> None:
    with pytest.raises(ConfigError):
        area_in_px(-1, (1, 1))
    with pytest.raises(InputError, match="in px instead"):
        area_in_px(1, (0, 1))
    with pytest.raises(InputError):
        remove_small(np.ones((2, 2), np.uint8), 1)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        remove_small(np.ones((2, 2, 2), bool), 1)
    with pytest.raises(ConfigError):
        remove_small(np.ones((2, 2), bool), -1)
