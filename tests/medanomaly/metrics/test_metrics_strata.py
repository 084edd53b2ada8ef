from __future__ import annotations

import math

import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.metrics.strata import dice_by_lesion_size, lesion_areas


def test_terciles_split_the_images_with_a_lesion_evenly() -> None:
    areas = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], float)
    dice = np.where(areas > 6, 0.9, np.where(areas > 3, 0.6, 0.3))
    dice[0] = np.nan
    strata = dice_by_lesion_size(dice, areas)
    assert strata.num_images == (3, 3, 3)
    assert strata.mean_dice == pytest.approx((0.3, 0.6, 0.9))
    assert strata.num_without_lesion == 1
    assert 3 <= strata.edges[0] < 4 <= 6 <= strata.edges[1] < 7


def test_a_large_lesion_mean_hides_what_the_strata_show() -> None:
    dice, areas = np.array([0.0, 0.9, 0.9]), np.array([1.0, 50.0, 100.0])
    assert dice_by_lesion_size(dice, areas).mean_dice[0] == 0.0


def test_edges_of_another_set_are_kept_and_an_empty_stratum_is_undefined() -> None:
    strata = dice_by_lesion_size(np.array([0.5, 0.7]), np.array([10.0, 11.0]), edges=(10.0, 20.0))
    assert strata.edges == (10.0, 20.0)
    assert strata.num_images == (1, 1, 0)
    assert strata.mean_dice[:2] == (0.5, 0.7)
    assert math.isnan(strata.mean_dice[2])


def test_a_set_without_lesions_has_no_strata() -> None:
    strata = dice_by_lesion_size(np.array([np.nan, 0.0]), np.zeros(2))
    assert strata.num_images == (0, 0, 0)
    assert all(math.isnan(value) for value in (*strata.mean_dice, *strata.edges))


def test_an_undefined_dice_on_a_lesion_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(InputError, match="undefined"):
        dice_by_lesion_size(np.array([np.nan]), np.array([4.0]))


def test_area_is_in_mm2_where_the_spacing_is_known() -> None:
    mask = np.zeros((4, 4), bool)
    mask[:2, :3] = True
    np.testing.assert_array_equal(lesion_areas([mask, ~mask]), [6, 10])
    np.testing.assert_allclose(lesion_areas([mask, ~mask], [(0.5, 2.0), (2.0, 2.0)]), [6, 40])
