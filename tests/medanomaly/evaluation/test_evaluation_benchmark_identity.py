from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_builders import Commands, plan

from medanomaly.evaluation.benchmark_cells import Cell, cells_of
from medanomaly.evaluation.benchmark_identity import portable, same_but_for_the_folder
from medanomaly.evaluation.command_cells import run_cells


def cells(out: Path, **changes: Any) -> list[Cell]:
    return cells_of(plan(**changes), out)


def recorded(cell: Cell) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((cell.folder / "cell.json").read_text())
    return content


def change_record(cell: Cell, change: Callable[[dict[str, Any]], None]) -> None:
    content = recorded(cell)
    change(content)
    (cell.folder / "cell.json").write_text(json.dumps(content))


def as_older_versions_wrote(cell: Cell) -> None:
    """Put into cell.json the identities that hash the words as typed, with the folder in them."""

    def change(content: dict[str, Any]) -> None:
        for step, words in (("train", cell.train), ("evaluate", cell.evaluate)):
            weights = content["steps"]["train"]["weights_sha256"] if step == "evaluate" else ""
            text = json.dumps([*words, content["manifest_sha256"], weights])
            content["steps"][step]["identity"] = hashlib.sha256(text.encode()).hexdigest()

    change_record(cell, change)


def asked(made: list[Cell]) -> list[str]:
    commands = Commands()
    run_cells(made, run=commands)
    return commands.asked


def test_a_folder_that_was_moved_is_kept_and_its_commands_say_where_it_lies(tmp_path: Path) -> None:
    asked(cells(tmp_path / "a"))
    shutil.move(tmp_path / "a", tmp_path / "b")
    made = cells(tmp_path / "b")
    assert asked(made) == []
    for cell in made:
        content = recorded(cell)
        assert all(str(tmp_path / "b") in command and str(tmp_path / "a") not in command for command in content["commands"])


def test_cells_made_side_by_side_in_two_folders_are_put_together(tmp_path: Path) -> None:
    ours, theirs = plan().methods
    for name, method in (("a", ours), ("b", theirs)):
        # Each half has a main method of its own, as a plan must.
        asked(cells(tmp_path / name, main=method.name, methods=[{"name": method.name, "preset": method.preset}]))
    for part in ("runs", "evaluations"):
        shutil.copytree(tmp_path / "b" / part, tmp_path / "a" / part, dirs_exist_ok=True)
    # Floors are measured by the main method's evaluation alone, so the other's is made again, and no training.
    assert asked(cells(tmp_path / "a")) == ["evaluate theirs-seed0"]


@pytest.mark.parametrize("moved", [False, True])
def test_a_record_of_an_earlier_version_counts_also_in_another_folder_and_is_renewed(tmp_path: Path, moved: bool) -> None:
    first = cells(tmp_path / "a")
    asked(first)
    today = [recorded(cell)["steps"] for cell in first]
    for cell in first:
        as_older_versions_wrote(cell)
    assert [recorded(cell)["steps"] for cell in first] != today
    if moved:
        shutil.move(tmp_path / "a", tmp_path / "b")
    made = cells(tmp_path / ("b" if moved else "a"))
    assert asked(made) == []
    assert [recorded(cell)["steps"] for cell in made] == today


def test_a_record_of_an_earlier_version_made_by_other_words_or_a_changed_hash_is_not_taken(tmp_path: Path) -> None:
    resampled, retyped = cells(tmp_path, num_resamples=7), cells(tmp_path)
    asked(retyped)
    for cell in retyped:
        as_older_versions_wrote(cell)
    assert asked(resampled) == ["evaluate ours-seed0", "evaluate theirs-seed0"]

    def other_commands(content: dict[str, Any]) -> None:
        content["commands"] = [text.replace("--num_resamples 1000", "--num_resamples 7") for text in content["commands"]]

    # Commands that do not make the hash prove nothing.
    asked(retyped)
    for cell in retyped:
        as_older_versions_wrote(cell)
        change_record(cell, other_commands)
    assert asked(resampled) == ["evaluate ours-seed0", "evaluate theirs-seed0"]


def test_weights_of_the_same_benchmark_measured_by_name_are_independent_of_its_folder(tmp_path: Path) -> None:
    def measured(out: Path) -> list[str]:
        methods = [{"name": "again", "checkpoint": str(out / "runs" / "set" / "ours-seed0")}]
        return portable(cells(out, main="again", methods=methods)[0].evaluate, out)

    assert measured(tmp_path / "a") == measured(tmp_path / "b") == measured(Path())
    assert measured(Path())[1] == "<out>/runs/set/ours-seed0"


def test_words_that_are_no_paths_of_the_benchmark_stay_as_they_are() -> None:
    words = ("train", "a", "--data", "out/manifest.csv", "--x", "runs", "--y", "other/runs/set", "--z", "outer/runs")
    assert portable(words, Path("out")) == list(words)


def test_only_the_folder_may_differ_from_the_words_as_typed() -> None:
    today = ["train", "a", "--out", "<out>/runs/set/ours"]
    assert same_but_for_the_folder(["train", "a", "--out", "/somewhere/runs/set/ours"], today)
    assert same_but_for_the_folder(["train", "a", "--out", "runs/set/ours"], today)
    for typed in (
        ["train", "b", "--out", "x/runs/set/ours"],
        ["train", "a", "--out", "x/runs/set/theirs"],
        ["train", "a", "--out", "x/runs/set/ours", "--more"],
    ):
        assert not same_but_for_the_folder(typed, today)
