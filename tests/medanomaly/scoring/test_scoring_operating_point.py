from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from medanomaly.errors import ConfigError, InputError
from medanomaly.metrics.pixel import dice_per_image
from medanomaly.scoring.operating_point import ORACLE, OperatingPoint, otsu_threshold, refuse_if_seen

IDS = ["a", "b", "c"]


def lesion_set() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Lesions at 0.8 and above, the rest at 0.2 and below; sizes differ."""
    rng = np.random.default_rng(0)
    masks = [rng.random((6 + row, 7)) < 0.3 for row in range(3)]
    return [(0.2 * rng.random(m.shape) + 0.8 * m).astype(np.float32) for m in masks], masks


def healthy_set(num: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.random((50, 40 + row)).astype(np.float32) for row in range(num)]


def test_the_dice_threshold_separates_what_can_be_separated_with_room_on_both_sides() -> None:
    maps, masks = lesion_set()
    point = OperatingPoint.for_dice(maps, masks, IDS, "val")
    assert 0.3 < point.value < 0.7
    np.testing.assert_array_equal(dice_per_image(maps, masks, point.value), 1)
    assert (point.chosen_on, point.num_images, point.target) == ("val", 3, None)


def test_a_validation_set_without_lesions_is_told_the_way_out() -> None:
    with pytest.raises(InputError, match="for_healthy_fpr") as caught:
        OperatingPoint.for_dice(healthy_set(), [np.zeros(m.shape, bool) for m in healthy_set()], IDS, "val")
    assert caught.value.code == "E_NO_LESION"


@pytest.mark.parametrize("target_fpr", [0.0, 0.005, 0.1, 0.5])
def test_the_healthy_threshold_is_the_lowest_that_keeps_the_false_positive_rate(target_fpr: float) -> None:
    maps = healthy_set()
    pixels = np.concatenate([m.ravel() for m in maps])
    point = OperatingPoint.for_healthy_fpr(maps, IDS, "val", target_fpr)
    below = pixels[pixels < point.value].max()
    assert (pixels > point.value).mean() <= target_fpr
    assert (pixels > below).mean() > target_fpr
    assert point.target == target_fpr


def test_without_an_anomaly_the_threshold_is_never_the_minimum() -> None:
    point = OperatingPoint.for_healthy_fpr([np.array([[1, 2, 3, 4]], np.float32)], ["a"], "val")
    assert point.value == 4


def test_twenty_nine_percent_of_a_hundred_pixels_is_twenty_nine() -> None:
    point = OperatingPoint.for_healthy_fpr([np.arange(100, dtype=np.float32)[None]], ["a"], "val", 0.29)
    assert point.value == 70


def test_a_map_that_is_mostly_zero_does_not_make_everything_anomalous() -> None:
    mostly_zero = np.zeros((40, 40), np.float32)
    mostly_zero[0, :4] = 1
    point = OperatingPoint.for_healthy_fpr([mostly_zero], ["a"], "val", 0.005)
    assert (mostly_zero > point.value).mean() <= 0.005


def test_a_threshold_means_the_same_in_numpy_torch_and_double_precision() -> None:
    maps = healthy_set()
    value = OperatingPoint.for_healthy_fpr(maps, IDS, "val").value
    for anomaly_map in maps:
        num_called = int((anomaly_map > value).sum())
        assert num_called == int((torch.from_numpy(anomaly_map) > value).sum())
        assert num_called == int((anomaly_map.astype(np.float64) > value).sum())


def test_the_image_threshold_maximizes_youdens_index() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        labels = rng.random(40) < 0.2
        labels[:2] = True, False
        scores = np.round(rng.normal(size=40) + labels, 1).astype(np.float32)
        point = OperatingPoint.for_image_accuracy(scores, labels, [str(row) for row in range(40)], "val")
        called = scores > point.value
        fpr, tpr, _ = roc_curve(labels, scores)
        assert called[labels].mean() - called[~labels].mean() == pytest.approx((tpr - fpr).max())


def test_the_image_threshold_lies_midway_between_the_classes() -> None:
    scores, labels = np.array([1.0, 2.0, 4.0, 5.0], np.float32), np.array([False, False, True, True])
    assert OperatingPoint.for_image_accuracy(scores, labels, list("abcd"), "val").value == 3
    with pytest.raises(InputError, match="one label"):
        OperatingPoint.for_image_accuracy(scores, np.ones(4, bool), list("abcd"), "val")


@pytest.mark.parametrize("split", ["test", "Test", " TEST ", "test_external"])
def test_nothing_is_fitted_on_a_test_split(split: str) -> None:
    maps, masks = lesion_set()
    scores, labels = np.array([0, 1, 2], np.float32), np.array([False, True, True])
    fits = [
        lambda: OperatingPoint.for_dice(maps, masks, IDS, split),
        lambda: OperatingPoint.for_healthy_fpr(maps, IDS, split),
        lambda: OperatingPoint.for_image_accuracy(scores, labels, IDS, split),
    ]
    for fit in fits:
        with pytest.raises(ConfigError) as caught:
            fit()
        assert caught.value.code == "E_TEST_THRESHOLD"


def test_a_point_that_says_test_cannot_be_built_or_loaded_by_hand() -> None:
    content = OperatingPoint.for_healthy_fpr(healthy_set(), IDS, "val").to_dict()
    with pytest.raises(ConfigError, match="E_TEST_THRESHOLD"):
        OperatingPoint.from_dict({**content, "chosen_on": "test"})


def test_images_that_chose_the_threshold_cannot_be_tested_with_it_whatever_the_split_is_called() -> None:
    point = OperatingPoint.for_healthy_fpr(healthy_set(), IDS, "holdout")
    with pytest.raises(ConfigError, match="chosen on 2 of these 3") as caught:
        refuse_if_seen(point, ["b", "x", "c"])
    assert caught.value.code == "E_TEST_THRESHOLD"
    refuse_if_seen(point, ["x", "y"])


def test_the_oracle_is_named_as_one_and_refused_as_a_result() -> None:
    maps, masks = lesion_set()
    oracle = OperatingPoint.oracle_dice(maps, masks)
    assert oracle.criterion == ORACLE == "oracle (uses test labels)"
    assert oracle.value == OperatingPoint.for_dice(maps, masks, IDS, "val").value
    with pytest.raises(ConfigError, match="oracle"):
        refuse_if_seen(oracle, ["never seen"])


def test_ids_are_kept_as_hashes_in_no_order_and_only_once() -> None:
    first = OperatingPoint.for_healthy_fpr(healthy_set(), ["Jane", "b", "c"], "val")
    second = OperatingPoint.for_healthy_fpr(healthy_set()[::-1], ["c", "b", "Jane"], "val")
    assert first == second
    assert "Jane" not in json.dumps(first.to_dict())
    with pytest.raises(InputError, match="E_DUPLICATE_ID"):
        OperatingPoint.for_healthy_fpr(healthy_set(), ["a", "a", "b"], "val")
    with pytest.raises(InputError, match="E_COUNT"):
        OperatingPoint.for_healthy_fpr(healthy_set(), ["a"], "val")


def test_json_and_back_is_the_same_point() -> None:
    maps, masks = lesion_set()
    for point in (
        OperatingPoint.for_dice(maps, masks, IDS, "val"),
        OperatingPoint.for_healthy_fpr(maps, IDS, "val", 0.01),
        OperatingPoint.oracle_dice(maps, masks),
    ):
        assert OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict(), allow_nan=False))) == point


@pytest.mark.parametrize(
    "change",
    [{"extra": 1}, {"value": None}, {"value": "high"}, {"image_fingerprint": "abc"}, {"num_images": None}],
)
def test_a_damaged_point_is_refused(change: dict[str, Any]) -> None:
    content = OperatingPoint.for_healthy_fpr(healthy_set(), IDS, "val").to_dict()
    with pytest.raises(ConfigError, match="E_OPERATING_POINT"):
        OperatingPoint.from_dict({**content, **change})
    del content["criterion"]
    with pytest.raises(ConfigError, match="criterion"):
        OperatingPoint.from_dict(content)


def test_a_threshold_that_is_no_number_is_refused() -> None:
    content = OperatingPoint.for_healthy_fpr(healthy_set(), IDS, "val").to_dict()
    with pytest.raises(InputError, match="finite"):
        OperatingPoint.from_dict({**content, "value": math.nan})
    for target_fpr in (1.0, -0.1, math.nan):
        with pytest.raises(ConfigError):
            OperatingPoint.for_healthy_fpr(healthy_set(), IDS, "val", target_fpr)
    with pytest.raises(InputError, match="no healthy pixels"):
        OperatingPoint.for_healthy_fpr([], [], "val")


def test_otsu_separates_two_levels_and_calls_nothing_in_a_constant_map() -> None:
    anomaly_map = np.full((20, 20), 0.1, np.float32)
    anomaly_map[5:9, 5:9] = 0.9
    assert 0.1 <= otsu_threshold(anomaly_map) < 0.9
    constant = np.full((4, 4), 0.3, np.float32)
    assert not (constant > otsu_threshold(constant)).any()


def test_otsu_on_a_colour_mapped_picture_is_refused() -> None:
    with pytest.raises(InputError, match="2 axes"):
        otsu_threshold(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(InputError, match="float32"):
        otsu_threshold(np.zeros((4, 4), np.uint8))  # type: ignore[arg-type]
