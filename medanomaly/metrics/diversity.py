"""How alike the images of one set are: structural similarity of pairs, at one scale and at several."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics.regression import compute_ms_ssim, compute_ssim_and_cs
from torch import Tensor

from medanomaly.errors import InputError
from medanomaly.metrics.inputs import check_count
from medanomaly.metrics.jackknife import Estimate, Groups, grouped_jackknife
from medanomaly.rng import numpy_generator

Pairs = npt.NDArray[np.int64]
"""(pairs, 2) rows of different images."""
Similarity = Callable[[Tensor, Tensor], Tensor]
"""Two (B, C, H, W) in [-1, 1] -> (B,)."""
WINDOW_PX = 11
"""Side of the Gaussian window (Wang et al. 2004)."""
SIGMA_PX = 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Finest first (Wang, Simoncelli & Bovik 2003, section 3.2)."""
MAX_PAIRS = 2000
"""Pairs that are compared; more make no difference to the interval, which hangs on the number of images."""


def random_pairs(num_images: int, *, max_pairs: int = MAX_PAIRS, seed: int = 0) -> Pairs:
    """All pairs of different images, or ``max_pairs`` different ones of them, in rising order."""
    if num_images < 2:
        raise InputError(f"a pair needs two images, got {num_images}", code="E_TOO_FEW", fix="add images")
    total = num_images * (num_images - 1) // 2
    if total <= max_pairs:
        return np.array(list(itertools.combinations(range(num_images), 2)), np.int64)
    chosen = np.sort(numpy_generator(seed, "pairs", num_images).choice(total, max_pairs, replace=False))
    # Pair number k of the row-wise upper triangle: the row is the last one that starts at or before k.
    starts = np.concatenate([[0], np.cumsum(np.arange(num_images - 1, 0, -1))])
    first = np.searchsorted(starts, chosen, side="right") - 1
    return np.stack([first, chosen - starts[first] + first + 1], axis=1).astype(np.int64)


def ssim_of(image_size: int) -> Similarity:
    """SSIM (Wang et al. 2004) of pairs, -1..1, on intensities in 0..1, where its formula is defined.

    In [-1, 1] a mean gray of 0 would make its brightness term meaningless.

    Raises:
        InputError: E_SHAPE, images smaller than the window.
    """
    if image_size < WINDOW_PX:
        raise InputError(f"SSIM needs images of at least {WINDOW_PX} px, got {image_size}", code="E_SHAPE", fix="leave it out")

    def similarity(x: Tensor, y: Tensor) -> Tensor:
        found, _ = compute_ssim_and_cs((x + 1) / 2, (y + 1) / 2, 2, (WINDOW_PX,) * 2, (SIGMA_PX,) * 2, data_range=1.0)
        return torch.as_tensor(found).flatten(1).mean(dim=1)

    return similarity


def num_scales(image_size: int) -> int:
    """Scales (each half the last) at which the window fits into an image, at most five; MONAI checks by (scales - 1)^2."""
    fitting = [
        count for count in range(1, len(SCALE_WEIGHTS) + 1) if image_size // max((count - 1) ** 2, 2 ** (count - 1)) >= WINDOW_PX
    ]
    return max(fitting, default=0)


def ms_ssim_of(image_size: int) -> Similarity:
    """Multi-scale SSIM (Wang, Simoncelli & Bovik 2003), 0..1: five scales from 176 px on, on smaller images as many as fit.

    With fewer scales the weights are divided by their sum, so such numbers do not compare with those of five scales.

    Raises:
        InputError: E_SHAPE, images smaller than the window.
    """
    count = num_scales(image_size)
    if count < 1:
        raise InputError(f"MS-SSIM needs images of at least {WINDOW_PX} px, got {image_size}", code="E_SHAPE", fix="leave it out")
    weights = [weight / sum(SCALE_WEIGHTS[:count]) for weight in SCALE_WEIGHTS[:count]]

    def similarity(x: Tensor, y: Tensor) -> Tensor:
        found = compute_ms_ssim((x + 1) / 2, (y + 1) / 2, 2, data_range=1.0, kernel_size=WINDOW_PX, weights=weights)
        return torch.as_tensor(found).flatten()

    return similarity


@torch.inference_mode()
def pairwise_similarity(x: Tensor, pairs: Pairs, similarity: Similarity, groups: Groups, *, batch_size: int = 64) -> Estimate:
    """Mean similarity of pairs (Odena et al. 2017, arXiv:1610.09585): higher = less diverse. Read it beside that of real images.

    Args:
        x: (n, C, H, W) in [-1, 1].
        pairs: see :func:`random_pairs`.
        similarity: :func:`ssim_of` or :func:`ms_ssim_of`.
        groups: as :func:`medanomaly.metrics.jackknife.deal_groups` deals them; leaving one out leaves out every pair with it.
        batch_size: pairs a call.
    """
    check_count("groups", len(groups), len(x))
    parts = [
        similarity(x[torch.from_numpy(part[:, 0])], x[torch.from_numpy(part[:, 1])]).double().cpu().numpy()
        for part in np.array_split(pairs, -(-len(pairs) // batch_size))
    ]
    values = np.concatenate(parts)
    of_first, of_second = groups[pairs[:, 0]], groups[pairs[:, 1]]

    def mean_without(group: int) -> float:
        kept = values[(of_first != group) & (of_second != group)]
        return float(kept.mean()) if kept.size else float("nan")

    without = [mean_without(group) for group in range(int(groups.max()) + 1)]
    return grouped_jackknife(float(values.mean()), without, bounds=(-1.0, 1.0))
