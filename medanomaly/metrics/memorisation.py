"""Whether a generator copies its training images: are samples nearer to them than real images that it has not seen?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medanomaly.errors import InputError
from medanomaly.metrics.inputs import Mask, Scores, check_scores

QUANTILE = 0.01
"""Of the unseen images' distances: a sample below it is closer to a training image than 99 % of unseen images are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memorisation:
    """Distances of samples to training images against those of unseen real images."""

    closer_than_unseen: float
    """P(sample nearer than an unseen image) + P(equal) / 2: 0.5 = as far as real images, 1 = copies."""
    is_copy: Mask
    """(n,) sample nearer to the training set than ``threshold``."""
    threshold: float
    """The ``QUANTILE`` of the unseen images' distances, in the features' unit."""
    num_identical: int
    """Samples at distance 0."""


def memorisation(sample_distances: Scores, unseen_distances: Scores) -> Memorisation:
    """Compare nearest-neighbour distances to the training set, sample by sample, with those of unseen images.

    ``closer_than_unseen`` is the Mann-Whitney statistic of the data-copying test of Meehan, Chaudhuri & Dasgupta 2020
    (arXiv:2004.05675), over the whole space instead of cell by cell. A generator that underfits is far from everything
    (below 0.5), so a low number is no praise.

    Args:
        sample_distances: (n,) of generated images to their nearest training image.
        unseen_distances: (m,) of real images that were not trained on to theirs; where there are none, of training images to
            their nearest training image of another patient.

    Raises:
        InputError: E_EMPTY, no distance of either; or distances that are no finite (n,) array.
    """
    for name, distances in (("sample_distances", sample_distances), ("unseen_distances", unseen_distances)):
        check_scores(distances, name, ndim=1)
        if not distances.size:
            raise InputError(f"{name} is empty", code="E_EMPTY", fix="pass at least one image of each set")
    unseen = np.sort(unseen_distances.astype(np.float64))
    farther = len(unseen) - np.searchsorted(unseen, sample_distances, side="right")
    equal = np.searchsorted(unseen, sample_distances, side="right") - np.searchsorted(unseen, sample_distances, side="left")
    threshold = float(np.quantile(unseen, QUANTILE))
    return Memorisation(
        closer_than_unseen=float((farther + equal / 2).mean() / len(unseen)),
        is_copy=np.asarray(sample_distances < threshold) | np.asarray(sample_distances == 0),
        threshold=threshold,
        num_identical=int((sample_distances == 0).sum()),
    )
