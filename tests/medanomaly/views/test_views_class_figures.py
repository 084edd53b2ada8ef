"""The classifier's picture is a PNG whatever is undefined, and says no to lists that do not fit."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.views.class_figures import classifier_figure

NAN = float("nan")
CURVES = {"accuracy": [(0.9, 0.8, 0.95), (0.5, NAN, NAN)], "macro AUROC": [(NAN, NAN, NAN), (0.6, 0.5, 0.7)]}
NAMES = ("a", "No $Finding", "_c")


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_confusion_matrix_is_darkest_where_a_class_is_mostly_named() -> None:
    right = opened(classifier_figure([0, 50], CURVES, classes=NAMES, confusion=np.diag([9, 0, 4]), level_text="clean"))
    wrong = opened(classifier_figure([0, 50], CURVES, classes=NAMES, confusion=np.zeros((3, 3), np.int64), level_text="clean"))
    dark = [int((picture[:, :, 0] < 60).sum()) for picture in (right, wrong)]
    assert dark[0] > 1.5 * dark[1]


def test_classes_that_do_not_exclude_each_other_get_a_line_each_also_where_undefined() -> None:
    by_class = [(0.8, 0.7, 0.9), (NAN, NAN, NAN), (0.4, NAN, NAN)]
    assert opened(classifier_figure([0, 50], CURVES, classes=NAMES, by_class=by_class)).std() > 5


def test_lists_that_do_not_fit_are_refused() -> None:
    for percents, classes, by_class in (([], NAMES, ()), ([0], NAMES, ()), ([0, 50], (), ()), ([0, 50], NAMES, [(1, 1, 1)])):
        with pytest.raises(InputError):
            classifier_figure(percents, CURVES, classes=classes, by_class=by_class)
