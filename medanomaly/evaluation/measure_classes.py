"""How well a classifier names images at one noise level: each class and their mean, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medanomaly.errors import InputError
from medanomaly.evaluation.noisy_scores import Probabilities
from medanomaly.metrics import classes as of_classes
from medanomaly.metrics.bootstrap import patient_bootstraps
from medanomaly.metrics.classes import Truth
from medanomaly.scoring.operating_point import OperatingPoint, refuse_if_seen

FEW_IMAGES = 10
"""Below this many images of a class its numbers say little, which is said."""
METRICS = ("accuracy", "precision", "recall", "F1", "AUROC")
Row = dict[str, Any]
"""name, class ("" = all), value, low, high, confidence, num_images, num_patients, num_undefined, note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Images whose classes are known, in one order."""

    ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    truth: Truth
    """(n, classes) of 1, 0 or -1 = not known."""


def thresholds_on(
    probabilities: Probabilities, validation: Named, classes: Sequence[str], split: str
) -> tuple[OperatingPoint | None, ...]:
    """Threshold of each class with the highest Youden index on validation images; None where they are all of one kind."""
    points: list[OperatingPoint | None] = []
    for column in range(len(classes)):
        known = validation.truth[:, column] >= 0
        labels = validation.truth[known, column] == 1
        ids = [name for name, held in zip(validation.ids, known, strict=True) if held]
        decided = labels.any() and not labels.all()
        points.append(OperatingPoint.for_image_accuracy(probabilities[known, column], labels, ids, split) if decided else None)
    return tuple(points)


def measure_classes(
    probabilities: Probabilities,
    known: Named,
    classes: Sequence[str],
    *,
    points: Sequence[OperatingPoint | None] | None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[Row]:
    """Rows of all classes together, then of each.

    Where classes exclude each other the most probable one is called, and accuracy is one number: the share named right. Else a class
    is called above its threshold, and has an accuracy of its own. A mean over classes ("macro") is over those for which the number
    is defined on these images; a resample in which one of them has no number gives none.

    Args:
        probabilities: (n, classes).
        known: the images.
        classes: names.
        points: threshold of each class, chosen on other images; None = the classes exclude each other.
        num_resamples, seed: of the bootstrap over patients.

    Raises:
        ConfigError: E_TEST_THRESHOLD, a threshold was chosen on any of these images.
        InputError: E_EMPTY, no image.
    """
    if not len(probabilities):
        raise InputError("there is no image whose class is known", code="E_EMPTY", fix="fill the label column")
    exclusive = points is None
    for point in points or ():
        if point is not None:
            refuse_if_seen(point, known.ids)
    undecided = np.array([not exclusive and point is None for point in points or classes])
    if points is None:
        called = of_classes.one_hot(probabilities.argmax(axis=1).tolist(), len(classes)) == 1
    else:
        called = probabilities > np.array([np.inf if point is None else point.value for point in points])

    def per_class(index: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """(metrics, classes)."""
        decided = of_classes.ratios(of_classes.counts(called[index], known.truth[index]))
        decided[:, undecided] = np.nan
        return np.vstack([decided, of_classes.aurocs(probabilities[index], known.truth[index])])

    everything = per_class(np.arange(len(probabilities), dtype=np.int64))
    defined = ~np.isnan(everything)
    right = (called & (known.truth == 1)).any(axis=1)

    def numbers(index: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        values = per_class(index)
        macro = [row[kept].mean() if kept.any() else np.nan for row, kept in zip(values, defined, strict=True)]
        if exclusive:
            macro[0] = right[index].mean()
        return np.concatenate([macro, values.ravel()])

    found = patient_bootstraps(numbers, known.patient_ids, num_resamples=num_resamples, seed=seed)
    overall = ["accuracy" if exclusive else "macro accuracy", *(f"macro {name}" for name in METRICS[1:])]
    rows = []
    for place, interval in enumerate(found):
        metric, column = divmod(place - len(METRICS), len(classes))
        if place < len(METRICS):
            name, of, note = (
                overall[place],
                "",
                about_all(known.truth, classes, METRICS[place], defined[place], exclusive=exclusive),
            )
        elif exclusive and metric == 0:
            # One class against the rest: nine of ten digits are right by saying "no".
            continue
        else:
            name, of = METRICS[metric], classes[column]
            note = about_class(known.truth[:, column], called[:, column], name, undecided=bool(undecided[column]))
        caution = "" if np.isnan(interval.value) else interval.caution
        said = "; ".join(part for part in (note, caution) if part)
        rows.append({"name": name, "class": of, **asdict(interval), "note": said})
    return rows


def about_all(truth: Truth, classes: Sequence[str], metric: str, defined: npt.NDArray[np.bool_], *, exclusive: bool) -> str:
    """What a mean over classes stands on."""
    if exclusive and metric == "accuracy":
        most = int((truth == 1).sum(axis=0).argmax())
        return f"always saying {classes[most]!a} reaches {(truth[:, most] == 1).mean():.3f}"
    lacking = [name for name, held in zip(classes, defined, strict=True) if not held]
    return (
        f"mean over {len(classes) - len(lacking)} of {len(classes)} classes, undefined for {', '.join(lacking)}"
        if lacking
        else ""
    )


def about_class(truth: npt.NDArray[np.int64], called: npt.NDArray[np.bool_], metric: str, *, undecided: bool) -> str:
    """Why a class has no number, or few images behind it; "" where nothing is to be said."""
    num_known, num_with = int((truth >= 0).sum()), int((truth == 1).sum())
    if undecided and metric != "AUROC":
        return "undefined: no threshold, val has images of one kind only"
    if num_known == 0:
        return "undefined: known of no image"
    if num_with == 0 and metric in ("recall", "AUROC"):
        return f"undefined: present in none of {num_known} images"
    if num_with == num_known and metric == "AUROC":
        return f"undefined: present in all {num_known} images"
    if metric == "precision" and not (called & (truth >= 0)).any():
        return "undefined: never called"
    fewer = min(num_with, num_known - num_with)
    return f"few images: {num_with} with, {num_known - num_with} without" if fewer < FEW_IMAGES else ""
