"""``medanomaly evaluate --deblur``: test and val images are deblurred once, for every method; a prior that has seen them is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_builders import picture, write_png
from scipy import ndimage
from toys import TINY, tiny_config

from deblur.kernels import linear_motion
from medanomaly.checkpoint import save_checkpoint
from medanomaly.cli.main import main
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.evaluation.folder import read_evaluation
from medanomaly.files import sha256_of
from medanomaly.methods.diffusion_model import DiffusionModelConfig
from medanomaly.methods.experiment import ExperimentOf, ModelConfig
from medanomaly.training.config import TrainingConfig

SIDE = 36
KERNEL = ("--deblur-kernel", "linear 5@0")


def weights(folder: Path, method: ModelConfig, seen: list[str], points: Sequence[dict[str, Any]] = ()) -> Path:
    """Random weights that say they have seen files of these hashes."""
    training = TrainingConfig(num_steps=1)
    made = method.recipe(image_channels=1, training=training, device=torch.device("cpu"))
    experiment = ExperimentOf(name="tiny", method=method, preprocess=PreprocessConfig(image_size=SIDE), training=training)
    header = {"experiment": experiment.to_dict(), "operating_points": list(points), "provenance": {"seen_images": seen}}
    save_checkpoint(folder / "model.safetensors", made.denoiser.state_dict(), header)  # type: ignore[attr-defined]
    return folder


def prior(folder: Path, seen: list[str]) -> Path:
    return weights(folder, DiffusionModelConfig(network=replace(TINY, learn_sigma=False)), seen)


@pytest.fixture(scope="module")
def localizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights(tmp_path_factory.mktemp("localizer"), tiny_config(), [])


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of two val and three test images that a motion of 5 px along the rows has blurred."""
    folder = tmp_path_factory.mktemp("moved")
    lines = ["id,patient_id,image,label,mask,split"]
    taps = linear_motion(5, 0).numpy()
    for index, split in enumerate(("val", "val", "test", "test", "test")):
        sharp = ndimage.gaussian_filter(picture(index, SIDE, SIDE).astype(float), 1.5)
        sharp = 25 + 200 * (sharp - sharp.min()) / np.ptp(sharp)
        write_png(folder / f"{index}.png", np.rint(ndimage.convolve(sharp, taps, mode="nearest")).astype(np.uint8))
        lesion = np.zeros((SIDE, SIDE), np.uint8)
        lesion[8:20, 9:22] = 255 * (index % 2)
        mask = write_png(folder / f"{index}-mask.png", lesion).name if index % 2 else ""
        lines.append(f"i{index},p{index},{index}.png,{'diseased' if index % 2 else 'healthy'},{mask},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


def evaluate(checkpoint: Path, manifest: Path, out: Path, *options: object) -> int:
    words = ["evaluate", checkpoint, manifest, out, "--device", "cpu", "--num-resamples", 20, "--quiet", "true", *options]
    return main([str(word) for word in words])


def test_every_method_sees_test_and_val_images_deblurred_once_and_the_table_says_so(
    localizer: Path, moved: Path, tmp_path: Path
) -> None:
    assert evaluate(localizer, moved, tmp_path / "plain") == 0
    assert evaluate(localizer, moved, tmp_path / "out", "--deblur", "wiener", *KERNEL) == 0
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["facts"]["deblur"] == {
        "solver": {"solver": "wiener"},
        "kernel": "linear 5@0",
        "taps": None,
        "noise_level": 0.5,
    }
    assert json.loads((tmp_path / "out" / "run.json").read_text())["deblur"] == content["facts"]["deblur"]
    assert main(["verify-run", str(tmp_path / "out")]) == 0
    table = (tmp_path / "out" / "table.md").read_text()
    # Five images, though four methods look at each of them.
    assert "Test and val images deblurred first by wiener, kernel linear 5@0: 5 applied." in table
    before = {method["name"]: method for method in json.loads((tmp_path / "plain" / "evaluation.json").read_text())["methods"]}
    for method in content["methods"]:
        if method["name"] != "random":  # whose map is not made of the image
            points, others = method["operating_points"], before[method["name"]]["operating_points"]
            assert points[0]["chosen_on"] == "val"
            assert [point["value"] for point in points] != [point["value"] for point in others]
    cases = [read_evaluation(tmp_path / name).cases for name in ("plain", "out")]
    assert len(cases[0]) == len(cases[1]) == 3
    for blurred, sharper in zip(*cases, strict=True):  # in the order of a hash of their ids
        assert np.abs(np.diff(sharper.pixels)).mean() > 1.1 * np.abs(np.diff(blurred.pixels)).mean()


def test_thresholds_of_the_checkpoint_say_nothing_about_deblurred_images(moved: Path, tmp_path: Path) -> None:
    shutil.copytree(moved.parent, tmp_path / "moved")
    manifest = tmp_path / "moved" / "manifest.csv"
    manifest.write_text("".join(line for line in moved.read_text().splitlines(True) if not line.endswith(",val\n")))
    point = {"criterion": "mean per-image Dice", "value": 0.3, "chosen_on": "val", "target": None, "num_images": 2}
    stored = weights(tmp_path / "localizer", tiny_config(), [], points=[point | {"image_fingerprint": []}])
    for out, options, count in (("plain", (), 1), ("deblurred", ("--deblur", "wiener", *KERNEL), 0)):
        assert evaluate(stored, manifest, tmp_path / out, "--floors", "false", *options) == 0
        methods = json.loads((tmp_path / out / "evaluation.json").read_text())["methods"]
        assert len(methods[0]["operating_points"]) == count


def test_a_prior_that_has_seen_a_test_image_is_refused_and_one_that_has_seen_val_images_is_told_of(
    localizer: Path, moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hashes = [sha256_of(moved.parent / f"{index}.png")[:12] for index in range(5)]
    options = ("--deblur-steps", "1", *KERNEL, "--floors", "false")
    knows = prior(tmp_path / "knows", hashes[4:])
    assert evaluate(localizer, moved, tmp_path / "out", "--deblur", knows, *options) == 4
    assert "1 of 3 images were seen by the deblurring prior" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    fair = prior(tmp_path / "fair", hashes[:1])
    assert evaluate(localizer, moved, tmp_path / "out", "--deblur", fair, *options) == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert "The prior has seen 1 of the 2 val images in its own training or validation" in table


def test_a_kernel_must_be_named_and_says_nothing_without_a_solver(
    localizer: Path, moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(localizer, moved, tmp_path / "out", "--deblur", "tv") == 2
    assert "--deblur-kernel is required" in capsys.readouterr().err
    assert evaluate(localizer, moved, tmp_path / "out", *KERNEL) == 2
    assert "--deblur-kernel says nothing without --deblur" in capsys.readouterr().err
