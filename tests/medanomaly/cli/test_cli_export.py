"""A release is refused where it could not be told what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_builders import TINY_TRAINING, write_labelled

from medanomaly.checkpoint import load_checkpoint
from medanomaly.cli.main import main

NOTE = ("--command", "medanomaly train", "--data-note", "Noise.")
ROWS = [("a", "healthy", "train"), ("b", "diseased", "train"), ("c", "healthy", "val"), ("d", "diseased", "val")]


def test_a_run_without_weights_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), str(tmp_path / "out"), *NOTE]) == 5
    assert "[E_CKPT_MISSING]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_evaluation_that_is_not_there_is_refused_before_anything_is_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(checkpoint), str(tmp_path / "out"), *NOTE, "--evaluation", str(tmp_path / "absent")]) == 4
    assert "is not an evaluation folder [E_MISSING]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_release_keeps_config_thresholds_and_provenance(tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path / "data", ROWS)
    assert main(["train", "gray64-cfg", "--data", str(manifest), "--out", str(tmp_path / "run"), *TINY_TRAINING]) == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out"), *NOTE]) == 0
    run, release = load_checkpoint(tmp_path / "run").header, load_checkpoint(tmp_path / "out").header
    assert (run["dtype"], release["dtype"]) == ("float32", "float16")
    for key in ("experiment", "operating_points", "provenance", "step"):
        assert release[key] == run[key]
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "Licence: not stated" in card
    assert "Not evaluated." in card
    assert card.count("chosen on val (2 images)") >= 2
