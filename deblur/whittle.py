"""How well a blur explains an image's power spectrum: Whittle's likelihood with a smooth spectrum of the sharp image, fitted along.

The averaged periodogram S of an image (Welch 1967, doi:10.1109/TAU.1967.1161901) is nearly P times an exponential variable at each
frequency, so log p = -sum(S / P + log P) (Whittle 1953). Here P = exp(design @ coefficients) |K|² + noise. The exponential is the
sharp image: a power law with a free exponent, an isotropic softness of any width, and an amplitude that varies slowly with direction.
A blur that is only softness therefore gains nothing over no blur at all; what tells a motion apart is its narrow lobes. Each
coefficient has a normal prior, as wide as sharp chest films need, so a strong softness in one slanted direction counts as motion.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LEVEL = 255.0
"""Powers are in squared gray levels, so that float32 has the digits it needs."""
FIRST_BIN = 2.5
"""Frequencies nearer to zero are left out, in bins: the window mixes them with the mean."""
AXIS_BINS = 1
"""Rows and columns of the spectrum left out about either axis: edges of the film, and structure that is stacked along it."""
SMEAR = (1 / 6, 2 / 3, 1 / 6)
"""Share of a frequency's power that a Hann window leaves there and gives to its neighbours, on each axis."""

_PRIOR = [
    (0.0, 30.0),  # log amplitude
    (-3.0, 1.0),  # exponent of the power law (in power): -2 for photographs, -3 to -3.8 measured on chest films
    (-1.0, 6.0),  # softness, u² with u = 4 |f|: a Gaussian blur of s px adds -2.5 s²; nearly free, it is no evidence
    (0.0, 0.2),  # its fourth order: the steep cut-off of an enlarged image
    (0.0, 0.6),  # softness that differs between rows and columns, u² cos 2 phi: images stretched to a square
    (0.0, 0.1),  # softness along a diagonal, u² sin 2 phi
    *[(0.0, 0.5)] * 2,  # amplitude by direction: cos, sin 2 phi
    *[(0.0, 0.3)] * 6,  # cos, sin of 4, 6, 8 phi
    (0.0, 30.0),  # log noise variance above its floor
]
"""Mean and standard deviation of each coefficient. Over sharp chest films and noise-free phantoms the fitted ones spread by .02 (u²
sin 2 phi), .1 (u² cos 2 phi; up to .7 off zero), .1 to .2 (the amplitudes); a motion of 5 px is worth 2.6 in the u² terms."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Spectrum:
    """An averaged periodogram at the N frequencies that take part."""

    power: Tensor
    """(N,) float32, squared gray levels per px."""
    side: int
    """Side of the square segments, px."""
    num_segments: int
    """Segments averaged, half overlapping."""
    noise_floor: float
    """Variance in squared gray levels that the noise has at least."""
    noise_known: bool
    """Whether the noise is just that floor; otherwise more is fitted."""

    @property
    def weight(self) -> float:
        """Factor of log likelihoods, 0.25..1: a Hann window ties about four neighbouring bins together, more segments free them.

        Not above 1 for large images: there it is the model that is inexact, and not the periodogram.
        """
        return min(1.0, self.num_segments / 4)


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """The best coefficients for each of C blurs."""

    score: Tensor
    """(C,) log likelihood plus log prior, up to a constant."""
    coefficients: Tensor
    """(C, D), the last is the logarithm of the noise variance above its floor."""

    def rows(self, index: Tensor) -> Fit:
        """The fits of some of the blurs."""
        return Fit(score=self.score[index], coefficients=self.coefficients[index])


def spectrum_of(image: np.ndarray, side: int, *, noise_variance: float, noise_known: bool) -> Spectrum:
    """Averaged periodogram of Hann-windowed segments, each without its (windowed) mean.

    Args:
        image: (H, W) float64 in [0, 1], at least ``side`` px a side.
        side: of the segments, even.
        noise_variance: floor or known value, in units of [0, 1] squared; > 0.
        noise_known: whether it is known.
    """
    ramp = np.hanning(side + 2)[1:-1]
    window = np.outer(ramp, ramp)
    total, count = np.zeros((side, side // 2 + 1)), 0
    for row in _starts(image.shape[0], side):
        for column in _starts(image.shape[1], side):
            segment = LEVEL * image[row : row + side, column : column + side]
            segment = segment - (window * segment).sum() / window.sum()
            total += np.abs(np.fft.rfft2(window * segment)) ** 2
            count += 1
    power = torch.from_numpy(total / count / (window**2).sum()).to(torch.float32)
    return Spectrum(
        power=power[torch.from_numpy(_taking_part(side))],
        side=side,
        num_segments=count,
        noise_floor=noise_variance * LEVEL**2,
        noise_known=noise_known,
    )


def blur_power(kernel: Tensor, side: int) -> Tensor:
    """|K|² (N,) float32 of a kernel (kh, kw) at the frequencies of :class:`Spectrum`, smeared as the window does."""
    padded = torch.zeros(side, side, dtype=torch.float64)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    power = torch.fft.fft2(padded).abs().square()
    for axis in (0, 1):
        power = SMEAR[1] * power + SMEAR[0] * power.roll(1, axis) + SMEAR[2] * power.roll(-1, axis)
    kept: Tensor = power[:, : side // 2 + 1][torch.from_numpy(_taking_part(side))]
    return kept.to(torch.float32)


def fit(spectrum: Spectrum, power: Tensor, start: Tensor | None = None, *, iterations: int) -> Fit:
    """Coefficients of largest posterior for each blur, by damped Fisher scoring (Levenberg-Marquardt).

    Args:
        spectrum: the data.
        power: (C, N) |K|² of each blur.
        start: (C, D) coefficients to begin with; None = a power law through log S.
        iterations: at most; ends when no score grows by .01 any more.
    """
    data, design = spectrum.power, _design(spectrum.side)
    num = design.shape[1]
    mean, precision = _prior()
    products = (design[:, :, None] * design[:, None, :]).flatten(1)  # (N, num²)
    free_noise = 0.0 if spectrum.noise_known else 1.0
    theta = _first_guess(spectrum).expand(len(power), -1) if start is None else start
    damping = torch.full((len(power), 1), 1e-2)
    share, model = _model(spectrum, power, theta)
    score = _score(data, model, theta)
    for _ in range(iterations):
        excess = data / model - 1
        noise_share = free_noise * torch.exp(theta[:, num:]) / model
        gradient = torch.cat([(excess * share) @ design, (excess * noise_share).sum(1, keepdim=True)], 1)
        gradient = gradient - precision * (theta - mean)
        information = torch.diag(precision).repeat(len(power), 1, 1)
        information[:, :num, :num] += (share**2 @ products).reshape(-1, num, num)
        cross = (share * noise_share) @ design
        information[:, :num, num] += cross
        information[:, num, :num] += cross
        information[:, num, num] += (noise_share**2).sum(1)
        damped = information + torch.diag_embed(torch.diagonal(information, dim1=1, dim2=2) * damping)
        step = torch.linalg.solve(damped.double(), gradient.double()).float().clamp(-3, 3)
        new_share, new_model = _model(spectrum, power, theta + step)
        new_score = _score(data, new_model, theta + step)
        better = (new_score >= score)[:, None]
        theta = torch.where(better, theta + step, theta)
        share, model = torch.where(better, new_share, share), torch.where(better, new_model, model)
        grown = torch.where(better[:, 0], new_score - score, 0.0)
        score = torch.maximum(score, new_score)
        # A step that was refused is tried again, shorter, unless it is of no length any more.
        settled = (better | (damping > 1e3))[:, 0] & (grown < 0.01)
        damping = torch.where(better, damping * 0.2, damping * 8).clamp(1e-4, 1e4)
        if bool(settled.all()):
            break
    return Fit(score=spectrum.weight * score, coefficients=theta)


def moved_start(spectrum: Spectrum, power: Tensor, known: Tensor, known_power: Tensor) -> Tensor:
    """Coefficients to begin with for other blurs: those for which the product with the new |K|² changes least.

    Without this, most of a blur's loss of power must be found again, in many steps: the softness of the known fit holds it already.

    Args:
        spectrum: the data.
        power: (C, N) |K|² of the other blurs.
        known: (1, D) coefficients that fit.
        known_power: (1, N) |K|² that they fit with.

    Returns:
        (C, D): weighted least squares of the change of log power, where the image and not the noise is seen.
    """
    design = _design(spectrum.side)
    num = design.shape[1]
    weight = _model(spectrum, known_power, known)[0][0] ** 2  # (N,)
    lost = torch.log(known_power) - torch.log(power).clamp(min=-5)  # zeros of |K| would rule the fit
    normal = (design.T * weight) @ design + torch.diag(_prior()[1][:num])
    change = torch.linalg.solve(normal.double(), ((lost * weight) @ design).double().T).T.float()  # (C, num)
    return torch.cat([known[:, :num] + change, known[:, num:].expand(len(power), 1)], 1)


def noise_sd_of(spectrum: Spectrum, coefficients: Tensor) -> float:
    """Standard deviation of the white noise in units of [0, 1], rounding included, for one row (D,) of coefficients."""
    extra = 0.0 if spectrum.noise_known else math.exp(float(coefficients[-1]))
    return math.sqrt(spectrum.noise_floor + extra) / LEVEL


def _first_guess(spectrum: Spectrum) -> Tensor:
    """(1, D): a power law through log S, no softness, noise as low as the lowest powers."""
    line = _design(spectrum.side)[:, :2]
    # The mean of the logarithm of an exponential variable is -0.577 (Euler's constant).
    law = torch.linalg.lstsq(line, torch.log(spectrum.power + spectrum.noise_floor)[:, None] + 0.577).solution[:, 0]
    theta = torch.zeros(1, len(_PRIOR))
    theta[0, :2] = law
    theta[0, -1] = math.log(max(float(spectrum.power.quantile(0.02)), 0.1 * spectrum.noise_floor, 1e-6))
    return theta


def _prior() -> tuple[Tensor, Tensor]:
    """(D,) means and precisions."""
    mean, sd = torch.tensor(_PRIOR).T
    return mean, sd**-2


def _model(spectrum: Spectrum, power: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the image in P, and P: both (C, N)."""
    design = _design(spectrum.side)
    num = design.shape[1]
    image = torch.exp((coefficients[:, :num] @ design.T + torch.log(power + 1e-12)).clamp(-40, 30))
    extra = 0.0 if spectrum.noise_known else torch.exp(coefficients[:, num:])
    model = image + spectrum.noise_floor + extra
    return image / model, model


def _score(data: Tensor, model: Tensor, coefficients: Tensor) -> Tensor:
    """(C,) Whittle's log likelihood plus log prior."""
    mean, precision = _prior()
    return -(data / model + torch.log(model)).sum(1) - 0.5 * (precision * (coefficients - mean) ** 2).sum(1)


def _starts(length: int, side: int) -> list[int]:
    """Where segments begin, about half a segment apart and reaching both ends."""
    count = math.ceil((length - side) / (side / 2)) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def _frequencies(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Upwards (side, 1) and rightwards (1, side // 2 + 1) frequency, in bins."""
    return -np.fft.fftfreq(side, 1 / side)[:, None], np.arange(side // 2 + 1)[None]


def _taking_part(side: int) -> np.ndarray:
    """(side, side // 2 + 1) bool: no frequency near zero or an axis, none of the two highest, which are their own mirror image."""
    up, right = _frequencies(side)
    off_axes = (np.abs(up) > AXIS_BINS) & (np.abs(right) > AXIS_BINS)
    return np.asarray(off_axes & (np.hypot(up, right) >= FIRST_BIN) & (np.abs(up) < side // 2) & (right < side // 2))


@functools.lru_cache(maxsize=4)
def _design(side: int) -> Tensor:
    """(N, D - 1) float32: what the logarithm of the sharp image's power is made of, in the order of ``_PRIOR``."""
    up, right = _frequencies(side)
    keep = _taking_part(side)
    u, phi = 4 * np.hypot(up, right)[keep] / side, np.arctan2(up, right)[keep]
    columns = [np.ones_like(u), np.log(u), u**2, u**4, u**2 * np.cos(2 * phi), u**2 * np.sin(2 * phi)]
    for order in (2, 4, 6, 8):
        columns += [np.cos(order * phi), np.sin(order * phi)]
    return torch.from_numpy(np.stack(columns, 1)).to(torch.float32)
