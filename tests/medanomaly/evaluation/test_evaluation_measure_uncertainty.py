from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_builders import QUICK, SIDE, Whiteness, bright_samples, predictions
from torch import Tensor

from medanomaly.errors import ConfigError
from medanomaly.evaluation.measure import AT, Measured
from medanomaly.evaluation.measure_uncertainty import measure_uncertainty
from medanomaly.evaluation.operating_points import choose_operating_points
from medanomaly.evaluation.predict import Prediction, predict
from medanomaly.evaluation.study import study
from medanomaly.scoring.operating_point import DICE, HEALTHY_FPR, OperatingPoint
from medanomaly.types import AnomalyResult, FloatArray, Geometry, Sample, WalkObserver

POINTS = choose_operating_points(predictions(8, name="v"), healthy="healthy")
BY_IMAGE = "rank correlation of deviation and 1 - Dice"
BY_PIXEL = "pixel AUROC of deviation for errors"
OF_MAP = "pixel AUROC of the map itself for errors"


def missed(index: int) -> int:
    """Lesion pixels of 16 that image ``index`` misses: more in later images."""
    return index % 12


def wrong_in_part(spread: Callable[[FloatArray, int], FloatArray], count: int = 12) -> list[Prediction]:
    """Maps that are perfect but for some missed lesion pixels, with ``spread(truth & ~flagged, index)`` as deviation."""
    made = []
    for index, one in enumerate(predictions(count)):
        truth = one.mask if one.mask is not None else np.zeros((SIDE, SIDE), np.bool_)
        found = truth.copy()
        found[tuple(np.argwhere(truth)[: missed(index)].T)] = False
        errors = (truth & ~found).astype(np.float32)
        made.append(replace(one, anomaly_map=found.astype(np.float32), map_std=spread(errors, index)))
    return made


def rows(found: list[Prediction], points: tuple[OperatingPoint, ...] = POINTS) -> dict[str, Measured]:
    return {row.name.split(" @ ")[0]: row for row in measure_uncertainty(found, points, healthy="healthy", config=QUICK)}


def test_a_deviation_that_lies_where_the_errors_are_predicts_them_and_the_worst_images() -> None:
    found = rows(wrong_in_part(lambda errors, index: errors))
    assert list(found) == [BY_IMAGE, BY_PIXEL, OF_MAP]
    assert found[BY_IMAGE].interval.value == pytest.approx(1)
    assert found[BY_PIXEL].interval.value == 1
    # Missed pixels are those where the map is low: it ranks them last.
    assert found[OF_MAP].interval.value < 0.5
    assert {row.group for row in found.values()} == {"uncertainty"}


def test_a_deviation_that_lies_elsewhere_misleads() -> None:
    found = rows(wrong_in_part(lambda errors, index: 1 - errors))
    assert found[BY_IMAGE].interval.value == pytest.approx(-1)
    assert found[BY_PIXEL].interval.value == 0


def test_a_deviation_that_is_the_same_everywhere_says_nothing() -> None:
    found = rows(wrong_in_part(lambda errors, index: np.ones_like(errors)))
    assert np.isnan(found[BY_IMAGE].interval.value)
    assert found[BY_PIXEL].interval.value == 0.5


def test_a_false_alarm_is_an_error_too_and_healthy_images_count() -> None:
    found = wrong_in_part(lambda errors, index: errors)
    flagged = np.zeros((SIDE, SIDE), np.float32)
    flagged[0, :4] = 1
    # Alarms on a healthy image, of which the deviation knows nothing.
    found[0] = replace(found[0], anomaly_map=flagged)
    value = rows(found)[BY_PIXEL].interval.value
    num_missed = sum(missed(index) for index in range(1, 12, 2))
    # Missed pixels rank above all others, the four alarms tie with them.
    assert value == pytest.approx((num_missed + 4 / 2) / (num_missed + 4))


def test_the_rows_name_the_threshold_the_share_of_errors_and_the_images() -> None:
    found = measure_uncertainty(wrong_in_part(lambda errors, index: errors), POINTS, healthy="healthy", config=QUICK)
    assert all(row.name.endswith(f"@ {AT[DICE]}") for row in found)
    share = sum(missed(index) for index in range(1, 12, 2)) / (12 * SIDE**2)
    assert f"{share:.4f} of the pixels are wrong" in found[1].note
    assert [row.interval.num_images for row in found] == [6, 12, 12]
    healthy_only = tuple(point for point in POINTS if point.criterion == HEALTHY_FPR)
    other = measure_uncertainty(wrong_in_part(lambda errors, index: errors), healthy_only, healthy="healthy", config=QUICK)
    assert all(row.name.endswith(f"@ {AT[HEALTHY_FPR]}") for row in other)


def test_there_is_nothing_to_measure_without_a_deviation_a_threshold_or_a_lesion() -> None:
    with_spread = wrong_in_part(lambda errors, index: errors)
    assert rows([replace(one, map_std=None) for one in with_spread]) == {}
    assert rows(with_spread, ()) == {}
    assert rows([one for one in with_spread if one.label == "healthy"]) == {}


def test_a_threshold_chosen_on_a_test_image_is_refused() -> None:
    found = wrong_in_part(lambda errors, index: errors)
    with pytest.raises(ConfigError, match="E_TEST_THRESHOLD"):
        rows(found, choose_operating_points(found, healthy="healthy"))


class Unsure(Whiteness):
    """A method that is unsure of the right half, less from image to image of a batch."""

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        spread = torch.zeros_like(x)
        for index, one in enumerate(spread):
            one[..., x.shape[3] // 2 :] = 0.5 / (index + 1)
        return replace(super().localize(x, observer), map_std=spread)


def test_a_deviation_comes_back_at_the_size_of_the_image() -> None:
    wide = Geometry(native_size=(SIDE, 2 * SIDE), pad_before=(SIDE // 2, 0), model_size=SIDE)
    sample = Sample(id="w", patient_id="w", x=torch.eye(SIDE)[None], label=None, mask=None, geometry=wide)
    found, second = predict(Unsure(), [sample, replace(sample, id="second")])
    assert found.map_std is not None
    assert second.map_std is not None
    np.testing.assert_allclose(second.map_std, found.map_std / 2)
    assert found.map_std.shape == found.anomaly_map.shape == (SIDE, 2 * SIDE)
    assert found.map_std[:, : SIDE - 2].max() == 0
    np.testing.assert_allclose(found.map_std[:, SIDE + 2 :], 0.5)
    (plain,) = predict(Whiteness(), [sample])
    assert plain.map_std is None


def test_a_study_holds_the_rows_of_a_method_that_is_unsure_and_none_of_one_that_is_not() -> None:
    test, validation = bright_samples(8, "t"), bright_samples(8, "v")
    groups = [
        {row.group for row in study("m", method, test=test, validation=validation, healthy="healthy", config=QUICK).rows}
        for method in (Unsure(), Whiteness())
    ]
    assert groups[0] - groups[1] == {"uncertainty"}
