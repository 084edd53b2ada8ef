import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_builders import QUICK, Whiteness, bright_samples, predictions, random

from medanomaly.errors import InputError
from medanomaly.evaluation.folder import (
    MAX_POINTS,
    EvaluationFolder,
    choose_cases,
    image_curves,
    pixel_curves,
    read_evaluation,
    write_evaluation,
)
from medanomaly.evaluation.study import MethodStudy, study
from medanomaly.metrics.pixel import pixel_auroc


@pytest.fixture(scope="module")
def whole() -> MethodStudy:
    samples, validation = bright_samples(10, "secret-id-"), bright_samples(6, "v")
    return study("whiteness", Whiteness(inverts=True), test=samples, validation=validation, healthy="healthy", config=QUICK)


@pytest.fixture(scope="module")
def written(whole: MethodStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EvaluationFolder]:
    out = tmp_path_factory.mktemp("evaluation")
    facts = {"checkpoint": "x", "auroc": float("nan")}
    write_evaluation(out, [whole, replace(whole, name="again")], title="Set", healthy="healthy", facts=facts, max_cases=4)
    return out, read_evaluation(out)


def test_what_is_written_is_read_back(whole: MethodStudy, written: tuple[Path, EvaluationFolder]) -> None:
    content = written[1].content
    assert (content["title"], content["healthy"]) == ("Set", "healthy")
    assert content["facts"] == {"checkpoint": "x", "auroc": None}
    assert content["counts"]["num_images"] == 10
    assert [method["name"] for method in content["methods"]] == ["whiteness", "again"]
    threshold = whole.pixel_threshold()
    assert threshold is not None
    shown = {"threshold": threshold.value, "criterion": threshold.criterion, "scale_max": whole.scale_max(), "unit": "map units"}
    assert content["display"] == shown
    assert content["scores"] == {"healthy": [0.0] * 5, "diseased": [1.0] * 5}


def test_cases_keep_their_arrays_exactly_and_nobodys_identity(whole: MethodStudy, written: tuple[Path, EvaluationFolder]) -> None:
    out, folder = written
    chosen = choose_cases(whole.predictions, "healthy", 4)
    assert len(folder.cases) == 4
    for case, found in zip(folder.cases, chosen, strict=True):
        assert (case.label, case.score) == (found.label, found.score)
        assert np.array_equal(case.anomaly_map, found.anomaly_map)
        assert np.array_equal(case.pixels, found.pixels)
        assert (case.reference is None) == (found.mask is None)
        if found.mask is not None:
            assert np.array_equal(case.reference, found.mask)  # type: ignore[arg-type]
            assert case.reference is not None
            assert case.reference.dtype == np.bool_
    for path in sorted((out / "cases").iterdir()):
        with np.load(path) as arrays:
            text = arrays["facts"].tobytes().decode() + path.name
        assert "secret" not in text


def test_a_gray_case_kept_without_its_channel_axis_is_read_with_it(
    written: tuple[Path, EvaluationFolder], tmp_path: Path
) -> None:
    out, folder = written
    shutil.copytree(out, tmp_path / "old")
    for path in (tmp_path / "old" / "cases").iterdir():
        with np.load(path) as arrays:
            kept = {name: arrays[name][0] if name in ("pixels", "pseudo_healthy") else arrays[name] for name in arrays.files}
        np.savez_compressed(path, **kept)
    for old, new in zip(read_evaluation(tmp_path / "old").cases, folder.cases, strict=True):
        assert np.array_equal(old.pixels, new.pixels)
        assert old.pseudo_healthy is not None
        assert old.pseudo_healthy.shape == new.pixels.shape


def test_the_tables_and_the_image_lines_lie_beside(written: tuple[Path, EvaluationFolder]) -> None:
    out, _ = written
    assert (out / "table.md").read_text().startswith("# Set\n\nAll methods on the same 10 images of 10 patients\n\n| metric")
    with open(out / "table.csv") as stream:
        methods = {line["method"] for line in csv.DictReader(stream)}
    assert methods == {"whiteness", "again"}
    with open(out / "images.csv") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 20
    diseased = [line for line in lines if line["label"] == "diseased"]
    assert {line["dice"] for line in diseased} == {"1.000000"}
    assert {float(line["flagged_fraction"]) for line in diseased} == {0.0625}
    assert {line["dice"] for line in lines if line["label"] == "healthy"} == {""}


def test_equal_studies_write_equal_numbers(whole: MethodStudy, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_evaluation(tmp_path / name, [whole], title="Set", healthy="healthy", facts={}, max_cases=3)
    for name in ("evaluation.json", "table.md", "table.csv", "images.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_methods_on_other_images_are_not_written_side_by_side(whole: MethodStudy, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different images"):
        write_evaluation(
            tmp_path,
            [whole, replace(whole, predictions=whole.predictions[1:])],
            title="",
            healthy="healthy",
            facts={},
            max_cases=0,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_MISSING"):
        read_evaluation(tmp_path)


def test_an_evaluation_without_thresholds_or_twins_is_written_too(tmp_path: Path) -> None:
    bare = study("w", Whiteness(), test=bright_samples(4, "t"), validation=[], healthy="healthy", config=QUICK)
    bare = replace(bare, predictions=tuple(replace(one, pseudo_healthy=None) for one in bare.predictions))
    write_evaluation(tmp_path, [bare], title="", healthy="healthy", facts={}, max_cases=2)
    folder = read_evaluation(tmp_path)
    assert folder.content["display"]["threshold"] is None
    assert [case.pseudo_healthy for case in folder.cases] == [None, None]
    json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(("max_cases", "diseased", "healthy"), [(0, 0, 0), (1, 1, 0), (4, 2, 2), (5, 3, 2), (100, 6, 6)])
def test_cases_are_half_diseased_and_half_healthy(max_cases: int, diseased: int, healthy: int) -> None:
    labels = [one.label for one in choose_cases(predictions(12), "healthy", max_cases)]
    assert (labels.count("diseased"), labels.count("healthy")) == (diseased, healthy)


def test_cases_are_filled_up_from_the_class_that_has_more() -> None:
    few_healthy = [one for index, one in enumerate(predictions(12)) if index % 2 or index == 0]
    labels = [one.label for one in choose_cases(few_healthy, "healthy", 6)]
    assert (labels.count("diseased"), labels.count("healthy")) == (5, 1)
    few_diseased = [one for index, one in enumerate(predictions(12)) if index % 2 == 0 or index == 1]
    labels = [one.label for one in choose_cases(few_diseased, "healthy", 6)]
    assert (labels.count("diseased"), labels.count("healthy")) == (1, 5)


def test_cases_are_chosen_by_id_and_not_by_result_or_order() -> None:
    found = predictions(12)
    chosen = [one.id for one in choose_cases(found, "healthy", 4)]
    worse = [replace(one, score=-one.score, anomaly_map=1 - one.anomaly_map) for one in found[::-1]]
    assert [one.id for one in choose_cases(worse, "healthy", 4)] == chosen
    assert set(chosen) != {"t0", "t1", "t2", "t3"}


def test_curves_run_from_corner_to_corner_and_are_known_for_known_scores() -> None:
    scores = [0.1, 0.9, 0.4, 0.35]
    found = [replace(one, score=score) for one, score in zip(predictions(4), scores, strict=True)]
    curve = image_curves(found, "healthy")
    # Healthy 0.1, 0.4; diseased 0.9, 0.35.
    assert curve == {
        "fpr": [0, 0, 0.5, 0.5, 1, 1],
        "tpr": [0, 0.5, 0.5, 1, 1, 1],
        "recall": [0.5, 0.5, 1, 1],
        "precision": [1, 0.5, pytest.approx(2 / 3), 0.5],
    }
    assert image_curves(found[::2], "healthy") is None
    many = [replace(one, score=float(index)) for index, one in enumerate(predictions(1000))]
    thinned = image_curves(many, "healthy")
    assert thinned is not None
    assert len(thinned["fpr"]) <= 402
    assert (thinned["fpr"][-1], thinned["tpr"][-1]) == (1, 1)


def test_pixel_curves_end_where_all_or_nothing_is_flagged_and_lie_on_the_exact_ones() -> None:
    found = predictions(12, random)
    curves = pixel_curves(found, "healthy")
    assert curves is not None
    assert (curves["fpr"][0], curves["tpr"][0], curves["fpr"][-1], curves["tpr"][-1]) == (0, 0, 1, 1)
    assert len(curves["fpr"]) <= MAX_POINTS + 2
    maps, masks = [p.anomaly_map for p in found], [np.zeros((16, 16), bool) if p.mask is None else p.mask for p in found]
    # 400 of 3,072 thresholds: the trapezoids under them are the area to a thousandth.
    assert np.trapezoid(curves["tpr"], curves["fpr"]) == pytest.approx(pixel_auroc(maps, masks), abs=2e-3)
    values, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    threshold = np.sort(values[truth])[0]
    called = values >= threshold
    assert curves["recall"].index(1.0) >= 0
    assert curves["precision"][curves["recall"].index(1.0)] == pytest.approx(truth.sum() / called.sum())
    assert pixel_curves(predictions(1), "healthy") is None


def test_the_worst_cases_are_kept_apart_the_worst_first(tmp_path: Path) -> None:
    samples, validation = bright_samples(30, "s"), bright_samples(6, "v")
    good = study("whiteness", Whiteness(), test=samples, validation=validation, healthy="healthy", config=QUICK)
    lost = [
        p if p.id not in ("s3", "s21") else replace(p, anomaly_map=p.anomaly_map[::-1, ::-1].copy()) for p in good.predictions
    ]
    main = replace(good, predictions=tuple(lost))
    write_evaluation(tmp_path, [main], title="Set", healthy="healthy", facts={}, max_cases=24)
    folder = read_evaluation(tmp_path)
    assert len(folder.worst) == 10
    wanted = [p for name in ("s21", "s3") for p in main.predictions if p.id == name]
    for case, prediction in zip(folder.worst, wanted, strict=False):
        assert np.array_equal(case.anomaly_map, prediction.anomaly_map)
    write_evaluation(tmp_path / "none", [main], title="Set", healthy="healthy", facts={}, max_cases=0)
    assert read_evaluation(tmp_path / "none").worst == ()
