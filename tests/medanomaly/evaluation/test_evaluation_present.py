import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_builders import QUICK, Whiteness, bright_samples
from PIL import Image

from medanomaly.evaluation.folder import Case, EvaluationFolder, read_evaluation, write_evaluation
from medanomaly.evaluation.present import case_view, pick, section, sheet, summary
from medanomaly.evaluation.study import study


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


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_section_has_its_table_curves_and_every_case(folder: EvaluationFolder) -> None:
    found = section(folder)
    assert found.title == "Set"
    [table] = found.tables
    assert list(table.columns) == ["metric", "whiteness", "again"]
    assert "pixel AUROC" in [row[0] for row in table.rows]
    assert len(found.figures) == 2
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


def test_pictures_of_a_case_show_the_pixels_above_the_threshold(folder: EvaluationFolder) -> None:
    diseased = case(folder, "diseased")
    view = case_view(diseased, 0, threshold=0.5, scale_max=1.0)
    assert list(view.images) == ["original", "pseudo-healthy", "difference map", "mask", "heatmap", "outline"]
    mask = picture(view.images["mask"])[..., 0]
    assert diseased.reference is not None
    assert mask.any()
    assert np.array_equal(mask > 127, diseased.reference)


def test_a_case_without_a_threshold_or_a_twin_shows_what_there_is(folder: EvaluationFolder) -> None:
    bare = replace(case(folder, "healthy"), pseudo_healthy=None)
    assert list(case_view(bare, 0, threshold=None, scale_max=1.0).images) == ["original", "difference map"]


def test_maps_of_all_cases_share_one_scale(folder: EvaluationFolder) -> None:
    diseased = case(folder, "diseased")
    fainter = replace(diseased, anomaly_map=diseased.anomaly_map * 0.3)
    shown = [picture(case_view(one, 0, threshold=None, scale_max=1.0).images["difference map"]) for one in (diseased, fainter)]
    assert not np.array_equal(shown[0], shown[1])


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
    images = case_view(colour, 0, threshold=0.5, scale_max=1.0).images
    for name, planes in (("original", pixels), ("pseudo-healthy", pixels / 2)):
        np.testing.assert_array_equal(picture(images[name]), np.rint((np.moveaxis(planes.astype(float), 0, 2) + 1) * 127.5))
    allowed = {"heatmap": anomaly_map > 0.5, "outline": np.zeros((24, 24), np.bool_)}
    allowed["outline"][3:11, 3:11] = allowed["outline"][13:21, 13:21] = True
    for name, marked in allowed.items():
        coloured = np.ptp(picture(images[name]).astype(int), axis=2) > 0
        assert coloured.any()
        assert not coloured[~marked].any()
