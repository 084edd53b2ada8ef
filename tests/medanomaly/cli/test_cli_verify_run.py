"""verify-run on what the commands really write, and on the same with something taken away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_builders import localize, picture, write_folder, write_labelled, write_png

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


def test_runs_without_a_map_verify_until_a_result_is_gone(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(2):
        write_png(tmp_path / "films" / f"{index}.png", picture(index, 48, 48))
    manifest = write_labelled(tmp_path / "data", [*ROWS, ("n1", "healthy", "train"), ("n2", "diseased", "train")])
    quick = {"likelihood": ("--num-levels", 2, "--num-resamples", 5), "generate": ("--num-images", 3, "--num-steps", 2)}
    places = {
        "generate": (checkpoint, tmp_path / "generate"),
        "likelihood": (checkpoint, manifest, tmp_path / "likelihood"),
        "deblur": ("tv", tmp_path / "films", tmp_path / "deblur", "--kernel", "linear 5@30"),
        "evaluate-samples": (tmp_path / "generate" / "images", manifest, tmp_path / "evaluate-samples", "--num-resamples", 5),
    }
    last = {
        "generate": "samples.npz",
        "likelihood": "curve.png",
        "deblur": "deblur.csv",
        "evaluate-samples": "neighbours.png",
    }
    for command, words in places.items():
        quiet = () if command == "evaluate-samples" else ("--quiet", "true")
        assert main([str(word) for word in (command, *words, *quick.get(command, ()), *quiet, "--device", "cpu")]) == 0
        capsys.readouterr()
        assert (verify(tmp_path / command), capsys.readouterr().out) == (0, "ok\n")
        (tmp_path / command / last[command]).unlink()
        assert verify(tmp_path / command) == 4
        assert f"[E_MISSING] {last[command]} is not there" in capsys.readouterr().out
    assert "E_HASH" not in verify_text(tmp_path / "generate", checkpoint, capsys)


def verify_text(folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> str:
    verify(folder, "--checkpoint", checkpoint)
    return capsys.readouterr().out


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
