"""Whether samples look real and whether they cover the real images: precision and recall of distributions, by nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from medanomaly.errors import InputError
from medanomaly.metrics.inputs import Mask, Scores
from medanomaly.metrics.jackknife import check_features

Array = npt.NDArray[np.float64]
ROWS_AT_ONCE = 256
"""Rows of the distance matrix that are in memory together."""
NUM_NEIGHBOURS = 3
"""k of Kynkaanniemi et al. 2019, section 2.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """One flag an image, so that an interval over patients can be made of either."""

    looks_real: Mask
    """(n,) sample lies in the real manifold; its mean is the precision."""
    is_covered: Mask
    """(m,) real image lies in the samples' manifold; its mean is the recall."""


def precision_and_recall(
    samples: Scores,
    reference: Scores,
    num_neighbours: int = NUM_NEIGHBOURS,
) -> Coverage:
    """Improved precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2).

    A set's manifold is the union of closed balls around its images, each as large as the distance to its k-th nearest other image.
    Both numbers depend on the sizes of the two sets: compare equal sizes.

    Args:
        samples: (n, d) features of generated images.
        reference: (m, d) features of real images, by the same extractor.
        num_neighbours: k, at least 1 and below n and m.

    Raises:
        InputError: E_TOO_FEW, a set of k images or fewer; or features that are no finite (n, d) array of one width.
    """
    real = check_features(reference, "reference features")
    made = check_features(samples, "sample features", width=real.shape[1])
    if num_neighbours < 1:
        raise ValueError(f"num_neighbours must be at least 1, got {num_neighbours}")
    if min(len(made), len(real)) <= num_neighbours:
        raise InputError(
            f"{num_neighbours} neighbours need more than {num_neighbours} images of each set, got {len(made)} and {len(real)}",
            code="E_TOO_FEW",
            fix="add images",
        )
    return Coverage(
        looks_real=_inside(made, real, _radii(real, num_neighbours)), is_covered=_inside(real, made, _radii(made, num_neighbours))
    )


def nearest(
    points: Scores,
    among: Scores,
    *,
    excluded: Mask | None = None,
) -> tuple[Array, npt.NDArray[np.int64]]:
    """((n,) Euclidean distance, (n,) row) of each point's nearest neighbour among the (m, d) others; the first of equals.

    Args:
        points: (n, d).
        among: (m, d).
        excluded: (n, m) pairs that do not count, e.g. an image and itself, or two images of one patient; None = none.
            Distance and row are infinity and 0 where nothing is left.
    """
    others = check_features(among, "features to search in")
    asked = check_features(points, "features", width=others.shape[1])
    distances, rows = np.empty(len(asked)), np.empty(len(asked), np.int64)
    for start in range(0, len(asked), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        # cdist subtracts before it squares: the expanded square would give equal points a distance.
        found = cdist(asked[part], others)
        if excluded is not None:
            found[excluded[part]] = np.inf
        rows[part] = found.argmin(axis=1)
        distances[part] = found.min(axis=1)
    return distances, rows


def _radii(points: Array, num_neighbours: int) -> Array:
    """(n,) distance to the k-th nearest other point; a copy of a point is another point."""
    radii = np.empty(len(points))
    for start in range(0, len(points), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        # Column 0 of the sorted distances is the point itself.
        radii[part] = np.partition(cdist(points[part], points), num_neighbours, axis=1)[:, num_neighbours]
    return radii


def _inside(points: Array, centres: Array, radii: Array) -> Mask:
    """(n,) whether a point lies in any ball."""
    flags = np.empty(len(points), bool)
    for start in range(0, len(points), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        flags[part] = (cdist(points[part], centres) <= radii).any(axis=1)
    return flags
