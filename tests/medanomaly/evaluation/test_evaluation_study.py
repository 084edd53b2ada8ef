import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_builders import QUICK, Whiteness, bright_samples

from medanomaly.errors import ConfigError
from medanomaly.evaluation.study import MethodStudy, counts, refuse_different_images, study
from medanomaly.files import finite
from medanomaly.scoring.operating_point import DICE, HEALTHY_FPR, YOUDEN, fingerprint
from medanomaly.types import Sample

TEST, VALIDATION = bright_samples(8, "t"), bright_samples(6, "v")


def run(test: list[Sample] = TEST, validation: list[Sample] = VALIDATION, **options: object) -> MethodStudy:
    settings: dict[str, object] = {"healthy": "healthy", "config": QUICK} | options
    return study("whiteness", Whiteness(inverts=True), test=test, validation=validation, **settings)  # type: ignore[arg-type]


def test_thresholds_come_from_the_validation_images_alone() -> None:
    points = run().points
    assert [point.criterion for point in points] == [DICE, HEALTHY_FPR, YOUDEN]
    assert {point.chosen_on for point in points} == {"val"}
    by_criterion = {point.criterion: point for point in points}
    ids = [sample.id for sample in VALIDATION]
    assert by_criterion[DICE].image_fingerprint == by_criterion[YOUDEN].image_fingerprint == fingerprint(ids)
    assert by_criterion[HEALTHY_FPR].image_fingerprint == fingerprint(ids[::2])
    # Another test set moves no threshold, another validation set does.
    assert run(bright_samples(8, "t", lesion_value=-0.5)).points == points
    assert run(validation=bright_samples(6, "v", lesion_value=-0.5)).points != points


def test_a_threshold_that_does_not_fit_the_test_images_costs_dice() -> None:
    dim = {row.name: row.interval.value for row in run(bright_samples(8, "t", lesion_value=-0.9)).rows}
    assert dim["pixel AUROC"] == 1
    assert dim["Dice @ oracle (uses test labels)"] == 1
    assert run().rows != run(bright_samples(8, "t", lesion_value=-0.9)).rows


def test_without_validation_images_the_methods_own_thresholds_are_used() -> None:
    own = tuple(replace(point, value=0.25) for point in run().points)
    assert run(validation=[], points=own).points == own
    assert run(validation=[]).points == ()
    # With them, they are chosen anew.
    assert run(points=own).points == run().points


def test_a_study_of_the_images_its_thresholds_came_from_is_refused() -> None:
    with pytest.raises(ConfigError, match="E_TEST_THRESHOLD"):
        run(test=VALIDATION)
    with pytest.raises(ConfigError, match="E_TEST_THRESHOLD"):
        run(test=VALIDATION, validation=[], points=run().points)


def test_the_round_trip_is_measured_where_a_method_inverts() -> None:
    trip = run().round_trip
    assert trip is not None
    assert trip["max_error"] == pytest.approx(0.1, abs=1e-6)
    assert trip["psnr_db"] == pytest.approx(10 * np.log10(4 / 0.01), abs=0.01)
    assert trip["num_images"] == 8
    plain = study("plain", Whiteness(), test=TEST, validation=[], healthy="healthy", config=QUICK)
    assert plain.round_trip is None


def test_masks_are_drawn_at_the_dice_threshold_else_at_the_healthy_one() -> None:
    whole = run()
    assert whole.pixel_threshold() == whole.points[0]
    assert replace(whole, points=whole.points[1:]).pixel_threshold() == whole.points[1]
    assert replace(whole, points=whole.points[2:]).pixel_threshold() is None


def test_the_colour_scale_covers_the_maps_and_twice_the_threshold() -> None:
    whole = run()
    assert whole.scale_max() == pytest.approx(1.0)
    high = replace(whole, points=(replace(whole.points[0], value=3.0),))
    assert high.scale_max() == 6.0
    assert run(bright_samples(2, "t", lesion_value=-1.0), []).scale_max() == 1e-6


def test_a_study_is_json_with_every_number_and_its_interval() -> None:
    content = json.loads(json.dumps(finite(run().to_dict()), allow_nan=False))
    by_name = {row["name"]: row for row in content["measured"]}
    assert by_name["pixel AUROC"]["value"] == 1
    assert {"low", "high", "confidence", "num_images", "num_patients", "group"} <= by_name["pixel AUROC"].keys()
    assert "coverage below nominal" in by_name["pixel AUROC"]["note"]
    assert all("on val" in point["origin"] for point in content["operating_points"])
    assert content["seconds_per_image"] > 0


def test_what_was_there_and_what_could_be_used_is_counted() -> None:
    masked, unmasked = TEST[:7], [replace(TEST[7], mask=None)]
    assert counts(run(masked + unmasked, []), "healthy") == {
        "num_images": 8,
        "num_patients": 8,
        "num_healthy": 4,
        "num_diseased": 4,
        "num_annotated": 7,
        "num_with_lesion": 3,
        "num_diseased_without_mask": 1,
    }


def test_methods_are_compared_on_the_same_images_only() -> None:
    one, other = run(), run(bright_samples(8, "u"))
    refuse_different_images([one, one])
    refuse_different_images([one, replace(one, predictions=one.predictions[::-1])])
    with pytest.raises(ValueError, match="different images"):
        refuse_different_images([one, other])


def test_progress_is_told_what_is_being_done() -> None:
    said: list[tuple[str, int]] = []

    def watch(text: str, samples: list[Sample]) -> list[Sample]:
        said.append((text, len(samples)))
        return samples

    run(watch=watch)
    assert said == [("whiteness: val", 6), ("whiteness: test", 8)]
