"""The seed's two commands with a classifier, run as a person runs them: they train and sample."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from seed_builders import ROOT, TINY_MODEL, chexpert_tree, run

TINY_CLASSIFIER = ("--classifier_width", "16", "--classifier_depth", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(data, run folder) of two steps of training."""
    folder = tmp_path_factory.mktemp("classifier")
    data = chexpert_tree(folder / "data", num_train=16)
    words = ["--iterations", 2, "--num_workers", 0, "--device", "cpu", "--classifier_scale", 50]
    places = ["--data_dir", data, "--result_dir", folder / "run"]
    made = run("classifier_train.py", *places, *TINY_MODEL, *TINY_CLASSIFIER, *words)
    assert made.returncode == 0, made.stderr
    return data, folder / "run"


def test_training_writes_one_checkpoint_of_both_networks(trained: tuple[Path, Path]) -> None:
    config = json.loads((trained[1] / "config.json").read_text())
    assert (trained[1] / "model.safetensors").is_file()
    assert config["method"]["kind"] == "classifier_ddim"
    assert config["method"]["classifier"]["channels"] == [16, 32]
    assert config["method"]["sampler"] == {"noise_level": 500, "num_steps": 3, "gradient_scale": 50.0}
    assert config["training"]["num_steps"] == 2
    first = json.loads((trained[1] / "log.jsonl").read_text().splitlines()[0])
    assert {"loss", "cross_entropy"} <= first.keys()


def test_sampling_follows_the_scale_that_was_asked_for(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, folder = trained
    words = ["--model_path", folder, "--data_dir", data, "--num_samples", 1, "--device", "cpu", *TINY_MODEL, *TINY_CLASSIFIER]
    same = run("classifier_sample_known.py", *words, "--result_dir", tmp_path / "same", "--classifier_scale", 50)
    other = run("classifier_sample_known.py", *words, "--result_dir", tmp_path / "other", "--classifier_scale", 9000)
    for name, made in (("same", same), ("other", other)):
        assert made.returncode == 0, made.stderr
        (line,) = [json.loads(text) for text in (tmp_path / name / "samples" / "report.jsonl").read_text().splitlines()]
        assert (line["status"], "valid" in line["id"]) == ("ok", True)
        for kind in ("input", "heatmaps", "pseudo_healthy", "maps"):
            assert len(list((tmp_path / name / "samples" / kind).iterdir())) == 1, kind
    # The checkpoint's threshold holds for the scale it was chosen with.
    assert (tmp_path / "same" / "samples" / "overlays").is_dir()
    assert not (tmp_path / "other" / "samples" / "overlays").exists()
    maps = [next((tmp_path / name / "samples" / "maps").iterdir()).read_bytes() for name in ("same", "other")]
    assert maps[0] != maps[1]


def test_a_classifier_in_another_file_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, folder = trained
    words = ["--model_path", folder, "--data_dir", data, "--result_dir", tmp_path]
    made = run("classifier_sample_known.py", *words, "--classifier_path", "classifier.pt")
    assert made.returncode == 2
    assert "both networks are in --model_path, trained together [E_CONFIG]; leave it out" in made.stderr
    assert "Traceback" not in made.stderr


@pytest.mark.parametrize("script", ["classifier_train.py", "classifier_sample_known.py"])
def test_a_classifier_script_is_short_and_its_docstring_holds_its_command(script: str) -> None:
    text = (ROOT / "scripts" / script).read_text()
    assert len(text.splitlines()) <= 80
    assert f"python scripts/{script} " in text.split('"""')[1]
