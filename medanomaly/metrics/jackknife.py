"""Intervals for numbers of a whole set, such as a distance between two sets: leave out a group at a time.

A bootstrap draws images twice. That makes a set look less varied than it is, and moves every distance between sets (FID most of
all); leaving images out does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from medanomaly.errors import InputError
from medanomaly.metrics.inputs import Scores
from medanomaly.rng import numpy_generator

Groups = npt.NDArray[np.int64]
"""(n,) number of the group of each image, 0..num_groups - 1, none empty."""
NUM_GROUPS = 20
"""Enough for a standard error that is good to a sixth, few enough for a matrix root each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its jackknife interval."""

    value: float
    """On all images; NaN = not defined."""
    low: float
    high: float
    """NaN where an interval is not defined."""
    standard_error: float
    num_groups: int
    """Fewest groups of any set; the interval has one degree of freedom less."""


def deal_groups(owners: Sequence[str], *, num_groups: int = NUM_GROUPS, seed: int = 0) -> Groups:
    """(n,) group of each image: owners (patients; of samples, the image itself) are shuffled and dealt out in turn.

    All images of an owner share a group, so leaving the group out leaves the owner out. With fewer owners than ``num_groups``
    every owner is a group.

    Raises:
        InputError: E_TOO_FEW, fewer than two owners.
    """
    names = sorted(set(owners))
    if len(names) < 2:
        raise InputError(f"an interval needs images of at least 2 patients, got {len(names)}", code="E_TOO_FEW", fix="add images")
    if num_groups < 2:
        raise ValueError(f"num_groups must be at least 2, got {num_groups}")
    order = numpy_generator(seed, "jackknife").permutation(len(names))
    group = {names[row]: place % min(num_groups, len(names)) for place, row in enumerate(order)}
    return np.array([group[name] for name in owners], np.int64)


def grouped_jackknife(
    value: float,
    *without: Sequence[float],
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Delete-a-group jackknife (Shao & Wu 1989): variance (g - 1) / g sum_i (theta_(i) - mean)^2, summed over independent sets.

    The interval is value +- Student's t with g - 1 degrees of freedom times the standard error. It is about the number at this
    many images: the bias that FID has at small n is not in it.

    Args:
        value: on all images.
        without: for each independent set the number without its group 0, 1, ...
        confidence: of the interval.
        bounds: values that are possible; the interval is cut there.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    if not without or min(len(one) for one in without) < 2:
        raise ValueError("each set needs at least two groups")
    sets = [np.asarray(one, np.float64) for one in without]
    variance = sum((len(one) - 1) / len(one) * float(((one - one.mean()) ** 2).sum()) for one in sets)
    fewest = min(len(one) for one in sets)
    error = math.sqrt(variance)
    reach = float(student_t.ppf((1 + confidence) / 2, fewest - 1)) * error
    low, high = (
        (math.nan, math.nan) if math.isnan(value + reach) else (max(value - reach, bounds[0]), min(value + reach, bounds[1]))
    )
    return Estimate(value=value, low=low, high=high, standard_error=error, num_groups=fewest)


def check_features(features: Scores, name: str, *, width: int | None = None) -> npt.NDArray[np.float64]:
    """(n, d) finite features of at least two images in float64, so that sums of squares keep their digits.

    Raises:
        InputError: E_SHAPE, E_DTYPE, E_NONFINITE, or E_FEATURES for another width than ``width``.
    """
    found = np.asarray(features)
    if found.dtype not in (np.float32, np.float64):
        raise InputError(f"{name} must be float32 or float64, got {found.dtype}", code="E_DTYPE", fix="convert the features")
    if found.ndim != 2 or len(found) < 2 or found.shape[1] < 1:
        raise InputError(
            f"{name} must be (images, features) with at least 2 images, got {found.shape}", code="E_SHAPE", fix="add images"
        )
    if not np.isfinite(found).all():
        raise InputError(f"{name} hold NaN or infinity", code="E_NONFINITE", fix="find the image or layer that made it")
    if width is not None and found.shape[1] != width:
        raise InputError(
            f"{name} have {found.shape[1]} features an image, the other set has {width}",
            code="E_FEATURES",
            fix="use one extractor for both sets",
        )
    return found.astype(np.float64)
