"""Numbers by view and by source of the images: a mean over all of them hides a group that a method fails on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medanomaly.datasets.manifest import Record
from medanomaly.evaluation.measure import MeasureConfig, Measured, measure
from medanomaly.evaluation.predict import Prediction
from medanomaly.files import atomic_write
from medanomaly.scoring.operating_point import OperatingPoint

COLUMNS = ("view", "source")
"""Columns of the manifest whose values are groups; a manifest holds no age and no sex."""
NUMBERS = (
    *("pixel AUROC", "pixel AP", "Dice @ val-Dice threshold", "Dice @ healthy threshold"),
    *("image AUROC", "image AP", "healthy area flagged @ val-Dice threshold", "healthy area flagged @ healthy threshold"),
)
FEWEST_PATIENTS = 10
"""A number of fewer patients is not shown: it says little of the group, and much of the patients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNumber:
    """One number of one group."""

    column: str
    value: str
    """What the column says; "" = nothing."""
    measured: Measured

    @property
    def shown(self) -> bool:
        """Whether it stands on enough patients."""
        return self.measured.interval.num_patients >= FEWEST_PATIENTS


def subgroups(
    predictions: Sequence[Prediction],
    records: Sequence[Record],
    points: Sequence[OperatingPoint],
    *,
    healthy: str,
    config: MeasureConfig = MeasureConfig(),
) -> Iterator[GroupNumber]:
    """Numbers of each group, at the thresholds of the whole set, where a column tells at least two groups apart.

    Args:
        predictions: of the test split, of one method.
        records: their rows of the manifest.
        points: chosen on validation images of all groups.
        healthy: name of the class without disease.
        config: resamples and seed.
    """
    for column in COLUMNS:
        group_of: Mapping[str, str] = {record.id: getattr(record, column) for record in records}
        groups = sorted(set(group_of.values()))
        for value in groups if len(groups) > 1 else ():
            inside = [prediction for prediction in predictions if group_of[prediction.id] == value]
            for row in measure(inside, points, healthy=healthy, config=replace(config, regions=False)):
                if row.name in NUMBERS:
                    yield GroupNumber(column=column, value=value, measured=row)


def write_subgroups(out: Path, numbers: Sequence[GroupNumber]) -> list[str]:
    """Write ``subgroups.csv``, or remove an earlier one where there are no groups; what to say of it below the table."""
    path = out / "subgroups.csv"
    if not numbers:
        path.unlink(missing_ok=True)
        return []
    with atomic_write(path) as stream:
        stream.write(as_csv(numbers).encode())
    columns = " and ".join(dict.fromkeys(one.column for one in numbers))
    return [f"By {columns}: {path.name}; numbers of fewer than {FEWEST_PATIENTS} patients are not shown there."]


def as_csv(numbers: Sequence[GroupNumber]) -> str:
    """One line a number with its images and patients; the value and interval of too small a group are left blank."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["column", "group", "name", "value", "low", "high", "num_images", "num_patients", "note"])
    for one in numbers:
        interval = one.measured.interval
        shown = [interval.value, interval.low, interval.high] if one.shown else ["", "", ""]
        note = one.measured.note if one.shown else f"fewer than {FEWEST_PATIENTS} patients: not shown"
        writer.writerow([one.column, one.value, one.measured.name, *shown, interval.num_images, interval.num_patients, note])
    return stream.getvalue()
