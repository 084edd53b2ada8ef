"""A classifier from the command line: trained, measured by class and noise level, used as features; and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from cli_builders import write_folder, write_labelled

from medanomaly.classifiers.trained import load_classifier
from medanomaly.cli.main import main
from medanomaly.files import sha256_of

TINY = (
    *("--preprocess.image-size", "16", "--device", "cpu", "--training.num-steps", "3", "--training.batch-size", "4"),
    *("--method.network.channels", "[16,16]", "--method.network.attention", "[false,true]"),
    *("--method.network.head-channels", "16", "--method.network.norm-groups", "8"),
    *("--training.precision", "fp32", "--training.log-every", "1"),
)
PARTS = ("train",) * 6 + ("val",) * 4 + ("test",) * 6
ROWS = [(f"p{index}", str(index % 2), part) for index, part in enumerate(PARTS)]
SAID = ("Edema=1; Mass=0", "Edema=0; Mass=1", "Edema=1; Mass=1", "Edema=-1; Mass=0")
SEVERAL = ("--method.multi-label", "true", "--method.classes", "[Edema,Mass]")


def observed(folder: Path, said: tuple[str, ...] = SAID) -> Path:
    """The manifest with observations and no labels."""
    manifest = write_labelled(folder, [(patient, "", part) for patient, _, part in ROWS], masks=False)
    head, *lines = manifest.read_text().splitlines()
    lines = [f"{line},{said[index % len(said)]}" for index, line in enumerate(lines)]
    manifest.write_text("\n".join([f"{head},observations", *lines]) + "\n")
    return manifest


def train(manifest: Path, out: Path, *options: object, preset: str = "gray64-classifier") -> int:
    return main(["train", preset, "--data", str(manifest), "--out", str(out), *TINY, *map(str, options)])


def measure(run: Path, manifest: Path, out: Path, *options: object) -> int:
    words = ["evaluate-classifier", run, manifest, out, "--num-resamples", "10", "--device", "cpu", "--quiet", "true", *options]
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled(tmp_path_factory.mktemp("data"), ROWS, masks=False)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "zero-or-one"
    assert train(data, folder, "--method.classes", '["0","1"]') == 0
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return observed(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, films: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "observations"
    # Training may count uncertain as present; the measurement must not.
    options = ("--method.augmentation", "radiograph", "--training.flip", "false", "--method.uncertain", "ones")
    assert train(films, folder, *SEVERAL, *options) == 0
    return folder


def test_a_trained_classifier_has_the_folder_of_every_training(digits: Path) -> None:
    log = [json.loads(line) for line in (digits / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [0, 1, 2]
    assert {"loss", "accuracy"} <= log[0].keys()
    assert {"val_loss", "val_accuracy"} <= log[-1].keys()
    assert json.loads((digits / "status.json").read_text())["status"] == "done"
    assert load_classifier(digits, torch.device("cpu")).classes == ("0", "1")


def test_classes_that_exclude_each_other_are_measured_with_a_confusion_matrix(digits: Path, data: Path, tmp_path: Path) -> None:
    assert measure(digits, data, tmp_path, "--noise-percents", "[0,50]") == 0
    content = json.loads((tmp_path / "classifier.json").read_text())
    assert [(one["percent"], one["level"]) for one in content["levels"]] == [(0, 0), (50, 500)]
    for one in content["levels"]:
        assert [sum(row) for row in one["confusion"]] == [3, 3]
        right = sum(one["confusion"][k][k] for k in (0, 1)) / 6
        assert next(row["value"] for row in one["rows"] if row["name"] == "accuracy") == right
    assert content["levels"][0]["thresholds"] is None
    text = (tmp_path / "table.md").read_text()
    assert "| clean" in text
    assert "| 50 % (t = 500)" in text
    assert "| AUROC of 1 " in text
    assert "6 test images of 6 patients" in text
    with (tmp_path / "table.csv").open(newline="") as stream:
        assert {row["class"] for row in csv.DictReader(stream)} == {"", "0", "1"}
    with (tmp_path / "images.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["truth"] for line in lines[:3]] == ["0", "1", "0"]
    assert all(float(line["p(0)"]) + float(line["p(1)"]) == pytest.approx(1) for line in lines)
    assert (tmp_path / "classifier.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "run.json").read_text())["kind"] == "evaluate-classifier"
    assert measure(digits, data, tmp_path) == 2


def test_thresholds_of_observations_come_from_val_and_uncertain_ones_are_not_counted(
    several: Path, films: Path, tmp_path: Path
) -> None:
    assert measure(several, films, tmp_path, "--noise-percents", "[0,25]") == 0
    content = json.loads((tmp_path / "classifier.json").read_text())
    assert content["multi_label"] is True
    for one in content["levels"]:
        assert one["confusion"] is None
        # Of four val images one is uncertain about Edema.
        assert [(point["chosen_on"], point["num_images"]) for point in one["thresholds"]] == [("val", 3), ("val", 4)]
    with (tmp_path / "images.csv").open(newline="") as stream:
        truths = [line["truth"] for line in csv.DictReader(stream)]
    assert truths[:3] == ["Edema=1; Mass=1", "Mass=0", "Edema=1; Mass=0"]
    assert "Uncertain observations are left out" in (tmp_path / "table.md").read_text()


def test_images_the_classifier_has_seen_are_no_test(
    digits: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = data.parent / "moved.csv"
    moved.write_text(data.read_text().replace(",train", ",test"))
    assert measure(digits, moved, tmp_path) == 4
    assert "[E_SEEN]" in capsys.readouterr().err


def test_thresholds_are_not_measured_on_the_images_they_were_chosen_on(
    several: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(several, films, tmp_path, "--split", "val") == 2
    assert "[E_TEST_THRESHOLD]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "options", "code"),
    [
        ([("a", "7", "train"), ("b", "8", "train"), ("c", "9", "val")], ('--method.classes=["7","8"]',), "E_CLASS"),
        ([("a", "", "train"), ("b", "", "val")], (), "E_LABEL"),
        ([("a", "7", "train"), ("b", "8", "train"), ("c", "7", "val")], ('--method.classes=["7","8","9"]',), "E_CLASS_EMPTY"),
        ([("a", "7", "train"), ("b", "7", "train"), ("c", "7", "val")], ('--method.classes=["7","8"]',), "E_ONE_CLASS"),
        ([("a", "7", "train"), ("b", "8", "val")], SEVERAL, "E_LABEL"),
        ([("a", "7", "train"), ("b", "8", "val")], ('--method.classes=["7"]',), "E_CONFIG"),
    ],
)
def test_data_that_teaches_nothing_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[tuple[str, str, str]], options: tuple[str, ...], code: str
) -> None:
    manifest = write_labelled(tmp_path, rows, masks=False)
    assert train(manifest, tmp_path / "out", *options) in (2, 4)
    assert f"[{code}]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_classifier_does_not_localize_and_another_model_is_no_classifier(
    digits: Path, checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["localize", str(digits), str(data), str(tmp_path / "maps"), "--device", "cpu"]) == 5
    assert "is a classifier, which localizes nothing" in capsys.readouterr().err
    assert measure(checkpoint, data, tmp_path / "out") == 5
    assert "[E_KIND]" in capsys.readouterr().err


def features(run: Path, samples: Path, data: Path, out: Path) -> str:
    words = ["evaluate-samples", samples, data, out, "--features", run, "--device", "cpu", "--num-resamples", "5"]
    assert main([str(word) for word in words]) == 0
    return (out / "table.md").read_text()


def test_samples_are_compared_by_its_features_and_scored_by_its_classes(
    digits: Path, several: Path, data: Path, tmp_path: Path
) -> None:
    samples = write_folder(tmp_path / "samples", 5)
    text = features(digits, samples, data, tmp_path / "one")
    sha256 = sha256_of(digits / "model.safetensors")
    name = "classifier zero-or-one (gray64-classifier) of 0, 1, 16 wide"
    assert f"Features: {name} (16 numbers an image, SHA-256 {sha256})." in text
    assert "Inception Score" in text
    # Probabilities of several observations do not sum to 1.
    assert "Inception Score" not in features(several, samples, data, tmp_path / "two")
