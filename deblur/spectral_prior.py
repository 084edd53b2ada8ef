"""How strong a sharp image is at each frequency: a power law, fitted to its blurred picture.

Wiener's filter needs the power spectrum of the sharp image, and total variation the size of its gradients. Natural images have
nearly S(f) = amplitude * |f| ** -exponent (Field 1987, doi:10.1364/JOSAA.4.002379). Kernel and noise being known, the numbers
follow from the blurred image by Whittle's likelihood; nothing is tuned on a sharp one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage, optimize
from torch import Tensor

from deblur.blur import otf

EXPONENTS = (1.0, 5.0)
"""Where a fitted exponent may lie: from rough texture to images without edges."""
_FIRST_BIN = 3
"""Frequencies nearer to zero are left out: the window mixes them with the mean, which is not part of the model."""


@dataclass(frozen=True, kw_only=True)
class SpectralPrior:
    """Power S(f) = amplitude * roughness(f) ** (-exponent / 2) of a sharp image in [0, 1], per pixel."""

    amplitude: float
    """> 0."""
    exponent: float
    """2 = gradients are white, 4 = second derivatives are."""

    def inverse_power(self, size: tuple[int, int]) -> Tensor:
        """1 / S: half spectrum (rows, columns // 2 + 1) float64, 0 at zero frequency, as the mean is not penalised."""
        return roughness(size) ** (self.exponent / 2) / self.amplitude

    def gradient_rms(self, size: tuple[int, int]) -> float:
        """Root mean square length of forward differences, per px, that the prior expects on such a grid."""
        symbol = roughness(size)
        power = self.amplitude * symbol ** (1 - self.exponent / 2)
        power[0, 0] = 0
        # Columns strictly between 0 and the highest frequency stand for two of the full spectrum.
        twice = power[:, 1 : (size[1] + 1) // 2].sum()
        return math.sqrt(float(power.sum() + twice) / (size[0] * size[1]))


def roughness(size: tuple[int, int]) -> Tensor:
    """|D|^2 of forward differences along both axes, (2 pi |f|)^2 for small f: half spectrum (rows, columns // 2 + 1) float64."""
    down = 4 * torch.sin(math.pi * torch.fft.fftfreq(size[0], dtype=torch.float64)).square()
    right = 4 * torch.sin(math.pi * torch.fft.rfftfreq(size[1], dtype=torch.float64)).square()
    return down[:, None] + right


def fit_spectral_prior(
    y: Tensor, kernel: Tensor, noise_sd: float, *, usable: Tensor | None = None, exponent: float | None = None
) -> SpectralPrior:
    """The power law under which a blurred, noisy image is most likely.

    The periodogram of the image under a Hann window is compared with |K|^2 S + noise_sd^2 by Whittle's likelihood,
    sum(log model + periodogram / model), where |K|^2 is smoothed as the window smooths it.

    Args:
        y: (H, W) in [0, 1].
        kernel: (kh, kw), what blurred it.
        noise_sd: standard deviation of the noise, > 0, in [0, 1] units.
        usable: (H, W) bool, False at pixels to leave out.
        exponent: None = fitted, within :data:`EXPONENTS`.
    """
    size = (y.shape[0], y.shape[1])
    pixels = y.detach().double().cpu()
    window = torch.outer(*(torch.hann_window(side, dtype=torch.float64) for side in size))
    weight = window if usable is None else window * usable.cpu()
    if usable is not None:
        pixels = _bridged(pixels, usable.cpu())
    mean = (pixels * weight).sum() / weight.sum().clamp(min=1e-12)
    spectrum: Tensor = torch.fft.rfft2((pixels - mean) * window)
    row, column = torch.fft.fftfreq(size[0]) * size[0], torch.fft.rfftfreq(size[1]) * size[1]
    inside = torch.maximum(row.abs()[:, None], column[None]) >= _FIRST_BIN
    observed = (spectrum.abs().square() / weight.square().sum().clamp(min=1e-12))[inside]
    blurred = _as_windowed(otf(kernel.cpu(), size), size)[inside]
    log_roughness = roughness(size)[inside].log()
    noise = noise_sd**2

    def minus_log_likelihood(log_amplitude: float, bend: float) -> float:
        model = torch.exp(log_amplitude - bend / 2 * log_roughness) * blurred + noise
        return float((observed / model + model.log()).mean())

    def best_amplitude(bend: float) -> tuple[float, float]:
        """(minus log likelihood, log amplitude) at an exponent; the amplitude is sought over 18 orders of magnitude."""
        found = optimize.minimize_scalar(
            lambda value: minus_log_likelihood(value, bend), bounds=(-34.0, 7.0), method="bounded", options={"xatol": 0.01}
        )
        return float(found.fun), float(found.x)

    bend = exponent
    if bend is None:
        found = optimize.minimize_scalar(
            lambda value: best_amplitude(value)[0], bounds=EXPONENTS, method="bounded", options={"xatol": 0.02}
        )
        bend = float(found.x)
    return SpectralPrior(amplitude=math.exp(best_amplitude(bend)[1]), exponent=bend)


def expected_residual(y: Tensor, kernel: Tensor, noise_sd: float) -> float:
    """Rms of the residual that the best linear solution leaves with the right kernel, over the noise: 0..1.

    Wiener's filter explains the share H = |K|^2 S / (|K|^2 S + noise_sd^2) of each frequency of y, whose power is |K|^2 S + noise_sd^2,
    so its residual has the power (1 - H) noise_sd^2: little where the blur is mild and the image rough, all of it where the blur has
    erased everything. S is the power law with white gradients under which y is likeliest.

    Args:
        y: (H, W) in [0, 1].
        kernel: (kh, kw).
        noise_sd: > 0, in [0, 1] units.
    """
    size = (y.shape[0], y.shape[1])
    noise = noise_sd**2 * fit_spectral_prior(y, kernel, noise_sd, exponent=2.0).inverse_power(size)
    unexplained = noise / (otf(kernel.cpu(), size).abs().square() + noise)
    total = unexplained.sum() + unexplained[:, 1 : (size[1] + 1) // 2].sum()
    return math.sqrt(float(total) / (size[0] * size[1]))


def _bridged(pixels: Tensor, usable: Tensor) -> Tensor:
    """The image with a smooth surface over its unusable pixels: an edge around a mask would pass for structure."""
    known, seen = usable.numpy(), pixels.numpy()
    row, column = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    surface = seen[row, column]
    for _ in range(20):
        surface = np.where(known, seen, ndimage.gaussian_filter(surface, 2.0, mode="nearest"))
    return torch.from_numpy(surface)


def _as_windowed(transfer: Tensor, size: tuple[int, int]) -> Tensor:
    """|K|^2 as the Hann window's main lobe spreads it, weights (1, 4, 1) / 6 along each axis: half spectrum."""
    kernel: Tensor = torch.fft.irfft2(transfer, s=size)
    power: Tensor = torch.fft.fft2(kernel).abs().square()
    for axis in (0, 1):
        power = (power.roll(1, axis) + 4 * power + power.roll(-1, axis)) / 6
    return power[:, : size[1] // 2 + 1]
