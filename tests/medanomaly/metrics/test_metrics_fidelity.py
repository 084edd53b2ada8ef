from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medanomaly.errors import InputError
from medanomaly.metrics.fidelity import mean_absolute_error, psnr, ssim

LESION = np.zeros((32, 40), bool)
LESION[10:16, 12:20] = True
EMPTY = np.zeros((32, 40), bool)


def pair(num_channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (num_channels, 32, 40)).astype(np.float32)
    return x, np.clip(x + rng.normal(0, 0.2, x.shape), -1, 1).astype(np.float32)


@pytest.mark.parametrize("measure", [psnr, ssim, mean_absolute_error])
def test_what_happens_inside_the_lesion_does_not_count(measure: object) -> None:
    x, pseudo_healthy = pair()
    repainted = np.where(LESION, -x, pseudo_healthy)
    assert measure(x, repainted, LESION) == measure(x, pseudo_healthy, LESION)  # type: ignore[operator]
    assert measure(x, repainted, EMPTY) != measure(x, pseudo_healthy, EMPTY)  # type: ignore[operator]


@pytest.mark.parametrize("num_channels", [1, 2])
def test_with_an_empty_mask_the_values_are_those_of_scikit_image(num_channels: int) -> None:
    x, pseudo_healthy = pair(num_channels)
    wide = x.astype(np.float64), pseudo_healthy.astype(np.float64)
    assert psnr(x, pseudo_healthy, EMPTY) == pytest.approx(peak_signal_noise_ratio(*wide, data_range=2.0), abs=1e-9)
    expected = structural_similarity(*wide, data_range=2.0, channel_axis=0)
    assert ssim(x, pseudo_healthy, EMPTY) == pytest.approx(expected, abs=1e-9)


def test_identical_images_are_the_upper_ends() -> None:
    x, _ = pair()
    assert psnr(x, x, LESION) == math.inf
    assert ssim(x, x, LESION) == pytest.approx(1)
    assert mean_absolute_error(x, x, LESION) == 0


def test_psnr_and_absolute_error_of_a_constant_shift_by_hand() -> None:
    x = np.zeros((1, 32, 40), np.float32)
    assert psnr(x, x + np.float32(0.5), LESION) == pytest.approx(10 * math.log10(4 / 0.25))
    assert mean_absolute_error(x, x + np.float32(0.5), LESION) == 0.5


def test_nothing_left_to_measure_is_undefined() -> None:
    x, pseudo_healthy = pair()
    everything = np.ones((32, 40), bool)
    for measure in (psnr, ssim, mean_absolute_error):
        assert math.isnan(measure(x, pseudo_healthy, everything))
    # One healthy pixel is enough for a difference, not for a 7 x 7 window.
    everything[5, 5] = False
    assert math.isnan(ssim(x, pseudo_healthy, everything))
    assert not math.isnan(psnr(x, pseudo_healthy, everything))


def test_shapes_must_agree_and_hold_a_window() -> None:
    x, pseudo_healthy = pair()
    with pytest.raises(InputError):
        psnr(x, pseudo_healthy[:, :-1], EMPTY)
    with pytest.raises(InputError):
        psnr(x, pseudo_healthy, EMPTY[:-1])
    with pytest.raises(InputError, match="at least 7 px"):
        ssim(x[:, :6], pseudo_healthy[:, :6], EMPTY[:6])
