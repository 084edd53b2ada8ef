"""Metrics of several classes at once: (classes,) numbers each, NaN where a class has too few images for one.

Truth is (n, classes) of 1, 0 or -1 = not known, also where each image is of exactly one class; what is not known is left out.
Definitions are those of :mod:`medanomaly.metrics.image`, and of scikit-learn with ``zero_division=nan``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.metrics import ranking
from medanomaly.metrics.inputs import Mask, Scores, check_scores

Truth = npt.NDArray[np.int64]
PerClass = npt.NDArray[np.float64]


def check_truth(truth: Truth, like: tuple[int, ...]) -> None:
    """Refuses truth that is not (n, classes) of 1, 0 and -1.

    Raises:
        InputError: E_SHAPE or E_RANGE.
    """
    if truth.shape != like or truth.ndim != 2:
        raise InputError(f"truth has shape {truth.shape}, expected {like}", code="E_SHAPE", fix="pass one row an image")
    if not np.isin(truth, (-1, 0, 1)).all():
        raise InputError("truth must be 1, 0 or -1 = not known", code="E_RANGE", fix="code classes as columns")


def one_hot(labels: Sequence[int], num_classes: int) -> Truth:
    """(n, classes) truth of images that are of one class each."""
    return np.eye(num_classes, dtype=np.int64)[np.asarray(labels, np.int64)]


def aurocs(probabilities: Scores, truth: Truth) -> PerClass:
    """AUROC of each class against the others, 0..1; NaN where it, or its absence, is known of no image."""
    check_scores(probabilities, "probabilities", ndim=2)
    check_truth(truth, probabilities.shape)
    known = truth >= 0
    return np.array(
        [
            ranking.auroc(ranking.rank(probabilities[held, column], truth[held, column] == 1))
            for column, held in enumerate(known.T)
        ]
    )


def counts(called: Mask, truth: Truth) -> npt.NDArray[np.int64]:
    """(4, classes) true positives, false positives, false negatives and true negatives among what is known."""
    check_truth(truth, called.shape)
    has, lacks = truth == 1, truth == 0
    return np.stack([(called & has).sum(0), (called & lacks).sum(0), (~called & has).sum(0), (~called & lacks).sum(0)])


def ratios(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(4, classes) accuracy, precision, recall and F1 of :func:`counts`; NaN where the denominator is 0."""
    tp, fp, fn, tn = numbers
    above = np.stack([tp + tn, tp, tp, 2 * tp]).astype(np.float64)
    below = np.stack([tp + fp + fn + tn, tp + fp, tp + fn, 2 * tp + fp + fn])
    values: PerClass = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return values


def confusion_matrix(truth: npt.NDArray[np.int64], called: npt.NDArray[np.int64], num_classes: int) -> npt.NDArray[np.int64]:
    """(classes, classes) numbers of images, a row a true class, a column a called one, of (n,) positions each."""
    return np.bincount(truth * num_classes + called, minlength=num_classes**2).reshape(num_classes, num_classes)
