"""A whole ablation of tiny networks: two cells that work, one that cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from test_cli_benchmark import run_here

from medanomaly.cli.main import main
from medanomaly.datasets.manifest import Record, write_manifest
from medanomaly.errors import EXIT_SOME_FAILED
from medanomaly.evaluation import command_cells
from medanomaly.evaluation.ablation_cells import cells_of
from medanomaly.evaluation.ablation_config import read_ablation
from medanomaly.presets import MODEL_PRESETS

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
PLAN: dict[str, Any] = {
    "title": "Tiny",
    "preset": "mnist-ddpm",
    # The last has three levels of attention for two levels of channels.
    "grid": {"method.network.attention": {"off": [False, False], "on": [False, True], "wrong": [False, False, True]}},
    "options": {
        "preprocess.image_size": 16,
        "method.network.channels": [8, 8],
        "method.network.head_channels": 8,
        "method.network.norm_groups": 8,
        "method.schedule.num_levels": 10,
        "training.num_steps": 2,
        "training.batch_size": 4,
        "training.precision": "fp32",
    },
    "likelihood": {"num_levels": 3, "num_resamples": 20},
    "generate": {"num_images": 5, "num_steps": 2},
    "evaluate_samples": {"num_resamples": 20},
    "device": "cpu",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    records = []
    for index in range(18):
        path = tmp_path / "images" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.effect_noise((16, 16), 40 + index).save(path)
        split = ("train", "val", "test")[index % 3]
        records.append(Record(id=str(index), patient_id=str(index), image=path, split=split))
    write_manifest(records, tmp_path / "manifest.csv")
    return tmp_path / "manifest.csv"


def test_cells_are_measured_a_failing_one_is_named_and_the_same_command_keeps_what_is_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "plan.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(PLAN | {"manifest": str(data)}))
    monkeypatch.setattr(command_cells, "run_command", run_here)
    assert main(["ablate", str(path), str(out)]) == EXIT_SOME_FAILED
    text = capsys.readouterr().out
    assert "attention wrong: train: medanomaly train: " in text
    content = json.loads((out / "table.json").read_text())
    off, on, failed = content["rows"]
    for row in (off, on):
        assert set(row["measured"]) == {"bits/dim", "FID", "KID x 1000", "precision", "recall", "SSIM of pairs"}
        assert row["measured"]["bits/dim"]["num_images"] == 6
    best, other = sorted((off, on), key=lambda row: row["measured"]["bits/dim"]["value"])
    difference = other["measured"]["bits/dim"]["value"] - best["measured"]["bits/dim"]["value"]
    assert other["bits/dim above best"]["value"] == pytest.approx(difference)
    assert best["bits/dim above best"] is None
    assert failed["measured"] == {}
    assert len(content["cells"][0]["commands"]) == 4
    with Image.open(out / "ablation.png") as drawn:
        assert min(drawn.size) > 200
    for folder in ("likelihood", "samples", "measured"):
        assert main(["verify-run", str(out / "evaluations" / content_folder(out) / folder)]) == 0
    # Again: nothing of the finished cells is run, the failed one is tried once more.
    asked: list[str] = []
    monkeypatch.setattr(
        command_cells, "run_command", lambda words, log, *, stop: asked.append(words[0]) or run_here(words, log, stop=stop)
    )
    assert main(["ablate", str(path), str(out), "--table", "false"]) == EXIT_SOME_FAILED
    assert asked == ["train"]


def content_folder(out: Path) -> str:
    """A finished cell's."""
    return next(path.parent.parent.name for path in out.glob("evaluations/*/measured/samples.json"))


def test_an_ablation_in_which_nothing_works_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN | {"manifest": str(tmp_path / "none.csv")}))
    monkeypatch.setattr(command_cells, "run_command", run_here)
    assert main(["ablate", str(path), str(tmp_path / "out")]) == 4
    assert "E_CELLS" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "num_cells"), [("digits-ablation", 4), ("pcam32-ablation", 8)])
def test_the_plans_that_come_with_the_code_name_options_that_exist(
    name: str, num_cells: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = read_ablation(BENCHMARKS / f"{name}.yaml", presets=list(MODEL_PRESETS))
    cells = cells_of(chosen, tmp_path, channels=MODEL_PRESETS[chosen.preset]().preprocess.channels)
    assert len(cells) == num_cells
    printed = []
    for cell in cells:
        for step in cell.steps:
            if step.name == "train" or cell is cells[0]:
                assert main([*step.words, "--print_config"]) == 0, step.name
                printed.append(yaml.safe_load(capsys.readouterr().out))
    trained = [one["method"] for one in printed if "method" in one]
    seen = {(one["schedule"]["name"], tuple(one["network"]["attention"])) for one in trained}
    assert len(seen) == num_cells
    measured = next(one for one in printed if "features" in one)
    assert measured["channels"] == (1 if name.startswith("digits") else 3)
