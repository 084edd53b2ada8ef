from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data, restoration
from torch import Tensor

from deblur.blur import MaskedBlur, blur_periodic
from deblur.canvas import Canvas
from deblur.classical import default_weight, richardson_lucy, total_variation, wiener
from deblur.kernels import identity, linear_motion
from deblur.spectral_prior import SpectralPrior, expected_residual, fit_spectral_prior, roughness
from medanomaly.errors import ConfigError, InputError
from medanomaly.rng import generator

NOISE_SD = 0.5 / 255
MOTION = linear_motion(10, 30)


def psnr(x: Tensor, reference: Tensor) -> float:
    return -10 * math.log10(float((x - reference).square().mean()))


def noise(*shape: int, key: object = 0) -> Tensor:
    return torch.randn(shape, generator=generator(0, "classical test", key), dtype=torch.float64)


def cut_from_a_scene(kernel: Tensor, noise_sd: float = NOISE_SD, side: int = 96) -> tuple[Tensor, Tensor]:
    """(blurred window, sharp window), each (1, 1, side, side): the blur saw pixels that the window does not hold."""
    scene = torch.from_numpy(data.camera()[90 : 130 + side, 180 : 220 + side] / 255.0)[None, None]
    seen = blur_periodic(scene, kernel) + noise_sd * noise(*scene.shape)
    return seen[..., 20:-20, 20:-20], scene[..., 20:-20, 20:-20]


def scene_of(prior: SpectralPrior, side: int, key: object) -> Tensor:
    """(side, side) random periodic image with that spectrum and mean .5."""
    power = 1 / prior.inverse_power((side, side)).clamp(min=1e-12)
    power[0, 0] = 0
    picture: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise(side, side, key=key)) * power.sqrt(), s=(side, side))
    return picture + 0.5


def test_total_variation_gains_at_least_five_decibels_on_a_picture_cut_from_a_scene() -> None:
    y, x = cut_from_a_scene(MOTION)
    assert psnr(total_variation(y, MOTION, NOISE_SD), x) > psnr(y, x) + 5


def test_wiener_and_richardson_lucy_gain_on_a_picture_cut_from_a_scene() -> None:
    y, x = cut_from_a_scene(MOTION)
    assert psnr(wiener(y, MOTION, NOISE_SD), x) > psnr(y, x) + 3
    assert psnr(richardson_lucy(y, MOTION, 60), x) > psnr(y, x) + 3


@pytest.mark.parametrize(
    "solver",
    [
        lambda y, boundary: total_variation(y, MOTION, NOISE_SD, boundary=boundary),
        lambda y, boundary: wiener(y, MOTION, NOISE_SD, boundary=boundary),
        lambda y, boundary: richardson_lucy(y, MOTION, 30, boundary=boundary),
    ],
)
def test_a_torus_is_the_wrong_model_of_a_picture_cut_from_a_scene(solver: Callable[[Tensor, Any], Tensor]) -> None:
    y, x = cut_from_a_scene(MOTION)
    assert psnr(solver(y, "periodic"), x) < psnr(solver(y, "unknown"), x) - 1


def test_a_torus_loses_against_doing_nothing_where_the_border_is_unknown() -> None:
    y, x = cut_from_a_scene(MOTION)
    assert psnr(total_variation(y, MOTION, NOISE_SD, boundary="periodic"), x) < psnr(y, x)


@pytest.mark.parametrize("shape", [(4, 6), (5, 1)])
def test_even_and_odd_kernels_leave_the_picture_where_it_was(shape: tuple[int, int]) -> None:
    kernel = torch.full(shape, 1 / (shape[0] * shape[1]), dtype=torch.float64)
    y, x = cut_from_a_scene(kernel)
    for restored in (total_variation(y, kernel, NOISE_SD), wiener(y, kernel, NOISE_SD), richardson_lucy(y, kernel, 30)):
        at_home = psnr(restored, x)
        assert all(psnr(restored.roll(step, axis), x) < at_home - 1 for step in (-1, 1) for axis in (-2, -1))
        assert at_home > psnr(y, x) + 2


def test_periodic_wiener_is_its_closed_form() -> None:
    x = torch.from_numpy(ndimage.gaussian_filter(noise(24, 20).numpy(), 2, mode="wrap") + 0.5)[None, None]
    y = blur_periodic(x, MOTION) + 0.01 * noise(1, 1, 24, 20, key="n")
    penalty = 0.01**2 * fit_spectral_prior(y[0, 0], MOTION, 0.01, exponent=4.0).inverse_power((24, 20))
    delta = torch.zeros(1, 1, 24, 20, dtype=torch.float64)
    delta[..., 0, 0] = 1
    transfer = torch.fft.rfft2(blur_periodic(delta, MOTION))
    expected = torch.fft.irfft2(transfer.conj() * torch.fft.rfft2(y) / (transfer.abs().square() + penalty), s=(24, 20))
    torch.testing.assert_close(wiener(y, MOTION, 0.01, exponent=4.0, boundary="periodic"), expected, atol=1e-7, rtol=0)


def test_wiener_with_an_unknown_border_is_where_the_gradient_vanishes() -> None:
    y, _ = cut_from_a_scene(MOTION, 0.05, side=20)
    canvas = Canvas.around((20, 20), MOTION)
    blur = MaskedBlur.of(MOTION, canvas.mask, canvas.place(y))
    penalty = 0.05**2 * fit_spectral_prior(y[0, 0], MOTION, 0.05, exponent=2.0).inverse_power(canvas.size)
    basis = torch.eye(math.prod(canvas.size), dtype=torch.float64).reshape(-1, 1, *canvas.size)
    dense = (blur.adjoint(blur.forward(basis)) + torch.fft.irfft2(penalty * torch.fft.rfft2(basis), s=canvas.size)).flatten(1)
    expected = torch.linalg.solve(dense, blur.adjoint(canvas.place(y)).flatten()).reshape(1, 1, *canvas.size)
    torch.testing.assert_close(wiener(y, MOTION, 0.05), canvas.crop(expected), atol=1e-4, rtol=0)


def test_total_variation_without_blur_is_scikit_images_denoising() -> None:
    x = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    x[..., 8:20, 10:26] = 0.6
    y = x + 0.1 * noise(1, 1, 32, 32)
    ours = total_variation(y, identity(), 0.1, 0.08, num_iterations=400, boundary="periodic")
    # Chambolle's objective is 1/2 ||x - y||^2 + weight TV with differences that stop at the border: compared away from it.
    theirs = restoration.denoise_tv_chambolle(y[0, 0].numpy(), weight=0.08, eps=1e-9, max_num_iter=4000)
    inside = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(ours[0, 0].numpy()[inside], theirs[inside], atol=0.01)


def test_total_variation_lowers_its_objective_to_a_minimum() -> None:
    y, _ = cut_from_a_scene(linear_motion(4, 60), 0.02, side=24)
    weight = 2e-3

    def objective(x: Tensor) -> float:
        edges = torch.stack((x.roll(-1, -2) - x, x.roll(-1, -1) - x))
        misfit = (blur_periodic(x, linear_motion(4, 60)) - y).square().sum() / 2
        return float(misfit + weight * edges.square().sum(0).sqrt().sum())

    x = total_variation(y, linear_motion(4, 60), 0.02, weight, num_iterations=800, boundary="periodic")
    steps = [1e-3 * noise(1, 1, 24, 24, key=draw) for draw in range(20)]
    assert all(objective(x + step) > objective(x) for step in steps)
    assert all(objective(x + share * (y - x)) > objective(x) for share in (-0.02, 0.02))
    assert objective(x) < objective(y)


def test_richardson_lucy_is_scikit_images_in_the_middle_of_a_picture() -> None:
    kernel = linear_motion(5, 0)
    y, _ = cut_from_a_scene(kernel, side=64)
    ours = richardson_lucy(y, kernel, 10, boundary="periodic")[0, 0].numpy()
    wrapped = np.pad(y[0, 0].numpy(), 48, mode="wrap")
    # Its start is a constant and ours is y, so after ten iterations they agree roughly.
    theirs = restoration.richardson_lucy(wrapped, kernel.numpy(), num_iter=10, clip=False)[48:-48, 48:-48]
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.995


def test_richardson_lucy_keeps_the_light_and_stays_positive() -> None:
    y, _ = cut_from_a_scene(MOTION, side=40)
    x = richardson_lucy(y - 0.02, MOTION, 5, boundary="periodic")
    assert (x > 0).all()
    # A step's result, blurred, holds as much as was seen.
    assert float(x.sum()) == pytest.approx(float((y - 0.02).clamp(min=0).sum()), rel=1e-6)


def test_an_overlay_is_ignored_where_the_mask_says_so() -> None:
    y, x = cut_from_a_scene(MOTION)
    overlay, usable = y.clone(), torch.ones(96, 96, dtype=torch.bool)
    overlay[..., 4:12, 60:90] = 1.0
    usable[4:12, 60:90] = False
    elsewhere = usable.clone()
    elsewhere[:24, 48:] = False
    for solver in (
        lambda mask: total_variation(overlay, MOTION, NOISE_SD, usable=mask),
        lambda mask: wiener(overlay, MOTION, NOISE_SD, usable=mask),
        lambda mask: richardson_lucy(overlay, MOTION, 60, usable=mask),
    ):
        assert psnr(solver(usable)[..., elsewhere], x[..., elsewhere]) > psnr(y[..., elsewhere], x[..., elsewhere]) + 2
        near = (slice(None), slice(None), slice(12, 20), slice(60, 90))
        assert psnr(solver(usable)[near], x[near]) > psnr(solver(None)[near], x[near]) + 3


def test_richardson_lucy_keeps_what_no_observed_pixel_looks_at() -> None:
    y, _ = cut_from_a_scene(MOTION, side=40)
    usable = torch.ones(40, 40, dtype=torch.bool)
    usable[8:32, 8:32] = False
    x = richardson_lucy(y, MOTION, 5, usable=usable)
    torch.testing.assert_close(x[..., 16:24, 16:24], y[..., 16:24, 16:24], atol=1e-12, rtol=0)


def test_a_constant_picture_stays_as_it_is() -> None:
    y = torch.full((1, 1, 24, 20), 0.3)
    for x in (total_variation(y, MOTION, NOISE_SD), wiener(y, MOTION, NOISE_SD), richardson_lucy(y, MOTION, 5)):
        torch.testing.assert_close(x, y, atol=1e-4, rtol=0)


def test_a_batch_is_its_pictures_one_by_one_and_keeps_its_dtype() -> None:
    kernels = [MOTION, linear_motion(5, 100)]
    y = torch.cat([cut_from_a_scene(MOTION, side=32)[0], 0.5 * cut_from_a_scene(kernels[1], side=32)[0].flip(-1)]).float()
    for solver in (
        lambda y, kernel: total_variation(y, kernel, NOISE_SD, num_iterations=20),
        lambda y, kernel: wiener(y, kernel, NOISE_SD),
        lambda y, kernel: wiener(y, kernel, NOISE_SD, exponent=None),
        lambda y, kernel: richardson_lucy(y, kernel, 5),
    ):
        both = solver(y, kernels)
        assert both.dtype == torch.float32
        each = torch.cat([solver(y[i : i + 1], kernels[i]) for i in (0, 1)])
        torch.testing.assert_close(both, each, atol=1e-5, rtol=0)


@pytest.mark.parametrize("truth", [SpectralPrior(amplitude=0.02, exponent=2.0), SpectralPrior(amplitude=0.002, exponent=3.4)])
def test_the_power_law_of_a_blurred_noisy_image_is_found(truth: SpectralPrior) -> None:
    scene = scene_of(truth, 128, key="scene")
    y = (blur_periodic(scene[None, None], MOTION)[0, 0] + 0.01 * noise(128, 128, key="n"))[10:106, 12:112]
    found = fit_spectral_prior(y, MOTION, 0.01)
    assert found.exponent == pytest.approx(truth.exponent, abs=0.25)
    assert fit_spectral_prior(y, MOTION, 0.01, exponent=truth.exponent).amplitude == pytest.approx(truth.amplitude, rel=0.15)


@pytest.mark.parametrize("side", [64, 63])
@pytest.mark.parametrize(("amplitude", "length"), [(1e-2, 3), (1e-3, 9), (1e-4, 3)])
def test_the_expected_residual_is_what_wieners_filter_leaves(side: int, amplitude: float, length: int) -> None:
    kernel, noise_sd = linear_motion(length, 25), 2 / 255
    picture = scene_of(SpectralPrior(amplitude=amplitude, exponent=2.0), side, ("residual", length))[None, None]
    y = blur_periodic(picture, kernel) + noise_sd * noise(1, 1, side, side, key="of the residual")
    left = blur_periodic(wiener(y, kernel, noise_sd, boundary="periodic"), kernel) - y
    expected = expected_residual(y[0, 0], kernel, noise_sd)
    assert float(left.square().mean().sqrt()) / noise_sd == pytest.approx(expected, rel=0.03)
    assert 0.1 < expected < 0.95


def test_pixels_that_are_not_usable_do_not_enter_the_power_law() -> None:
    truth = SpectralPrior(amplitude=0.002, exponent=3.0)
    scene = scene_of(truth, 96, key="scene")
    y = blur_periodic(scene[None, None], MOTION)[0, 0] + 0.01 * noise(96, 96, key="n")
    usable = torch.ones(96, 96, dtype=torch.bool)
    usable[40:48, 40:60] = False
    overlay = torch.where(usable, y, 3.0)
    clean = fit_spectral_prior(y, MOTION, 0.01, exponent=3.0).amplitude
    assert fit_spectral_prior(overlay, MOTION, 0.01, exponent=3.0, usable=usable).amplitude == pytest.approx(clean, rel=0.3)
    assert fit_spectral_prior(overlay, MOTION, 0.01, exponent=3.0).amplitude > 2 * clean


@pytest.mark.parametrize("size", [(16, 14), (15, 13)])
def test_the_priors_gradient_is_that_of_its_pictures(size: tuple[int, int]) -> None:
    picture = noise(*size)
    spectrum = torch.fft.fft2(picture)
    edges = (picture.roll(-1, 0) - picture).square() + (picture.roll(-1, 1) - picture).square()
    # The symbol is even along both axes.
    full = torch.cat([roughness(size), roughness(size)[:, 1 : (size[1] + 1) // 2].flip(1)], dim=1)
    torch.testing.assert_close((full * spectrum.abs().square()).sum() / spectrum.numel(), edges.sum())
    # White pictures (exponent 0) have a gradient of variance 2 along each axis.
    white = SpectralPrior(amplitude=1.0, exponent=0.0).gradient_rms(size)
    assert white == pytest.approx(2.0, rel=1e-9)


def test_the_default_weight_scales_with_the_picture_and_its_noise() -> None:
    y, _ = cut_from_a_scene(MOTION, 0.02, side=64)
    whole, half = default_weight(y, MOTION, 0.02), default_weight(y / 2, MOTION, 0.01)
    assert whole.shape == (1, 1, 1, 1)
    torch.testing.assert_close(half, whole / 2, rtol=0.02, atol=0)
    assert float(default_weight(y, MOTION, 0.04)) > float(whole)


def test_settings_and_pictures_that_cannot_be_are_refused() -> None:
    y = torch.rand(1, 1, 24, 20, generator=generator(0, "y"))
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match=r"noise_sd.*E_CONFIG"):
            wiener(y, MOTION, bad)
        with pytest.raises(ConfigError, match=r"noise_sd.*E_CONFIG"):
            total_variation(y, MOTION, bad)
        with pytest.raises(ConfigError, match=r"weight.*E_CONFIG"):
            total_variation(y, MOTION, NOISE_SD, bad)
    with pytest.raises(ConfigError, match=r"num_iterations.*E_CONFIG"):
        richardson_lucy(y, MOTION, 0)
    with pytest.raises(ConfigError, match=r"boundary.*E_CONFIG"):
        wiener(y, MOTION, NOISE_SD, boundary="reflect")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="E_KERNEL"):
        wiener(y, linear_motion(31, 0), NOISE_SD)
    with pytest.raises(InputError, match="E_SHAPE"):
        total_variation(y[0, 0], MOTION, NOISE_SD)
    with pytest.raises(InputError, match="E_NONFINITE"):
        richardson_lucy(torch.where(y > 0.5, math.nan, y), MOTION)
