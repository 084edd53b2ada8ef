"""Blur kernels, made and checked.

A kernel is a tensor (kh, kw), float64, every value >= 0, sum 1. Its origin is the index ``size // 2`` of each axis, for odd and
even sizes alike, and blurring is a true convolution: ``y[i] = sum_j kernel[j] * x[i - (j - origin)]``.
Angles turn counter-clockwise as seen on the picture, from the direction of growing columns: rows grow downwards, so 90 degrees
points to smaller row numbers. A motion of 30 and one of 210 degrees are the same blur.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medanomaly.errors import ConfigError, InputError

Kernels = Tensor | Sequence[Tensor]
"""One kernel (kh, kw) for all images of a batch, or one an image."""

MAX_SIDE = 255
"""Largest side of a kernel, px: a longer one is a mistake of units before it is a blur."""
SUM_TOLERANCE = 1e-4
"""How far a kernel's sum may be from 1: more than any float32 rounding, less than a tenth of a gray level of brightness."""


def identity() -> Tensor:
    """(1, 1): no blur."""
    return torch.ones(1, 1, dtype=torch.float64)


def linear_motion(length_px: float, angle_deg: float) -> Tensor:
    """Uniform motion along a straight line, anti-aliased, with odd sides and its centre of mass exactly on the origin.

    The documented rule of MATLAB's ``fspecial('motion')``: a segment of ``length_px - 1`` between end points, centred on the
    origin; each tap is ``max(0, 1 - distance to the segment)``; the sum is made 1. Length 10 at angle 0 gives the 11 taps
    .05, nine times .1, .05. A length of at most 1 is no blur.

    Args:
        length_px: length of the motion in px, 0..255.
        angle_deg: direction in degrees, counter-clockwise from the direction of growing columns (rows grow downwards).

    Raises:
        ConfigError: E_KERNEL for a length outside 0..255 or values that are not finite.
    """
    if not (math.isfinite(angle_deg) and 0 <= length_px <= MAX_SIDE):
        raise ConfigError(
            f"a motion of {length_px:g} px at {angle_deg:g} degrees is none",
            code="E_KERNEL",
            fix=f"give a length of 0..{MAX_SIDE} px and a finite angle",
        )
    half = max(0.0, (length_px - 1) / 2)
    reach = math.ceil(half)
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
    down, right = torch.meshgrid(offset, offset, indexing="ij")
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    along, across = right * cosine - down * sine, right * sine + down * cosine
    distance = torch.hypot((along.abs() - half).clamp(min=0), across)
    taps = (1 - distance).clamp(min=0)
    taps[taps < 1e-12] = 0  # cos(90 degrees) is 6e-17
    taps = taps + taps.flip(0, 1)  # symmetric about the origin to the last bit
    return _trimmed(taps / taps.sum())


def random_motion(size: int, generator: torch.Generator, intensity: float = 0.5) -> Tensor:
    """A curved camera shake for synthetic tests: (size, size), its centre of mass on the origin to rounding.

    The path has length ``size - 1``. Its direction, and the logarithm of the time spent at each place, are each a constant plus
    three random cosines of decreasing weight, so that the path is smooth. It is laid down in sub-pixel steps by bilinear
    splatting, which keeps the centre of mass, and shrunk about that centre where it would leave the square (even sizes have less
    room on one side, and shrink by about 1 / size).

    Args:
        size: side of the kernel in px, 3..255.
        generator: where the path is drawn from; the same state gives the same path.
        intensity: 0 = straight at constant speed; 0.5 = gently curved; 1 = winding, with stops.
    """
    if not 3 <= size <= MAX_SIDE:
        raise ConfigError(f"a random motion of side {size} px is none", code="E_KERNEL", fix=f"choose a side of 3..{MAX_SIDE} px")
    if not 0 <= intensity <= 1:
        raise ConfigError(f"intensity must be in 0..1, got {intensity:g}", code="E_KERNEL", fix="choose 0.5")
    draws = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    start = torch.rand((), dtype=torch.float64, generator=generator) * 2 * math.pi
    num_steps = 64 * size
    time = (torch.arange(num_steps, dtype=torch.float64) + 0.5) / num_steps
    order = torch.arange(1, 4, dtype=torch.float64)
    waves = torch.cos(math.pi * order[:, None] * time) / order[:, None]  # (3, num_steps)
    heading = start + math.pi / 2 * intensity * (draws[0] @ waves)
    dwell = torch.softmax(intensity * (draws[1] @ waves), dim=0)
    path = torch.stack((-torch.sin(heading), torch.cos(heading))).cumsum(dim=1) * (size - 1) / num_steps  # (down, right)
    path = path - (path * dwell).sum(dim=1, keepdim=True)
    before, after = size // 2, size - 1 - size // 2  # rows and columns on either side of the origin
    shrink = min(1.0, before / max(float(-path.min()), 1e-9), after / max(float(path.max()), 1e-9))
    return _splat(path * shrink + before, dwell, (size, size))


def gaussian(sigma_px: float | tuple[float, float]) -> Tensor:
    """Sampled Gaussian cut off at four standard deviations, odd sides.

    Args:
        sigma_px: standard deviation in px, one for both axes or (row, column); 0 = no blur.
    """
    sigmas = (sigma_px, sigma_px) if isinstance(sigma_px, int | float) else sigma_px
    if not all(0 <= sigma <= MAX_SIDE / 8 - 1 for sigma in sigmas):
        raise ConfigError(
            f"a Gaussian of {sigma_px} px cannot be",
            code="E_KERNEL",
            fix=f"choose a standard deviation of 0..{MAX_SIDE // 8 - 1} px",
        )
    profiles = []
    for sigma in sigmas:
        reach = math.ceil(4 * sigma)
        offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
        profile = torch.exp(-0.5 * (offset / max(sigma, 1e-9)) ** 2)
        profiles.append(profile / profile.sum())
    taps = torch.outer(*profiles)
    return _trimmed(taps / taps.sum())


def centred(kernel: Tensor, *, whole_pixels: bool = False) -> Tensor:
    """The kernel moved so that its centre of mass lies on the origin, with odd sides: the deblurred picture is not shifted.

    Args:
        kernel: (kh, kw).
        whole_pixels: move by the nearest whole numbers of px, which keeps the shape bit for bit and leaves a shift of at most
            half a pixel. Otherwise linear interpolation makes the shift exact, and smooths the kernel by up to a pixel.
    """
    mass = check_kernel(kernel)
    rows, columns = _offsets(mass)
    centre = torch.stack(((mass.sum(1) * rows).sum(), (mass.sum(0) * columns).sum()))
    shift = centre.round() if whole_pixels else centre
    # Room for the kernel wherever it moves: its centre of mass lies within it.
    reach = max(mass.shape) + 1
    down, right = torch.meshgrid(rows - shift[0], columns - shift[1], indexing="ij")
    path = torch.stack((down.flatten(), right.flatten())) + reach
    return _trimmed(_splat(path, mass.flatten(), (2 * reach + 1, 2 * reach + 1)))


def check_kernel(kernel: Tensor, image_size: tuple[int, int] | None = None) -> Tensor:
    """The kernel as float64, sum exactly what it was, after refusing what is none.

    Args:
        kernel: what should be a kernel.
        image_size: (rows, columns) that it must fit into; None = any.

    Raises:
        InputError: E_KERNEL where it is not 2-D, not finite, negative somewhere, of a sum other than 1, or larger than the image.
    """
    fault, fix = "", "give non-negative values (kh, kw) that sum to 1"
    if kernel.ndim != 2 or kernel.numel() == 0:
        fault = f"a kernel has two axes (kh, kw), this has shape {tuple(kernel.shape)}"
    elif kernel.is_complex() or not bool(torch.isfinite(kernel).all()):
        fault = "the kernel holds values that are not finite real numbers"
    elif bool((kernel < 0).any()):
        fault = f"the kernel is negative somewhere, down to {float(kernel.min()):.3g}"
    elif float(kernel.double().sum()) == 0:
        fault = "the kernel is zero everywhere"
    elif abs(float(kernel.double().sum()) - 1) > SUM_TOLERANCE:
        fault, fix = f"the kernel sums to {float(kernel.double().sum()):.6g} instead of 1", "divide it by its sum"
    elif image_size is not None and (kernel.shape[0] > image_size[0] or kernel.shape[1] > image_size[1]):
        fault = f"the kernel of {tuple(kernel.shape)} px is larger than the image of {tuple(image_size)} px"
        fix = "check the unit of its length, or deblur at a higher resolution"
    if fault:
        raise InputError(fault, code="E_KERNEL", fix=fix)
    return kernel.double()


def _offsets(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of rows and columns from the origin, px."""
    rows, columns = (torch.arange(side, dtype=torch.float64, device=kernel.device) - side // 2 for side in kernel.shape)
    return rows, columns


def _splat(path: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Weights laid on a grid at (row, column) = path (2, N) by bilinear interpolation, which keeps sum and centre of mass."""
    grid = torch.zeros(size, dtype=torch.float64, device=path.device)
    low = torch.floor(path).long()
    part = path - low
    for down in (0, 1):
        for right in (0, 1):
            share = (part[0] if down else 1 - part[0]) * (part[1] if right else 1 - part[1])
            # A point on the last row or column has no share of the next one.
            row, column = (low[0] + down).clamp(0, size[0] - 1), (low[1] + right).clamp(0, size[1] - 1)
            grid.index_put_((row, column), weight * share, accumulate=True)
    return grid


def _trimmed(kernel: Tensor) -> Tensor:
    """The same kernel, of odd sides and origin in the middle, without the zeros that both ends of an axis share."""
    rows, columns = _offsets(kernel)
    used = kernel > 0
    down, right = int(rows[used.any(1)].abs().max()), int(columns[used.any(0)].abs().max())
    row, column = kernel.shape[0] // 2, kernel.shape[1] // 2
    return kernel[row - down : row + down + 1, column - right : column + right + 1].clone()
