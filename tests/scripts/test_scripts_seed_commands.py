"""The seed's commands, run as a person runs them: they train, sample and preprocess."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from seed_builders import ROOT, TINY_MODEL, chexpert_tree, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(data, run folder, what was said on stderr) of two steps of training."""
    folder = tmp_path_factory.mktemp("seed")
    data = chexpert_tree(folder / "data")
    words = ["--lr_anneal_steps", "2", "--unet_version", "v1", "--num_workers", "0", "--device", "cpu", "--class_cond", "True"]
    made = run(
        "cfg_image_train.py", "--dataset", "chexpert", "--data_dir", data, "--result_dir", folder / "run", *TINY_MODEL, *words
    )
    assert made.returncode == 0, made.stderr
    return data, folder / "run", made.stderr


def test_training_writes_a_checkpoint_whose_g_is_the_seeds_w_plus_one(trained: tuple[Path, Path, str]) -> None:
    _, folder, _ = trained
    config = json.loads((folder / "config.json").read_text())
    assert (folder / "model.safetensors").is_file()
    assert config["method"]["sampler"]["guidance_scale"] == 4.0 + 1
    assert config["method"]["sampler"]["num_steps"] == 3, "6 steps over 1000 levels are 3 up to level 500"
    assert config["training"]["num_steps"] == 2
    assert len((folder / "log.jsonl").read_text().splitlines()) >= 1


def test_a_flag_without_effect_is_accepted_and_said_so(trained: tuple[Path, Path, str]) -> None:
    assert "--unet_version v1: there is one version here; ignored" in trained[2]
    assert "--microbatch" not in trained[2], "only flags that were typed are spoken of"


def test_sampling_writes_input_healthy_twin_map_and_overlay_of_diseased_test_images(
    trained: tuple[Path, Path, str], tmp_path: Path
) -> None:
    data, folder, _ = trained
    words = ["--model_path", folder, "--data_dir", data, "--result_dir", tmp_path, "--num_samples", 2, "--device", "cpu"]
    made = run("cfg_image_sample.py", *words, *TINY_MODEL, "--use_ddim", "True")
    assert made.returncode == 0, made.stderr
    out = tmp_path / "samples"
    lines = [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all("valid" in line["id"] and line["status"] == "ok" for line in lines)
    rows = (data / "CheXpert-v1.0-small" / "valid.csv").read_text().splitlines()
    assert all(any(line["id"].split("/")[-3] in row and row.endswith("1.0,,,") for row in rows) for line in lines)
    for kind in ("input", "heatmaps", "pseudo_healthy", "overlays", "maps"):
        assert len(list((out / kind).iterdir())) == 2, kind
    with Image.open(next((out / "heatmaps").iterdir())) as heatmap, Image.open(next((out / "input").iterdir())) as film:
        assert heatmap.size == film.size == (48, 40)
        assert heatmap.mode == "RGB"


def test_a_flag_that_contradicts_the_checkpoint_is_refused(trained: tuple[Path, Path, str], tmp_path: Path) -> None:
    data, folder, _ = trained
    made = run("cfg_image_sample.py", "--model_path", folder, "--data_dir", data, "--result_dir", tmp_path, "--image_size", 64)
    assert made.returncode == 2
    assert "--image_size 64, but the checkpoint was trained with 32 [E_CONFIG_MISMATCH]" in made.stderr
    assert "Traceback" not in made.stderr


def test_multipliers_of_another_network_are_refused_by_the_command(trained: tuple[Path, Path, str], tmp_path: Path) -> None:
    data, folder, _ = trained
    words = ["--data_dir", data, "--result_dir", tmp_path, "--channel_mult", "1,2,4"]
    made = run("cfg_image_sample.py", "--model_path", folder, *words)
    assert made.returncode == 2
    assert "(channels 16,32,64), but the checkpoint was trained with channels 16,32 [E_CONFIG_MISMATCH]" in made.stderr


def test_a_preprocessed_chexpert_tree_is_read_like_the_original(tmp_path: Path) -> None:
    from medanomaly.datasets.public import PUBLIC_SETS

    data, out = chexpert_tree(tmp_path / "data"), tmp_path / "small"
    words = ["--data_dir", data, "--out_dir", out, "--image_size", 16, "--equalize", "clahe", "--workers", 1]
    made = run("chexpert_preproc.py", *words)
    assert made.returncode == 0, made.stderr
    before, after = (PUBLIC_SETS["chexpert"](root, tmp_path).records for root in (data, out))
    facts = [[(record.patient_id, record.label, record.split) for record in records] for records in (before, after)]
    assert facts[0] == facts[1]
    assert len(after) == 28
    assert {record.image.suffix for record in after} == {".png"}
    with Image.open(after[0].image) as film:
        assert film.size == (16, 16)
        assert film.mode == "L"
        assert not np.asarray(film)[0].any(), "40 rows of 48 columns: black above and below"


def test_an_unknown_equalisation_is_refused(tmp_path: Path) -> None:
    made = run("chexpert_preproc.py", "--data_dir", tmp_path, "--out_dir", tmp_path / "out", "--equalize", "auto")
    assert made.returncode == 2
    assert "--equalize auto cannot be honoured: there are clahe, hist and none [E_CONFIG]" in made.stderr


@pytest.mark.parametrize("script", ["cfg_image_train.py", "cfg_image_sample.py", "chexpert_preproc.py"])
def test_a_script_is_short_and_its_docstring_holds_its_command(script: str) -> None:
    text = (ROOT / "scripts" / script).read_text()
    assert len(text.splitlines()) <= 80
    assert f"python scripts/{script} " in text.split('"""')[1]
