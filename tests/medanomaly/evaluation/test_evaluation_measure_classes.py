"""Numbers of a classifier at a noise level: what is undefined and said to be, thresholds from other images, noise by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medanomaly.diffusion.schedule import NoiseSchedule
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.measure_classes import Named, Row, measure_classes, thresholds_on
from medanomaly.evaluation.noisy_scores import levels_at, noisy_probabilities
from medanomaly.metrics.classes import one_hot


def named(truth: Any, prefix: str = "t") -> Named:
    rows = np.asarray(truth, np.int64)
    ids = tuple(f"{prefix}{index}" for index in range(len(rows)))
    return Named(ids=ids, patient_ids=ids, truth=rows)


def find(rows: Sequence[Row], name: str, of: str = "") -> Row:
    return next(row for row in rows if (row["name"], row["class"]) == (name, of))


def test_a_classifier_that_is_always_right_has_ones_and_the_majority_is_named() -> None:
    truth = one_hot([0, 0, 1, 2] * 10, 3)
    rows = measure_classes(truth * 0.8 + 0.1, named(truth), ("a", "b", "c"), points=None, num_resamples=20)
    assert all(row["value"] == row["low"] == row["high"] == 1 for row in rows)
    assert find(rows, "accuracy")["note"] == "always saying 'a' reaches 0.500"
    # One class against the others: no accuracy of it.
    assert [row["class"] for row in rows if row["name"] == "accuracy"] == [""]
    assert [row["name"] for row in rows if row["class"] == "b"] == ["precision", "recall", "F1", "AUROC"]


def test_a_class_without_test_images_is_undefined_and_left_out_of_the_mean_which_says_so() -> None:
    truth = one_hot([0, 1] * 10, 3)
    probabilities = truth * 0.8 + 0.1
    probabilities[0] = [0.1, 0.9, 0.0]
    rows = measure_classes(probabilities, named(truth), ("a", "b", "c"), points=None, num_resamples=20)
    for metric, why in (
        ("recall", "present in none of 20 images"),
        ("AUROC", "present in none of 20 images"),
        ("precision", "never called"),
    ):
        assert np.isnan(find(rows, metric, "c")["value"])
        assert find(rows, metric, "c")["note"].startswith(f"undefined: {why}")
        assert find(rows, f"macro {metric}")["note"].startswith("mean over 2 of 3 classes, undefined for c")
    assert find(rows, "macro recall")["value"] == pytest.approx((0.9 + 1) / 2)
    assert find(rows, "recall", "a")["value"] == 0.9
    assert "few images" not in find(rows, "recall", "a")["note"]


def test_few_images_of_a_class_are_said() -> None:
    truth = one_hot([0] * 30 + [1] * 3, 2)
    rows = measure_classes(truth * 0.8 + 0.1, named(truth), ("a", "b"), points=None, num_resamples=5)
    assert "few images: 3 with, 30 without" in find(rows, "AUROC", "b")["note"]


VALIDATION = np.array([[1, 1, 0]] * 10 + [[0, 1, -1]] * 10)
LIKELY = np.array([[0.30, 0.9, 0.2]] * 10 + [[0.10, 0.8, 0.1]] * 10)


def test_a_threshold_lies_between_the_two_kinds_of_validation_images_and_none_is_made_of_one_kind() -> None:
    points = thresholds_on(LIKELY, named(VALIDATION, "v"), ("a", "b", "c"), "val")
    assert points[0] is not None
    assert points[0].value == pytest.approx(0.2)
    assert (points[0].chosen_on, points[0].num_images) == ("val", 20)
    assert points[1:] == (None, None)
    with pytest.raises(ConfigError, match="must not be chosen on"):
        thresholds_on(LIKELY, named(VALIDATION, "v"), ("a", "b", "c"), "test")


def test_each_observation_is_judged_at_its_own_threshold_and_without_one_by_its_ranking_alone() -> None:
    points = thresholds_on(LIKELY, named(VALIDATION, "v"), ("a", "b", "c"), "val")
    truth = np.array([[1, 1, -1]] * 12 + [[0, 0, -1]] * 12)
    probabilities = np.array([[0.25, 0.6, 0.5]] * 12 + [[0.15, 0.4, 0.5]] * 12)
    rows = measure_classes(probabilities, named(truth), ("a", "b", "c"), points=points, num_resamples=5)
    # At one half nothing would be called.
    assert find(rows, "recall", "a")["value"] == find(rows, "accuracy", "a")["value"] == 1
    assert np.isnan(find(rows, "recall", "b")["value"])
    assert find(rows, "recall", "b")["note"] == "undefined: no threshold, val has images of one kind only"
    assert find(rows, "AUROC", "b")["value"] == 1
    assert find(rows, "AUROC", "c")["note"].startswith("undefined: known of no image")
    assert find(rows, "macro AUROC")["value"] == 1
    assert find(rows, "macro accuracy")["value"] == 1


def test_a_threshold_chosen_on_the_measured_images_is_refused() -> None:
    points = thresholds_on(LIKELY, named(VALIDATION, "v"), ("a", "b", "c"), "val")
    with pytest.raises(ConfigError) as caught:
        measure_classes(LIKELY, named(VALIDATION, "v"), ("a", "b", "c"), points=points)
    assert caught.value.code == "E_TEST_THRESHOLD"


def test_no_image_is_an_error() -> None:
    with pytest.raises(InputError):
        measure_classes(np.zeros((0, 2)), named(np.zeros((0, 2))), ("a", "b"), points=None)


SCHEDULE = NoiseSchedule.linear(20)


def brightness(x_t: Tensor, t: int) -> Tensor:
    return torch.stack([x_t.mean(dim=(1, 2, 3)) + t / 20, torch.zeros(len(x_t))], dim=1)


def answers(images: Tensor, batch_size: int, seed: int = 0, multi_label: bool = False) -> list[Any]:
    return noisy_probabilities(
        brightness, images, (0, 10), SCHEDULE, multi_label=multi_label, seed=seed, batch_size=batch_size, device=torch.device("cpu")
    )  # fmt: skip


def test_noise_belongs_to_the_image_the_level_and_the_seed_and_the_clean_level_has_none() -> None:
    images = torch.rand((5, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    clean, noisy = answers(images, 2)
    for one, other in zip(answers(images.flip(0), 5), (clean, noisy), strict=True):
        np.testing.assert_allclose(one[::-1], other, atol=1e-7)
    np.testing.assert_allclose(clean[:, 0], torch.sigmoid(images.mean(dim=(1, 2, 3))).numpy(), atol=1e-6)
    assert not np.allclose(answers(images, 2, seed=1)[1], noisy, atol=1e-4)
    np.testing.assert_array_equal(answers(images, 2, seed=1)[0], clean)
    np.testing.assert_allclose(clean.sum(axis=1), 1)
    np.testing.assert_allclose(answers(images, 2, multi_label=True)[0][:, 1], 0.5)


def test_shares_of_the_schedule_become_levels_and_nonsense_is_refused() -> None:
    assert levels_at([0, 10, 75, 100], 1000) == [0, 100, 750, 1000]
    for percents in ([], [-1], [101], [float("nan")], [50, 50.01]):
        with pytest.raises(ConfigError):
            levels_at(percents, 1000)
