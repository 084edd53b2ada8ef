from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_builders import QUICK, inverted, perfect, prediction, predictions

from medanomaly.datasets.manifest import Record
from medanomaly.evaluation.operating_points import choose_operating_points
from medanomaly.evaluation.predict import Prediction
from medanomaly.evaluation.subgroups import GroupNumber, as_csv, subgroups

POINTS = choose_operating_points(predictions(8, name="v"), healthy="healthy")


def own_patients(count: int) -> list[Prediction]:
    """Every image a patient; maps are right in the first half and inverted in the second."""
    made = [prediction(index, perfect if index < count // 2 else inverted) for index in range(count)]
    return [replace(one, patient_id=one.id) for one in made]


def rows_of(found: list[Prediction], **columns: list[str]) -> list[Record]:
    return [
        Record(
            id=one.id, patient_id=one.patient_id, image=Path("x.png"), **{name: values[place] for name, values in columns.items()}
        )  # type: ignore[arg-type]
        for place, one in enumerate(found)
    ]


def numbers(found: list[Prediction], records: list[Record]) -> list[GroupNumber]:
    return list(subgroups(found, records, POINTS, healthy="healthy", config=QUICK))


def test_a_group_that_a_method_fails_on_is_seen_though_the_order_of_rows_differs() -> None:
    found = own_patients(40)
    records = rows_of(found, view=["PA"] * 20 + ["AP"] * 20)
    made = {(one.column, one.value, one.measured.name): one for one in numbers(found, records[::-1])}
    assert {key[:2] for key in made} == {("view", "PA"), ("view", "AP")}
    assert made["view", "PA", "pixel AUROC"].measured.interval.value == 1
    assert made["view", "AP", "pixel AUROC"].measured.interval.value < 0.5
    assert made["view", "PA", "image AUROC"].measured.interval.num_patients == 20
    assert all(one.shown for one in made.values() if one.measured.interval.num_patients >= 10)


def test_columns_that_tell_nothing_apart_have_no_table() -> None:
    found = own_patients(8)
    assert numbers(found, rows_of(found, view=["PA"] * 8)) == []
    assert {one.column for one in numbers(found, rows_of(found, source=["a", "b"] * 4))} == {"source"}


@pytest.mark.parametrize(("patients", "shown"), [(9, False), (10, True)])
def test_a_number_of_fewer_than_ten_patients_is_counted_and_not_shown(patients: int, shown: bool) -> None:
    # The group's only images are diseased, so every number of it stands on all of its patients.
    found = [replace(one, label="diseased", mask=prediction(1).mask) for one in own_patients(30)]
    records = rows_of(found, source=["few"] * patients + ["many"] * (30 - patients))
    lines = [line for line in csv.DictReader(as_csv(numbers(found, records)).splitlines()) if line["group"] == "few"]
    assert lines
    for line in lines:
        assert line["num_patients"] == str(patients)
        assert ((line["value"] != ""), (line["low"] != ""), ("not shown" in line["note"])) == (shown, shown, not shown)
