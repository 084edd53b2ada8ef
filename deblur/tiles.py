"""A noise predictor for images larger than the network was trained on: overlapping tiles, blended."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medanomaly.errors import ConfigError
from medanomaly.types import EpsFn


def tiled(eps_fn: EpsFn, tile: int, overlap: int) -> EpsFn:
    """``eps_fn`` asked tile by tile, its answers averaged with Hann weights (MultiDiffusion, Bar-Tal et al. 2023, arXiv:2302.08113).

    The paper averages the tiles' denoised images. Those are affine in eps with the same x_t, and the weights sum to 1, so averaging
    eps is the same. An image that fits into one tile goes to ``eps_fn`` untouched. An axis shorter than a tile is not cut, and
    tiles are spread evenly along a longer one, so neighbours overlap by at least ``overlap``. Only the prior is cut up: the data
    step of a solver still sees the whole image.

    Args:
        eps_fn: predictor for (B, C, h, w) with sides up to ``tile``; asked once a tile with the whole batch.
        tile: side in px that the network was trained at, a multiple of what it needs.
        overlap: px that neighbours share at least, 0..tile - 1; a quarter to a half of the tile hides the seams.

    Raises:
        ConfigError: E_CONFIG, tile or overlap out of range.
    """
    if tile < 1 or not 0 <= overlap < tile:
        raise ConfigError(
            f"tiles of {tile} px cannot overlap by {overlap} px",
            code="E_CONFIG",
            fix="give tile >= 1, the network's training size, and overlap in 0..tile - 1",
        )

    def blended(x_t: Tensor, t: int) -> Tensor:
        height, width = x_t.shape[-2:]
        if height <= tile and width <= tile:
            return eps_fn(x_t, t)
        columns = windows(width, tile, overlap)
        eps = torch.zeros_like(x_t)
        for top, down in windows(height, tile, overlap):
            for left, across in columns:
                part = (..., slice(top, top + len(down)), slice(left, left + len(across)))
                weight = torch.outer(down, across).to(x_t)
                # Contiguous, as the network would get a whole image.
                eps[part] += weight * eps_fn(x_t[part].contiguous(), t)
        return eps

    return blended


def windows(size: int, tile: int, overlap: int) -> list[tuple[int, Tensor]]:
    """Where tiles begin along an axis, each with its weights (tile,) float64: a Hann window over the sum of all at that pixel.

    The window is sampled at pixel centres, where it is never zero: the outermost pixels, which one tile alone covers, weigh 1.

    Args:
        size: length of the axis in px; up to ``tile`` there is one tile of that length.
        tile: length of a tile in px.
        overlap: px that neighbours share at least.
    """
    side = min(size, tile)
    count = 1 if size <= tile else math.ceil((size - overlap) / (tile - overlap))
    starts = [round(index * (size - side) / max(count - 1, 1)) for index in range(count)]
    hann = torch.sin(math.pi * (torch.arange(side, dtype=torch.float64) + 0.5) / side) ** 2
    total = torch.zeros(size, dtype=torch.float64)
    for start in starts:
        total[start : start + side] += hann
    return [(start, hann / total[start : start + side]) for start in starts]
