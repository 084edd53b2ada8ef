from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_builders import QUICK, SIDE, Whiteness, bright_samples, inverted, lesion, prediction, predictions

from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.folder import write_evaluation
from medanomaly.evaluation.measure import AT, Measured
from medanomaly.evaluation.measure_boxes import measure_boxes
from medanomaly.evaluation.operating_points import choose_operating_points
from medanomaly.evaluation.predict import Prediction, predict
from medanomaly.evaluation.study import counts, study
from medanomaly.metrics.box import component_edges
from medanomaly.scoring.operating_point import DICE, HEALTHY_FPR, OperatingPoint
from medanomaly.types import Box, Sample

VALIDATION = predictions(8, name="v")
POINTS = choose_operating_points(VALIDATION, healthy="healthy")
HEALTHY_ONLY = [point for point in POINTS if point.criterion == HEALTHY_FPR]
NAMES = [
    "box IoU",
    "boxes found (IoBB >= 0.1)",
    "boxes found (IoBB >= 0.25)",
    "boxes found (IoBB >= 0.5)",
    "false boxes an image",
]


def boxes_of(index: int) -> tuple[Box, ...]:
    """The rectangle of the builders' lesion."""
    return tuple(
        Box(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max) for x_min, y_min, x_max, y_max in component_edges(lesion(index))
    )


def boxed(found: list[Prediction]) -> list[Prediction]:
    """The same predictions without masks; boxes on the diseased ones, none drawn on the healthy ones."""
    return [replace(one, mask=None, boxes=boxes_of(index) if index % 2 else ()) for index, one in enumerate(found)]


def rows(found: list[Prediction], points: list[OperatingPoint] | tuple[OperatingPoint, ...] = ()) -> dict[str, Measured]:
    return {row.name: row for row in measure_boxes(found, points, config=QUICK)}


def test_a_perfect_map_finds_every_box_and_an_inverted_one_none() -> None:
    full = rows(boxed(predictions()), HEALTHY_ONLY)
    title = f" @ {AT[HEALTHY_FPR]}"
    assert list(full) == ["energy in boxes", "box pointing game", *(name + title for name in NAMES)]
    found = {name: row.interval.value for name, row in full.items()}
    assert found.pop("false boxes an image" + title) == 0
    assert set(found.values()) == {1.0}
    # Inverted: one region around each lesion, whose rectangle is the whole image.
    none = {name: row.interval.value for name, row in rows(boxed(predictions(make=inverted)), HEALTHY_ONLY).items()}
    assert none["energy in boxes"] == none["box pointing game"] == 0
    assert none["box IoU" + title] == pytest.approx(16 / SIDE**2)
    assert none["boxes found (IoBB >= 0.1)" + title] == 0
    assert none["false boxes an image" + title] == 1


def test_overlaps_are_taken_at_the_threshold_masks_are_drawn_with() -> None:
    assert {name.partition(" @ ")[2] for name in rows(boxed(predictions()), POINTS)} == {"", AT[DICE]}
    assert {name.partition(" @ ")[2] for name in rows(boxed(predictions()), HEALTHY_ONLY)} == {"", AT[HEALTHY_FPR]}
    assert list(rows(boxed(predictions()))) == ["energy in boxes", "box pointing game"]
    high = [replace(point, value=2.0) for point in HEALTHY_ONLY]
    assert rows(boxed(predictions()), high)[f"box IoU @ {AT[HEALTHY_FPR]}"].interval.value == 0


def test_images_that_nobody_annotated_count_nowhere_and_those_without_a_lesion_only_for_false_boxes() -> None:
    found = boxed(predictions())
    plain = rows(found, HEALTHY_ONLY)
    blind = replace(prediction(13, inverted), boxes=None)
    assert rows([*found, blind], HEALTHY_ONLY) == plain
    alarmed = [*found, replace(prediction(13, inverted), boxes=())]
    changed = {name for name, row in rows(alarmed, HEALTHY_ONLY).items() if row != plain[name]}
    assert changed == {f"false boxes an image @ {AT[HEALTHY_FPR]}"}
    assert plain["energy in boxes"].interval.num_images == 6
    assert plain[f"false boxes an image @ {AT[HEALTHY_FPR]}"].interval.num_images == 12


def test_without_a_box_there_is_nothing_to_say() -> None:
    assert rows(predictions(), POINTS) == {}
    assert rows([replace(one, boxes=()) for one in predictions()], POINTS) == {}


OUTSIDE = (
    Box(x_min=SIDE, y_min=0, x_max=SIDE + 4, y_max=4),
    Box(x_min=-4, y_min=0, x_max=0, y_max=4),
    Box(x_min=0, y_min=50, x_max=4, y_max=60),
)


@pytest.mark.parametrize("points", [[], HEALTHY_ONLY])
def test_images_of_which_no_box_is_visible_are_refused_by_name(points: list[OperatingPoint]) -> None:
    found = boxed(predictions())
    for index, boxes in ((3, OUTSIDE[:1]), (5, OUTSIDE[1:2]), (7, OUTSIDE)):
        found[index] = replace(found[index], boxes=boxes)
    with pytest.raises(InputError, match=r"3 images have all .*: 't3', 't5', 't7' \[E_BOX_SIZE\]"):
        rows(found, points)


def test_every_image_with_boxes_counts_and_a_box_outside_beside_a_visible_one_changes_nothing() -> None:
    found = boxed(predictions())
    beside = [replace(one, boxes=(*one.boxes, *OUTSIDE) if one.boxes else one.boxes) for one in found]
    assert rows(beside, HEALTHY_ONLY) == rows(found, HEALTHY_ONLY)
    counted = {name: row.interval.num_images for name, row in rows(beside, HEALTHY_ONLY).items()}
    assert counted.pop(f"false boxes an image @ {AT[HEALTHY_FPR]}") == 12
    assert set(counted.values()) == {6}


def test_an_evaluation_with_boxes_outside_of_their_image_is_refused() -> None:
    test = samples(8, "t")
    test[3] = replace(test[3], boxes=OUTSIDE)
    with pytest.raises(InputError, match=r"'t3' \[E_BOX_SIZE\]"):
        study("whiteness", Whiteness(), test=test, validation=samples(6, "v"), healthy="healthy", config=QUICK)


def test_detection_counts_boxes_and_pointing_counts_images() -> None:
    two = replace(prediction(1), boxes=(*boxes_of(1), Box(x_min=15, y_min=15, x_max=16, y_max=16)))
    found = {name: row.interval.value for name, row in rows([two, boxed(predictions(4))[3]], HEALTHY_ONLY).items()}
    assert found[f"boxes found (IoBB >= 0.5) @ {AT[HEALTHY_FPR]}"] == pytest.approx(2 / 3)
    assert found["box pointing game"] == 1


def test_what_a_constant_map_would_score_is_said() -> None:
    flat = [replace(one, anomaly_map=np.ones((SIDE, SIDE), np.float32)) for one in boxed(predictions())]
    row = rows(flat)["energy in boxes"]
    assert row.interval.value == pytest.approx(16 / SIDE**2)
    assert row.note == "a constant map scores 0.0625, the share of pixels in boxes"


def test_intervals_are_over_patients() -> None:
    found = [replace(one, patient_id="same") for one in boxed(predictions())]
    assert {row.interval.num_patients for row in rows(found, HEALTHY_ONLY).values()} == {1}
    several = rows(boxed(predictions()), HEALTHY_ONLY)["box pointing game"].interval
    assert (several.num_images, several.num_patients) == (6, 3)


def test_a_threshold_chosen_on_one_of_these_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="E_TEST_THRESHOLD"):
        measure_boxes(boxed(VALIDATION), POINTS, config=QUICK)


def samples(count: int, name: str) -> list[Sample]:
    """Black images without masks, every second one with a bright square in a box."""
    made = bright_samples(count, name)
    return [replace(one, mask=None, boxes=boxes_of(index) if index % 2 else None) for index, one in enumerate(made)]


def test_a_prediction_keeps_the_boxes_of_its_sample() -> None:
    assert [one.boxes for one in predict(Whiteness(), samples(4, "t"))] == [None, boxes_of(1), None, boxes_of(3)]


def test_box_numbers_stand_in_the_tables_and_the_json_of_an_evaluation(tmp_path: Path) -> None:
    one = study("whiteness", Whiteness(), test=samples(8, "t"), validation=samples(6, "v"), healthy="healthy", config=QUICK)
    write_evaluation(tmp_path, [one], title="Set", healthy="healthy", facts={}, max_cases=2)
    content = json.loads((tmp_path / "evaluation.json").read_text())
    measured = {row["name"]: row for row in content["methods"][0]["measured"]}
    assert measured["energy in boxes"]["value"] == 1
    assert measured["energy in boxes"]["group"] == "boxes"
    assert measured[f"boxes found (IoBB >= 0.5) @ {AT[HEALTHY_FPR]}"]["value"] == 1
    assert "| box pointing game" in (tmp_path / "table.md").read_text()
    assert "whiteness,boxes,box pointing game,1.0" in (tmp_path / "table.csv").read_text()
    assert counts(one, "healthy")["num_with_boxes"] == 4


def test_a_set_without_boxes_has_no_word_of_them(tmp_path: Path) -> None:
    test, validation = bright_samples(8, "t"), bright_samples(6, "v")
    one = study("whiteness", Whiteness(), test=test, validation=validation, healthy="healthy", config=QUICK)
    write_evaluation(tmp_path, [one], title="Set", healthy="healthy", facts={}, max_cases=2)
    assert "box" not in "".join(path.read_text() for path in tmp_path.glob("*.*"))
