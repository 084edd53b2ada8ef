import numpy as np
import pytest

from medanomaly.errors import InputError
from medanomaly.metrics.image import expected_calibration_error
from medanomaly.metrics.reliability import reliability


def test_bins_hold_their_images_mean_probability_and_share() -> None:
    probabilities = np.array([0.05, 0.07, 0.31, 0.39, 0.35, 1.0])
    labels = np.array([False, True, False, True, True, True])
    curve = reliability(probabilities, labels)
    assert curve.count.tolist() == [2, 3, 1]
    np.testing.assert_allclose(curve.probability, [0.06, 0.35, 1.0])
    np.testing.assert_allclose(curve.frequency, [1 / 2, 2 / 3, 1.0])


def test_the_calibration_error_is_the_mean_gap_of_the_curve() -> None:
    draws = np.random.default_rng(0)
    probabilities = draws.random(300)
    labels = draws.random(300) < probabilities**2
    curve = reliability(probabilities, labels)
    gap = float((np.abs(curve.probability - curve.frequency) * curve.count).sum() / 300)
    assert gap == pytest.approx(expected_calibration_error(probabilities, labels), abs=1e-12)


def test_intervals_are_wilsons_and_stay_open_where_all_or_none_are_diseased() -> None:
    # 10 of 10: the score interval's lower end is n / (n + z^2) (Wilson 1927).
    curve = reliability(np.full(10, 0.95), np.ones(10, np.bool_))
    assert curve.low[0] == pytest.approx(10 / (10 + 1.959964**2))
    assert curve.high[0] == pytest.approx(1)
    none = reliability(np.full(10, 0.05), np.zeros(10, np.bool_))
    assert none.low[0] == pytest.approx(0, abs=1e-12)
    assert none.high[0] == pytest.approx(1 - curve.low[0])


def test_a_mean_of_ones_stays_within_the_unit_interval() -> None:
    assert reliability(np.full(7, 1.0), np.ones(7, np.bool_)).probability.max() <= 1


@pytest.mark.parametrize(
    ("probabilities", "num_bins", "code"),
    [([], 10, "E_EMPTY"), ([1.2], 10, "E_RANGE"), ([-0.1], 10, "E_RANGE"), ([0.5], 0, "E_RANGE")],
)
def test_what_is_no_probability_is_refused(probabilities: list[float], num_bins: int, code: str) -> None:
    with pytest.raises(InputError) as caught:
        reliability(np.array(probabilities, np.float64), np.ones(len(probabilities), np.bool_), num_bins)
    assert caught.value.code == code
