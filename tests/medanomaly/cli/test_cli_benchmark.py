"""A whole benchmark on phantoms with tiny networks: two methods, two seeds, two steps each."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from cli_builders import write_labelled
from PIL import Image

from medanomaly.cli.main import main
from medanomaly.cli.methods import ALL_PRESETS
from medanomaly.datasets.phantom import PhantomConfig, phantom_set
from medanomaly.evaluation import benchmark_cells, command_cells
from medanomaly.evaluation.benchmark_config import read_benchmark
from medanomaly.evaluation.measured_command import Ran

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
TINY: dict[str, Any] = {
    "preprocess.image_size": 16,
    "method.network.channels": [16, 16],
    "method.network.attention": [False, True],
    "method.network.head_channels": 16,
    "method.network.norm_groups": 8,
    "method.sampler.noise_level": 400,
    "method.sampler.num_steps": 2,
    "training.num_steps": 2,
    "training.batch_size": 4,
    "training.precision": "fp32",
}
METHODS = [
    {"name": "cfg", "preset": "phantom64-cfg", "options": TINY},
    {"name": "ddpm", "preset": "phantom64-ddpm", "options": TINY},
]


def run_here(words: Sequence[str], log: Path, *, stop: Callable[[], bool]) -> Ran:
    """The command in this process: the import of torch is paid once."""
    start, said = time.perf_counter(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = main(words)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(said.getvalue())
    lines = [line for line in said.getvalue().splitlines() if line.strip()]
    seconds = time.perf_counter() - start
    return Ran(code=code, seconds=seconds, cpu_seconds=seconds, peak_mib=1.0, message=lines[-1] if lines else "", stopped=False)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(command_cells, "run_command", run_here)
    return


def write_plan(path: Path, manifest: Path, **changes: Any) -> Path:
    content = {
        "title": "Tiny",
        "main": "cfg",
        "sets": [{"name": "phantoms", "manifest": str(manifest), "title": "Tiny phantoms"}],
        "methods": METHODS,
        "seeds": [0, 1],
        "num_resamples": 20,
        "device": "cpu",
    }
    path.write_text(json.dumps(content | changes))
    return path


def benchmark(plan: Path, out: Path) -> int:
    return main(["benchmark", str(plan), str(out)])


class Made(NamedTuple):
    plan: Path
    out: Path
    code: int


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("benchmark")
    phantom_set(PhantomConfig(num_patients=20, images_per_patient=2, image_size=32), root / "phantoms", (0.4, 0.2, 0.4))
    plan = write_plan(root / "plan.json", root / "phantoms" / "manifest.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_cells, "run_command", run_here)
        return Made(plan, root / "out", benchmark(plan, root / "out"))


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.yaml") if not path.stem.endswith("-ablation")))
def test_the_benchmarks_that_travel_with_the_code_name_presets_and_options_that_exist(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = benchmark_cells.cells_of(read_benchmark(BENCHMARKS / f"{name}.yaml", presets=list(ALL_PRESETS)), tmp_path)
    assert len(cells) == 6
    for cell in (one for one in cells if one.train):  # weights that are only measured have no training command
        assert main([*cell.train, "--print_config"]) == 0
        printed = yaml.safe_load(capsys.readouterr().out)
        for key, value in cell.method.options.items():
            found = printed
            for part in key.split("."):
                found = found[part]
            assert found == value


def test_figures_are_drawn_and_named_in_the_table(made: Made) -> None:
    folder = made.out / "figures" / "phantoms"
    names = {"pixel_curves", "image_curves", "dice_images", "dice_by_size", "cases", "worst"}
    assert {path.stem for path in folder.glob("*.png")} == names
    for path in folder.glob("*.png"):
        with Image.open(path) as drawn:
            assert min(drawn.size) > 300
    text = (made.out / "table.md").read_text()
    assert all(f"](figures/phantoms/{name}.png)" in text for name in names)


def test_the_worst_cases_are_those_with_the_lowest_dice(made: Made) -> None:
    with open(made.out / "evaluations" / "phantoms" / "cfg-seed0" / "images.csv") as stream:
        rows = [
            row for row in csv.DictReader(stream) if row["method"] == "CFG diffusion" and row["dice"] and row["lesion_px"] != "0"
        ]
    expected = [row["id"] for row in sorted(rows, key=lambda row: (float(row["dice"]), row["id"]))][:10]
    part = (made.out / "table.md").read_text().split("### Lowest Dice of cfg")[1].split("###")[0]
    assert [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("|")][2:] == expected


def table_lines(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "table.csv").read_text().splitlines()))


def test_every_method_and_floor_stands_in_one_table(made: Made) -> None:
    assert made.code == 0
    names = list(dict.fromkeys(line["method"] for line in table_lines(made.out)))
    assert names == ["cfg", "ddpm", "brightness", "blur residual", "random"]
    text = (made.out / "table.md").read_text()
    for heading in (
        "## Tiny phantoms",
        "### Differences from",
        "### Training seeds",
        "### Cost",
        "### oracle (uses test labels)",
    ):
        assert f"\n{heading}" in text
    for word in ("Dice of flagging every pixel", "smallest possible p", "n too small"):
        assert word in text


def test_the_numbers_are_those_of_the_evaluations(made: Made) -> None:
    for method in ("cfg", "ddpm"):
        content = json.loads((made.out / "evaluations" / "phantoms" / f"{method}-seed0" / "evaluation.json").read_text())
        rows = {row["name"]: row["value"] for row in content["methods"][0]["measured"]}
        found = {line["metric"]: line["value"] for line in table_lines(made.out) if line["method"] == method}
        for name in ("pixel AUROC", "pixel AP", "image AUROC"):
            assert float(found[name]) == rows[name]
        assert float(found["evaluations"]) == {"cfg": 2 + 1 + 2 * 2, "ddpm": 2}[method], "fast: one more, where the ways meet"


def test_seeds_train_apart_and_the_set_was_tested_once_by_each(made: Made) -> None:
    content = json.loads((made.out / "table.json").read_text())
    cfg = content["sets"][0]["rows"][0]
    first, second = (cfg["seeds"]["values"][seed]["pixel AUROC"] for seed in ("0", "1"))
    assert first != second
    assert cfg["seeds"]["mean"]["pixel AUROC"] == pytest.approx((first + second) / 2)
    assert [
        json.loads((made.out / "runs" / "phantoms" / f"cfg-seed{seed}" / "run.json").read_text())["seed"] for seed in (0, 1)
    ] == [0, 1]
    assert cfg["test_evaluations"] == 1


def test_a_printed_command_makes_its_cell_again(made: Made) -> None:
    folder = made.out / "evaluations" / "phantoms" / "ddpm-seed1"
    command = json.loads((folder / "cell.json").read_text())["commands"][1]
    before = (folder / "images.csv").read_bytes()
    (folder / "images.csv").unlink()
    words = shlex.split(command)
    assert words[0] == "medanomaly"
    assert main(words[1:]) == 0
    assert (folder / "images.csv").read_bytes() == before


def test_the_same_command_again_keeps_every_cell(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_cells, "run_command", None)
    cells = sorted(made.out.rglob("cell.json")) + sorted(made.out.rglob("model.safetensors"))
    assert len(cells) == 8
    before = [path.stat().st_mtime_ns for path in cells]
    table = (made.out / "table.md").read_bytes()
    assert benchmark(made.plan, made.out) == 0
    assert [path.stat().st_mtime_ns for path in cells] == before
    assert (made.out / "table.md").read_bytes() == table


@pytest.mark.usefixtures("here")
def test_weights_are_measured_a_failing_cell_is_said_and_the_exit_code_is_3(checkpoint: Path, tmp_path: Path) -> None:
    rows = [(f"{split}{n}", ("healthy", "diseased")[n % 2], split) for split in ("val", "test") for n in range(4)]
    manifest = write_labelled(tmp_path, rows)
    methods = [
        {"name": "weights", "checkpoint": str(checkpoint)},
        # The manifest has no train rows.
        METHODS[1],
    ]
    plan = write_plan(tmp_path / "plan.json", manifest, main="weights", methods=methods, seeds=[0])
    assert benchmark(plan, tmp_path / "out") == 3
    text = (tmp_path / "out" / "table.md").read_text()
    assert "* Missing: ddpm, seed 0: train: medanomaly train: " in text
    assert "has no train rows [E_SPLIT]" in text
    assert "| weights (weights) " in text


@pytest.mark.usefixtures("here")
def test_where_every_cell_fails_there_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = write_plan(tmp_path / "plan.json", tmp_path / "absent.csv", seeds=[0])
    assert benchmark(plan, tmp_path / "out") == 4
    assert "every cell failed, the first with: train: medanomaly train: " in capsys.readouterr().err
    assert not (tmp_path / "out" / "table.md").exists()


def test_one_cell_as_a_process_of_its_own(checkpoint: Path, tmp_path: Path) -> None:
    rows = [(f"{split}{n}", ("healthy", "diseased")[n % 2], split) for split in ("val", "test") for n in range(4)]
    methods = [{"name": "weights", "checkpoint": str(checkpoint)}]
    plan = write_plan(tmp_path / "plan.json", write_labelled(tmp_path, rows), main="weights", methods=methods)
    assert benchmark(plan, tmp_path / "out") == 0
    cell = json.loads(next((tmp_path / "out").rglob("cell.json")).read_text())
    assert cell["status"] == "done"
    spent = cell["steps"]["evaluate"]
    # Python with torch alone is more than this.
    assert spent["peak_mib"] > 100
    assert 0 < spent["cpu_seconds"] < 20 * spent["seconds"]


def test_other_ids_under_one_method_stop_the_table(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = made.out / "evaluations" / "phantoms" / "ddpm-seed0" / "images.csv"
    whole = file.read_text()
    try:
        file.write_text(whole[: whole.rstrip("\n").rfind("\n") + 1])
        assert benchmark(made.plan, made.out) == 4
        assert "differ in 1 images" in (err := capsys.readouterr().err)
        assert "[E_IDS]" in err
    finally:
        file.write_text(whole)


def test_a_mistake_in_the_plan_is_one_line(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = made.plan.parent / "phantoms" / "manifest.csv"
    plan = write_plan(tmp_path / "plan.json", manifest, methods=[{"name": "cfg", "preset": "phantom64-cgf"}])
    assert benchmark(plan, tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "'phantom64-cgf' is unknown [E_CONFIG]; did you mean phantom64-cfg?" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
