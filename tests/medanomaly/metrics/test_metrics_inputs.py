from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.metrics.image import image_auroc
from medanomaly.metrics.pixel import (
    aupro,
    best_dice_threshold,
    dice,
    dice_per_image,
    iou,
    pixel_auroc,
    pixel_average_precision,
    prevalence,
)
from medanomaly.metrics.region import froc, lesion_recall

MAP, MASK = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4), np.eye(4, dtype=bool)
OF_MAPS: list[Callable[[Any, Any], Any]] = [
    pixel_auroc,
    pixel_average_precision,
    aupro,
    best_dice_threshold,
    froc,
    lambda maps, masks: dice_per_image(maps, masks, 0.5),
    lambda maps, masks: lesion_recall(maps, masks, 0.5),
]


def with_value(value: float) -> np.ndarray:
    broken = MAP.copy()
    broken[1, 2] = value
    return broken


@pytest.mark.parametrize("metric", OF_MAPS)
@pytest.mark.parametrize(
    ("maps", "masks", "code"),
    [
        ([with_value(np.nan)], [MASK], "E_NONFINITE"),
        ([with_value(np.inf)], [MASK], "E_NONFINITE"),
        ([MAP.astype(np.float16)], [MASK], "E_DTYPE"),
        ([(MAP * 255).astype(np.uint8)], [MASK], "E_DTYPE"),
        ([MAP], [MASK.astype(np.uint8) * 255], "E_DTYPE"),
        ([MAP], [MASK.astype(np.float32)], "E_DTYPE"),
        ([MAP], [MASK[:, :3]], "E_MASK_SIZE"),
        ([MAP], [MASK[:1]], "E_MASK_SIZE"),
        ([MAP[None]], [MASK[None]], "E_SHAPE"),
        ([MAP], [None], "E_NO_MASK"),
        ([MAP, MAP], [MASK], "E_COUNT"),
    ],
)
def test_what_would_give_a_wrong_number_is_refused_by_name(metric: Callable[..., Any], maps: Any, masks: Any, code: str) -> None:
    with pytest.raises(InputError) as caught:
        metric(maps, masks)
    assert caught.value.code == code


@pytest.mark.parametrize("overlap", [dice, iou])
@pytest.mark.parametrize("truth", [MASK.astype(int), MASK[:2], MASK[0], None])
def test_overlap_refuses_non_boolean_and_broadcastable_masks(overlap: Callable[..., float], truth: Any) -> None:
    with pytest.raises(InputError):
        overlap(MASK, truth)


def test_a_missing_mask_is_not_an_empty_one() -> None:
    with pytest.raises(InputError, match="not annotated"):
        prevalence([MASK, None])  # type: ignore[list-item]
    assert prevalence([MASK, np.zeros((4, 4), bool)]) == 4 / 32


def test_image_scores_in_half_precision_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        image_auroc(np.array([0.1, 0.2], np.float16), np.array([False, True]))
    assert caught.value.code == "E_DTYPE"
