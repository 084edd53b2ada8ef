"""Counts of a job as its exit code, and lines that can be read by anyone and name no place."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from medanomaly.datasets.manifest import Record
from medanomaly.errors import InputError
from medanomaly.evaluation.job_report import Summary, append_line, read_report, report_failure, without_place


@pytest.mark.parametrize(
    ("ok", "skipped", "failed", "code"), [(1, 0, 0, 0), (0, 0, 0, 0), (1, 0, 1, 3), (0, 1, 1, 3), (0, 0, 1, 4)]
)
def test_the_exit_code_follows_from_the_counts(ok: int, skipped: int, failed: int, code: int) -> None:
    assert Summary(ok=ok, skipped=skipped, failed=failed).exit_code() == code


def test_a_line_is_json_of_its_own_whatever_it_holds(tmp_path: Path) -> None:
    name = os.fsdecode(b"two\nlines \xff.png")
    append_line(tmp_path, {"id": name, "status": "ok", "outputs": [], "sha256_in": "", "score": math.nan})
    content = (tmp_path / "report.jsonl").read_bytes()
    assert content.count(b"\n") == 1
    assert json.loads(content)["score"] is None
    assert [line["id"] for line in read_report(tmp_path / "report.jsonl")] == [name]


def test_a_failure_is_counted_by_its_reason_and_told_without_the_folder(tmp_path: Path) -> None:
    summary, image = Summary(), tmp_path / "a.png"
    for _ in range(2):
        error = InputError("is empty", code="E_EMPTY", path=image, fix="export it again")
        report_failure(tmp_path, Record(id="a", patient_id="a", image=image), error, summary)
    assert (summary.failed, summary.reasons) == (2, {"E_EMPTY": 2})
    lines = read_report(tmp_path / "report.jsonl")
    assert [(line["status"], line["message"]) for line in lines] == [("failed", "is empty [E_EMPTY]; export it again")] * 2


@pytest.mark.parametrize("place", ["/people/somebody/images/a.png", "/people/some\u00f6ne/images/a.png"])
def test_what_the_report_says_of_a_file_leaves_out_where_it_lies(place: str) -> None:
    message = f"cannot be opened ([Errno 13] Permission denied: '{place}')"
    error = InputError(message, code="E_UNREADABLE", path=place, fix=f"look into {Path(place).parent}")
    text = without_place(error, Path(place))
    assert text == "cannot be opened ([Errno 13] Permission denied: 'the file') [E_UNREADABLE]; look into its folder"


def test_a_path_without_a_folder_takes_nothing_out_of_the_report() -> None:
    error = InputError("is empty. Very.", code="E_EMPTY", path="a.png", fix="export a.png again")
    assert without_place(error, Path("a.png")) == "is empty. Very. [E_EMPTY]; export a.png again"
