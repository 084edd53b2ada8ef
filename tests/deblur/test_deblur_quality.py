from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from deblur.kernels import linear_motion
from deblur.quality import (
    blur_effect,
    effective_noise,
    laplacian_variance,
    out_of_range_share,
    power_ratio,
    psnr,
    residual_rms_over_noise,
    residual_whiteness,
    ssim,
    tenengrad,
)
from medanomaly.errors import InputError
from medanomaly.rng import generator


def white(rows: int, columns: int, key: int = 0) -> Tensor:
    return torch.randn(rows, columns, dtype=torch.float64, generator=generator(0, "deblur-quality", key))


def blurred(x: Tensor, kernel: Tensor) -> Tensor:
    flipped = kernel.flip(0, 1)[None, None]
    return torch.nn.functional.conv2d(x[None, None], flipped, padding="same")[0, 0]


def ramp(rows: int, columns: int, down: float, right: float) -> Tensor:
    return down * torch.arange(rows, dtype=torch.float64)[:, None] + right * torch.arange(columns, dtype=torch.float64)[None]


def test_psnr_is_that_of_a_known_error_and_of_scikit_image() -> None:
    x = torch.full((9, 12), 0.5)
    assert psnr(x + 0.1, x) == pytest.approx(20, abs=1e-4)
    assert psnr(x, x) == math.inf
    a, b = white(9, 12), white(9, 12, 1)
    assert psnr(a, b, data_range=2) == pytest.approx(peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=2))


def test_a_border_is_left_out_of_psnr_and_ssim() -> None:
    x = white(16, 18) / 8 + 0.5
    spoiled = x.clone()
    spoiled[:2], spoiled[-2:], spoiled[:, :2], spoiled[:, -2:] = 9, 9, 9, 9
    assert psnr(spoiled, x, border=2) == math.inf
    assert psnr(spoiled, x, border=1) < 10
    assert ssim(spoiled, x, border=2) == pytest.approx(1)
    assert ssim(spoiled, x) < 0.9


def test_the_channel_axis_may_be_there() -> None:
    x, y = white(20, 24), white(20, 24, 1)
    assert psnr(x[None], y[None]) == psnr(x, y)
    assert tenengrad(x[None]) == tenengrad(x)


def test_a_white_residual_is_within_its_null_and_a_smooth_one_is_not() -> None:
    lags = []
    for key in range(40):
        found = residual_whiteness(white(20, 30, key))
        lags.append(found.lag1 / found.lag1_sd)
    assert abs(np.mean(lags)) < 0.6  # 40 draws of mean about 0 and sd 1
    assert 0.7 < np.std(lags) < 1.4
    smooth = residual_whiteness(blurred(white(20, 30), linear_motion(5, 30)))
    assert smooth.lag1 > 10 * smooth.lag1_sd
    assert smooth.low_share > smooth.low_share_white + 0.2


def test_the_share_of_low_frequencies_of_white_noise_is_the_share_of_frequencies() -> None:
    shares = [residual_whiteness(white(20, 30, key)) for key in range(40)]
    assert np.mean([found.low_share for found in shares]) == pytest.approx(shares[0].low_share_white, abs=0.01)


def test_the_mean_of_a_residual_does_not_count_as_correlation() -> None:
    assert residual_whiteness(white(20, 30) + 100).lag1 == pytest.approx(residual_whiteness(white(20, 30)).lag1, abs=1e-6)


def test_rounding_adds_the_variance_of_a_uniform_error() -> None:
    exact = white(200, 200) * 0.05 + 0.5
    step = 1 / 255
    rounding = (exact / step).round() * step - exact
    assert residual_rms_over_noise(rounding, 0.0) == pytest.approx(1, abs=0.01)
    assert effective_noise(0.3, 0.0) == 0.3
    assert effective_noise(3.0, math.sqrt(12) * 4) == pytest.approx(5)


def test_the_residual_of_pure_noise_has_the_size_of_the_noise() -> None:
    assert residual_rms_over_noise(0.02 * white(100, 100), 0.02, level=0) == pytest.approx(1, abs=0.03)


def test_the_sharpness_of_a_ramp_is_its_squared_slope() -> None:
    assert tenengrad(ramp(8, 9, 0.3, -0.4)) == pytest.approx(0.25)
    assert laplacian_variance(ramp(8, 9, 0.3, -0.4)) == pytest.approx(0, abs=1e-20)


def test_blur_lowers_every_sharpness() -> None:
    x = white(32, 40)
    y = blurred(x, linear_motion(5, 20))
    assert tenengrad(y) < tenengrad(x) / 2
    assert laplacian_variance(y) < laplacian_variance(x) / 2
    assert blur_effect(y) > blur_effect(x)


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 150.0])
def test_motion_lowers_the_power_along_it_and_raises_the_ratio_across(angle: float) -> None:
    y = blurred(white(64, 80), linear_motion(6, angle))
    assert power_ratio(y, angle) < 0.3
    assert power_ratio(y, angle + 90) == pytest.approx(1 / power_ratio(y, angle))
    assert power_ratio(white(64, 80), angle) == pytest.approx(1, abs=0.2)


def test_a_constant_image_has_no_blur_effect_and_no_power_ratio() -> None:
    assert math.isnan(blur_effect(torch.full((20, 20), 0.5)))
    assert math.isnan(power_ratio(torch.full((20, 20), 0.5), 0))


def test_rounding_is_forgiven_outside_of_the_range_and_more_is_counted() -> None:
    x = torch.tensor([[-0.4 / 255, 1 + 0.4 / 255, 0.5, 0.5], [-0.6 / 255, 1 + 0.6 / 255, 0.0, 1.0]], dtype=torch.float64)
    assert out_of_range_share(x) == 0.25


@pytest.mark.parametrize(
    ("x", "code"),
    [
        (torch.zeros(2, 8, 8), "E_SHAPE"),
        (torch.zeros(1, 1, 8, 8), "E_SHAPE"),
        (torch.zeros(8), "E_SHAPE"),
        (torch.full((8, 8), float("nan")), "E_NONFINITE"),
        (torch.full((8, 8), float("inf")), "E_NONFINITE"),
        (torch.zeros(2, 8), "E_SHAPE"),
    ],
)
def test_what_is_no_image_is_refused(x: Tensor, code: str) -> None:
    with pytest.raises(InputError) as caught:
        tenengrad(x)
    assert caught.value.code == code


def test_images_of_different_sizes_and_borders_that_leave_nothing_are_refused() -> None:
    x = torch.zeros(9, 9)
    for call in (
        lambda: psnr(x, torch.zeros(9, 8)),
        lambda: psnr(x, x, border=5),
        lambda: psnr(x, x, border=-1),
        lambda: ssim(x, x, border=2),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.code == "E_SHAPE"


@pytest.mark.parametrize(("noise_sd", "level"), [(-1.0, 0.1), (math.nan, 0.1), (1.0, -0.1), (0.0, 0.0)])
def test_a_noise_that_cannot_be_is_refused(noise_sd: float, level: float) -> None:
    with pytest.raises(InputError) as caught:
        effective_noise(noise_sd, level)
    assert caught.value.code == "E_RANGE"


def test_a_residual_without_variation_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        residual_whiteness(torch.full((9, 9), 0.5))
    assert caught.value.code == "E_RANGE"
