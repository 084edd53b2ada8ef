"""Blurs without a direction whose spectra have dark lobes as a motion's have: what a motion must explain better than.

A soft film is the work of the fitted softness in :mod:`deblur.whittle`. Two blurs are not: a disk (out of focus, a round focal
spot, a median of neighbours) and a square (a square focal spot, pixels that were binned and enlarged). Their lobes lie at one distance
in all directions, or on a square grid; without them as rivals the nearest motion passes for an explanation.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from deblur.kernels import identity, linear_motion
from deblur.whittle import blur_power
from medanomaly.errors import ConfigError


def disk(radius_px: float) -> Tensor:
    """Uniform disk, anti-aliased: (2 n + 1, 2 n + 1) float64, sum 1.

    Args:
        radius_px: 0..60; a radius of at most half a pixel is no blur.

    Raises:
        ConfigError: E_KERNEL for another radius.
    """
    if not 0 <= radius_px <= 60:
        raise ConfigError(f"a disk of radius {radius_px:g} px is none", code="E_KERNEL", fix="give 0..60 px")
    reach = max(0, math.ceil(radius_px - 0.5))
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
    # A pixel's share of the disk, as if the rim were straight where it crosses the pixel.
    taps = (radius_px + 0.5 - torch.hypot(offset[:, None], offset[None])).clamp(0, 1)
    return taps / taps.sum()


def square(side_px: float) -> Tensor:
    """Uniform square along the axes: a motion along the rows, then one as long along the columns; sides of at least 1 px."""
    return linear_motion(side_px, 90) @ linear_motion(side_px, 0)


@functools.lru_cache(maxsize=4)
def rival_powers(side: int, longest: int) -> Tensor:
    """(R, N) |K|² of no blur, then of disks and squares as wide as the motions that are looked for.

    Args:
        side: of the spectrum's segments, px.
        longest: diameter of the largest disk, side of the largest square, px.
    """
    widths = [2 + 0.25 * step for step in range(4 * (longest - 2) + 1)]
    kernels = [identity(), *(disk(width / 2) for width in widths), *(square(width) for width in widths[::2])]
    return torch.stack([blur_power(kernel, side) for kernel in kernels])
