"""The drills find what they are for: each is shown something that breaks, and a small run of the real thing."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.drills import mutants, statistical
from benchmarks.drills.bad_batch import BAD, drill, write_batch, wrong_lines
from benchmarks.drills.formats import FORMATS, Format
from benchmarks.drills.fuzz import fuzz, mutant
from benchmarks.drills.kills import main as kills
from benchmarks.drills.outcome import Outcome, finish, read_outcomes, table
from benchmarks.drills.processes import PATIENCE_S, group_members, start
from benchmarks.drills.tiny import state_digest
from medanomaly.errors import InputError

OPTIONS = {"seed": 0, "first": 0, "patience_s": 2.0, "memory_mib": 1024}


def breaking(use: object) -> Format:
    """A format whose reader is given."""
    return replace(FORMATS["npy"], name="breaking", use=use)  # type: ignore[arg-type]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("training state", "train --config (YAML)")])
def test_nothing_escapes_from_a_dozen_damaged_files(tmp_path: Path, name: str) -> None:
    found = fuzz(FORMATS[name], 12, keep=tmp_path, **OPTIONS)  # type: ignore[arg-type]
    assert (found.injected, found.lost, found.examples) == (12, 0, ())


@pytest.mark.parametrize("name", ["PNG", "DICOM", "report.jsonl", "checkpoint (safetensors)"])
def test_a_mutant_is_made_again_from_its_number_and_most_differ(tmp_path: Path, name: str) -> None:
    FORMATS[name].make(tmp_path)
    content = (tmp_path / FORMATS[name].file).read_bytes()
    made = [mutant(FORMATS[name], content, 0, number) for number in range(20)]
    assert made == [mutant(FORMATS[name], content, 0, number) for number in range(20)]
    assert len(set(made) - {content}) > 15


def only_if_damaged(what: object) -> object:
    """A reader that does ``what`` for files of another length than the undamaged one, which it only refuses by name."""
    sizes: list[int] = []

    def use(path: Path) -> None:
        size = path.stat().st_size
        sizes.append(size)
        if size != sizes[0]:
            what(size)  # type: ignore[operator]
        raise InputError("is refused", code="E_DRILL")

    return use


def test_what_escapes_hangs_or_dies_is_lost_and_kept(tmp_path: Path) -> None:
    def escape(_size: int) -> None:
        raise KeyError("nobody thought of it")

    found = fuzz(breaking(only_if_damaged(escape)), 12, keep=tmp_path, **OPTIONS)  # type: ignore[arg-type]
    assert 0 < found.lost < 12
    assert "KeyError" in found.examples[0]
    assert len(list(tmp_path.iterdir())) == found.lost
    kinds = {
        "a hang of more than 2 s": lambda _size: time.sleep(60),
        f"died ({-signal.SIGKILL})": lambda _size: os.kill(os.getpid(), signal.SIGKILL),
    }
    for said, what in kinds.items():
        found = fuzz(breaking(only_if_damaged(what)), 2, keep=tmp_path, **OPTIONS)  # type: ignore[arg-type]
        assert found.lost > 0
        assert all(said in example for example in found.examples)


def test_memory_is_bounded_in_the_reading_process(tmp_path: Path) -> None:
    def greedy(_size: int) -> None:
        np.ones(2**28)

    found = fuzz(breaking(only_if_damaged(greedy)), 4, keep=tmp_path, **OPTIONS | {"memory_mib": 256})  # type: ignore[arg-type]
    assert found.lost > 0
    assert all("MemoryError" in example for example in found.examples)


def test_an_undamaged_file_that_cannot_be_read_ends_the_drill(tmp_path: Path) -> None:
    def use(_path: Path) -> None:
        raise KeyError

    with pytest.raises(RuntimeError, match="undamaged"):
        fuzz(breaking(use), 1, keep=tmp_path, **OPTIONS)  # type: ignore[arg-type]


def test_edits_of_json_nest_beyond_the_stack_now_and_then() -> None:
    rng = np.random.default_rng(0)
    made = [mutants.json_mutant(b'{"a": {"b": [1, 2]}}', rng) for _ in range(200)]
    assert any(b"[" * 10_000 in text for text in made)


def test_outcomes_come_back_as_they_were_and_a_loss_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fine = Outcome(drill="a", injected=1000, lost=0, seconds=1.6, measured="fast")
    bad = replace(fine, drill="b", lost=3, examples=("7: it broke",))
    assert finish([fine], tmp_path / "fine.json") == 0
    assert finish([fine, bad], tmp_path / "both.json") == 1
    assert "LOST b: 7: it broke" in capsys.readouterr().out
    assert read_outcomes([tmp_path / "both.json"]) == [fine, bad]
    assert table([bad]).splitlines()[-1] == "| b | 1,000 | 997 | 3 | fast | 2 |"


def test_states_are_compared_by_every_bit_and_not_by_their_pickle() -> None:
    import torch

    state = {"w": torch.zeros(3), "steps": [1, 2.0], "name": "x"}
    assert state_digest(state) == state_digest({"w": torch.zeros(3), "steps": [1, 2.0], "name": "".join(["x"])})
    for change in ({"w": -torch.zeros(3)}, {"w": torch.zeros(3, 1)}, {"steps": [1, 2]}, {"name": "y"}):
        assert state_digest(state) != state_digest(state | change)


def test_processes_of_a_group_are_found_until_they_end(tmp_path: Path) -> None:
    running = start(["--version"], tmp_path / "log", before=lambda: time.sleep(60), own_group=True)
    try:
        assert group_members(running.pid) == [running.pid]
    finally:
        running.kill()
    assert group_members(running.pid) == []
    ended = start(["no-such-command"], tmp_path / "log").wait(PATIENCE_S)
    assert ended is not None
    assert ended.code == 2
    assert "E_USAGE" in ended.said


def test_a_report_that_says_otherwise_than_the_batch_is_is_found(tmp_path: Path) -> None:
    bad = write_batch(tmp_path / "in", 60)
    assert list(bad.values()) == ["truncated PNG"]
    names = [path.relative_to(tmp_path / "in").as_posix() for path in (tmp_path / "in").rglob("*.*")]
    lines = [{"id": name, "status": "ok", "reason_code": ""} for name in names]
    lines = [line | {"status": "failed", "reason_code": "E_TRUNCATED"} if line["id"] in bad else line for line in lines]
    assert wrong_lines(lines, bad, 60) == []
    assert wrong_lines(lines[1:], bad, 60) != []
    changed = [line | {"status": "failed", "reason_code": "E_LIMIT"} for line in lines]
    assert len(wrong_lines(changed, bad, 60)) == 60


def test_thresholds_survive_every_adversarial_set_and_broken_rules_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = statistical.thresholds(160, 0)
    assert (found.injected, found.lost) == (160, 0)
    real = statistical.choose_operating_points
    monkeypatch.setattr(
        statistical, "choose_operating_points", lambda *given, **named: [replace(one, value=0.0) for one in real(*given, **named)]
    )
    assert statistical.thresholds(160, 0).lost > 40


def test_rates_outside_of_chance_are_a_loss() -> None:
    assert statistical.in_band(0.94, 0.95, 400)
    assert not statistical.in_band(0.85, 0.95, 400)
    assert statistical.coverage(100, 40, 0).lost == 0
    assert statistical.type_one_error(12, 40, 0).lost == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_kills_of_each_kind_are_survived(tmp_path: Path) -> None:
    assert kills([str(tmp_path), "--count", "3", "--steps", "4", "--images", "4"]) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_of_each_bad_kind_is_reported_in_a_batch(tmp_path: Path) -> None:
    found = drill(100 * len(BAD), 64)
    assert (found.injected, found.lost, found.examples) == (len(BAD), 0, ())
