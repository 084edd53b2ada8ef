"""Localizing in 16 bits: only what was asked for, and said; a folder made in one precision is not gone on with in another."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cli_builders import write_folder

from medanomaly.cli.main import main
from medanomaly.methods import precision
from medanomaly.methods.compiled import with_compiled_blocks


def localize(checkpoint: Path, source: Path, out: Path, *options: str) -> int:
    return main(["localize", str(checkpoint), str(source), str(out), "--device", "cpu", "--quiet", "true", *options])


def test_a_job_in_16_bits_says_what_that_does_to_the_map(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "images"
    write_folder(source, 3)
    # Sorted first, and unreadable: the check goes on to the next file.
    (source / "-.png").write_bytes(b"not a picture")
    assert localize(checkpoint, source, tmp_path / "exact") == 3
    assert localize(checkpoint, source, tmp_path / "low", "--precision", "fp16") == 3
    assert "precision fp16 changes the map of 3 images by" in capsys.readouterr().out
    run = json.loads((tmp_path / "low" / "run.json").read_text())
    assert run["settings"]["precision"] == "fp16"
    exact, low = (np.load(next((tmp_path / name / "maps").rglob("0*.npy"))) for name in ("exact", "low"))
    assert not np.array_equal(exact, low)
    assert np.linalg.norm(exact - low) < 0.05 * np.linalg.norm(exact)
    assert localize(checkpoint, source, tmp_path / "low") == 2
    assert "E_CHANGED" in capsys.readouterr().err


def test_a_compiled_job_is_another_job_and_says_how_it_computed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(precision, "with_compiled_blocks", partial(with_compiled_blocks, backend="eager"))
    write_folder(tmp_path / "images", 2)
    assert localize(checkpoint, tmp_path / "images", tmp_path / "out", "--compile", "true") == 0
    assert "precision fp32; compiling its blocks took" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["compiled"] is True
    assert localize(checkpoint, tmp_path / "images", tmp_path / "out") == 2
    assert "E_CHANGED" in capsys.readouterr().err
    assert localize(checkpoint, tmp_path / "images", tmp_path / "other", "--compile", "maybe") == 2
    assert "--compile must be true or false or auto, got maybe" in capsys.readouterr().err


def test_a_format_that_spoils_the_map_is_refused_before_anything_is_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "images", 1)
    monkeypatch.setattr(precision.choose_precision, "__kwdefaults__", {"compiled": False, "tolerance": 1e-9})
    assert localize(checkpoint, tmp_path / "images", tmp_path / "out", "--precision", "bf16") == 2
    assert "E_PRECISION" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert localize(checkpoint, tmp_path / "images", tmp_path / "out", "--precision", "fp64") == 2
