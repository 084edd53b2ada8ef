"""How well a pseudo-healthy image keeps what was healthy: measured outside the lesion only.

Images are (C, H, W) float32 or float64 in model space [-1, 1]. ``mask`` is the (H, W) lesion, all False for a healthy input, and
is never optional: inside a lesion the two images must differ, and a method that changes nothing would win.
NaN where no pixel is left to measure.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import binary_erosion
from skimage.metrics import structural_similarity

from medanomaly.errors import InputError
from medanomaly.metrics.inputs import Mask, Scores, check_mask, check_scores

DATA_RANGE = 2.0
"""White minus black in model space."""
SSIM_WINDOW_PX = 7
"""Side of the uniform window of Wang et al. 2004, as in scikit-image."""


def mean_absolute_error(x: Scores, pseudo_healthy: Scores, mask: Mask) -> float:
    """Mean |x - pseudo_healthy| over channels and the pixels outside the mask, 0..2; NaN where the mask covers the image."""
    _check(x, pseudo_healthy, mask)
    difference = np.abs(x.astype(np.float64) - pseudo_healthy)[:, ~mask]
    return float(difference.mean()) if difference.size else float("nan")


def psnr(x: Scores, pseudo_healthy: Scores, mask: Mask) -> float:
    """10 log10(2² / mean squared error) in dB outside the mask; infinite where the images agree, NaN where none is left."""
    _check(x, pseudo_healthy, mask)
    squared = (x.astype(np.float64) - pseudo_healthy)[:, ~mask] ** 2
    if not squared.size:
        return float("nan")
    error = float(squared.mean())
    return 10 * math.log10(DATA_RANGE**2 / error) if error else math.inf


def ssim(x: Scores, pseudo_healthy: Scores, mask: Mask) -> float:
    """Mean structural similarity outside the mask, -1..1 (Wang et al. 2004), 7 x 7 uniform window, mean over channels.

    Only pixels whose whole window lies in the image and outside the mask count, so no lesion pixel leaks in through a window;
    with an empty mask this is scikit-image's value. NaN where no such pixel is left.
    """
    _check(x, pseudo_healthy, mask)
    if min(mask.shape) < SSIM_WINDOW_PX:
        raise InputError(
            f"SSIM needs at least {SSIM_WINDOW_PX} px a side, got {mask.shape}", code="E_SHAPE", fix="use mean_absolute_error"
        )
    window = np.ones((SSIM_WINDOW_PX, SSIM_WINDOW_PX), bool)
    measured = binary_erosion(~mask, window, border_value=0)
    _, similarity = structural_similarity(
        x.astype(np.float64),
        pseudo_healthy.astype(np.float64),
        win_size=SSIM_WINDOW_PX,
        data_range=DATA_RANGE,
        channel_axis=0,
        full=True,
    )
    return float(similarity[:, measured].mean()) if measured.any() else float("nan")


def _check(x: Scores, pseudo_healthy: Scores, mask: Mask) -> None:
    check_scores(x, "x", ndim=3)
    check_scores(pseudo_healthy, "pseudo_healthy", ndim=3)
    if x.shape != pseudo_healthy.shape:
        raise InputError(
            f"x is {x.shape}, pseudo_healthy {pseudo_healthy.shape}", code="E_SHAPE", fix="compare them in model space"
        )
    check_mask(mask, "mask", x.shape[1:])
