"""The job around preprocessing: several processes, resumable, one bad file never stops it, a killed worker names its file."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medanomaly.datasets.manifest import Record
from medanomaly.datasets.preprocess import ResizeConfig, Work
from medanomaly.datasets.preprocess_plan import work_of_tree
from medanomaly.errors import ConfigError, ResourceError
from medanomaly.evaluation import bulk_preprocess
from medanomaly.evaluation.bulk_preprocess import preprocess_all
from medanomaly.io.writers import write_png
from medanomaly.types import Box

CONFIG = ResizeConfig(size=8)


def tree(root: Path, count: int = 5) -> list[Work]:
    for index in range(count):
        write_png(root / f"{index}.png", np.random.default_rng(index).integers(0, 256, (10, 12), dtype=np.uint8))
    return work_of_tree(root)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]


def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    works = tree(tmp_path / "in")
    for workers in (1, 2):
        summary, records = preprocess_all(works, tmp_path / str(workers), CONFIG, workers=workers)
        assert (summary.ok, summary.failed, len(records)) == (5, 0, 5)
    for index in range(5):
        assert (tmp_path / f"1/{index}.png").read_bytes() == (tmp_path / f"2/{index}.png").read_bytes()


def test_a_rerun_does_what_is_missing_or_changed_and_nothing_else(tmp_path: Path) -> None:
    works, out = tree(tmp_path / "in"), tmp_path / "out"
    preprocess_all(works, out, CONFIG)
    (out / "1.png").unlink()
    write_png(works[3].record.image, np.zeros((10, 12), np.uint8))
    untouched = (out / "2.png").stat().st_mtime_ns
    summary, records = preprocess_all(works, out, CONFIG)
    assert (summary.ok, summary.skipped, len(records)) == (2, 3, 5)
    assert [line["id"] for line in lines(out)[5:]] == ["1.png", "3.png"]
    assert (out / "2.png").stat().st_mtime_ns == untouched


def test_a_new_window_of_the_manifest_is_a_change(tmp_path: Path) -> None:
    (work,), out = tree(tmp_path / "in", 1), tmp_path / "out"
    preprocess_all([work], out, CONFIG)
    windowed = Work(
        record=Record(id=work.record.id, patient_id="p", image=work.record.image, intensity_low=0, intensity_high=9),
        image_out=work.image_out,
    )
    assert preprocess_all([windowed], out, CONFIG)[0].ok == 1
    assert preprocess_all([windowed], out, CONFIG)[0].skipped == 1


def test_a_folder_of_other_settings_is_refused_unless_overwritten(tmp_path: Path) -> None:
    works, out = tree(tmp_path / "in", 2), tmp_path / "out"
    preprocess_all(works, out, CONFIG)
    with pytest.raises(ConfigError, match="E_CHANGED"):
        preprocess_all(works, out, ResizeConfig(size=4))
    assert preprocess_all(works, out, ResizeConfig(size=4), overwrite=True)[0].ok == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_files_are_lines_and_the_others_are_done(tmp_path: Path, workers: int) -> None:
    tree(tmp_path / "in", 3)
    (tmp_path / "in/cut.png").write_bytes((tmp_path / "in/0.png").read_bytes()[:60])
    (tmp_path / "in/wrong.dcm").write_bytes(b"no dicom at all")
    summary, records = preprocess_all(work_of_tree(tmp_path / "in"), tmp_path / "out", CONFIG, workers=workers)
    assert (summary.ok, summary.failed, summary.exit_code()) == (3, 2, 3)
    failed = {line["id"]: line for line in lines(tmp_path / "out") if line["status"] == "failed"}
    assert {key: line["reason_code"] for key, line in failed.items()} == {"cut.png": "E_TRUNCATED", "wrong.dcm": "E_FORMAT"}
    assert str(tmp_path) not in (tmp_path / "out/report.jsonl").read_text()
    assert [record.id for record in records] == ["0.png", "1.png", "2.png"]


def test_nothing_usable_is_exit_code_4(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"x")
    summary, records = preprocess_all(work_of_tree(tmp_path / "in"), tmp_path / "out", CONFIG)
    assert (summary.exit_code(), records) == (4, [])


def test_a_stop_keeps_what_is_done_and_the_same_call_continues(tmp_path: Path) -> None:
    works, out = tree(tmp_path / "in"), tmp_path / "out"
    asked = iter([False, False, True])
    summary, _ = preprocess_all(works, out, CONFIG, stop=lambda: next(asked))
    assert summary.stopped
    assert summary.ok == 2
    assert json.loads((out / "status.json").read_text())["status"] == "preempted"
    summary, records = preprocess_all(works, out, CONFIG)
    assert (summary.ok, summary.skipped, summary.stopped, len(records)) == (3, 2, False, 5)


def test_the_new_record_has_the_new_files_boxes_and_spacing_and_keeps_the_rest(tmp_path: Path) -> None:
    (work,) = tree(tmp_path / "in", 1)
    record = Record(
        id="0.png",
        patient_id="007",
        image=work.record.image,
        label="diseased",
        annotated_empty=False,
        split="val",
        spacing_mm=(2.0, 1.0),
        intensity_low=0,
        intensity_high=255,
        boxes=(Box(x_min=0, y_min=0, x_max=6, y_max=5, label="mass"),),
        observations=(("Edema", -1),),
        view="PA",
        source="here",
    )
    (made,) = preprocess_all([Work(record=record, image_out="0.png")], tmp_path / "out", ResizeConfig(size=6))[1]
    assert made.image == tmp_path / "out" / "0.png"
    assert made.boxes == (Box(x_min=0, y_min=0.5, x_max=3, y_max=3, label="mass"),)
    assert made.spacing_mm == (4.0, 2.0)
    assert made.intensity_range is None
    kept = ("id", "patient_id", "label", "split", "observations", "view", "source")
    assert all(getattr(made, name) == getattr(record, name) for name in kept)


class Killing:
    """Stands in for a pool: a work named in ``deadly`` kills the process it is given to."""

    def __init__(self, deadly: set[str]) -> None:
        self.deadly = deadly

    def __call__(self, workers: int) -> Any:
        executor = real_pool(workers)
        submit = executor.submit

        def submitting(function: Any, work: Work, *rest: Any) -> Future[Any]:
            return submit(kill_self) if work.record.id in self.deadly else submit(function, work, *rest)

        executor.submit = submitting  # type: ignore[method-assign,assignment]
        return executor


def kill_self() -> None:
    """What the kernel does to a process that takes too much memory."""
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


real_pool = bulk_preprocess.pool


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Killing]:
    stand_in = Killing(set())
    monkeypatch.setattr(bulk_preprocess, "pool", stand_in)
    return stand_in  # type: ignore[return-value]


def test_a_file_that_kills_its_worker_is_named_and_the_others_are_done(tmp_path: Path, killing: Killing) -> None:
    works, out = tree(tmp_path / "in", 9), tmp_path / "out"
    killing.deadly = {"2.png"}
    summary, records = preprocess_all(works, out, CONFIG, workers=2)
    assert (summary.ok, summary.failed, summary.reasons) == (8, 1, {"E_WORKER": 1})
    (line,) = [line for line in lines(out) if line["status"] == "failed"]
    assert line["id"] == "2.png"
    assert "killed the process that read it" in line["message"]
    assert sorted(line["id"] for line in lines(out)) == [f"{index}.png" for index in range(9)], "each exactly once"
    assert len(records) == 8


def test_three_files_that_kill_end_the_job_with_an_error_that_names_the_last(tmp_path: Path, killing: Killing) -> None:
    works = tree(tmp_path / "in", 6)
    killing.deadly = {work.record.id for work in works}
    with pytest.raises(ResourceError, match=r"\.png: 3 files killed the process that read them.*E_WORKER"):
        preprocess_all(works, tmp_path / "out", CONFIG, workers=2)


def test_a_full_disk_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> dict[str, Any]:
        error = {"message": "the disk is full", "code": "E_DISK_FULL", "fix": "free space", "exit_code": 6}
        return {"status": "failed", "reason_code": "E_DISK_FULL", "error": error}

    monkeypatch.setattr(bulk_preprocess, "attempt", full)
    with pytest.raises(ResourceError, match="E_DISK_FULL"):
        preprocess_all(tree(tmp_path / "in", 2), tmp_path / "out", CONFIG)
