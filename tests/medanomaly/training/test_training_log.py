import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from medanomaly.training.log import RunLog, environment, write_status


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[int, dict[str, float]]] = []

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.heard.append((step, dict(values)))

    def images(self, name: str, step: int, x: torch.Tensor) -> None:
        raise AssertionError("nothing to look at")


def test_a_line_is_valid_json_even_for_a_nan_and_observers_hear_the_number_itself(tmp_path: Path) -> None:
    listener = Listener()
    log = RunLog(tmp_path / "log.jsonl", first_step=0, observers=[listener])
    log.write(0, {"loss": float("nan"), "rate": 0.5})
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 0, "loss": null, "rate": 0.5}\n'
    assert str(listener.heard) == "[(0, {'loss': nan, 'rate': 0.5})]"


def test_a_log_is_cut_back_to_the_step_a_run_continues_at(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RunLog(path, first_step=0)
    for step in range(5):
        log.write(step, {"loss": float(step)})
    RunLog(path, first_step=3).write(3, {"loss": 30.0})
    assert [line["loss"] for line in RunLog.read(path)] == [0, 1, 2, 30]


def test_a_line_torn_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0}\n{"step": 1, "lo')
    assert RunLog.read(path) == [{"step": 0}]
    assert RunLog.read(tmp_path / "absent.jsonl") == []


def test_a_fresh_run_starts_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0}\n')
    RunLog(path, first_step=0)
    assert path.read_text() == ""


def test_a_status_holds_what_a_launcher_asks_for(tmp_path: Path) -> None:
    write_status(tmp_path, "running", step=3, num_steps=8)
    assert json.loads((tmp_path / "status.json").read_text()) == {"status": "running", "step": 3, "num_steps": 8}


def test_the_environment_names_versions_and_threads_but_no_machine(tmp_path: Path) -> None:
    found = environment()
    assert found["packages"]["torch"] == torch.__version__.split("+")[0] or found["packages"]["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["git_commit"] is None or re.fullmatch(r"[0-9a-f]{40}", found["git_commit"])
    assert "/" not in json.dumps(found)
