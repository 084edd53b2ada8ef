from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_builders import inverted, perfect, prediction

from medanomaly.errors import InputError
from medanomaly.evaluation.image_table import image_lines, read_images
from medanomaly.evaluation.predict import Prediction
from medanomaly.evaluation.study import MethodStudy
from medanomaly.scoring.operating_point import OperatingPoint

POINT = OperatingPoint(
    value=0.5, criterion="mean per-image Dice", chosen_on="val", target=None, num_images=2, image_fingerprint=()
)


def study_of(*found: Prediction, name: str = "m", points: tuple[OperatingPoint, ...] = (POINT,)) -> MethodStudy:
    return MethodStudy(name=name, predictions=found, points=points, rows=(), seconds_per_image=0, round_trip=None)


def read(tmp_path: Path, *studies: MethodStudy) -> dict[str, list[object]]:
    (tmp_path / "images.csv").write_text(image_lines(studies, "healthy"))
    return read_images(tmp_path / "images.csv")  # type: ignore[return-value]


def test_ranking_within_an_image_is_there_where_it_has_a_lesion(tmp_path: Path) -> None:
    lines = read(tmp_path, study_of(prediction(1, perfect), prediction(3, inverted), prediction(0)))["m"]
    best, worst, healthy = lines
    assert (best.id, best.patient_id, best.label) == ("t1", "t-patient0-1", "diseased")  # type: ignore[attr-defined]
    assert [(line.ap, line.auroc, line.dice) for line in (best, worst)] == [(1, 1, 1), (16 / 256, 0, 0)]  # type: ignore[attr-defined]
    assert [(line.lesion_px, line.num_px) for line in lines] == [(16, 256), (16, 256), (0, 256)]  # type: ignore[attr-defined]
    assert all(math.isnan(value) for value in (healthy.ap, healthy.auroc, healthy.dice))  # type: ignore[attr-defined]


def test_an_image_that_nobody_annotated_has_no_lesion_area(tmp_path: Path) -> None:
    (line,) = read(tmp_path, study_of(prediction(1, masked=False)))["m"]
    assert math.isnan(line.lesion_px)  # type: ignore[attr-defined]
    assert math.isnan(line.ap)  # type: ignore[attr-defined]


def test_without_a_threshold_there_is_ranking_and_no_dice(tmp_path: Path) -> None:
    (line,) = read(tmp_path, study_of(prediction(1), points=()))["m"]
    assert line.ap == 1  # type: ignore[attr-defined]
    assert math.isnan(line.dice)  # type: ignore[attr-defined]
    assert math.isnan(line.flagged_fraction)  # type: ignore[attr-defined]


def test_methods_are_told_apart_and_ids_stay_text(tmp_path: Path) -> None:
    first = replace(prediction(1), id="00123", patient_id="007")
    found = read(tmp_path, study_of(first), study_of(first, name="other, with comma"))
    assert list(found) == ["m", "other, with comma"]
    assert [(line.id, line.patient_id) for lines in found.values() for line in lines] == [("00123", "007")] * 2  # type: ignore[attr-defined]


def test_close_values_are_told_apart(tmp_path: Path) -> None:
    one = prediction(1)
    noisy = replace(one, anomaly_map=np.random.default_rng(0).random(one.anomaly_map.shape).astype(np.float32))
    (line,) = read(tmp_path, study_of(noisy))["m"]
    assert len(f"{line.ap:.10f}".rstrip("0")) > len("0.1234")  # type: ignore[attr-defined]


def test_a_table_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("method,id,label,score,threshold,dice,flagged_fraction\nm,a,,1,,,\n")
    with pytest.raises(InputError, match="has no column patient_id, ap, auroc, lesion_px, num_px"):
        read_images(tmp_path / "images.csv")
