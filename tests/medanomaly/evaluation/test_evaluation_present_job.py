"""A job's folder on a page: every image counted, failures with their reason, nobody named, nothing read from outside."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medanomaly.errors import InputError
from medanomaly.evaluation.present_job import job_section, job_summary, read_job, spread_over_ranks
from medanomaly.files import write_json
from medanomaly.types import FloatArray

SIDE = 12


def job_of(out: Path, count: int, *, threshold: float | None = 0.5, message: str = "") -> Path:
    """``count`` good images with rising scores and a failed one."""
    lines = []
    for index in range(count):
        for kind in ("maps", "pseudo_healthy", "overlays"):
            (out / kind).mkdir(parents=True, exist_ok=True)
        np.save(out / "maps" / f"{index}.npy", np.full((SIDE, SIDE), index / count, np.float32))
        Image.fromarray(np.full((SIDE, SIDE), index, np.uint8)).save(out / "pseudo_healthy" / f"{index}.png")
        Image.fromarray(np.full((SIDE, SIDE, 3), index, np.uint8)).save(out / "overlays" / f"{index}.png")
        outputs = [f"maps/{index}.npy", f"pseudo_healthy/{index}.png", *([f"overlays/{index}.png"] if threshold else [])]
        line = {
            "id": f"Smith-{index}",
            "status": "ok",
            "score": index / count,
            "outputs": outputs,
            "sha256_in": "",
            "seconds": 0.1,
        }
        lines.append(line | {"reason_code": "", "message": message})
    failed = {"id": "Smith-bad", "status": "failed", "reason_code": "E_TRUNCATED", "outputs": [], "sha256_in": "", "seconds": 0}
    lines.append(failed | {"message": "ends early <script>"})
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(out / "run.json", {"settings": {"threshold": threshold, "scale_max": 1.0, "unit": "units"}})
    return out


def absent(line: object) -> None:
    return None


def test_every_image_is_counted_and_the_highest_scores_come_first(tmp_path: Path) -> None:
    job = read_job(job_of(tmp_path / "job", 5))
    found = job_section(job, original=absent, max_cases=10)
    assert found.intro.startswith("6 images: 5 localized, 1 failed.")
    assert [one.score for one in found.cases] == [0.8, 0.6, 0.4, 0.2, 0.0]
    assert dict(job_summary(job)) == {"job: localized": "5", "job: failed": "1"}
    reasons, failures = found.tables
    assert reasons.rows == [["E_TRUNCATED", "1"]]
    assert failures.rows == [["line 6", "E_TRUNCATED", "ends early <script>"]]
    [scores] = found.details
    assert [row[1] for row in scores.rows] == ["0.8", "0.6", "0.4", "0.2", "0"]


@pytest.mark.parametrize("ids", [False, True])
def test_images_are_named_only_when_asked(ids: bool, tmp_path: Path) -> None:
    found = job_section(read_job(job_of(tmp_path / "job", 3)), original=absent, max_cases=2, ids=ids)
    assert ("Smith" in str(found)) == ids
    assert [one.caption for one in found.cases] == (["Smith-2", "Smith-0"] if ids else ["line 3", "line 1"])


def test_pictures_are_bounded_and_the_table_has_all(tmp_path: Path) -> None:
    found = job_section(read_job(job_of(tmp_path / "job", 9)), original=absent, max_cases=4)
    assert [one.caption for one in found.cases] == ["line 9", "line 8", "line 5", "line 1"]
    assert "the 2 highest scores, and 2 spread evenly over the other ranks" in found.intro
    assert len(found.details[0].rows) == 9


@pytest.mark.parametrize(("total", "count"), [(10, 1), (10, 2), (10, 5), (10, 9), (10, 10), (3, 40), (1000, 40), (11, 3)])
def test_the_chosen_ranks_are_different_hold_the_top_and_the_last(total: int, count: int) -> None:
    chosen = spread_over_ranks(range(total), count)
    assert len(chosen) == len(set(chosen)) == min(total, count)
    assert chosen == sorted(chosen)
    assert chosen[: (count + 1) // 2] == list(range(min(total, (count + 1) // 2)))
    assert count == 1 or chosen[-1] == total - 1


def test_with_the_originals_they_lie_under_the_slider_and_without_them_the_page_says_so(tmp_path: Path) -> None:
    job = read_job(job_of(tmp_path / "job", 2))

    def original(line: object) -> FloatArray:
        return np.full((1, SIDE, SIDE), 1.0, np.float32)

    with_them = job_section(job, original=original, max_cases=2)
    assert with_them.cases[0].compare == ("original", "pseudo-healthy")
    assert np.asarray(Image.open(io.BytesIO(with_them.cases[0].images["original"]))).min() == 255
    assert "--source" not in with_them.intro
    without = job_section(job, original=absent, max_cases=2)
    assert list(without.cases[0].images) == ["heatmap", "pseudo-healthy", "difference map"]
    assert "name them with --source" in without.intro


def test_originals_that_the_job_kept_lie_under_the_slider_without_the_source(tmp_path: Path) -> None:
    folder = job_of(tmp_path / "job", 1)
    (folder / "images").mkdir()
    Image.fromarray(np.full((SIDE, SIDE), 200, np.uint8)).save(folder / "images" / "0.png")
    text = (folder / "report.jsonl").read_text()
    (folder / "report.jsonl").write_text(text.replace('"maps/0.npy"', '"maps/0.npy", "images/0.png"'))
    found = job_section(read_job(folder), original=absent, max_cases=1)
    assert found.cases[0].compare == ("original", "pseudo-healthy")
    assert np.asarray(Image.open(io.BytesIO(found.cases[0].images["original"]))).min() == 200
    assert "--source" not in found.intro


def test_an_original_of_another_size_is_not_laid_over_the_map(tmp_path: Path) -> None:
    job = read_job(job_of(tmp_path / "job", 1))
    found = job_section(job, original=lambda line: np.zeros((1, 5, 5), np.float32), max_cases=1)
    assert "original" not in found.cases[0].images


def test_a_job_without_a_threshold_has_maps_and_no_heatmaps(tmp_path: Path) -> None:
    found = job_section(read_job(job_of(tmp_path / "job", 2, threshold=None)), original=absent, max_cases=2)
    assert list(found.cases[0].images) == ["pseudo-healthy", "difference map"]
    assert "No threshold, so no heatmaps" in found.intro


def test_what_the_reader_noted_stands_beside_the_image(tmp_path: Path) -> None:
    found = job_section(read_job(job_of(tmp_path / "job", 1, message="MONOCHROME1 inverted")), original=absent, max_cases=1)
    assert ("note", "MONOCHROME1 inverted") in found.cases[0].facts


def test_files_outside_of_the_folder_and_volumes_are_not_shown(tmp_path: Path) -> None:
    folder = job_of(tmp_path / "job", 2)
    np.save(tmp_path / "secret.npy", np.zeros((SIDE, SIDE), np.float32))
    (folder / "report.jsonl").write_text((folder / "report.jsonl").read_text().replace("maps/0.npy", "maps/../../secret.npy"))
    np.save(folder / "maps" / "1.npy", np.zeros((2, SIDE, SIDE), np.float32))
    found = job_section(read_job(folder), original=absent, max_cases=2)
    assert found.cases == []
    assert len(found.details[0].rows) == 2


def test_the_last_line_of_an_image_counts(tmp_path: Path) -> None:
    folder = job_of(tmp_path / "job", 1)
    lines = (folder / "report.jsonl").read_text()
    (folder / "report.jsonl").write_text(lines + lines.splitlines()[1].replace("Smith-bad", "Smith-0") + "\n")
    assert dict(job_summary(read_job(folder))) == {"job: localized": "0", "job: failed": "2"}


def test_a_folder_without_a_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_MISSING"):
        read_job(tmp_path)
