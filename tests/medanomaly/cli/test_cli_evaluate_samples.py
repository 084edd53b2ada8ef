"""Generated images measured by the command: with pixels, a classifier and stored features; and what it refuses to run."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_builders import picture, write_folder, write_labelled, write_png
from toys import SIDE, TINY, random_weights

from baselines.classifier_ddim import ClassifierDdimConfig, GradientSamplerConfig
from medanomaly.checkpoint import save_checkpoint
from medanomaly.cli.main import main
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.files import sha256_of
from medanomaly.methods.experiment import Experiment
from medanomaly.training.config import TrainingConfig

ROWS = [(f"p{index % 7}", "healthy", "train" if index % 7 < 4 else "test") for index in range(21)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled(tmp_path_factory.mktemp("data"), ROWS, masks=False)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("samples"), 9)


def run(samples: Path, reference: Path, out: Path, *options: object) -> int:
    words = ["evaluate-samples", samples, reference, out, "--device", "cpu", "--num-resamples", "10", *options]
    return main([str(word) for word in words])


def rows_of(out: Path) -> dict[str, dict[str, float]]:
    columns = json.loads((out / "samples.json").read_text())["columns"]
    return {name: {row["name"]: row["value"] for row in rows} for name, rows in columns.items()}


def test_samples_and_training_images_are_measured_against_the_test_split(samples: Path, data: Path, tmp_path: Path) -> None:
    assert run(samples, data, tmp_path, "--title", "mine") == 0
    found = rows_of(tmp_path)
    assert list(found) == ["mine", "training images"]
    assert {"FID", "KID x 1000", "precision", "recall", "SSIM of pairs", "suspected copies, share"} <= found["mine"].keys()
    assert "identical features" not in found["training images"]
    text = (tmp_path / "table.md").read_text()
    assert "Features: pixels averaged to 8 x 8 (64 numbers an image, no weights)." in text
    assert "n = 9 samples, 9 reference images of 3 patients, 12 training images." in text
    assert "9 samples and 9 reference images for 64 features: FID needs 65 of each" in text
    with (tmp_path / "neighbours.csv").open(newline="") as stream:
        pairs = list(csv.DictReader(stream))
    assert len(pairs) == 9
    train = {f"i{index}" for index, row in enumerate(ROWS) if row[2] == "train"}
    assert {pair["nearest_training_id"] for pair in pairs} <= train
    assert (tmp_path / "neighbours.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "run.json").read_text())["seconds"] is not None
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "done"


def test_copied_training_images_are_counted(data: Path, tmp_path: Path) -> None:
    for index in (0, 1, 2, 3):
        (tmp_path / "made").mkdir(exist_ok=True)
        shutil.copy(data.parent / f"{index}.png", tmp_path / "made" / f"copy{index}.png")
    assert run(tmp_path / "made", data, tmp_path / "out", "--title", "mine") == 0
    found = rows_of(tmp_path / "out")["mine"]
    assert found["identical features"] == 4
    assert found["suspected copies, share"] == 1
    with (tmp_path / "out" / "neighbours.csv").open(newline="") as stream:
        assert {row["sample"]: row["nearest_training_id"] for row in csv.DictReader(stream)}["copy2.png"] == "i2"


def test_a_folder_of_real_images_is_reference_and_training_set(samples: Path, tmp_path: Path) -> None:
    for index in range(6):
        write_png(tmp_path / "real" / f"{index}.png", picture(index + 50))
    assert run(samples, tmp_path / "real", tmp_path / "out", "--max-images", "5") == 0
    assert list(rows_of(tmp_path / "out")) == [samples.stem]
    text = (tmp_path / "out" / "table.md").read_text()
    assert "n = 5 samples, 5 reference images" in text
    assert "no training images were named" in text


def classifier_checkpoint(folder: Path) -> Path:
    shape = replace(ClassifierDdimConfig().classifier, channels=(16, 16), attention=(False, False), norm_groups=8)
    method = ClassifierDdimConfig(network=TINY, classifier=shape, sampler=GradientSamplerConfig(noise_level=400, num_steps=4))
    experiment = Experiment(
        name="tiny", method=method, preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig(num_steps=1)
    )
    header = {"experiment": experiment.to_dict(), "step": 1, "operating_points": [], "provenance": {"seen_images": []}}
    save_checkpoint(folder / "model.safetensors", random_weights(method), header)
    return folder


def test_a_classifiers_features_and_classes_are_used_and_named(samples: Path, data: Path, tmp_path: Path) -> None:
    folder = classifier_checkpoint(tmp_path / "classifier")
    assert run(samples, data, tmp_path / "out", "--features", folder, "--title", "mine") == 0
    found = rows_of(tmp_path / "out")
    assert 1 <= found["mine"]["Inception Score"] <= 2
    assert found["training images"]["Inception Score"] >= 1
    text = (tmp_path / "out" / "table.md").read_text()
    assert "Features: classifier of healthy, diseased (tiny) (16 numbers an image, SHA-256" in text
    assert sha256_of(folder / "model.safetensors") in text
    assert str(tmp_path) not in (tmp_path / "out" / "run.json").read_text()


def test_stored_features_stand_for_a_foreign_network(samples: Path, data: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    names = {
        "samples": [f"{index}.png" for index in range(9)],
        "reference": [f"i{index}" for index, row in enumerate(ROWS) if row[2] == "test"],
        "train": [f"i{index}" for index, row in enumerate(ROWS) if row[2] == "train"],
    }
    for role, ids in names.items():
        arrays |= {role: random.normal(size=(len(ids), 2)), f"{role}_ids": np.array(ids)}
    np.savez(tmp_path / "inception.npz", **arrays)  # type: ignore[arg-type]
    assert run(samples, data, tmp_path / "out", "--features", tmp_path / "inception.npz") == 0
    assert "features of inception.npz (2 numbers an image, SHA-256" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--features", "net.pt"), "net.pt: is a program, and no file is run here [E_FEATURES]"),
        (("--split", "val"), "has no val rows [E_SPLIT]"),
        (("--batch-size", "0"), "batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    samples: Path, data: Path, tmp_path: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(samples, data, tmp_path / "out", *options) in (2, 4)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_a_classifier_and_an_earlier_result_are_refused(
    checkpoint: Path, samples: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(samples, data, tmp_path / "out", "--features", checkpoint) == 2
    assert "holds CFG diffusion, which has no classifier [E_FEATURES]" in capsys.readouterr().err
    (tmp_path / "samples.json").write_text("earlier")
    assert run(samples, data, tmp_path) == 2
    assert "[E_EXISTS]" in capsys.readouterr().err
    assert (tmp_path / "samples.json").read_text() == "earlier"
