"""Ablations whose right tables are known: folders written by hand where the commands would have written them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from benchmark_builders import Ran

from medanomaly.config import from_dict
from medanomaly.errors import ConfigError, MedanomalyError
from medanomaly.evaluation.ablation_cells import AblationCell, cells_of
from medanomaly.evaluation.ablation_config import AblationConfig, read_ablation
from medanomaly.evaluation.ablation_page import write_tables
from medanomaly.evaluation.ablation_results import compare
from medanomaly.evaluation.command_cells import run_cells

PLAN: dict[str, Any] = {
    "title": "Two by two",
    "preset": "a",
    "manifest": "m.csv",
    "grid": {"method.schedule.name": ["linear", "cosine"], "method.network.attention": {"off": [False], "on": [True]}},
    "options": {"training.num_steps": 3},
}


def plan(**changes: Any) -> AblationConfig:
    return from_dict(AblationConfig, PLAN | changes, "ablation")


def row(name: str, value: float | None, spread: float = 0.1) -> dict[str, Any]:
    ends = {"low": None, "high": None} if value is None else {"low": value - spread, "high": value + spread}
    return {"name": name, "value": value, **ends, "note": ""}


def write_hand(cell: AblationCell, *, bits: list[float], fid: float | None, ssim: float, ids: str = "i") -> None:
    """What the four commands of a cell leave, of images i0, i1, ... of patients p0, p1, ..."""
    for folder in (cell.likelihood, cell.samples, cell.measured):
        folder.mkdir(parents=True, exist_ok=True)
    (cell.likelihood / "likelihood.json").write_text(
        json.dumps({"rows": [row("bits/dim", float(np.mean(bits)))], "notes": ["An upper bound."]})
    )
    lines = [f"{ids}{index},p{index},{value},0,0,0" for index, value in enumerate(bits)]
    (cell.likelihood / "images.csv").write_text("id,patient_id,total,prior,middle,decoder\n" + "\n".join(lines) + "\n")
    samples = [row("FID", fid), row("SSIM of pairs", ssim)]
    real = [row("FID", 0.5), row("SSIM of pairs", 0.4)]
    (cell.measured / "samples.json").write_text(
        json.dumps(
            {
                "columns": {"samples": samples, "training images": real},
                "notes": ["Features: pixels.", f"FID: {fid} by a row itself."],
            }
        )
    )
    np.savez(cell.samples / "samples.npz", x=np.zeros((3, 1, 8, 8), np.float32))


def record_of(cell: AblationCell, **changes: Any) -> dict[str, Any]:
    done = {"seconds": 90.0, "cpu_seconds": 60.0, "interrupted": False, "status": "done"}
    return {
        "values": dict(cell.values),
        "commands": ["medanomaly x"],
        "steps": {"train": done},
        "status": "done",
        "message": "",
    } | changes


def test_every_combination_is_four_commands_that_name_only_what_differs(tmp_path: Path) -> None:
    config = plan(
        likelihood={"num-levels": 7}, generate={"num_images": 9}, evaluate_samples={"seed": 4}, device="cpu", allow_outside=True
    )
    cells = cells_of(config, tmp_path, channels=3)
    assert [cell.name for cell in cells] == [
        "schedule linear, attention off",
        "schedule linear, attention on",
        "schedule cosine, attention off",
        "schedule cosine, attention on",
    ]
    train, likelihood, generate, measure = (step.words for step in cells[1].steps)
    run = str(cells[1].steps[0].trains)
    common = ("--allow_outside", "true", "--device", "cpu")
    settings = ("--training.num_steps", "3", "--method.schedule.name", "linear", "--method.network.attention", "[true]")
    assert train == ("train", "a", "--data", "m.csv", "--out", run, *common, *settings)
    again = ("--overwrite", "true")
    assert likelihood[:4] == ("likelihood", run, "m.csv", str(cells[1].likelihood))
    assert likelihood[4:] == (*common, *again, "--quiet", "true", "--num_levels", "7")
    assert generate[:3] == ("generate", run, str(cells[1].samples))
    assert generate[-2:] == ("--num_images", "9")
    assert measure[1:4] == (str(cells[1].samples / "samples.npz"), "m.csv", str(cells[1].measured))
    assert measure[measure.index("--channels") + 1] == "3"
    assert len({cell.folder for cell in cells}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {}}, "grid is empty"),
        ({"grid": {"method.p_uncond": 0.5}}, "must be a list of values"),
        ({"grid": {"method.p_uncond": {False: 0.5}}}, "quote it"),
        ({"grid": {"method.p_uncond": [0.5, 0.5]}}, "a value twice"),
        ({"grid": {"training.num-steps": [1]}}, "in options and in grid"),
        ({"grid": {"training.seed": list(range(201))}}, "201 cells"),
        ({"options": {"out": "x"}}, "options: 'out' is decided"),
        ({"generate": {"model": "x"}}, "generate: 'model' is decided"),
        ({"evaluate_samples": {"a": {"b": 1}}}, "must be a value"),
        ({"preset": "b"}, "no diffusion model"),
        ({"preset": "aa"}, "did you mean a?"),
        ({"gird": 1}, "did you mean grid"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_by_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN | changes))
    with pytest.raises(ConfigError) as refused:
        read_ablation(path, presets=["a"], others=["b"])
    assert message in str(refused.value)


def test_the_best_of_each_column_is_marked_and_diversity_is_best_where_real_images_have_it(tmp_path: Path) -> None:
    config = plan()
    cells = cells_of(config, tmp_path, channels=1)
    # The last is a failure; noise has the lowest SSIM, real images 0.4.
    for cell, bits, fid, ssim in zip(
        cells, ([2.0, 4.0], [1.0, 2.0], [2.5, 2.5]), (7.0, 9.0, None), (0.01, 0.6, 0.45), strict=False
    ):
        write_hand(cell, bits=bits, fid=fid, ssim=ssim)
    records = [record_of(cell) for cell in cells[:3]] + [record_of(cells[3], status="failed", message="train: too bad", steps={})]
    result = compare(cells, records)
    best = {column: [row.name for row in result.best(column)] for column in result.columns}
    assert best == {
        "bits/dim": ["schedule linear, attention on"],
        "FID": ["schedule linear, attention off"],
        "SSIM of pairs": ["schedule cosine, attention off"],
    }
    text = write_tables(tmp_path, config, result, cells, records)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == [
        "schedule",
        "attention",
        "bits/dim",
        "bits/dim above best",
        "FID",
        "SSIM of pairs",
        "training minutes",
        "processor minutes",
    ]
    # By hand: 3 - 1.5 over two patients whose differences are 1 and 2.
    assert lines[2] == ["linear", "off", "3 [2.9, 3.1]", "1.5 [1, 2]", "**7 [6.9, 7.1]**", "0.01 [-0.09, 0.11]", "1.5", "1.0"]
    assert lines[3][2:4] == ["**1.5 [1.4, 1.6]**", "-"]
    assert lines[4][4] == "n/a"
    assert lines[5] == ["cosine", "on", "failed", "-", "failed", "failed", "-", "-"]
    assert lines[6] == ["training images", "", "-", "-", "0.5 [0.4, 0.6]", "0.4 [0.3, 0.5]", "-", "-"]
    assert "Failed: schedule cosine, attention on: train: too bad." in text
    assert text.count("bits/dim: An upper bound.") == text.count("Features: pixels.") == 1
    assert "by a row itself" not in text
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["best"] == best
    written = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [line["attention"] for line in written if line["metric"] == "FID" and line["best"] == "1"] == ["off"]
    assert (tmp_path / "ablation.png").read_bytes()[:4] == b"\x89PNG"


def test_other_images_are_not_subtracted_and_other_training_images_not_shown(tmp_path: Path) -> None:
    config = plan(grid={"method.schedule.name": ["linear", "cosine"]})
    cells = cells_of(config, tmp_path, channels=1)
    for cell, ids in zip(cells, "ij", strict=True):
        write_hand(cell, bits=[1.0, ord(ids)], fid=1.0, ssim=0.4, ids=ids)
    content = json.loads((cells[1].measured / "samples.json").read_text())
    content["columns"]["training images"][0]["value"] = 99.0
    (cells[1].measured / "samples.json").write_text(json.dumps(content))
    result = compare(cells, [record_of(cell) for cell in cells])
    assert [row.above_best for row in result.rows] == [None, None]
    assert result.real == {}


def test_samples_that_changed_are_measured_again_and_nothing_else_is(tmp_path: Path) -> None:
    cells = cells_of(plan(grid={"method.schedule.name": ["linear", "cosine"]}), tmp_path, channels=1)
    asked: list[str] = []

    def run(words: Any, log: Path, _stop: Any) -> Ran:
        asked.append(words[0])
        cell = next(cell for cell in cells if log.parent == cell.folder)
        step = next(step for step in cell.steps if step.words == tuple(words))
        for path in [*step.makes, *([step.trains / "model.safetensors"] if step.trains else [])]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("made")
        code = 4 if words[0] == "generate" and "cosine" in str(cell.folder) and asked.count("generate") == 2 else 0
        return Ran(code=code, seconds=1.0, cpu_seconds=1.0, peak_mib=1.0, message="bad", stopped=False)

    assert [record["status"] for record in run_cells(cells, run=run)] == ["done", "failed"]
    # The failed cell goes on where it failed; the other is left alone.
    asked.clear()
    assert [record["status"] for record in run_cells(cells, run=run)] == ["done", "done"]
    assert asked == ["generate", "evaluate-samples"]
    (cells[0].samples / "samples.npz").write_text("other images")
    asked.clear()
    run_cells(cells, run=run)
    assert asked == ["evaluate-samples"]


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(MedanomalyError, match="E_MISSING"):
        read_ablation(tmp_path / "none.yaml", presets=["a"])
