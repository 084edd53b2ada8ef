"""A run folder is believed only as far as its files bear it out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from run_builders import SHA, TABLES, evaluated, localized, resulting, trained

from medanomaly.checkpoint import save_checkpoint
from medanomaly.errors import InputError
from medanomaly.evaluation.run_record import end_run
from medanomaly.evaluation.run_results import RESULTS
from medanomaly.evaluation.verify_run import verify_run
from medanomaly.files import write_json

MAKERS = [localized, evaluated, trained]


def anything(kind: str, content: object) -> object:
    return kind, content


def codes(folder: Path, **options: object) -> list[str]:
    return [finding.code for finding in verify_run(folder, anything, **options)]  # type: ignore[arg-type]


def change(path: Path, **values: object) -> None:
    write_json(path, json.loads(path.read_text()) | values)


@pytest.mark.parametrize("make", MAKERS)
def test_a_whole_folder_has_no_finding(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert codes(make(tmp_path / "run")) == []


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["config.json", "status.json"])
def test_a_file_that_is_gone_torn_or_no_object_is_a_finding(make: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    for content, code in (("{", "E_JSON"), ("[]", "E_JSON"), (None, "E_MISSING")):
        (folder / name).unlink() if content is None else (folder / name).write_text(content)
        assert code in codes(folder)


def test_a_folder_without_run_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no run\.json"):
        verify_run(tmp_path, anything)


@pytest.mark.parametrize("make", MAKERS)
def test_a_configuration_other_than_the_recorded_one_is_found(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(dict(reversed(content.items()))))
    assert codes(folder) == []  # the same content in another order
    change(folder / "config.json", name="other")
    assert codes(folder) == ["E_HASH"]


def test_a_configuration_that_is_no_experiment_is_found(tmp_path: Path) -> None:
    def refuse(kind: str, content: object) -> object:
        assert kind == "localize"
        raise KeyError("method")

    found = verify_run(localized(tmp_path / "run"), refuse)
    assert [finding.code for finding in found] == ["E_CONFIG"]


def test_outputs_that_are_gone_are_named(tmp_path: Path) -> None:
    folder = localized(tmp_path / "run")
    (folder / "maps" / "a.npy").unlink()
    [finding] = verify_run(folder, anything)
    assert (finding.code, finding.ids) == ("E_OUTPUT_MISSING", ("maps/a.npy",))


def test_outputs_outside_of_the_folder_are_named_though_they_exist(tmp_path: Path) -> None:
    folder = localized(tmp_path / "run")
    (tmp_path / "secret").write_text("x")
    text = (folder / "report.jsonl").read_text().replace("maps/a.npy", "../secret")
    (folder / "report.jsonl").write_text(text)
    assert codes(folder) == ["E_OUTSIDE"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"status": "baking"}, "E_STATUS"),
        ({"ok": 2}, "E_STATUS"),
        ({"failed": 2}, "E_STATUS"),
        ({"ok": 0, "skipped": 1}, None),
        ({"ok": 0, "failed": 0}, None),
    ],
)
def test_a_status_that_counts_more_than_the_report_has_is_found(
    status: dict[str, object], code: str | None, tmp_path: Path
) -> None:
    folder = localized(tmp_path / "run")
    change(folder / "status.json", **status)
    assert codes(folder) == ([] if code is None else [code])


def test_a_line_that_is_none_and_a_failure_without_a_reason_are_found(tmp_path: Path) -> None:
    folder = localized(tmp_path / "run")
    text = (folder / "report.jsonl").read_text().replace("E_EMPTY", "")
    (folder / "report.jsonl").write_text(text + '{"id": "torn"\n')
    assert codes(folder) == ["E_REPORT", "E_REPORT", "E_STATUS"]


def test_lines_of_other_settings_are_found(tmp_path: Path) -> None:
    folder = localized(tmp_path / "run")
    (folder / "report.jsonl").write_text((folder / "report.jsonl").read_text().replace('"job"', '"older"'))
    assert codes(folder) == ["E_HASH"]


@pytest.mark.parametrize("name", ["table.md", "table.csv", "images.csv", "evaluation.json"])
def test_a_finished_evaluation_has_all_its_files(name: str, tmp_path: Path) -> None:
    folder = evaluated(tmp_path / "run")
    (folder / name).unlink()
    assert codes(folder) == ["E_MISSING"]
    change(folder / "status.json", status="running")
    assert codes(folder) == []


def test_an_evaluation_of_another_manifest_or_of_fewer_images_is_found(tmp_path: Path) -> None:
    folder = evaluated(tmp_path / "run")
    (folder / "images.csv").write_text("method,id\none,a\none,b\ntwo,a\n")
    assert codes(folder) == ["E_IMAGES"]
    change(folder / "evaluation.json", facts={"manifest_sha256": "b" * 64})
    assert codes(folder) == ["E_HASH", "E_IMAGES"]


@pytest.mark.parametrize("kind", RESULTS)
def test_a_run_that_says_done_has_all_results_of_its_kind_and_as_many_rows_as_it_says(kind: str, tmp_path: Path) -> None:
    folder = resulting(kind, tmp_path / "run")
    assert codes(folder) == []
    for name in RESULTS[kind].files:
        before = (folder / name).read_bytes()
        (folder / name).unlink()
        assert codes(folder) == ["E_MISSING"]
        (folder / name).write_bytes(before)
    table, text = TABLES[kind]
    wanted = RESULTS[kind]
    (folder / table).write_text("\n".join(text.splitlines()[: 2 if wanted.num_images else 1]) + "\n")
    assert codes(folder) == ["E_IMAGES"]
    (folder / table).write_text("other\n1\n")
    assert len(codes(folder)) == 1
    (folder / table).write_text(text)
    if wanted.content:
        (folder / wanted.content).write_text("[]")
        assert codes(folder) == ["E_JSON"]
        change(folder / "status.json", status="preempted")
        assert codes(folder) == [], "nothing is asked of what is not done"


@pytest.mark.parametrize("kind", ["deblur", "generate"])
def test_files_that_a_table_names_are_there_and_inside_of_the_folder(kind: str, tmp_path: Path) -> None:
    folder = resulting(kind, tmp_path / "run")
    (tmp_path / "secret").write_text("x")
    table, text = TABLES[kind]
    for other in ("images/gone.png", "../secret"):
        (folder / table).write_text(text.replace("maps/a.npy", other).replace("images/1.png", other))
        [finding] = verify_run(folder, anything)
        assert (finding.code, finding.ids) == ("E_OUTPUT_MISSING", (other,))


def test_a_deblurring_that_could_use_no_image_has_no_tables(tmp_path: Path) -> None:
    folder = resulting("deblur", tmp_path / "run")
    [_, failed] = (folder / "report.jsonl").read_text().splitlines()
    (folder / "report.jsonl").write_text(failed + "\n")
    change(folder / "status.json", ok=0)
    for name in RESULTS["deblur"].files:
        (folder / name).unlink()
    assert codes(folder) == []


def test_a_job_that_has_only_begun_need_not_name_an_image(tmp_path: Path) -> None:
    folder = localized(tmp_path / "run")
    (folder / "report.jsonl").unlink()
    write_json(folder / "status.json", {"status": "running"})
    assert codes(folder) == []
    write_json(folder / "status.json", {"status": "done"})
    assert codes(folder) == ["E_REPORT"]


def finished(folder: Path, *, manifest: str = SHA) -> Path:
    change(trained(folder) / "status.json", status="done", step=3)
    header = {"provenance": {"data": {"manifest_sha256": manifest}}}
    save_checkpoint(folder / "model.safetensors", {"a": torch.zeros(1)}, header)
    end_run(folder)
    return folder


def test_a_finished_training_has_weights_of_its_manifest_and_a_whole_log(tmp_path: Path) -> None:
    assert codes(finished(tmp_path / "whole")) == []
    assert codes(finished(tmp_path / "other", manifest="b" * 64)) == ["E_HASH"]
    folder = finished(tmp_path / "run")
    (folder / "log.jsonl").write_text('{"step": 0}\n{"step": 1}\n')
    assert codes(folder) == ["E_LOG"]
    (folder / "log.jsonl").write_text('{"step": 2}\n{"step": 2}\n')
    assert codes(folder) == ["E_LOG"]
    change(folder / "status.json", step=2)
    assert codes(folder) == ["E_LOG", "E_STATUS"]


def test_weights_that_are_gone_or_torn_are_found_once_the_training_is_done(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    (folder / "model.safetensors").write_bytes(b"torn")
    assert codes(folder) == ["E_CKPT_CORRUPT"]
    (folder / "model.safetensors").unlink()
    assert codes(folder) == ["E_MISSING"]


def test_done_without_an_end_is_a_contradiction(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    change(folder / "run.json", finished_unix_s=None)
    assert codes(folder) == ["E_STATUS"]


def test_another_checkpoint_than_the_recorded_one_is_found(tmp_path: Path) -> None:
    from medanomaly.files import sha256_of

    folder, weights = localized(tmp_path / "run"), tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    assert codes(folder, weights=weights) == ["E_HASH"]
    change(folder / "run.json", weights_sha256=sha256_of(weights))
    assert codes(folder, weights=weights) == []


def test_what_a_killed_process_left_is_named(tmp_path: Path) -> None:
    folder = localized(tmp_path / "run")
    (folder / "maps" / ".b.npy.tmp-4711").write_bytes(b"half")
    [finding] = verify_run(folder, anything)
    assert (finding.code, finding.ids) == ("E_LEFT_BEHIND", ("maps/.b.npy.tmp-4711",))
