"""Training a diffusion model that localizes nothing, and what the commands for localizers say of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_builders import write_labelled
from safetensors.torch import load_file

from medanomaly.checkpoint import load_checkpoint
from medanomaly.cli.main import main
from medanomaly.datasets.manifest import read_manifest
from medanomaly.datasets.seen import seen
from medanomaly.methods.diffusion_model import load_diffusion_model

ROWS = [("a", "", "train"), ("b", "diseased", "train"), ("c", "odd", "train"), ("d", "", "val"), ("e", "healthy", "test")]
"""One image without a label, and labels that no preset knows."""
TINY = (
    *("--preprocess.image-size", "16"),
    *("--method.network.channels", "[16,16]", "--method.network.attention", "[false,true]"),
    *("--method.network.head-channels", "16", "--method.network.norm-groups", "8"),
    *("--training.num-steps", "3", "--training.batch-size", "4", "--training.precision", "fp32", "--training.log-every", "1"),
    *("--device", "cpu"),
)


def train(manifest: Path, out: Path, *options: object) -> int:
    return main(["train", "gray64-prior", "--data", str(manifest), "--out", str(out), *TINY, *map(str, options)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled(tmp_path_factory.mktemp("data"), ROWS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "prior"
    assert train(data, folder) == 0
    return folder


def test_every_train_image_is_learned_from_whatever_its_label(run: Path) -> None:
    header = load_checkpoint(run).header
    assert header["operating_points"] == []
    assert (header["provenance"]["num_train_images"], header["provenance"]["num_val_images"]) == (3, 1)
    assert header["experiment"]["method"]["classes"] == []
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [0, 1, 2]
    assert "val_loss" in log[-1]
    load_diffusion_model(run, torch.device("cpu")).eps_fn()(torch.zeros(1, 1, 16, 16), 5)


def test_train_and_val_images_are_remembered_and_test_images_are_not(run: Path, data: Path) -> None:
    records = read_manifest(data)
    assert seen(run, records) == ["i0", "i1", "i2", "i3"]
    assert [record.split for record in records] == ["train", "train", "train", "val", "test"]


def test_a_mask_is_neither_read_nor_asked_for(tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, ROWS)
    (tmp_path / "1-mask.png").unlink()
    assert train(manifest, tmp_path / "run") == 0


def test_the_same_command_again_keeps_the_weights_and_other_settings_are_refused(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_file(run / "model.safetensors")
    assert train(data, run) == 0
    assert all(torch.equal(value, before[name]) for name, value in load_file(run / "model.safetensors").items())
    assert train(data, run, "--method.bound-weight", "0.5") == 5
    assert "[E_CONFIG_MISMATCH]" in capsys.readouterr().err


def test_a_model_with_classes_learns_from_labelled_images_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, ROWS)
    assert train(manifest, tmp_path / "run", "--method.classes", '["healthy","diseased"]') == 2
    assert "label 'odd' (1 images) is not one of the classes" in capsys.readouterr().err
    rows = [("a", "healthy", "train"), ("b", "diseased", "train"), ("c", "", "train"), ("d", "healthy", "val")]
    manifest = write_labelled(tmp_path / "known", rows)
    assert train(manifest, tmp_path / "run", "--method.classes", '["healthy","diseased"]') == 0
    model = load_diffusion_model(tmp_path / "run", torch.device("cpu"))
    assert model.config.classes == ("healthy", "diseased")
    model.eps_fn("healthy")


def test_leakage_between_splits_is_refused_without_labels_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, [("a", "", "train"), ("a", "", "val")])
    assert train(manifest, tmp_path / "run") == 4
    assert "[E_LEAKAGE]" in capsys.readouterr().err


def test_the_help_lists_the_models_after_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    listed = capsys.readouterr().out
    for name in ("gray64-prior", "phantom64-prior", "gray128-prior", "cxr256-prior"):
        assert listed.index("gray64-cfg") < listed.index(name)
    assert "Unconditional diffusion on any gray images" in listed


@pytest.mark.parametrize("command", ["localize", "evaluate", "choose"])
def test_a_command_that_needs_a_localizer_says_what_it_was_given(
    command: str, run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(run), str(data), str(tmp_path / "out"), "--device", "cpu"]) == 5
    err = capsys.readouterr().err
    assert "is a diffusion model, which localizes nothing [E_KIND]" in err
    assert "medanomaly deblur" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_benchmark_does_not_begin_with_a_model(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = {
        "title": "t",
        "main": "prior",
        "sets": [{"name": "s", "manifest": str(data)}],
        "methods": [{"name": "prior", "preset": "gray64-prior"}],
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert main(["benchmark", str(tmp_path / "plan.json"), str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "preset of 'prior': gray64-prior is a diffusion model, which localizes nothing [E_KIND]" in err
    assert not (tmp_path / "out").exists()


def test_a_release_carries_the_hashes_and_says_what_the_model_is(run: Path, data: Path, tmp_path: Path) -> None:
    words = ["export", str(run), str(tmp_path / "out"), "--command", "medanomaly train", "--data-note", "Noise."]
    assert main(words) == 0
    assert seen(tmp_path / "out", read_manifest(data)) == ["i0", "i1", "i2", "i3"]
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "diffusion_model, without classes; it localizes nothing" in card
    assert "`seen.safetensors` beside the file holds hashes" in card
    assert "* Map" not in card
    assert "false alarms" not in card
    load_diffusion_model(tmp_path / "out", torch.device("cpu"))


def test_a_release_without_its_hashes_is_not_made(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    words = ["export", str(tmp_path / "run"), str(tmp_path / "out"), "--command", "c", "--data-note", "n"]
    assert main(words) == 5
    assert "[E_SEEN_FILE]" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.safetensors").exists()
