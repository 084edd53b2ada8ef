from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance  # type: ignore[attr-defined]

from medanomaly.errors import InputError
from medanomaly.metrics.inputs import Mask
from medanomaly.metrics.surface import hausdorff95, outline


def block(rows: slice, columns: slice, side: int = 24) -> Mask:
    mask = np.zeros((side, side), np.bool_)
    mask[rows, columns] = True
    return mask


SQUARE = block(slice(4, 12), slice(4, 12))


def test_equal_masks_are_at_distance_zero_and_a_shift_at_its_length() -> None:
    assert hausdorff95(SQUARE, SQUARE) == 0
    point, moved = block(slice(5, 6), slice(5, 6)), block(slice(8, 9), slice(9, 10))
    assert hausdorff95(point, moved) == hausdorff95(moved, point) == 5


def test_the_farther_direction_counts_and_one_stray_pixel_of_many_does_not() -> None:
    # All of the small square's outline lies within the large one: 3 px from its sides, the large one's corners farther.
    small = block(slice(7, 9), slice(7, 9))
    assert hausdorff95(small, SQUARE) == hausdorff95(SQUARE, small) > 3
    stray = SQUARE | block(slice(22, 23), slice(22, 23))
    assert hausdorff95(stray, SQUARE) == 0


@pytest.mark.parametrize("empty", [(True, False), (False, True), (True, True)])
def test_the_distance_to_nothing_is_undefined_and_not_zero(empty: tuple[bool, bool]) -> None:
    predicted, truth = (np.zeros_like(SQUARE) if one else SQUARE for one in empty)
    assert math.isnan(hausdorff95(predicted, truth))


def test_it_is_monais_distance_on_random_blobs() -> None:
    draws = np.random.default_rng(0)
    for _ in range(20):
        pair = []
        for _ in range(2):
            row, column, height, width = draws.integers(1, 12, 4)
            pair.append(block(slice(row, row + height), slice(column, column + width)) & (draws.random((24, 24)) > 0.1))
        ours, theirs = pair
        if ours.any() and theirs.any():
            stacked = [torch.from_numpy(one)[None, None].float() for one in pair]
            expected = float(compute_hausdorff_distance(*stacked, include_background=True, percentile=95))
            assert hausdorff95(ours, theirs) == pytest.approx(expected, abs=1e-4)


def test_a_pixel_at_the_images_border_is_on_the_outline() -> None:
    whole = np.ones((4, 5), np.bool_)
    assert int(outline(whole).sum()) == 4 * 5 - 2 * 3


def test_masks_of_another_size_or_type_are_refused() -> None:
    with pytest.raises(InputError, match="E_MASK_SIZE"):
        hausdorff95(SQUARE, SQUARE[:1])
    with pytest.raises(InputError, match="E_DTYPE"):
        hausdorff95(SQUARE.astype(np.uint8), SQUARE)  # type: ignore[arg-type]
