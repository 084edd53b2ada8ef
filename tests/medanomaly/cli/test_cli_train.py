"""Training from the command line: what it refuses before a step is made, and how it goes on after it was stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cli_builders import TINY_TRAINING, picture, write_labelled, write_png
from safetensors.torch import load_file

from medanomaly.checkpoint import load_checkpoint
from medanomaly.cli.main import main

BALANCED = [(f"{split}{n}", label, split) for split in ("train", "val") for label in ("healthy", "diseased") for n in (label[0],)]


def train(manifest: Path, out: Path, *options: object) -> int:
    return main(["train", "phantom64-cfg", "--data", str(manifest), "--out", str(out), *TINY_TRAINING, *map(str, options)])


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_a_manifest_without_a_split_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, [("a", "healthy", "train"), ("b", "diseased", "train")])
    assert train(manifest, tmp_path / "run") == 4
    assert "has no val rows [E_SPLIT]; fill the split column" in last_line(capsys)
    assert not (tmp_path / "run").exists()


def test_a_patient_in_train_and_val_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, [("a", "healthy", "train"), ("b", "diseased", "train"), ("a", "healthy", "val")])
    assert train(manifest, tmp_path / "run") == 4
    assert "[E_LEAKAGE]; run `medanomaly data check` for the whole list" in last_line(capsys)


def test_a_label_that_is_no_class_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, [*BALANCED, ("z", "sick", "train")])
    assert train(manifest, tmp_path / "run") == 2
    assert "label 'sick' (1 images) is not one of the classes 'healthy', 'diseased' [E_CLASS]" in last_line(capsys)


def test_training_without_an_image_of_the_target_class_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, [("a", "diseased", "train"), ("b", "healthy", "val"), ("c", "diseased", "val")])
    assert train(manifest, tmp_path / "run") == 4
    assert "has no train image labelled 'healthy', the class that images are translated to [E_ONE_CLASS]" in last_line(capsys)


def test_training_on_healthy_images_only_goes_on_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, [("a", "healthy", "train"), ("b", "healthy", "val")])
    assert train(manifest, tmp_path / "run") == 0
    assert "warning: [W_ONE_CLASS]" in capsys.readouterr().err
    # Without a diseased validation image there is nothing to choose a Dice or a Youden threshold on.
    points = load_checkpoint(tmp_path / "run").header["operating_points"]
    assert [point["criterion"] for point in points] == ["healthy pixel false-positive rate"]


def test_a_mask_of_another_size_is_refused_by_the_time_thresholds_are_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_labelled(tmp_path, BALANCED)
    write_png(tmp_path / "3-mask.png", torch.zeros(8, 16, dtype=torch.uint8).numpy())
    assert train(manifest, tmp_path / "run") == 4
    assert "[E_MASK_SIZE]" in last_line(capsys)


def test_a_run_folder_that_cannot_be_is_a_resource_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, BALANCED)
    assert train(manifest, manifest / "run") == 6
    assert "[E_OUTPUT]" in last_line(capsys)


def test_a_run_is_not_continued_with_other_settings_or_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, BALANCED)
    assert train(manifest, tmp_path / "run") == 0
    record = {name: (tmp_path / "run" / name).read_bytes() for name in ("config.json", "run.json")}
    assert train(manifest, tmp_path / "run", "--training.learning-rate", "0.001") == 5
    assert record == {name: (tmp_path / "run" / name).read_bytes() for name in record}
    said = last_line(capsys)
    assert "belongs to another configuration or data set [E_CONFIG_MISMATCH]; use a new output folder, or the settings" in said
    assert said.endswith(" of before: training.learning_rate 0.0003 (now 0.001)")
    others = (
        "--training.seed",
        "4",
        "--method.network.dropout",
        "0.5",
        "--preprocess.channels",
        "3",
        "--training.log-every",
        "9",
    )
    assert train(manifest, tmp_path / "run", *others) == 5
    said = last_line(capsys)
    for words in ("training.seed 0 (now 4)", "method.network.dropout 0.0 (now 0.5)", "preprocess.channels 1 (now 3)"):
        assert words in said
    assert "log_every" not in said
    manifest.write_text(manifest.read_text().replace("i0,", "renamed,"))
    assert train(manifest, tmp_path / "run") == 5
    assert "[E_CONFIG_MISMATCH]" in last_line(capsys)


def test_settings_that_do_not_change_the_weights_may_be_changed(tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, BALANCED)
    assert train(manifest, tmp_path / "run") == 0
    before = load_file(tmp_path / "run" / "model.safetensors")
    assert train(manifest, tmp_path / "run", "--method.sampler.noise-level", "300") == 0
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.header["experiment"]["method"]["sampler"]["noise_level"] == 300
    assert all(torch.equal(checkpoint.tensors[name], value) for name, value in before.items())


def test_the_checkpoint_says_what_it_has_seen_and_under_which_licence(tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, [*BALANCED, ("t", "healthy", "test")])
    assert train(manifest, tmp_path / "run", "--licence", "CC0-1.0") == 0
    provenance = load_checkpoint(tmp_path / "run").header["provenance"]
    assert provenance["licence"] == "CC0-1.0"
    assert (provenance["num_train_images"], provenance["num_val_images"], len(provenance["seen_images"])) == (2, 2, 4)


def test_a_run_stopped_by_the_system_returns_75_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    manifest, steps = write_labelled(tmp_path, BALANCED), ("--training.num-steps", "60")
    words = ["train", "phantom64-cfg", "--data", str(manifest), "--out", str(tmp_path / "stopped"), *TINY_TRAINING, *steps]
    # As many threads as here: with another number, sums are rounded in another order.
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "medanomaly", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    run = subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload]
    deadline = time.monotonic() + 60
    log = tmp_path / "stopped" / "log.jsonl"
    while not (log.is_file() and log.read_bytes()) and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 75, err
    assert "state saved [E_PREEMPTED]; run the same command again to continue" in err.splitlines()[-1]
    status = json.loads((tmp_path / "stopped" / "status.json").read_text())
    assert status["status"] == "preempted"
    assert 0 < status["step"] < 60
    for out in ("stopped", "whole"):
        assert train(manifest, tmp_path / out, *steps) == 0
    stopped, whole = (load_file(tmp_path / out / "model.safetensors") for out in ("stopped", "whole"))
    assert all(torch.equal(stopped[name], value) for name, value in whole.items())


def test_a_finished_run_gets_a_healthy_calibration_and_keeps_its_weights(tmp_path: Path) -> None:
    rows = [("t1", "healthy", "train"), ("t2", "diseased", "train"), ("d", "diseased", "val")]
    rows += [(f"h{n}", "healthy", "val") for n in range(6)]
    manifest = write_labelled(tmp_path, rows)
    assert train(manifest, tmp_path / "run") == 0
    before = load_checkpoint(tmp_path / "run")
    assert train(manifest, tmp_path / "run", "--method.map.healthy-z", "true") == 0
    after = load_checkpoint(tmp_path / "run")
    assert after.tensors.keys() - before.tensors.keys() == {"calibration.mean", "calibration.std", "calibration.num_images"}
    assert all(torch.equal(after.tensors[name], value) for name, value in before.tensors.items())
    assert int(after.tensors["calibration.num_images"]) == 3
    by_criterion = {point["criterion"]: point for point in after.header["operating_points"]}
    assert by_criterion["healthy pixel false-positive rate"]["num_images"] == 3
    image = write_png(tmp_path / "new.png", picture(50))
    assert main(["localize", str(tmp_path / "run"), str(image), str(tmp_path / "maps"), "--quiet", "true"]) == 0


def test_gradient_checkpointing_changes_no_weight_and_is_refused_where_there_is_nothing_to_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_labelled(tmp_path, BALANCED)
    for name, words in (("plain", ()), ("saving", ("--training.gradient-checkpointing", "true"))):
        assert train(manifest, tmp_path / name, *words) == 0
    plain, saving = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "saving"))
    assert all(torch.equal(plain[key], saving[key]) for key in plain)
    words = ["train", "phantom64-fpgan", "--data", str(manifest), "--out", str(tmp_path / "gan")]
    assert main([*words, "--training.gradient-checkpointing", "true", "--device", "cpu"]) == 2
    assert "has no diffusion network" in capsys.readouterr().err
