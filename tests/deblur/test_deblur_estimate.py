from __future__ import annotations

import functools
import math

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from deblur.estimate import (
    ALIGNED_LOG_RATIO,
    LEAST_MASS,
    MOTION_LOG_RATIO,
    KernelEstimator,
    MotionEstimate,
    coarse_grid,
    estimate_motion,
    fine_grid,
    kernel_deficit,
    least_ratio,
    turned,
)
from deblur.kernels import gaussian, identity, linear_motion
from deblur.rivals import disk, square
from medanomaly.datasets.phantom import draw_phantom
from medanomaly.errors import ConfigError, InputError
from medanomaly.rng import generator


@functools.cache
def film(patient: int = 0) -> Tensor:
    """(120, 120) in [0, 1], a chest phantom with its film noise."""
    return torch.from_numpy(draw_phantom(3, patient, 0, diseased=False, image_size=120).pixels / 255.0)


def observed(scene: Tensor, kernel: Tensor, noise: float = 0.5) -> Tensor:
    """Blurred where the blur sees everything, noise in levels, rounded to 8 bits."""
    y = torch.nn.functional.conv2d(scene[None, None], kernel.flip(0, 1)[None, None])[0, 0]
    y = 255 * y + noise * torch.randn(y.shape, dtype=torch.float64, generator=generator(0, "deblur-observed"))
    return y.round().clamp(0, 255) / 255


@functools.cache
def moved(length: float = 7.0, angle: float = 40.0, patient: int = 0) -> Tensor:
    return observed(film(patient), linear_motion(length, angle))


@functools.cache
def found(length: float = 7.0, angle: float = 40.0, patient: int = 0) -> MotionEstimate:
    return estimate_motion(moved(length, angle, patient), max_length_px=14)


@pytest.mark.parametrize(("length", "angle", "patient"), [(7.0, 40.0, 0), (4.0, 95.0, 1), (12.0, 178.0, 2)])
def test_the_motion_of_a_film_cut_from_a_larger_one_is_found(length: float, angle: float, patient: int) -> None:
    estimate = found(length, angle, patient)
    assert estimate.is_motion
    assert estimate.reason == ""
    assert abs(estimate.length_px - length) <= 0.75
    assert abs(turned(estimate.angle_deg, angle)) <= 4
    assert 0 <= estimate.angle_deg < 180
    assert estimate.confidence > 0.9
    torch.testing.assert_close(estimate.kernel(), linear_motion(estimate.length_px, estimate.angle_deg))


def test_the_ranges_hold_the_estimate_and_are_narrow_where_all_is_clear() -> None:
    estimate = found()
    assert estimate.length_range_px[0] <= estimate.length_px <= estimate.length_range_px[1] <= estimate.length_px + 1
    assert estimate.angle_range_deg[0] <= estimate.angle_deg <= estimate.angle_range_deg[1] <= estimate.angle_deg + 5


def test_noise_widens_the_ranges_and_lowers_ratio_and_confidence() -> None:
    noisy = estimate_motion(observed(film(), linear_motion(7, 40), noise=6), max_length_px=14)
    clear = found()
    assert noisy.log_likelihood_ratio < clear.log_likelihood_ratio / 2
    # The lobes have drowned; what is left is that no film is this soft in one slanted direction.
    assert noisy.log_likelihood_ratio > MOTION_LOG_RATIO
    assert noisy.confidence < clear.confidence
    width = noisy.length_range_px[1] - noisy.length_range_px[0]
    assert width > clear.length_range_px[1] - clear.length_range_px[0]


@pytest.mark.parametrize(
    "blur",
    [identity(), gaussian(1.2), gaussian((1.3, 0.9))],
    ids=["sharp", "soft", "softer in rows"],
)
def test_a_film_without_motion_is_not_claimed_however_soft(blur: Tensor) -> None:
    estimate = estimate_motion(observed(film(1), blur), max_length_px=14)
    assert not estimate.is_motion
    assert estimate.reason
    assert estimate.confidence < 0.5
    torch.testing.assert_close(estimate.kernel(), identity())


@pytest.mark.parametrize("blur", [disk(2.5), square(5)], ids=["disk", "square"])
def test_a_disk_or_a_square_explains_its_film_far_better_than_any_motion(blur: Tensor) -> None:
    assert estimate_motion(observed(film(1), blur), max_length_px=14).log_likelihood_ratio < -30


def test_an_enlarged_film_is_not_claimed() -> None:
    larger = torch.from_numpy(ndimage.zoom(film(2).numpy(), 1.5, order=3)).clamp(0, 1)
    assert not estimate_motion(observed(larger[:130, :140], identity()), max_length_px=14).is_motion


def test_where_noise_hides_the_motion_none_is_claimed() -> None:
    estimate = estimate_motion(observed(film(), linear_motion(5, 40), noise=40), max_length_px=14)
    assert not estimate.is_motion
    assert "ratio" in estimate.reason


def test_a_motion_too_short_to_tell_from_softness_is_not_claimed() -> None:
    estimate = estimate_motion(moved(2.5, 45.0), max_length_px=8)
    assert estimate.log_likelihood_ratio > MOTION_LOG_RATIO
    assert not estimate.is_motion
    assert "softness" in estimate.reason


def test_a_motion_longer_than_those_looked_for_is_not_claimed_at_the_end_of_the_search() -> None:
    estimate = estimate_motion(moved(9.0, 178.0, 2), max_length_px=8)
    assert estimate.log_likelihood_ratio > MOTION_LOG_RATIO
    assert not estimate.is_motion
    assert "8 px looked for" in estimate.reason


def test_turning_the_picture_turns_the_motion() -> None:
    # rot90 turns counter-clockwise as seen.
    turned_picture = estimate_motion(moved().rot90(), max_length_px=14)
    assert abs(turned(turned_picture.angle_deg, found().angle_deg + 90)) <= 2
    assert abs(turned_picture.length_px - found().length_px) <= 0.5


def test_a_channel_axis_changes_nothing_and_equal_pictures_give_equal_estimates() -> None:
    again = estimate_motion(moved()[None], max_length_px=14)
    # Sums in float32 depend in their last digits on where in memory a picture lies.
    assert again.log_likelihood_ratio == pytest.approx(found().log_likelihood_ratio, rel=1e-4)
    assert (again.length_px, again.angle_deg, again.is_motion) == (found().length_px, found().angle_deg, found().is_motion)


def test_another_estimator_fits_the_hook() -> None:
    hook: KernelEstimator = estimate_motion
    assert callable(hook)


def test_the_noise_is_estimated_with_its_rounding_or_taken_as_given() -> None:
    y = observed(film(), linear_motion(7, 40), noise=4)
    assert estimate_motion(y, max_length_px=8).noise_sd == pytest.approx(math.sqrt(16 + 1 / 12) / 255, rel=0.1)
    told = estimate_motion(y, noise_sd=3 / 255, max_length_px=8)
    assert told.noise_sd == pytest.approx(math.sqrt(9 + 1 / 12) / 255)


def test_lengths_beyond_a_third_of_a_small_picture_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def spy(longest: int) -> tuple[tuple[float, float], ...]:
        asked.append(longest)
        return coarse_grid(longest)

    monkeypatch.setattr("deblur.estimate.coarse_grid", spy)
    estimate_motion(moved()[:40, :44], max_length_px=20)
    estimate_motion(moved()[:70, :80], max_length_px=10)
    assert set(asked) == {13, 10}


def test_the_right_kernel_explains_the_picture_and_wrong_ones_do_not() -> None:
    y = moved()
    assert kernel_deficit(y, linear_motion(7, 40), max_length_px=14) < 2
    for wrong in (linear_motion(9, 40), linear_motion(5, 40), linear_motion(7, 55), identity()):
        assert kernel_deficit(y, wrong, max_length_px=14) > 8


def test_on_a_sharp_film_no_blur_explains_it_and_a_motion_does_not() -> None:
    y = observed(film(1), identity())
    assert abs(kernel_deficit(y, identity(), max_length_px=14)) < 2
    assert kernel_deficit(y, linear_motion(6, 20), max_length_px=14) > 50


def test_the_coarse_grid_leaves_no_gap_larger_than_a_pixel_and_a_half() -> None:
    for length in range(2, 21):
        angles = [angle for other, angle in coarse_grid(20) if other == length]
        assert angles[0] == 0
        step = 180 / len(angles)
        assert angles == pytest.approx([step * index for index in range(len(angles))])
        assert math.radians(step) * length / 2 < 1.5


def test_the_fine_grid_surrounds_its_centre_and_keeps_to_the_lengths_looked_for() -> None:
    grid = fine_grid((10.0, 1.0), 0.5, 0.25, 20)
    assert (10.0, 1.0) in grid
    assert {length for length, _ in grid} == {8.5, 9.0, 9.5, 10.0, 10.5, 11.0, 11.5}
    assert all(0 <= angle < 180 for _, angle in grid)
    assert max(length for length, _ in fine_grid((20.0, 1.0), 1.0, 0.5, 20)) == 21
    assert min(length for length, _ in fine_grid((2.0, 1.0), 1.0, 0.5, 20)) >= 1.5


@pytest.mark.parametrize(
    ("angle", "reference", "turn"), [(10, 170, 20), (170, 10, -20), (95, 5, -90), (30, 30, 0), (359, 180, -1)]
)
def test_an_angle_and_its_opposite_are_the_same_direction(angle: float, reference: float, turn: float) -> None:
    assert turned(angle, reference) == pytest.approx(turn)


@pytest.mark.parametrize(
    ("y", "code"),
    [
        (torch.rand(31, 64), "E_SHAPE"),
        (torch.rand(3, 64, 64), "E_SHAPE"),
        (torch.rand(1, 1, 64, 64), "E_SHAPE"),
        (torch.full((64, 64), 0.5), "E_RANGE"),
        (255 * torch.rand(64, 64), "E_RANGE"),
        (torch.full((64, 64), float("nan")), "E_NONFINITE"),
    ],
    ids=["small", "color", "batch", "constant", "0..255", "nan"],
)
def test_what_no_motion_can_be_estimated_from_is_refused(y: Tensor, code: str) -> None:
    with pytest.raises(InputError) as caught:
        estimate_motion(y)
    assert caught.value.code == code


def test_a_noise_and_a_longest_motion_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        estimate_motion(moved(), noise_sd=-1.0)
    assert caught.value.code == "E_RANGE"
    for length in (3, 86):
        with pytest.raises(ConfigError) as refused:
            estimate_motion(moved(), max_length_px=length)
        assert refused.value.code == "E_CONFIG"


@pytest.mark.parametrize("angle", [0.0, 11.9, 78.1, 90.0, 101.0, 168.1, 179.9])
def test_a_motion_along_rows_or_columns_needs_the_larger_ratio(angle: float) -> None:
    assert least_ratio(angle) == ALIGNED_LOG_RATIO > MOTION_LOG_RATIO
    assert least_ratio(45 + (angle - 45) * 0.7 if angle < 90 else 135 + (angle - 135) * 0.7) == MOTION_LOG_RATIO


def test_what_may_be_ribs_is_not_claimed_where_a_slanted_motion_of_that_ratio_is(monkeypatch: pytest.MonkeyPatch) -> None:
    aligned, slanted = moved(4.0, 95.0, 1), moved()
    assert estimate_motion(aligned, max_length_px=14).is_motion
    monkeypatch.setattr("deblur.estimate.ALIGNED_LOG_RATIO", 1e6)
    estimate = estimate_motion(aligned, max_length_px=14)
    assert not estimate.is_motion
    assert "for a motion along rows or columns" in estimate.reason
    assert estimate.confidence < 0.01
    assert estimate_motion(slanted, max_length_px=14).is_motion


def test_a_claim_needs_ratio_and_mass() -> None:
    for estimate in (found(), found(4.0, 95.0, 1)):
        assert estimate.log_likelihood_ratio > MOTION_LOG_RATIO
        assert estimate.confidence > LEAST_MASS
