"""Reliability curve: of the images given a probability, how many had the disease."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.metrics.inputs import Mask, Scores, check_image_scores

Z_95 = 1.959964
"""Two-sided 95 % quantile of the standard normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """One entry for each bin that holds an image, lowest probability first."""

    probability: npt.NDArray[np.float64]
    """Mean predicted probability of the bin's images, 0..1."""
    frequency: npt.NDArray[np.float64]
    """Share of them that is anomalous, 0..1."""
    low: npt.NDArray[np.float64]
    """Lower end of the 95 % Wilson interval of the frequency, images taken as independent."""
    high: npt.NDArray[np.float64]
    """Upper end."""
    count: npt.NDArray[np.int64]
    """Images of the bin."""


def reliability(probabilities: Scores, labels: Mask, num_bins: int = 10) -> Reliability:
    """Reliability diagram over bins of equal width (DeGroot & Fienberg 1983); those of :func:`expected_calibration_error`.

    Args:
        probabilities: (n,) of "anomalous", 0..1.
        labels: (n,) True = anomalous.
        num_bins: at least 1.

    Raises:
        InputError: no image, probabilities outside of [0, 1], or no bin.
    """
    check_image_scores(probabilities, labels)
    if num_bins < 1:
        raise InputError(f"num_bins must be at least 1, got {num_bins}", code="E_RANGE", fix="use 10")
    if probabilities.size == 0:
        raise InputError("no image to bin", code="E_EMPTY", fix="pass at least one")
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise InputError("probabilities must be in [0, 1]", code="E_RANGE", fix="calibrate the image score first")
    bins = np.minimum((probabilities * num_bins).astype(np.int64), num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    held = count > 0
    n = count[held]
    frequency = np.bincount(bins, labels, num_bins)[held] / n
    low, high = wilson(frequency, n)
    return Reliability(
        # A mean of ones may come out a hair above 1.
        probability=np.clip(np.bincount(bins, probabilities, num_bins)[held] / n, 0, 1),
        frequency=frequency,
        low=low,
        high=high,
        count=n,
    )


def wilson(
    frequency: npt.NDArray[np.float64], count: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """95 % score interval of a binomial proportion (Wilson 1927): inside [0, 1] also where all or none are positive."""
    spread = Z_95**2 / count
    centre = (frequency + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * np.sqrt(frequency * (1 - frequency) / count + spread / (4 * count))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
