import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_builders import QUICK, Whiteness, bright_samples
from PIL import Image

from medanomaly.evaluation.case_pictures import MAX_SIDE_PX, Scale, case_view
from medanomaly.evaluation.folder import Case, EvaluationFolder, read_evaluation, write_evaluation
from medanomaly.evaluation.image_table import read_images
from medanomaly.evaluation.present import pick, section, sections, sheet, summary
from medanomaly.evaluation.study import study
from medanomaly.views.report import CaseView


def folder_of(out: Path, *, thresholds: bool = True, masks: bool = True, only: str | None = None) -> EvaluationFolder:
    samples = [replace(one, mask=one.mask if masks else None) for one in bright_samples(10, "t") if only in (None, one.label)]
    validation = bright_samples(6, "v") if thresholds else []
    whole = study("whiteness", Whiteness(inverts=True), test=samples, validation=validation, healthy="healthy", config=QUICK)
    write_evaluation(out, [whole, replace(whole, name="again")], title="Set", healthy="healthy", facts={}, max_cases=6)
    return read_evaluation(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> EvaluationFolder:
    return folder_of(tmp_path_factory.mktemp("evaluation"))


def case(folder: EvaluationFolder, label: str) -> Case:
    return next(one for one in folder.cases if one.label == label)


def view(case: Case, *, threshold: float | None, scale_max: float = 1.0) -> CaseView:
    return case_view(case, "case", Scale(threshold=threshold, scale_max=scale_max))


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_section_has_its_table_curves_and_every_case(folder: EvaluationFolder) -> None:
    found = section(folder)
    assert found.title == "Set"
    [table] = found.tables
    assert list(table.columns) == ["metric", "whiteness", "again"]
    assert "pixel AUROC" in [row[0] for row in table.rows]
    assert [caption.split(":")[0] for caption, _ in found.figures] == [
        "Pixel level",
        "Image level",
        "Calibration of the image score as a probability",
        "Image scores of whiteness",
    ]
    assert all(picture(content).shape[0] > 50 for _, content in found.figures)
    assert len(found.cases) == len(folder.cases) == 6


def test_the_intro_counts_what_was_there(folder: EvaluationFolder, tmp_path: Path) -> None:
    assert section(folder).intro.startswith("10 test images of 10 patients: 5 diseased, 5 healthy; 5 with a lesion mask.")
    assert "no mask" not in section(folder).intro
    assert "5 diseased images have no mask" in section(folder_of(tmp_path, masks=False)).intro


def test_a_set_of_one_class_has_no_curves_and_still_a_section(tmp_path: Path) -> None:
    found = section(folder_of(tmp_path, only="healthy"))
    assert found.figures == []
    assert "0 diseased, 5 healthy" in found.intro


def test_cases_come_by_falling_score_and_keep_their_number(folder: EvaluationFolder) -> None:
    shown = section(folder).cases
    scores = [one.score for one in shown]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    assert {one.caption: one.score for one in shown} == {f"case {index + 1}": one.score for index, one in enumerate(folder.cases)}


def test_a_page_without_a_reliability_curve_of_an_older_evaluation_has_the_other_figures(folder: EvaluationFolder) -> None:
    older = {key: value for key, value in folder.content.items() if key != "reliability"}
    assert len(section(replace(folder, content=older)).figures) == 3


def test_the_worst_cases_are_a_section_of_their_own_with_their_dice(folder: EvaluationFolder) -> None:
    _, worst = sections(folder)
    assert len(worst.cases) == len(folder.worst) == 5
    assert "chosen by result" in worst.intro
    assert [dict(one.facts)["Dice"] for one in worst.cases] == ["1.000"] * 5
    assert sections(replace(folder, worst=())) == [section(folder)]


def test_the_table_of_all_images_names_nobody_unless_asked(folder: EvaluationFolder, tmp_path: Path) -> None:
    folder_of(tmp_path)
    images = read_images(tmp_path / "images.csv")["whiteness"]
    table = section(folder, images).details[0]
    assert len(table.rows) == 10
    assert table.columns[:3] == ["line", "reference", "score"]
    assert "t-patient" not in str(table.rows)
    lines = (tmp_path / "images.csv").read_text().splitlines()
    assert all(f",{row[1]}," in lines[int(row[0]) - 1] for row in table.rows)
    scores = [float(row[2]) for row in table.rows]
    assert scores == sorted(scores, reverse=True)
    named = section(folder, images, ids=True).details[0]
    assert {row[1] for row in named.rows} == {f"t{index}" for index in range(10)}
    assert "t-patient3" in str(named.rows)


def test_pictures_of_a_case_are_marked_around_the_pixels_above_the_threshold(folder: EvaluationFolder) -> None:
    diseased = case(folder, "diseased")
    shown = view(diseased, threshold=0.5)
    assert list(shown.images) == ["original", "pseudo-healthy", "difference map", "heatmap", "outlines"]
    assert shown.compare == ("original", "pseudo-healthy")
    assert dict(shown.facts) == {"Dice": "1.000", "flagged": "16 px, 6.2 %"}
    assert diseased.reference is not None
    lesion = diseased.reference.repeat(3, 0).repeat(3, 1)
    heatmap, cyan = ((picture(shown.images[name]) == (0, 229, 255)).all(axis=2) for name in ("heatmap", "outlines"))
    np.testing.assert_array_equal(heatmap, cyan)
    rows, columns = np.nonzero(lesion)
    assert not cyan[lesion].any()
    assert cyan.sum() == 4 * 12
    assert cyan[rows.min() - 1, columns.min() : columns.max() + 1].all()


def test_a_case_without_a_threshold_or_a_twin_shows_what_there_is(folder: EvaluationFolder) -> None:
    bare = view(replace(case(folder, "healthy"), pseudo_healthy=None), threshold=None)
    assert list(bare.images) == ["original", "difference map"]
    assert (bare.compare, bare.facts) == (None, ())


def test_maps_of_all_cases_share_one_scale(folder: EvaluationFolder) -> None:
    diseased = case(folder, "diseased")
    fainter = replace(diseased, anomaly_map=diseased.anomaly_map * 0.3)
    shown = [picture(view(one, threshold=None).images["difference map"]) for one in (diseased, fainter)]
    assert not np.array_equal(shown[0], shown[1])


def test_a_large_image_fits_the_page_and_a_single_flagged_pixel_is_still_seen() -> None:
    side = 2 * MAX_SIDE_PX + 10
    pixels, anomaly_map = np.zeros((1, side, side), np.float32), np.zeros((side, side), np.float32)
    anomaly_map[401, 301] = 1
    large = Case(label=None, score=1.0, pixels=pixels, pseudo_healthy=pixels, anomaly_map=anomaly_map, reference=None)
    shown = view(large, threshold=0.5)
    for name, content in shown.images.items():
        assert max(picture(content).shape[:2]) <= MAX_SIDE_PX, name
    assert picture(shown.images["difference map"]).max() > 200
    assert (picture(shown.images["heatmap"]) == (0, 229, 255)).all(axis=2).any()


def test_the_summary_is_the_main_methods_few_numbers(folder: EvaluationFolder) -> None:
    found = dict(summary(folder))
    assert found["Set: pixel AUROC"].startswith("1.000 [")
    assert found["Set: Dice @ val-Dice threshold"].startswith("1.000 [")
    assert "Set: image AUROC" in found


@pytest.mark.parametrize(("num_cases", "labels"), [(1, ["healthy"]), (3, ["diseased", "diseased", "healthy"])])
def test_a_sheet_ends_with_a_healthy_image(folder: EvaluationFolder, num_cases: int, labels: list[str]) -> None:
    assert [one.label for one in pick(folder.cases, num_cases, "healthy")] == labels


def test_a_sheet_of_one_class_has_that_class_only(folder: EvaluationFolder) -> None:
    diseased = [one for one in folder.cases if one.label == "diseased"]
    assert len(pick(diseased, 2, "healthy")) == 2
    assert pick([], 3, "healthy") == []


@pytest.mark.parametrize("thresholds", [True, False])
def test_a_sheet_is_written_with_and_without_a_threshold(tmp_path: Path, thresholds: bool) -> None:
    sheet(tmp_path / "sheet.png", folder_of(tmp_path, thresholds=thresholds), num_cases=2, title="Set")
    with Image.open(tmp_path / "sheet.png") as written:
        assert min(written.size) > 256


def test_a_colour_case_is_shown_in_colour_and_marked_on_gray() -> None:
    draws = np.random.default_rng(0)
    pixels = draws.uniform(-1, 1, (3, 24, 24)).astype(np.float32)
    anomaly_map, reference = np.zeros((24, 24), np.float32), np.zeros((24, 24), np.bool_)
    anomaly_map[4:10, 4:10], reference[14:20, 14:20] = 0.8, True
    colour = Case(
        label="diseased", score=1.0, pixels=pixels, pseudo_healthy=pixels / 2, anomaly_map=anomaly_map, reference=reference
    )
    images = view(colour, threshold=0.5).images
    for name, planes in (("original", pixels), ("pseudo-healthy", pixels / 2)):
        np.testing.assert_array_equal(picture(images[name]), np.rint((np.moveaxis(planes.astype(float), 0, 2) + 1) * 127.5))
    around = np.zeros((24, 24), np.bool_)
    around[3:11, 3:11] = True
    both = around.copy()
    both[13:21, 13:21] = True
    for name, marked in (("heatmap", around), ("outlines", both)):
        coloured = np.ptp(picture(images[name]).astype(int), axis=2) > 0
        assert coloured.any()
        assert not coloured[~marked.repeat(3, 0).repeat(3, 1)].any()
