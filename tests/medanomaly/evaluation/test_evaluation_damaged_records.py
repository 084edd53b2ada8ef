"""Records of runs are data too: what the fuzzing drill broke in them is refused or done again, and never an internal error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import tiny_config

from medanomaly.checkpoint import load_header, load_train_state, save_checkpoint, save_train_state
from medanomaly.cli.methods import ALL_METHODS
from medanomaly.cli.verify_run import settings_of
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.diffusion.unet import NetworkConfig
from medanomaly.errors import CheckpointError, ConfigError
from medanomaly.evaluation.job_report import finished, read_report
from medanomaly.evaluation.run_record import end_run
from medanomaly.evaluation.verify_run import verify_run
from medanomaly.methods.experiment import Experiment, load_trained
from medanomaly.training.config import TrainingConfig
from medanomaly.training.log import RunLog
from medanomaly.training.loop import refuse_other_run, resume_step

NESTED = "[" * 20_000 + "]" * 20_000
GOOD = {"id": "a.png", "status": "ok", "outputs": ["maps/a.npy"], "sha256_in": "", "identity": "this"}
EXPERIMENT = Experiment(
    name="tiny", method=tiny_config(), preprocess=PreprocessConfig(image_size=16), training=TrainingConfig(num_steps=1)
)


@pytest.mark.parametrize(
    "line",
    [
        NESTED,
        '{"id": "b", "status": ' + NESTED + ', "outputs": [], "sha256_in": ""}',
        *(
            json.dumps(GOOD | change)
            for change in (
                {"id": {}},
                {"id": ["b"]},
                {"id": None},
                {"outputs": 3},
                {"outputs": None},
                {"outputs": [3]},
                {"outputs": ["a\0b"]},
                {"outputs": ["\ud800"]},
                {"status": []},
            )
        ),
    ],
    ids=range(11),
)
def test_a_line_that_is_none_of_a_report_is_left_out_and_a_finding(tmp_path: Path, line: str) -> None:
    (tmp_path / "report.jsonl").write_text(f"{line}\n{json.dumps(GOOD)}\n")
    (tmp_path / "run.json").write_text('{"kind": "localize"}')
    assert [found["id"] for found in read_report(tmp_path / "report.jsonl")] == ["a.png"]
    assert list(finished(tmp_path, "this", overwrite=False)) == ["a.png"]
    finished(tmp_path, "another", overwrite=True)
    assert "E_REPORT" in [finding.code for finding in verify_run(tmp_path, settings_of)]


@pytest.mark.parametrize("name", ["run.json", "config.json", "status.json"])
@pytest.mark.parametrize("content", [NESTED.encode(), b"\xff{", b"3", b"[]"])
def test_a_record_that_is_no_object_is_a_finding_and_stops_no_command(tmp_path: Path, name: str, content: bytes) -> None:
    for file in ("run.json", "config.json", "status.json"):
        (tmp_path / file).write_text("{}")
    (tmp_path / "train_state.pt").write_bytes(b"state")
    (tmp_path / name).write_bytes(content)
    assert "E_JSON" in [finding.code for finding in verify_run(tmp_path, settings_of)]
    refuse_other_run(tmp_path, "identity")
    if content[:1] != b"[" and content != b"3":
        end_run(tmp_path) if name == "run.json" else None


@pytest.mark.parametrize("line", ["3", "{}", '{"step": "1"}', '{"step": null}', '{"step": true}', NESTED, "\ufffd"])
def test_a_log_is_read_up_to_the_first_line_that_is_none(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0}\n' + line + '\n{"step": 2}\n')
    assert RunLog.read(path) == [{"step": 0}]
    path.write_bytes(b'{"step": 0}\n{"step": 1, "loss": \xff}\n')
    assert RunLog.read(path) == [{"step": 0}]
    RunLog(path, first_step=1)


def recipe() -> Any:
    return EXPERIMENT.method.recipe(image_channels=1, training=EXPERIMENT.training, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("recipe", {}),
        ("recipe", None),
        ("step", "three"),
        ("step", None),
        ("step", -1),
        ("weight", 0.5),
        ("weight", None),
        ("optimizer", {"state": {}, "param_groups": []}),
    ],
)
def test_a_state_that_does_not_fit_the_training_is_refused_by_name(tmp_path: Path, part: str, value: Any) -> None:
    path = tmp_path / "train_state.pt"
    state: dict[str, Any] = {"identity": "this", "step": 4, "recipe": recipe().state()}
    save_train_state(path, state)
    assert resume_step(tmp_path, recipe(), "this") == 4
    changed = load_train_state(path)
    if part in changed:
        changed[part] = value
    elif part == "weight":
        weights = changed["recipe"]["denoiser"]
        weights[next(iter(weights))] = value
    else:
        changed["recipe"][part] = value
    save_train_state(path, changed)
    with pytest.raises(CheckpointError) as refused:
        resume_step(tmp_path, recipe(), "this")
    assert refused.value.path == path
    assert refused.value.fix == "delete it to start this run again"


@pytest.mark.parametrize(
    "change",
    [
        {"provenance": "no"},
        {"provenance": [1]},
        {"operating_points": 3},
        {"operating_points": [[]]},
        {"experiment": []},
        {"format_version": float("inf")},
        {"network": {"channels": [16, 10**30]}},
        {"network": {"norm_groups": 0}},
        {"network": {"head_channels": 15}},
    ],
)
def test_a_checkpoint_whose_header_cannot_be_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    header: dict[str, Any] = {"experiment": EXPERIMENT.to_dict(), "operating_points": [], "provenance": {}}
    if "network" in change:
        header["experiment"]["method"]["network"] |= change["network"]
    else:
        header |= change
    monkeypatch.setattr("medanomaly.checkpoint.finite", lambda content: content)
    real = json.dumps
    monkeypatch.setattr("medanomaly.checkpoint.json.dumps", lambda content, **_options: real(content))
    save_checkpoint(tmp_path / "model.safetensors", recipe().weights(), header)
    with pytest.raises(CheckpointError) as refused:
        load_trained(tmp_path, ALL_METHODS, torch.device("cpu"))
    assert refused.value.code == "E_CKPT_FORMAT"


def test_a_header_that_nests_beyond_the_stack_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medanomaly.checkpoint.json.dumps", lambda _content, **_options: NESTED)
    save_checkpoint(tmp_path / "model.safetensors", {"weight": torch.zeros(2)}, {})
    with pytest.raises(CheckpointError, match="unreadable header"):
        load_header(tmp_path)


def test_a_network_that_monai_would_refuse_is_refused_by_the_setting_that_is_wrong() -> None:
    for wrong in (
        {"norm_groups": 0},
        {"head_channels": 15},
        {"num_res_blocks": 0},
        {"channels": (), "attention": ()},
        {"channels": (32, 64, 96, 10**30)},
        {"channels": (16, 24), "attention": (False, False), "norm_groups": 8, "head_channels": 16},
    ):
        with pytest.raises(ConfigError, match=r"network\.channels"):
            NetworkConfig(**wrong)  # type: ignore[arg-type]
