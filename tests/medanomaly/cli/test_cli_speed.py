"""``--speed`` and ``--precision`` on the command line: they are in the run's record, and thresholds of another speed are not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_builders import localize, write_folder, write_labelled

from medanomaly.cli.main import main


def test_a_speed_is_in_the_record_and_leaves_masks_to_a_threshold_of_its_own(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_folder(tmp_path / "in", 1)
    assert localize(checkpoint, source, tmp_path / "out", "--speed", "screening") == 0
    assert "no threshold for this checkpoint and sampler" in capsys.readouterr().out
    sampler = json.loads((tmp_path / "out" / "config.json").read_text())["method"]["sampler"]
    assert (sampler["num_steps"], sampler["spacing"], sampler["order"], sampler["delta"]) == (8, "karras", 2, True)
    assert sampler["noise_level"] == 400
    assert not (tmp_path / "out" / "masks").exists()
    assert localize(checkpoint, source, tmp_path / "with", "--speed", "screening", "--threshold", "0.2") == 0
    assert len(list((tmp_path / "with" / "masks").iterdir())) == 1
    assert localize(checkpoint, source, tmp_path / "no", "--speed", "quick") == 2
    assert "quick" in capsys.readouterr().err


def test_an_evaluation_says_in_which_precision_its_network_computed(checkpoint: Path, tmp_path: Path) -> None:
    rows = [("v1", "healthy", "val"), ("v2", "diseased", "val"), ("t1", "healthy", "test"), ("t2", "diseased", "test")]
    manifest, out = write_labelled(tmp_path, rows), tmp_path / "out"
    words = ["evaluate", checkpoint, manifest, out, "--device", "cpu", "--num-resamples", 20, "--quiet", "true"]
    assert main([str(word) for word in (*words, "--precision", "fp16", "--floors", "false")]) == 0
    assert "Precision fp16 changes the map of 2 images by" in (out / "table.md").read_text()
    assert json.loads((out / "evaluation.json").read_text())["facts"]["precision"] == "fp16"
