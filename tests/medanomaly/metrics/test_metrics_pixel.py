from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest
from skimage.measure import label
from sklearn.metrics import average_precision_score, roc_auc_score

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

RANKINGS = [pixel_auroc, pixel_average_precision]


def random_set(seed: int, num_images: int = 3, levels: int | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps of different sizes that are weakly informative; ``levels`` makes ties."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for _ in range(num_images):
        shape = tuple(rng.integers(3, 9, 2))
        mask = rng.random(shape) < 0.3
        mask[0, 0], mask[-1, -1] = True, False
        scores = rng.random(shape) + 0.3 * mask
        maps.append((np.floor(scores * levels) if levels else scores).astype(np.float32))
        masks.append(mask)
    return maps, masks


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])


@pytest.mark.parametrize("levels", [2, 4, None])
def test_auroc_is_the_count_of_well_ordered_pairs_with_ties_as_half(levels: int | None) -> None:
    for seed in range(60):
        maps, masks = random_set(seed, levels=levels)
        scores, truth = flat(maps), flat(masks)
        pairs = [(p > n) + 0.5 * (p == n) for p, n in product(scores[truth], scores[~truth])]
        assert abs(pixel_auroc(maps, masks) - float(np.mean(pairs))) <= 1e-12


@pytest.mark.parametrize("levels", [2, 4, None])
def test_auroc_and_average_precision_agree_with_sklearn_under_ties(levels: int | None) -> None:
    for seed in range(70):
        maps, masks = random_set(seed, levels=levels)
        scores, truth = flat(maps), flat(masks)
        assert abs(pixel_auroc(maps, masks) - roc_auc_score(truth, scores)) <= 1e-12
        assert abs(pixel_average_precision(maps, masks) - average_precision_score(truth, scores)) <= 1e-12


def test_average_precision_is_the_step_sum_written_out() -> None:
    scores = np.array([[0.9, 0.7, 0.7, 0.7, 0.2, 0.1]], np.float32)
    truth = np.array([[True, True, False, False, True, False]])
    assert pixel_average_precision([scores], [truth]) == pytest.approx((1 * 1 + 1 * 2 / 4 + 1 * 3 / 5) / 3, abs=1e-15)


@pytest.mark.parametrize("metric", [*RANKINGS, aupro])
@pytest.mark.parametrize("mask", [np.zeros((5, 5), bool), np.ones((5, 5), bool)])
def test_a_single_class_is_undefined_and_not_zero(metric: Callable[..., float], mask: np.ndarray) -> None:
    assert math.isnan(metric([np.ones((5, 5), np.float32)], [mask]))


@pytest.mark.parametrize("metric", [*RANKINGS, aupro, best_dice_threshold])
def test_no_images_at_all_is_undefined(metric: Callable[..., float]) -> None:
    assert math.isnan(metric([], []))


@pytest.mark.parametrize("metric", [*RANKINGS, aupro])
def test_a_monotone_transform_of_all_scores_changes_nothing(metric: Callable[..., float]) -> None:
    maps, masks = random_set(3)
    assert metric([m.astype(np.float64) ** 3 for m in maps], masks) == pytest.approx(metric(maps, masks), abs=1e-15)


@pytest.mark.parametrize("metric", RANKINGS)
def test_images_keep_their_own_scale_when_pooled(metric: Callable[..., float]) -> None:
    lesion, healthy = np.array([[0.0, 10.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    masks = [np.array([[False, True]]), np.array([[False, False]])]
    assert metric([lesion, healthy], masks) == 1.0
    per_image = [(m - m.min()) / (m.max() - m.min()) for m in (lesion, healthy)]
    assert metric(per_image, masks) < 1.0


def test_black_background_lifts_auroc_and_within_takes_it_out() -> None:
    maps, masks = random_set(5, num_images=4)
    padded = [np.pad(m, 20) for m in maps]
    padded_masks, body = [np.pad(m, 20) for m in masks], [np.pad(np.ones(m.shape, bool), 20) for m in masks]
    assert pixel_auroc(padded, padded_masks) > pixel_auroc(maps, masks) + 0.1
    assert pixel_auroc(padded, padded_masks, within=body) == pixel_auroc(maps, masks)
    assert pixel_average_precision(padded, padded_masks, within=body) == pixel_average_precision(maps, masks)
    assert prevalence(padded_masks, within=body) == prevalence(masks)


def test_random_scores_reach_one_half_and_the_prevalence() -> None:
    rng = np.random.default_rng(0)
    maps, masks = [rng.random((200, 200), np.float32)], [rng.random((200, 200)) < 0.1]
    assert pixel_auroc(maps, masks) == pytest.approx(0.5, abs=3 / math.sqrt(12 * 4000))
    assert pixel_average_precision(maps, masks) == pytest.approx(prevalence(masks), abs=0.01)


def test_perfect_and_inverted_scores_are_the_ends() -> None:
    mask = np.eye(6, dtype=bool)
    perfect = mask.astype(np.float32)
    assert (pixel_auroc([perfect], [mask]), pixel_auroc([-perfect], [mask])) == (1.0, 0.0)
    assert pixel_average_precision([perfect], [mask]) == 1.0
    assert (aupro([perfect], [mask]), aupro([-perfect], [mask])) == (1.0, 0.0)


def test_dice_and_iou_of_random_masks_are_those_of_python_sets() -> None:
    rng = np.random.default_rng(1)
    num_defined = 0
    for _ in range(500):
        shape = tuple(rng.integers(1, 7, 2))
        predicted, truth = rng.random(shape) < rng.random(), rng.random(shape) < rng.random()
        a, b = set(zip(*np.nonzero(predicted), strict=True)), set(zip(*np.nonzero(truth), strict=True))
        if not a | b:
            assert math.isnan(dice(predicted, truth))
            assert math.isnan(iou(predicted, truth))
            continue
        num_defined += 1
        assert dice(predicted, truth) == 2 * len(a & b) / (len(a) + len(b))
        assert iou(predicted, truth) == len(a & b) / len(a | b)
    assert num_defined > 400


@pytest.mark.parametrize("overlap", [dice, iou])
def test_overlap_with_empty_masks_follows_the_stated_convention(overlap: Callable[..., float]) -> None:
    empty, full, left = np.zeros((2, 2), bool), np.ones((2, 2), bool), np.array([[True, False], [True, False]])
    assert math.isnan(overlap(empty, empty))
    assert overlap(full, empty) == 0
    assert overlap(empty, full) == 0
    assert overlap(full, full) == 1
    assert overlap(left, ~left) == 0


def test_images_with_an_empty_mask_stay_in_the_list_of_dice_values() -> None:
    calm, alarm = np.zeros((3, 3), np.float32), np.ones((3, 3), np.float32)
    empty = np.zeros((3, 3), bool)
    values = dice_per_image([calm, alarm, alarm], [empty, empty, ~empty], 0.5)
    np.testing.assert_array_equal(values, [np.nan, 0.0, 1.0])


def test_a_pixel_at_the_threshold_is_not_called() -> None:
    np.testing.assert_array_equal(dice_per_image([np.full((2, 2), 0.5, np.float32)], [np.ones((2, 2), bool)], 0.5), [0.0])


@pytest.mark.parametrize("levels", [4, None])
def test_the_dice_threshold_is_the_best_of_all_thresholds(levels: int | None) -> None:
    for seed in range(40):
        maps, masks = random_set(seed, levels=levels)
        values = np.unique(flat(maps))
        every = [float(np.mean(dice_per_image(maps, masks, t))) for t in [values[0] - 1, *values]]
        found = float(np.mean(dice_per_image(maps, masks, best_dice_threshold(maps, masks))))
        assert found == pytest.approx(max(every), abs=1e-12)


def test_the_dice_threshold_of_large_maps_is_refined_to_a_maximum() -> None:
    rng = np.random.default_rng(2)
    mask = np.zeros((120, 150), bool)
    mask[40:60, 30:70] = True
    anomaly_map = (rng.normal(size=mask.shape) + 2.5 * mask).astype(np.float32)
    found = dice_per_image([anomaly_map], [mask], best_dice_threshold([anomaly_map], [mask], num_candidates=20))[0]
    every = [dice_per_image([anomaly_map], [mask], t)[0] for t in np.linspace(-1, 5, 3000)]
    assert found >= max(every) - 0.002


def test_the_dice_threshold_survives_a_map_that_is_mostly_zero() -> None:
    mask = np.zeros((50, 50), bool)
    mask[3, 4], mask[3, 5] = True, True
    anomaly_map = np.zeros((50, 50), np.float32)
    anomaly_map[3, 4:8] = [0.9, 0.8, 0.3, 0.2]
    threshold = best_dice_threshold([anomaly_map], [mask], num_candidates=3)
    assert 0.3 < threshold < 0.8


def test_the_dice_threshold_ignores_healthy_images_and_needs_a_lesion() -> None:
    maps, masks = random_set(7)
    healthy = np.full((5, 5), 100, np.float32)
    empty = np.zeros((5, 5), bool)
    assert best_dice_threshold([*maps, healthy], [*masks, empty]) == best_dice_threshold(maps, masks)
    assert math.isnan(best_dice_threshold([healthy], [empty]))


def test_each_image_weighs_the_same_in_the_dice_threshold_whatever_its_size() -> None:
    # Small images want 0.5; a pixel-weighted mean would follow the large one, which wants 2.5.
    small, small_mask = np.array([[0.0, 1.0]], np.float32), np.array([[False, True]])
    large_mask = np.zeros((40, 40), bool)
    large_mask[:20] = True
    large = np.where(large_mask, 3.0, 2.0).astype(np.float32)
    assert best_dice_threshold([small] * 3 + [large], [small_mask] * 3 + [large_mask]) == 0.5


def brute_aupro(maps: list[np.ndarray], masks: list[np.ndarray], max_fpr: float) -> float:
    regions = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        components = label(mask, connectivity=2)
        regions += [anomaly_map[components == which] for which in range(1, components.max() + 1)]
    normal = flat(maps)[~flat(masks)]
    curve = [(0.0, 0.0)]
    for threshold in np.unique(flat(maps))[::-1]:
        curve.append(((normal >= threshold).mean(), float(np.mean([(region >= threshold).mean() for region in regions]))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x1 > max_fpr:
            if x0 < max_fpr:
                cut = y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
                area += (max_fpr - x0) * (y0 + cut) / 2
            break
        area += (x1 - x0) * (y0 + y1) / 2
    return area / max_fpr


@pytest.mark.parametrize("levels", [3, 10, None])
@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
def test_aupro_is_the_area_under_the_curve_drawn_threshold_by_threshold(levels: int | None, max_fpr: float) -> None:
    for seed in range(15):
        maps, masks = random_set(seed, levels=levels)
        assert aupro(maps, masks, max_fpr) == pytest.approx(brute_aupro(maps, masks, max_fpr), abs=1e-12)


def test_aupro_weighs_a_small_lesion_like_a_large_one() -> None:
    mask = np.zeros((30, 30), bool)
    mask[:20, :20], mask[25, 25] = True, True
    found_large = np.where(mask, 1.0, 0.5).astype(np.float32)
    found_large[25, 25] = 0.0
    assert aupro([found_large], [mask]) == pytest.approx(0.5)
    assert pixel_auroc([found_large], [mask]) > 0.99


def test_aupro_of_random_scores_is_half_the_false_positive_limit() -> None:
    rng = np.random.default_rng(4)
    mask = np.zeros((300, 300), bool)
    mask[:150] = True
    assert aupro([rng.random(mask.shape)], [mask], 0.3) == pytest.approx(0.15, abs=0.01)
