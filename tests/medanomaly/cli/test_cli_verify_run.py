"""verify-run on what the commands really write, and on the same with something taken away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_builders import localize, write_folder, write_labelled

from medanomaly.cli.main import main

ROWS = [("v1", "healthy", "val"), ("v2", "diseased", "val"), ("t1", "healthy", "test"), ("t2", "diseased", "test")]


def evaluate(checkpoint: Path, folder: Path) -> Path:
    manifest = write_labelled(folder / "data", ROWS)
    words = ["evaluate", checkpoint, manifest, folder / "out", "--num-resamples", 5, "--floors", "false"]
    assert main([*map(str, words), "--quiet", "true", "--device", "cpu", "--table", "false"]) == 0
    return folder / "out"


def verify(folder: Path, *options: object) -> int:
    return main([str(word) for word in ("verify-run", folder, *options)])


def test_an_evaluation_verifies_with_its_checkpoint_and_not_without_a_key(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = evaluate(checkpoint, tmp_path)
    assert verify(out, "--checkpoint", checkpoint) == 0
    assert capsys.readouterr().out.endswith("ok\n")
    content = json.loads((out / "run.json").read_text())
    assert content["command"].startswith(f"medanomaly evaluate {checkpoint.name} manifest.csv out --floors false")
    assert str(tmp_path) not in (out / "run.json").read_text()
    del content["seed"]
    (out / "run.json").write_text(json.dumps(content))
    assert verify(out) == 4
    assert (
        capsys.readouterr().out
        == "[E_RUN_KEY] run.json has no seed: one whole number, or null where nothing is drawn at random\n"
    )


def test_a_job_verifies_until_an_output_is_gone(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert localize(checkpoint, write_folder(tmp_path / "images", 2), out) == 0
    assert verify(out, "--checkpoint", checkpoint) == 0
    next((out / "maps").iterdir()).unlink()
    capsys.readouterr()
    assert verify(out) == 4
    assert capsys.readouterr().out.startswith("[E_OUTPUT_MISSING] outputs of report.jsonl are not there: maps/")


def test_another_checkpoint_does_not_pass_for_the_one_that_was_used(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert localize(checkpoint, write_folder(tmp_path / "images", 1), out) == 0
    assert verify(out, "--checkpoint", "phantom64-cfg") == 4
    assert "[E_HASH] the checkpoint is not the one" in capsys.readouterr().out


def test_a_folder_that_is_no_run_and_a_checkpoint_that_is_not_there_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path) == 4
    assert "has no run.json [E_MISSING]" in capsys.readouterr().err
    assert verify(tmp_path, "--checkpoint", tmp_path / "absent") == 4
    assert "no such checkpoint [E_MISSING]" in capsys.readouterr().err
