from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_builders import Commands, plan

from medanomaly.errors import Preempted
from medanomaly.evaluation.benchmark_cells import Cell, cells_of
from medanomaly.evaluation.benchmark_config import BenchmarkConfig
from medanomaly.evaluation.command_cells import path_name, read_cell, run_cells


def cells(out: Path, **changes: object) -> list[Cell]:
    return cells_of(plan(**changes), out)


def times(made: list[Cell]) -> list[int]:
    return [(cell.folder / "cell.json").stat().st_mtime_ns for cell in made]


def test_a_cell_is_two_commands_and_only_the_first_of_the_main_method_measures_floors(tmp_path: Path) -> None:
    first, second, other = cells_of(
        plan(
            seeds=[0, 7], methods=[{"name": "ours", "preset": "a", "options": {"k": 1}}, {"name": "w", "checkpoint": "shipped"}]
        ),
        tmp_path,
        resolve=lambda path: tmp_path / "elsewhere" / path,
    )
    run = str(tmp_path / "runs" / "set" / "ours-seed0")
    assert first.train == ("train", "a", "--data", "manifest.csv", "--out", run, "--training.seed", "0", "--k", "1")
    assert first.evaluate[:4] == ("evaluate", run, "manifest.csv", str(tmp_path / "evaluations" / "set" / "ours-seed0"))
    floors = [cell.evaluate[cell.evaluate.index("--floors") + 1] for cell in (first, second, other)]
    assert floors == ["true", "false", "false"]
    assert second.train[second.train.index("--training.seed") + 1] == "7"
    assert (other.train, other.seed, other.evaluate[1]) == ((), None, "shipped")
    assert other.weights == tmp_path / "elsewhere" / "shipped"


def test_settings_of_a_set_reach_both_commands(tmp_path: Path) -> None:
    chosen = {"name": "set", "manifest": "m.csv", "allow_outside": True, "max_images": 9, "max_val_images": 8}
    cell = cells(tmp_path, sets=[chosen], device="cpu", num_resamples=50)[0]
    for words in (cell.train, cell.evaluate):
        assert words[words.index("--allow_outside") + 1] == "true"
        assert words[words.index("--device") + 1] == "cpu"
    for key, value in (("--max_images", "9"), ("--max_val_images", "8"), ("--num_resamples", "50"), ("--title", "set")):
        assert cell.evaluate[cell.evaluate.index(key) + 1] == value


def test_names_that_are_no_folder_names_are_made_safe_and_stay_apart() -> None:
    assert path_name("gray64-cfg") == "gray64-cfg"
    assert len({path_name("a/b"), path_name("a b"), path_name(".."), "a/b", ".."}) == 5
    assert "/" not in path_name("../x")


def test_a_second_run_keeps_every_cell_untouched(tmp_path: Path) -> None:
    made = cells(tmp_path)
    first = run_cells(made, run=Commands())
    before = times(made)
    again = Commands()
    assert run_cells(made, run=again) == first
    assert again.asked == []
    assert times(made) == before


def test_what_changed_is_done_again_and_only_that(tmp_path: Path) -> None:
    run_cells(cells(tmp_path), run=Commands())
    resampled = Commands()
    run_cells(cells(tmp_path, num_resamples=7), run=resampled)
    assert resampled.asked == ["evaluate ours-seed0", "evaluate theirs-seed0"]
    options = Commands()
    methods = [{"name": "ours", "preset": "a"}, {"name": "theirs", "preset": "b", "options": {"method.map.median_px": 3}}]
    run_cells(cells(tmp_path, num_resamples=7, methods=methods), run=options)
    assert options.asked == ["train theirs-seed0", "evaluate theirs-seed0"]


def test_a_manifest_that_changed_makes_every_cell_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    header = "id,patient_id,image,label,split\n"
    Path("manifest.csv").write_text(header + "a,p,a.png,healthy,test\n")
    first = run_cells(cells(tmp_path), run=Commands())
    assert first[0]["manifest_sha256"] != ""
    Path("manifest.csv").write_text(header + "a,p,a.png,diseased,test\n")
    again = Commands()
    run_cells(cells(tmp_path), run=again)
    assert len(again.asked) == 4


def test_a_set_may_be_trained_on_one_manifest_and_measured_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    header = "id,patient_id,image,label,split\n"
    Path("seen.csv").write_text(header + "a,p,a.png,healthy,train\n")
    Path("test.csv").write_text(header + "b,q,b.png,healthy,test\n")
    chosen = {"name": "set", "manifest": "test.csv", "train_manifest": "seen.csv"}
    made = cells(tmp_path, sets=[chosen])
    assert made[0].train[made[0].train.index("--data") + 1] == "seen.csv"
    assert made[0].evaluate[2] == "test.csv"
    run_cells(made, run=Commands())
    Path("test.csv").write_text(header + "b,q,b.png,diseased,test\n")
    again = Commands()
    run_cells(made, run=again)
    assert again.asked == ["evaluate ours-seed0", "evaluate theirs-seed0"]
    Path("seen.csv").write_text(header + "a,p,a.png,diseased,train\n")
    trained = Commands()
    run_cells(made, run=trained)
    # The stand-in leaves the same weights, so only the training is made anew.
    assert trained.asked == ["train ours-seed0", "train theirs-seed0"]


@pytest.mark.parametrize("lost", ["runs/set/ours-seed0/model.safetensors", "evaluations/set/ours-seed0/images.csv"])
def test_what_is_no_longer_there_is_made_again(tmp_path: Path, lost: str) -> None:
    made = cells(tmp_path)
    run_cells(made, run=Commands())
    (tmp_path / lost).unlink()
    again = Commands()
    run_cells(made, run=again)
    # The same command gives the same weights here, so their evaluation stands.
    assert again.asked == [f"{'train' if lost.startswith('runs') else 'evaluate'} ours-seed0"]


def test_other_weights_under_the_same_name_are_measured_again(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    weights = tmp_path / "w" / "model.safetensors"
    weights.write_text("one")
    made = cells(tmp_path, methods=[{"name": "ours", "checkpoint": str(tmp_path / "w")}])
    run_cells(made, run=Commands())
    kept, changed = Commands(), Commands()
    run_cells(made, run=kept)
    weights.write_text("two")
    run_cells(made, run=changed)
    assert (kept.asked, changed.asked) == ([], ["evaluate ours"])


def test_a_cell_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    commands = Commands(train_ours_seed0=4)
    records = run_cells(cells(tmp_path), run=commands)
    assert [record["status"] for record in records] == ["failed", "done"]
    assert records[0]["message"] == "train: medanomaly train: too bad [E_BAD]"
    # Weights that were not made are not measured.
    assert commands.asked == ["train ours-seed0", "train theirs-seed0", "evaluate theirs-seed0"]
    assert read_cell(cells(tmp_path)[0].folder)["status"] == "failed"
    again = Commands()
    assert [record["status"] for record in run_cells(cells(tmp_path), run=again)] == ["done", "done"]
    assert again.asked == ["train ours-seed0", "evaluate ours-seed0"]


def test_a_training_that_stopped_politely_stops_the_job_and_its_time_counts(tmp_path: Path) -> None:
    with pytest.raises(Preempted, match="stopped at set / ours / seed 0"):
        run_cells(cells(tmp_path), run=Commands(train_ours_seed0=75))
    records = run_cells(cells(tmp_path), run=Commands())
    spent = [record["steps"]["train"]["seconds"] for record in records]
    assert spent == [120.0, 60.0]
    assert not records[0]["steps"]["train"]["interrupted"]


def test_a_killed_job_says_that_training_took_longer_than_was_counted(tmp_path: Path) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cells(cells(tmp_path), run=killed)  # type: ignore[arg-type]
    records = run_cells(cells(tmp_path), run=Commands())
    assert [record["steps"]["train"]["interrupted"] for record in records] == [True, False]


def test_a_job_asked_to_stop_starts_nothing_new(tmp_path: Path) -> None:
    commands = Commands()
    with pytest.raises(Preempted):
        run_cells(cells(tmp_path), run=commands, stop=lambda: len(commands.asked) == 2)
    assert commands.asked == ["train ours-seed0", "evaluate ours-seed0"]


def test_a_torn_record_is_no_record(tmp_path: Path) -> None:
    made = cells(tmp_path)
    run_cells(made, run=Commands())
    (made[0].folder / "cell.json").write_text('{"status": "do')
    again = Commands()
    run_cells(made, run=again)
    assert again.asked == ["train ours-seed0", "evaluate ours-seed0"]
    assert json.loads((made[0].folder / "cell.json").read_text())["status"] == "done"


def test_the_config_is_what_the_cells_are_made_of(tmp_path: Path) -> None:
    config: BenchmarkConfig = plan()
    assert [cell.name for cell in cells_of(config, tmp_path)] == ["set / ours / seed 0", "set / theirs / seed 0"]
