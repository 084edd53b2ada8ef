"""Several noise levels from the command line: their deviation is written and measured, and earlier jobs go on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from cli_builders import localize, output_of, report_lines, write_folder, write_labelled

from medanomaly.checkpoint import load_checkpoint
from medanomaly.cli.main import main
from medanomaly.files import sha256_of

ROWS = [(f"v{n}", ("healthy", "diseased")[n % 2], "val") for n in range(4)]
ROWS += [(f"t{n}", ("healthy", "diseased")[n % 2], "test") for n in range(8)]
LEVELS = ("--noise-levels", "[200, 400]")


def test_the_deviation_lies_beside_the_map_and_the_report_names_it(checkpoint: Path, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", 2)
    assert localize(checkpoint, source, tmp_path / "out", *LEVELS) == 0
    spread = np.load(output_of(tmp_path / "out", "0.png", "uncertainty"))
    assert spread.shape == np.load(output_of(tmp_path / "out", "0.png", "maps")).shape
    assert spread.min() >= 0
    assert spread.max() > 0
    assert localize(checkpoint, source, tmp_path / "plain") == 0
    assert not (tmp_path / "plain" / "uncertainty").exists()


def test_a_deviation_that_is_gone_is_made_again(checkpoint: Path, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", 2)
    assert localize(checkpoint, source, tmp_path / "out", *LEVELS) == 0
    output_of(tmp_path / "out", "1.png", "uncertainty").unlink()
    assert localize(checkpoint, source, tmp_path / "out", *LEVELS) == 0
    assert [line["id"] for line in report_lines(tmp_path / "out")] == ["0.png", "1.png", "1.png"]


def test_a_job_from_before_there_were_several_levels_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    assert localize(checkpoint, write_folder(tmp_path / "in", 1), tmp_path / "out") == 0
    (line,) = report_lines(tmp_path / "out")
    # What a job was known by then: the header's experiment without a word on several levels.
    experiment = load_checkpoint(checkpoint).header["experiment"]
    del experiment["method"]["sampler"]["noise_levels"]
    content = {"weights": sha256_of(checkpoint / "model.safetensors"), "experiment": experiment, "threshold": 0.3, "frame": 0}
    assert line["identity"] == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def test_other_levels_are_other_settings(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_folder(tmp_path / "in", 1)
    assert localize(checkpoint, source, tmp_path / "out", *LEVELS) == 0
    assert localize(checkpoint, source, tmp_path / "out", "--noise-levels", "[100, 400]") == 2
    assert "E_CHANGED" in capsys.readouterr().err


def test_an_evaluation_says_whether_the_deviation_predicts_errors(checkpoint: Path, tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, ROWS)
    words = ["evaluate", checkpoint, manifest, tmp_path / "out", "--device", "cpu", "--num-resamples", 20, "--quiet", "true"]
    assert main([*map(str, words), *LEVELS]) == 0
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    rows = {
        method["name"]: [row["name"] for row in method["measured"] if row["group"] == "uncertainty"]
        for method in content["methods"]
    }
    assert len(rows.pop("CFG diffusion")) == 3
    assert all(not names for names in rows.values())
    assert content["facts"]["experiment"]["method"]["sampler"]["noise_levels"] == [200, 400]
    assert "pixel AUROC of deviation for errors" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--noise-levels", "[200, 300]"), "must hold sampler.noise_level=400"),
        (("--noise-levels", "[400, 2000]"), "num_levels"),
        (("--noise-levels", "many"), "noise_levels"),
    ],
)
def test_levels_that_cannot_be_are_one_line(
    options: tuple[str, ...], words: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert localize(checkpoint, write_folder(tmp_path / "in", 1), tmp_path / "out", *options) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
