from dataclasses import replace

import numpy as np
import pytest
from evaluation_builders import QUICK, inverted, lesion, perfect, prediction, predictions, random, rows, values

from medanomaly.errors import ConfigError
from medanomaly.evaluation.measure import AT, MeasureConfig, mean_row, measure
from medanomaly.evaluation.operating_points import choose_operating_points
from medanomaly.evaluation.predict import with_truth
from medanomaly.scoring.operating_point import DICE, HEALTHY_FPR, YOUDEN, OperatingPoint

VALIDATION = predictions(8, name="v")
POINTS = choose_operating_points(VALIDATION, healthy="healthy")
RANKINGS = ("pixel AUROC", "pixel AUROC, lesion images", "image AUROC")


def test_a_perfect_map_gets_full_marks_everywhere() -> None:
    found = values(predictions(), POINTS, validation=VALIDATION)
    full = (
        *RANKINGS,
        "pixel AP",
        "image AP",
        f"Dice @ {AT[DICE]}",
        f"IoU @ {AT[DICE]}",
        "Dice @ oracle (uses test labels)",
        "Dice @ Otsu per image",
        "pointing game",
        "lesion recall",
        "AUPRO to FPR 0.3",
        "FROC",
        "sensitivity at 95 % specificity",
        "image accuracy",
        "image F1",
    )
    for name in full:
        assert found[name] == pytest.approx(1), name
    for name in (f"healthy area flagged @ {AT[DICE]}", f"healthy area flagged @ {AT[HEALTHY_FPR]}"):
        assert found[name] == 0, name


def test_an_inverted_map_gets_none() -> None:
    found = values(predictions(make=inverted))
    for name in ("pixel AUROC", "pixel AUROC, lesion images", "pointing game", "FROC"):
        assert found[name] == pytest.approx(0), name
    share = 16 / 256
    assert found["pixel AP, lesion images"] == pytest.approx(share)


def test_a_random_map_ranks_like_chance() -> None:
    found = values(predictions(60, random))
    assert found["pixel AUROC"] == pytest.approx(0.5, abs=0.03)
    assert found["pixel AUROC, lesion images"] == pytest.approx(0.5, abs=0.03)
    assert found["pixel AP"] == pytest.approx(16 / 512, abs=0.01)
    assert found["image AUROC"] == pytest.approx(0.5, abs=0.2)


def test_an_oracle_threshold_and_a_chosen_one_are_told_apart() -> None:
    found = rows(predictions(), POINTS)
    assert "upper bound, not a result" in found["Dice @ oracle (uses test labels)"].note
    assert f"{DICE} on val (8 images)" in found[f"Dice @ {AT[DICE]}"].note
    assert f"{HEALTHY_FPR} 0.005 on val" in found[f"Dice @ {AT[HEALTHY_FPR]}"].note


def test_a_threshold_chosen_on_one_of_these_images_is_refused() -> None:
    for seen in (VALIDATION, [*predictions(), VALIDATION[3]]):
        with pytest.raises(ConfigError, match="E_TEST_THRESHOLD"):
            measure(seen, POINTS, healthy="healthy")


def test_a_diseased_image_without_a_mask_counts_for_images_and_not_for_pixels() -> None:
    blind = [*predictions(), prediction(13, inverted, masked=False)]
    plain, found = rows(predictions()), rows(blind)
    assert found["pixel AUROC"].interval == plain["pixel AUROC"].interval
    assert found["pixel AP"].note == plain["pixel AP"].note
    assert found["image AUROC"].interval.num_images == plain["image AUROC"].interval.num_images + 1


def test_a_healthy_image_without_a_mask_counts_as_lesion_free() -> None:
    only_diseased = [one for one in predictions() if one.label == "diseased"]
    known = with_truth(predictions(), "healthy")
    assert len(known) == 12
    assert [truth.any() for _, truth in known] == [False, True] * 6
    assert rows(predictions())["pixel AP"].note == "prevalence 0.0312"
    assert rows(only_diseased)["pixel AP"].note == "prevalence 0.0625"


def test_an_image_without_label_or_mask_counts_nowhere() -> None:
    unknown = replace(prediction(13, inverted, masked=False), label=None)
    assert rows([*predictions(), unknown]) == rows(predictions())


def test_an_annotated_image_counts_by_its_mask_whatever_its_label() -> None:
    found = replace(prediction(14), label=None, mask=lesion(14))
    assert [truth.any() for _, truth in with_truth([found], "healthy")] == [True]


def test_maps_are_pooled_on_one_scale_and_never_rescaled_per_image() -> None:
    # Healthy maps all above every lesion: within each image the lesion still ranks first.
    louder = [replace(one, anomaly_map=one.anomaly_map + 5) if one.label == "healthy" else one for one in predictions()]
    found = values(louder)
    assert found["pixel AUROC"] == pytest.approx(1 - 6 * 256 / (6 * 256 + 6 * 240))
    assert found["pixel AUROC, lesion images"] == 1
    quieter = [
        replace(one, anomaly_map=one.anomaly_map * 0.01) if index == 1 else one
        for index, one in enumerate(predictions(make=random))
    ]
    assert values(quieter)["pixel AUROC"] != values(predictions(make=random))["pixel AUROC"]
    fewer = values(quieter, [replace(point, value=0.5) for point in POINTS])
    assert (
        fewer[f"Dice @ {AT[DICE]}"]
        < values(predictions(make=random), [replace(point, value=0.5) for point in POINTS])[f"Dice @ {AT[DICE]}"]
    )


def test_without_a_lesion_or_a_second_class_only_what_is_left_is_measured() -> None:
    healthy = [one for one in predictions() if one.label == "healthy"]
    assert set(values(healthy, POINTS)) == {
        f"healthy area flagged @ {AT[DICE]}",
        f"healthy area flagged @ {AT[HEALTHY_FPR]}",
        "PSNR outside lesions, dB",
        "SSIM outside lesions",
    }
    unmasked = [replace(one, mask=None) for one in predictions() if one.label == "diseased"]
    assert rows(unmasked, POINTS) == {}


def test_fidelity_is_measured_outside_the_lesion_and_only_where_there_is_a_twin() -> None:
    changed = [
        replace(one, pseudo_healthy=np.where(with_truth([one], "healthy")[0][1], -1, one.pixels + 0.1).astype(np.float32))
        for one in predictions()
    ]
    assert values(changed)["PSNR outside lesions, dB"] == pytest.approx(10 * np.log10(4 / 0.01), abs=0.01)
    # Exactly kept is infinitely good: such images are left out of the mean, and said so.
    kept = rows([replace(one, pseudo_healthy=one.pixels) for one in predictions()])["PSNR outside lesions, dB"]
    assert np.isnan(kept.interval.value)
    assert "undefined for 12 images" in kept.note
    assert not any("outside lesions" in name for name in values([prediction(n, twin=False) for n in range(12)]))


def test_a_mean_of_undefined_values_alone_is_undefined_and_says_how_many() -> None:
    found = mean_row("pixels", "x", np.full(3, np.nan), ["a", "b", "c"], QUICK)
    assert np.isnan([found.interval.value, found.interval.low, found.interval.high]).all()
    assert found.note == "undefined for 3 images"
    some = mean_row("pixels", "x", np.array([np.nan, 1.0, 2.0]), ["a", "b", "c"], QUICK)
    assert (some.interval.value, some.interval.num_images, some.note) == (1.5, 2, "undefined for 1 images")


def test_images_without_a_prediction_have_no_distance_and_are_counted() -> None:
    name = f"HD95 @ {AT[DICE]}, px"
    point = [replace(one, value=0.5) for one in POINTS if one.criterion == DICE]
    assert values(predictions(), point)[name] == 0
    silent = [replace(one, anomaly_map=0 * one.anomaly_map) if index == 1 else one for index, one in enumerate(predictions())]
    found = rows(silent, point)[name]
    assert found.interval.value == 0
    assert "undefined for 1 images" in found.note
    assert (found.interval.num_images, rows(predictions(), point)[name].interval.num_images) == (5, 6)


def test_the_slow_curves_can_be_left_out() -> None:
    found = values(predictions(), config=MeasureConfig(num_resamples=5, regions=False))
    assert "pointing game" in found
    assert not {"FROC", "AUPRO to FPR 0.3"} & set(found)


def test_intervals_are_over_patients_and_repeat_with_the_seed() -> None:
    found = rows(predictions(24, random))
    again = rows(predictions(24, random))
    assert found == again
    interval = found["pixel AUROC"].interval
    assert (interval.num_images, interval.num_patients) == (24, 12)
    assert interval.low < interval.value < interval.high
    other = rows(predictions(24, random), config=MeasureConfig(num_resamples=20, seed=1))
    assert other["pixel AUROC"].interval.value == interval.value
    assert other["pixel AUROC"].interval.low != interval.low


def test_the_calibration_error_comes_from_a_fit_on_validation_scores_only() -> None:
    assert values(predictions(), validation=VALIDATION)["calibration error"] < 0.4
    assert "calibration error" not in values(predictions())
    one_class = [one for one in VALIDATION if one.label == "healthy"]
    assert "calibration error" not in values(predictions(), validation=one_class)
    swapped = [replace(one, score=-one.score) for one in VALIDATION]
    assert values(predictions(), validation=swapped)["calibration error"] > 0.5


def test_dice_is_told_apart_by_lesion_size() -> None:
    def sized(index: int) -> np.ndarray:
        mask = np.zeros((16, 16), np.bool_)
        mask[: 2 + index % 9, 2:10] = True
        return mask

    found = [replace(prediction(index), mask=sized(index), anomaly_map=perfect(sized(index), index)) for index in range(1, 19, 2)]
    # The small lesions are missed.
    missed = [
        replace(one, anomaly_map=np.zeros_like(one.anomaly_map)) if one.mask is not None and one.mask.sum() < 40 else one
        for one in found
    ]
    strata = {name: value for name, value in values(missed, POINTS).items() if name.endswith("lesions")}
    assert strata == {"Dice, small lesions": 0, "Dice, medium lesions": 1, "Dice, large lesions": 1} | {
        "SSIM outside lesions": strata["SSIM outside lesions"]
    }


@pytest.mark.parametrize("keep", ["diseased", "healthy"])
def test_points_are_chosen_as_far_as_masks_and_labels_allow(keep: str) -> None:
    assert [point.criterion for point in POINTS] == [DICE, HEALTHY_FPR, YOUDEN]
    some = [one for one in VALIDATION if one.label == keep]
    wanted = {"diseased": [DICE], "healthy": [HEALTHY_FPR]}[keep]
    assert [point.criterion for point in choose_operating_points(some, healthy="healthy")] == wanted
    assert choose_operating_points([], healthy="healthy") == ()


def test_points_are_not_chosen_on_a_test_split() -> None:
    with pytest.raises(ConfigError, match="E_TEST_THRESHOLD"):
        choose_operating_points(VALIDATION, healthy="healthy", split="test")


def test_the_healthy_rate_asked_for_is_kept_on_the_images_it_is_chosen_on() -> None:
    noisy = predictions(20, random, name="v")
    points = {point.criterion: point for point in choose_operating_points(noisy, healthy="healthy", healthy_fpr=0.1)}
    point: OperatingPoint = points[HEALTHY_FPR]
    healthy = np.concatenate([one.anomaly_map.ravel() for one in noisy if one.label == "healthy"])
    assert float((healthy > point.value).mean()) == pytest.approx(0.1, abs=1 / len(healthy))
    assert point.target == 0.1
