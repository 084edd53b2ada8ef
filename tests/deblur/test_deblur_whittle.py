from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from deblur.kernels import gaussian, identity, linear_motion
from deblur.whittle import Spectrum, blur_power, fit, moved_start, noise_sd_of, spectrum_of
from medanomaly.rng import generator, numpy_generator

SIDE = 32


def white(rows: int, columns: int) -> np.ndarray:
    return 0.5 + 0.02 * numpy_generator(0, "deblur-whittle").normal(size=(rows, columns))


def spectrum(image: np.ndarray, *, noise: float = 1e-4, known: bool = False) -> Spectrum:
    return spectrum_of(image, SIDE, noise_variance=noise**2, noise_known=known)


def power_law() -> tuple[Spectrum, Tensor]:
    """A spectrum that is drawn from the model itself, and its mean: amplitude 100 at u = 1, exponent -3, softness -1, noise 4."""
    there = spectrum(white(64, 64))
    up, right = -np.fft.fftfreq(SIDE, 1 / SIDE)[:, None], np.arange(SIDE // 2 + 1)[None]
    radius = np.hypot(up, right)
    keep = (abs(up) > 1) & (abs(right) > 1) & (radius >= 2.5) & (abs(up) < SIDE // 2) & (right < SIDE // 2)
    u = torch.from_numpy(4 * radius[keep] / SIDE)
    mean = 100 * u**-3 * torch.exp(-(u**2)) + 4
    draws = -torch.log(torch.rand(len(u), dtype=torch.float64, generator=generator(0, "deblur-exponential")))
    return (
        Spectrum(power=(mean * draws).float(), side=SIDE, num_segments=there.num_segments, noise_floor=0.1, noise_known=False),
        mean,
    )


def test_the_spectrum_of_white_noise_is_its_variance_whatever_the_mean_and_the_size() -> None:
    for rows, columns in ((64, 64), (50, 90)):
        found = spectrum(white(rows, columns))
        assert float(found.power.mean()) == pytest.approx((0.02 * 255) ** 2, rel=0.1)
        torch.testing.assert_close(spectrum(white(rows, columns) + 7).power, found.power)


def test_segments_overlap_by_half_and_reach_both_ends() -> None:
    assert spectrum(white(SIDE, SIDE)).num_segments == 1
    assert spectrum(white(2 * SIDE, SIDE)).num_segments == 3
    assert spectrum(white(SIDE + 1, SIDE)).num_segments == 2
    # What lies only in the last row's segment is seen.
    image = white(SIDE + 9, SIDE)
    before = spectrum(image).power
    image[-6] += 0.1 * numpy_generator(0, "deblur-row").normal(size=SIDE)
    assert not torch.allclose(spectrum(image).power, before)


def test_one_segment_weighs_a_quarter_of_four_and_more_count_no_further() -> None:
    assert spectrum(white(SIDE, SIDE)).weight == 0.25
    assert spectrum(white(2 * SIDE, 2 * SIDE)).weight == 1
    assert spectrum(white(3 * SIDE, 3 * SIDE)).weight == 1


def test_the_power_of_no_blur_is_one_and_a_shift_of_the_kernel_does_not_matter() -> None:
    torch.testing.assert_close(blur_power(identity(), SIDE), torch.ones(len(spectrum(white(64, 64)).power)))
    kernel = linear_motion(6, 30)
    moved = torch.nn.functional.pad(kernel, (3, 1, 0, 2))
    torch.testing.assert_close(blur_power(moved, SIDE), blur_power(kernel, SIDE))


def test_the_smeared_power_is_what_the_window_makes_of_a_blurred_white_image() -> None:
    kernel = linear_motion(8, 0)
    scene = torch.from_numpy(numpy_generator(0, "deblur-scene").normal(size=(400, 400)))
    seen = torch.nn.functional.conv2d(scene[None, None], kernel[None, None])[0, 0].numpy()
    measured = spectrum(seen / 255).power
    expected = blur_power(kernel, SIDE)
    ratio = measured / expected
    # 24 x 23 segments average the exponential to a few percent, also at the zeros of |K|, where it is the smear alone.
    lowest = expected < expected.quantile(0.1)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.05)
    assert float(ratio[lowest].mean()) == pytest.approx(1, abs=0.15)


def test_the_fit_finds_the_law_that_the_spectrum_was_drawn_from() -> None:
    drawn, mean = power_law()
    found = fit(drawn, torch.ones(1, len(drawn.power)), iterations=60)
    true_score = -(drawn.power / mean + torch.log(mean)).sum()
    # The fitted law explains the draws about as well as the true one, by at most some units for its 14 coefficients.
    assert -5 < float(found.score[0] - true_score) < 15
    assert noise_sd_of(drawn, found.coefficients[0]) == pytest.approx(2 / 255, rel=0.2)


def test_no_small_change_of_the_coefficients_scores_better() -> None:
    drawn, _ = power_law()
    ones = torch.ones(1, len(drawn.power))
    found = fit(drawn, ones, iterations=60)
    for index in range(found.coefficients.shape[1]):
        for change in (-0.05, 0.05):
            start = found.coefficients.clone()
            start[0, index] += change
            assert float(fit(drawn, ones, start, iterations=0).score) <= float(found.score) + 1e-3


def test_steps_that_are_refused_are_tried_again_shorter() -> None:
    drawn, _ = power_law()
    ones = torch.ones(1, len(drawn.power))
    found = fit(drawn, ones, iterations=60)
    for change in (-8.0, 8.0):
        start = found.coefficients.clone()
        start[0, 0] += change
        assert float(fit(drawn, ones, start, iterations=60).score) == pytest.approx(float(found.score), abs=0.1)


def test_a_start_moved_from_no_blur_needs_few_steps_for_a_blur() -> None:
    drawn, _ = power_law()
    ones = torch.ones(1, len(drawn.power))
    known = fit(drawn, ones, iterations=60).coefficients
    power = torch.stack([blur_power(linear_motion(length, 30), SIDE) for length in (2, 5, 9)])
    end = fit(drawn, power, moved_start(drawn, power, known, ones), iterations=60).score
    moved = fit(drawn, power, moved_start(drawn, power, known, ones), iterations=3).score
    plain = fit(drawn, power, known.expand(3, -1), iterations=3).score
    assert bool((end - moved < 0.5).all())
    assert float((end - plain).max()) > 5
    # And back: to the same blur nothing moves.
    torch.testing.assert_close(moved_start(drawn, ones, known, ones), known)


def test_many_blurs_at_once_are_fitted_as_one_by_one() -> None:
    drawn, _ = power_law()
    powers = torch.stack([blur_power(kernel, SIDE) for kernel in (identity(), linear_motion(4, 20), linear_motion(9, 100))])
    together = fit(drawn, powers, iterations=60)
    for index in range(3):
        alone = fit(drawn, powers[index : index + 1], iterations=60)
        assert float(alone.score) == pytest.approx(float(together.score[index]), abs=0.1)


def test_softness_is_no_evidence_and_a_motion_is() -> None:
    drawn, _ = power_law()
    sharp = fit(drawn, torch.ones(1, len(drawn.power)), iterations=60)
    # A Gaussian of s px adds -4 pi² s² |f|², a multiple of u²: less softness makes up for it.
    soft = fit(drawn, blur_power(gaussian(0.5), SIDE)[None], iterations=60)
    moved = fit(drawn, blur_power(linear_motion(7, 30), SIDE)[None], iterations=60)
    assert abs(float(soft.score - sharp.score)) < 2
    assert float(moved.score - sharp.score) < -20


def test_a_known_noise_is_not_fitted() -> None:
    image = white(64, 64)
    known = spectrum(image, noise=0.01, known=True)
    found = fit(known, torch.ones(1, len(known.power)), iterations=30)
    assert noise_sd_of(known, found.coefficients[0]) == pytest.approx(0.01)
    free = spectrum(image, noise=0.01)
    assert noise_sd_of(free, fit(free, torch.ones(1, len(free.power)), iterations=30).coefficients[0]) > 0.01


@pytest.mark.parametrize("known", [False, True])
def test_the_likelihood_of_a_blur_is_whittles(known: bool) -> None:
    drawn = replace(power_law()[0], noise_known=known)
    theta = torch.zeros(1, 15)
    theta[0, 0], theta[0, 1], theta[0, 2], theta[0, -1] = math.log(100), -3.0, -0.5, math.log(3.9)
    up, right = -np.fft.fftfreq(SIDE, 1 / SIDE)[:, None], np.arange(SIDE // 2 + 1)[None]
    radius = np.hypot(up, right)
    keep = (abs(up) > 1) & (abs(right) > 1) & (radius >= 2.5) & (abs(up) < SIDE // 2) & (right < SIDE // 2)
    u = torch.from_numpy(4 * radius[keep] / SIDE)
    model = 100 * u**-3 * torch.exp(-0.5 * u**2) * blur_power(linear_motion(4, 20), SIDE) + 0.1 + (0 if known else 3.9)
    prior = 0.5 * (math.log(100) ** 2 + math.log(3.9) ** 2) / 30**2
    expected = float(-(drawn.power / model + torch.log(model)).sum()) - prior
    found = fit(drawn, blur_power(linear_motion(4, 20), SIDE)[None], theta, iterations=0)
    assert float(found.score) == pytest.approx(expected, abs=0.05)
