"""Simplex noise: smooth random fields of several scales, which hide lesions that pixel noise cannot (Wyatt et al. 2022, AnoDDPM)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

TABLE = 256
"""Gradients a field is made of; lattice points share them by a random permutation, so it repeats after 256 lattice steps."""
SKEW, UNSKEW = (math.sqrt(3) - 1) / 2, (3 - math.sqrt(3)) / 6
"""Between the plane and the lattice whose cells are two simplices (Perlin 2001; Gustavson 2005, "Simplex noise demystified")."""


def simplex_noise(
    shape: Sequence[int],
    generator: torch.Generator,
    *,
    wavelength_px: float = 64.0,
    num_octaves: int = 6,
    persistence: float = 0.8,
) -> Tensor:
    """Sum of simplex fields, each of half the wavelength of the one before, with mean 0 and variance 1 over draws.

    Args:
        shape: (B, C, H, W); every plane is an independent field.
        generator: of the gradients and of where the lattice lies.
        wavelength_px: of the coarsest field, in px.
        num_octaves: number of fields (AnoDDPM: 6).
        persistence: amplitude of a field over that of the one before (AnoDDPM: 0.8).

    Returns:
        ``shape`` float32.
    """
    batch, channels, height, width = shape
    count = batch * channels * num_octaves
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    scale = 2.0 ** torch.arange(num_octaves).repeat(batch * channels) / wavelength_px
    pixels = torch.stack([columns, rows])[:, None] * scale.view(1, -1, 1, 1)  # (2, B C octaves, H, W), x first
    fields = simplex_fields(pixels + TABLE * torch.rand(2, count, 1, 1, generator=generator), generator)
    amplitude = persistence ** torch.arange(num_octaves)
    total = (fields.view(batch, channels, num_octaves, height, width) * amplitude.view(-1, 1, 1)).sum(dim=2)
    return total / math.sqrt(float((amplitude**2).sum()) * unit_variance())


def simplex_fields(points: Tensor, generator: torch.Generator) -> Tensor:
    """(N, H, W) one field each at ``points`` (2, N, H, W) in lattice units; their scale is that of :func:`unit_variance`."""
    count = points.shape[1]
    angles = torch.rand(count, TABLE, generator=generator) * 2 * math.pi
    permutation = torch.rand(count, TABLE, generator=generator).argsort(dim=1)
    total = torch.zeros(points.shape[1:])
    for corner, distance in corners(points):
        first, second = (corner % TABLE).flatten(2)  # (N, H W) each
        hashed = permutation.gather(1, (permutation.gather(1, first) + second) % TABLE)
        angle = angles.gather(1, hashed).view_as(total)
        total += kernel(distance) * (angle.cos() * distance[0] + angle.sin() * distance[1])
    return total


def corners(points: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The three corners of the simplex around each point: lattice indices (2, ...) int64, and vectors from them (2, ...)."""
    cell = (points + SKEW * points.sum(dim=0)).floor()
    first = points - (cell - UNSKEW * cell.sum(dim=0))
    is_lower = first[0] > first[1]
    middle = torch.stack([is_lower, ~is_lower]).to(points.dtype)
    found = []
    for step in (torch.zeros_like(middle), middle, torch.ones_like(middle)):
        found.append(((cell + step).long(), first - step + UNSKEW * step.sum(dim=0)))
    return found


def kernel(distance: Tensor) -> Tensor:
    """Weight of a corner at vectors (2, ...) from it: (1/2 - |d|^2)^4 within its reach, 0 beyond."""
    return (0.5 - (distance**2).sum(dim=0)).clamp(min=0) ** 4


@functools.cache
def unit_variance() -> float:
    """Variance of a field over draws, mean over the plane: with unit gradients of random direction, sum of w^2 |d|^2 / 2."""
    # One lattice cell, by the midpoint rule.
    grid = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    skewed = torch.stack(torch.meshgrid(grid, grid, indexing="ij"))
    points = skewed - UNSKEW * skewed.sum(dim=0)
    variance = sum((kernel(distance) ** 2 * (distance**2).sum(dim=0) / 2).mean() for _, distance in corners(points))
    return float(variance)
