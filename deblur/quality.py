"""Numbers that describe a deblurred image: reported, never selected on.

With a sharp reference (synthetic blur only) PSNR and SSIM say what was won. Without one, the residual k * x - y says whether the
result explains the picture. Sharpness says nothing about success: ringing is sharp. A sharp picture that is "deblurred" with a
motion of 10 px loses its content while Tenengrad rises tens of times, so no sharpness here is ever a reason to accept a result.

Images are (H, W) or (1, H, W) tensors, [0, 1] unless said otherwise; everything is computed in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from skimage.measure import blur_effect as skimage_blur_effect
from skimage.metrics import structural_similarity
from torch import Tensor

from medanomaly.errors import InputError

SSIM_WINDOW_PX = 7
"""Side of the uniform window, the default of scikit-image."""
LOW_FREQUENCY = 0.25
"""Cycles per px that part low from high frequencies in :func:`residual_whiteness`: half of the highest one along an axis."""

Plane = npt.NDArray[np.float64]


def psnr(x: Tensor, reference: Tensor, *, data_range: float = 1.0, border: int = 0) -> float:
    """10 log10(data_range² / mean squared error) in dB; infinite where both agree.

    Args:
        x: (H, W) or (1, H, W).
        reference: the same shape, the truth.
        data_range: white minus black.
        border: px left out on each side; deblurring is worst there, and says little about the rest.

    Raises:
        InputError: E_SHAPE, E_NONFINITE; E_SHAPE also for a border that leaves nothing.
    """
    a, b = _pair(x, reference, border)
    error = float(np.mean((a - b) ** 2))
    return 10 * math.log10(data_range**2 / error) if error else math.inf


def ssim(x: Tensor, reference: Tensor, *, data_range: float = 1.0, border: int = 0) -> float:
    """Mean structural similarity, -1..1 (Wang et al. 2004, doi:10.1109/TIP.2003.819861), scikit-image's with its defaults.

    Arguments and errors as :func:`psnr`; at least 7 px a side.
    """
    a, b = _pair(x, reference, border)
    if min(a.shape) < SSIM_WINDOW_PX:
        raise InputError(f"SSIM needs {SSIM_WINDOW_PX} px a side, got {a.shape}", code="E_SHAPE", fix="give a smaller border")
    return float(structural_similarity(a, b, win_size=SSIM_WINDOW_PX, data_range=data_range))


@dataclass(frozen=True, kw_only=True)
class Whiteness:
    """How far a residual k * x - y is from white noise, which is what is left when the model holds and the noise is white."""

    low_share: float
    """Share of the power at |f| < 0.25 cycles per px. A wrong kernel leaves edges, which are of low frequency."""
    low_share_white: float
    """The same share of white noise: the share of frequencies counted."""
    lag1: float
    """Mean of the correlations of neighbours along rows and along columns; 0 for white noise."""
    lag1_sd: float
    """Standard deviation of ``lag1`` over white noises of this size, 1 / sqrt(2 N)."""


def residual_whiteness(residual: Tensor) -> Whiteness:
    """Compares a residual with white noise of the same size.

    Rounded residuals (8 bits, noise below half a level) are not quite white even where the kernel is right: compare, do not test.

    Args:
        residual: (H, W) or (1, H, W), k * x - y, any unit; only where it was observed.

    Raises:
        InputError: E_SHAPE below 8 px a side; E_NONFINITE; E_RANGE for a residual that is constant.
    """
    r = plane(residual, least=8)
    r = r - r.mean()
    energy = float((r**2).sum())
    if energy <= 0:
        raise InputError("the residual is constant", code="E_RANGE", fix="there is nothing to test; report its rms instead")
    power = np.abs(np.fft.fft2(r)) ** 2
    frequency = np.hypot(np.fft.fftfreq(r.shape[0])[:, None], np.fft.fftfreq(r.shape[1])[None])
    low = (frequency < LOW_FREQUENCY) & (frequency > 0)
    # Means of products, so that the shorter lagged sums are not biased towards 0.
    lags = [float((r[1:] * r[:-1]).mean()), float((r[:, 1:] * r[:, :-1]).mean())]
    return Whiteness(
        low_share=float(power[low].sum() / power.sum()),
        low_share_white=float(low.sum() / (low.size - 1)),
        lag1=sum(lags) / 2 / (energy / r.size),
        lag1_sd=1 / math.sqrt(2 * r.size),
    )


def effective_noise(noise_sd: float, level: float = 1 / 255) -> float:
    """sqrt(noise_sd² + level² / 12): noise and the rounding to steps of ``level`` together, in the image's unit.

    Rounding spreads an error evenly over one step, of variance 1/12 (Widrow & Kollár 2008, Quantization Noise).

    Raises:
        InputError: E_RANGE where either is negative or not finite, or both are 0.
    """
    if not (math.isfinite(noise_sd) and math.isfinite(level) and noise_sd >= 0 and level >= 0 and noise_sd + level > 0):
        raise InputError(
            f"a noise of {noise_sd:g} in steps of {level:g} cannot be",
            code="E_RANGE",
            fix="give a noise_sd >= 0 in units of the [0, 1] image, and level = 1 / 255 for 8 bits, 0 for none",
        )
    return math.hypot(noise_sd, level / math.sqrt(12))


def residual_rms_over_noise(residual: Tensor, noise_sd: float, *, level: float = 1 / 255) -> float:
    """Root mean square of the residual k * x - y over :func:`effective_noise`; about 1 where the model holds.

    Below 1 where the solver fits some of the noise; far above 1 where kernel or borders are wrong.

    Args:
        residual: (H, W) or (1, H, W), in units of the [0, 1] image, only where y was observed.
        noise_sd: standard deviation of the noise before rounding, in the same unit.
        level: step of the stored values, 1 / 255 for 8 bits; 0 = not rounded.
    """
    return float(np.sqrt(np.mean(plane(residual) ** 2))) / effective_noise(noise_sd, level)


def tenengrad(x: Tensor) -> float:
    """Mean squared Sobel gradient, (image unit per px)² (Tenenbaum 1970; Krotkov 1988). Rises under failure: report only.

    The outermost pixels, whose gradient would need pixels outside, are left out.
    """
    a = plane(x, least=3)
    down, right = (ndimage.sobel(a, axis=axis)[1:-1, 1:-1] / 8 for axis in (0, 1))
    return float(np.mean(down**2 + right**2))


def laplacian_variance(x: Tensor) -> float:
    """Variance of the 4-neighbour Laplacian, image unit² (Pech-Pacheco et al. 2000). Rises under failure: report only."""
    return float(ndimage.laplace(plane(x, least=3))[1:-1, 1:-1].var())


def blur_effect(x: Tensor) -> float:
    """Perceived blur 0 (none) .. 1 (Crété-Roffet et al. 2007), scikit-image's. Falls under failure: report only.

    NaN for a constant image, of which the measure is 0 / 0.
    """
    a = plane(x, least=16)
    return float(skimage_blur_effect(a)) if float(np.ptp(a)) > 0 else float("nan")


def power_ratio(x: Tensor, angle_deg: float) -> float:
    """Spectral power along a direction over that across it, in a band of 0.1 to 0.5 cycles per px: 1 where neither is special.

    Motion along ``angle_deg`` lowers it, undoing the motion raises it back, and so does ringing: report only.

    Args:
        x: (H, W) or (1, H, W), at least 16 px a side.
        angle_deg: counter-clockwise as seen, from the direction of growing columns, as everywhere in ``deblur``.

    Returns:
        mean power in the wedge of +-22.5 degrees about the direction / the same across it; NaN for a constant image.
    """
    a = plane(x, least=16)
    window = np.outer(np.hanning(a.shape[0] + 2)[1:-1], np.hanning(a.shape[1] + 2)[1:-1])
    a = a - (window * a).sum() / window.sum()
    power = np.abs(np.fft.fft2(window * a)) ** 2
    up, right = -np.fft.fftfreq(a.shape[0])[:, None], np.fft.fftfreq(a.shape[1])[None]
    radius = np.hypot(up, right)
    # Cosine of twice the angle to the direction: opposite frequencies are the same wave.
    turn = np.cos(2 * (np.arctan2(up, right) - math.radians(angle_deg)))
    band = (radius >= 0.1) & (radius <= 0.5)
    along, across = power[band & (turn > math.sqrt(0.5))].mean(), power[band & (turn < -math.sqrt(0.5))].mean()
    return float(along / across) if across > 0 else float("nan")


def out_of_range_share(x: Tensor, low: float = 0.0, high: float = 1.0, *, slack: float = 0.5 / 255) -> float:
    """Share of pixels beyond [low - slack, high + slack], 0..1; the slack is what rounding to 8 bits forgives."""
    a = plane(x)
    return float(np.mean((a < low - slack) | (a > high + slack)))


def plane(x: Tensor, *, least: int = 1) -> Plane:
    """(H, W) float64 of an image (H, W) or (1, H, W), after refusing what is none.

    Raises:
        InputError: E_SHAPE for other shapes or sides below ``least`` px; E_NONFINITE.
    """
    if x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[0] != 1) or min(x.shape[-2:]) < least:
        raise InputError(
            f"expected an image (H, W) or (1, H, W) of at least {least} px a side, got {tuple(x.shape)}",
            code="E_SHAPE",
            fix="give one image of one channel at a time",
        )
    if x.is_complex() or not bool(torch.isfinite(x).all()):
        raise InputError("the image holds values that are not finite real numbers", code="E_NONFINITE", fix="mend or drop it")
    return np.asarray(x.detach().cpu().reshape(x.shape[-2:]).to(torch.float64).numpy(), dtype=np.float64)


def _pair(x: Tensor, reference: Tensor, border: int) -> tuple[Plane, Plane]:
    a, b = plane(x), plane(reference)
    if a.shape != b.shape:
        raise InputError(f"images of {a.shape} and {b.shape} px do not compare", code="E_SHAPE", fix="crop them alike")
    if border < 0 or 2 * border >= min(a.shape):
        raise InputError(f"a border of {border} px leaves nothing of {a.shape}", code="E_SHAPE", fix="give a smaller border")
    inner = (slice(border, a.shape[0] - border), slice(border, a.shape[1] - border))
    return a[inner], b[inner]
