"""Numbers of several classes at once: against scikit-learn's, and undefined where a class has too few images."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from medanomaly.errors import InputError
from medanomaly.metrics.bootstrap import patient_bootstrap, patient_bootstraps
from medanomaly.metrics.classes import aurocs, confusion_matrix, counts, one_hot, ratios

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 60)
PROBABILITIES = RNG.dirichlet(np.ones(4), 60)
TRUTH = one_hot(LABELS.tolist(), 4)


def test_precision_recall_f1_and_auroc_are_scikit_learns() -> None:
    named = PROBABILITIES.argmax(axis=1)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(LABELS, named, labels=range(4), zero_division=np.nan)
    found = ratios(counts(one_hot(named.tolist(), 4) == 1, TRUTH))
    np.testing.assert_allclose(found[1:], [precision, recall, f1])
    np.testing.assert_allclose(found[0], [sk.accuracy_score(k == LABELS, named == k) for k in range(4)])
    np.testing.assert_allclose(aurocs(PROBABILITIES, TRUTH), sk.roc_auc_score(TRUTH, PROBABILITIES, average=None))
    np.testing.assert_array_equal(confusion_matrix(LABELS, named, 4), sk.confusion_matrix(LABELS, named, labels=range(4)))


def test_what_is_not_known_is_left_out_of_every_number() -> None:
    truth = TRUTH.copy()
    truth[20:] = -1
    called = PROBABILITIES > 0.3
    np.testing.assert_array_equal(counts(called, truth), counts(called[:20], truth[:20]))
    np.testing.assert_array_equal(aurocs(PROBABILITIES, truth), aurocs(PROBABILITIES[:20], truth[:20]))


def test_a_class_without_images_or_calls_has_no_number_instead_of_0() -> None:
    truth = np.array([[1, 0, -1], [1, 0, -1]])
    called = np.array([[True, False, True], [False, False, False]])
    accuracy, precision, recall, f1 = ratios(counts(called, truth))
    np.testing.assert_array_equal(accuracy, [0.5, 1.0, np.nan])
    np.testing.assert_array_equal(precision, [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(recall, [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(f1, [2 / 3, np.nan, np.nan])
    assert np.isnan(aurocs(np.full((2, 3), 0.5), truth)).all()


def test_truth_of_other_numbers_or_shape_is_refused() -> None:
    for truth in (np.full((60, 4), 2), TRUTH[:, :3]):
        with pytest.raises(InputError):
            aurocs(PROBABILITIES, truth)


def test_numbers_made_together_have_the_intervals_they_have_alone() -> None:
    patients = [f"p{index // 3}" for index in range(60)]
    columns = [PROBABILITIES[:, 0], PROBABILITIES[:, 1]]
    together = patient_bootstraps(lambda i: np.array([c[i].mean() for c in columns]), patients, num_resamples=50, seed=4)
    alone = [patient_bootstrap(lambda i, c=c: float(c[i].mean()), patients, num_resamples=50, seed=4) for c in columns]  # type: ignore[misc]
    assert together == alone
    assert together[0].low < together[0].value < together[0].high
