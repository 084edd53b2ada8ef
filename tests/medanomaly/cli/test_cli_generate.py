"""Images by the command: by class, guided, drawn freely; the same in any batch; and what cannot be is said in one line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_builders import recording
from scipy.ndimage import median_filter
from toys import SIDE, TINY, random_weights

from medanomaly.checkpoint import save_checkpoint
from medanomaly.classifiers.model import ClassifierModelConfig
from medanomaly.classifiers.network import ClassifierConfig
from medanomaly.cli.main import main
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.diffusion.schedule import ScheduleConfig
from medanomaly.files import sha256_of
from medanomaly.methods.diffusion_model import DiffusionModelConfig
from medanomaly.methods.experiment import ExperimentOf
from medanomaly.training.config import TrainingConfig

PLAIN = DiffusionModelConfig(network=replace(TINY, learn_sigma=False))
TINY_CLASSIFIER = ClassifierConfig(channels=(16, 16), attention=(False, True), head_channels=16, norm_groups=8)
FINDINGS = ClassifierModelConfig(classes=("Edema", "Cardiomegaly"), multi_label=True, network=TINY_CLASSIFIER)
STEPS = ("--num-steps", "3", "--device", "cpu", "--quiet", "true")


def saved(folder: Path, config: Any, *, image_size: int = SIDE, channels: int = 1) -> Path:
    """A checkpoint of random weights, as training leaves it."""
    preprocess = PreprocessConfig(image_size=image_size, channels=channels)
    experiment = ExperimentOf(name="toy", method=config, preprocess=preprocess, training=TrainingConfig(num_steps=1, flip=False))
    header = {"experiment": experiment.to_dict(), "provenance": {}}
    save_checkpoint(folder / "model.safetensors", random_weights(config, image_channels=channels), header)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("plain"), PLAIN)


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("findings"), FINDINGS)


def generate(model: Path, out: Path, *options: object) -> int:
    return main([str(word) for word in ("generate", model, out, *STEPS, *options)])


def made(out: Path) -> tuple[np.ndarray, list[str]]:
    with np.load(out / "samples.npz") as stored:
        return stored["x"], stored["labels"].tolist()


def test_each_class_has_its_turn_and_the_folder_says_how_it_was_made(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert generate(checkpoint, out, "--num-images", 5, "--gif", "true") == 0
    x, labels = made(out)
    assert (x.shape, x.dtype) == ((5, 1, SIDE, SIDE), np.float32)
    assert np.abs(x).max() <= 1
    assert labels == ["healthy", "diseased", "healthy", "diseased", "healthy"]
    assert len(list((out / "images").glob("*.png"))) == 5
    with (out / "manifest.csv").open(newline="") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == labels
    assert (out / "grid.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "reverse.gif").read_bytes()[:4] == b"GIF8"
    run = json.loads((out / "run.json").read_text())
    assert (run["kind"], run["seed"]) == ("generate", 0)
    assert run["seconds"] is not None
    assert run["weights_sha256"] == sha256_of(checkpoint / "model.safetensors")
    settings = run["settings"]
    assert (settings["sampler"], settings["num_steps"], settings["eta"], settings["spacing"]) == (
        "dpm-solver++",
        3,
        1.0,
        "log_snr",
    )
    assert (settings["guidance_scale"], settings["labels"]) == (3.0, ["diseased", "healthy"])
    assert json.loads((out / "config.json").read_text())["method"]["classes"] == ["healthy", "diseased"]
    assert json.loads((out / "status.json").read_text()) == {"status": "done", "num_images": 5}


def test_batch_and_count_change_no_image_and_seed_class_and_guidance_do(checkpoint: Path, tmp_path: Path) -> None:
    options: dict[str, tuple[object, ...]] = {
        "plain": ("--num-images", 4),
        "batch": ("--num-images", 2, "--batch-size", 1),
        "seed": ("--num-images", 2, "--seed", 1),
        "class": ("--num-images", 2, "--label", "diseased"),
        "free": ("--num-images", 2, "--unconditional", "true"),
        "guidance": ("--num-images", 2, "--guidance-scale", 1),
        "null": ("--num-images", 2, "--guidance-scale", 0),
        "ddpm": ("--num-images", 2, "--sampler", "ddpm"),
        "ddim": ("--num-images", 2, "--sampler", "ddim", "--batch-size", 2),
    }
    found = {}
    for name, words in options.items():
        assert generate(checkpoint, tmp_path / name, *words) == 0
        found[name] = made(tmp_path / name)[0][:2]
    np.testing.assert_allclose(found["batch"], found["plain"], atol=1e-4)
    np.testing.assert_allclose(found["null"], found["free"], atol=1e-4)
    for name in ("seed", "class", "free", "guidance", "ddpm", "ddim"):
        assert np.abs(found[name][0] - found["plain"][0]).max() > 1e-3, name
    assert made(tmp_path / "free")[1] == ["", ""]
    # Image 1 is diseased in both.
    np.testing.assert_allclose(found["class"][1], found["plain"][1], atol=1e-4)


def test_a_classifier_guides_a_model_without_classes_to_one_finding_or_to_both(
    plain: Path, findings: Path, tmp_path: Path
) -> None:
    found = {}
    for name, words in {
        "free": (),
        "none": ("--classifier", findings, "--label", "Edema", "--classifier-scale", 0),
        "edema": ("--classifier", findings, "--label", "Edema", "--classifier-scale", 30),
        "both": ("--classifier", findings, "--label", "Edema,Cardiomegaly", "--classifier-scale", 30),
    }.items():
        assert generate(plain, tmp_path / name, "--num-images", 2, "--threshold", "none", *words) == 0
        found[name] = made(tmp_path / name)
    np.testing.assert_allclose(found["none"][0], found["free"][0], atol=1e-4)
    assert np.abs(found["edema"][0] - found["free"][0]).max() > 1e-3
    assert np.abs(found["both"][0] - found["edema"][0]).max() > 1e-3
    assert [found[name][1][0] for name in ("free", "edema", "both")] == ["", "Edema", "Edema,Cardiomegaly"]
    run = json.loads((tmp_path / "both" / "run.json").read_text())
    assert run["classifier_sha256"] == sha256_of(findings / "model.safetensors")
    assert (run["settings"]["classifier_scale"], run["settings"]["guidance_scale"]) == (30.0, None)
    assert generate(plain, tmp_path / "turns", "--num-images", 3, "--classifier", findings) == 0
    assert made(tmp_path / "turns")[1] == ["Edema", "Cardiomegaly", "Edema"]


def test_a_classifier_and_a_model_with_the_class_can_both_have_a_say(checkpoint: Path, tmp_path: Path) -> None:
    config = ClassifierModelConfig(network=TINY_CLASSIFIER)
    classifier = saved(tmp_path / "c", config)
    words = ("--num-images", 1, "--label", "diseased", "--classifier", classifier, "--classifier-scale", 5)
    found = []
    for index, more in enumerate(((), ("--guidance-scale", 0), ("--guidance-scale", 1))):
        assert generate(checkpoint, tmp_path / str(index), *words, *more) == 0
        found.append(made(tmp_path / str(index))[0])
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)
    assert np.abs(found[2] - found[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--label", "desased"),
            "class 'desased' is unknown; known are 'healthy', 'diseased' [E_CLASS]; did you mean 'diseased'?",
        ),
        (("--label", "healthy,diseased"), "these classes exclude each other [E_CLASS]"),
        (("--label", "healthy", "--unconditional", "true"), "--unconditional true draws from no class [E_CONFIG]"),
        (("--num-steps", 1001), "num_steps must be at most 1000"),
        (("--num-images", 0), "num_images must be at least 1"),
        (("--guidance-scale", 51), "guidance_scale must be in 0..50"),
        (("--sampler", "euler"), "--sampler must be one of ['ddpm', 'ddim', 'dpm-solver++'], got euler [E_USAGE]"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[object, ...], message: str
) -> None:
    assert generate(checkpoint, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_class_of_a_model_without_any_is_refused(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(plain, tmp_path / "out", "--label", "3") == 2
    assert "this model has no classes, so no '3' [E_CLASS]; leave the class out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "image_size", "message"),
    [
        ({}, 32, "image size is 32 px, the diffusion model's 16 px [E_CLASSIFIER]"),
        ({"schedule": ScheduleConfig(name="cosine")}, SIDE, "another noise schedule"),
        ({"schedule": ScheduleConfig(num_levels=500)}, SIDE, "number of noise levels is 500, the diffusion model's 1000"),
        ({"noisy": False}, SIDE, "trained on clean images"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_classifier_of_other_images_is_refused(
    plain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    image_size: int,
    message: str,
) -> None:
    classifier = saved(tmp_path / "c", replace(FINDINGS, **changes), image_size=image_size)
    assert generate(plain, tmp_path / "out", "--classifier", classifier, "--label", "Edema") == 2
    assert message in capsys.readouterr().err


def test_earlier_images_are_kept_unless_a_person_says_otherwise(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(plain, tmp_path, "--num-images", 3, "--gif", "true") == 0
    before = made(tmp_path)[0]
    assert generate(plain, tmp_path, "--num-images", 2, "--seed", 1) == 2
    assert "[E_EXISTS]" in capsys.readouterr().err
    assert (made(tmp_path)[0] == before).all()
    assert generate(plain, tmp_path, "--num-images", 2, "--seed", 1, "--overwrite", "true") == 0
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["00000.png", "00001.png"]
    assert not (tmp_path / "reverse.gif").exists()


def test_a_data_sets_manifest_is_not_written_over(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.csv").write_text("image\na.png\n")
    assert generate(plain, tmp_path, "--num-images", 1) == 2
    assert "manifest.csv: exists already [E_EXISTS]" in capsys.readouterr().err
    assert (tmp_path / "manifest.csv").read_text() == "image\na.png\n"


def test_a_checkpoint_that_is_no_diffusion_model_is_refused(
    findings: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(findings, tmp_path / "out") == 5
    assert generate(plain, tmp_path / "out", "--classifier", plain) == 5
    assert capsys.readouterr().err.count("[E_KIND]") == 2


def test_what_was_generated_can_be_measured(plain: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        assert generate(plain, tmp_path / name, "--num-images", 6, "--seed", seed) == 0
    words = ["evaluate-samples", tmp_path / "a" / "samples.npz", tmp_path / "b" / "manifest.csv", tmp_path / "out"]
    assert main([str(word) for word in [*words, "--num-resamples", 2, "--device", "cpu"]]) == 0


def test_watching_changes_no_image_and_sends_no_name(checkpoint: Path, tmp_path: Path) -> None:
    assert generate(checkpoint, tmp_path / "alone", "--num-images", 3, "--label", "healthy") == 0
    with recording() as server:
        words = ("--num-images", 3, "--label", "healthy", "--visdom", server.url)
        assert generate(checkpoint, tmp_path / "watched", *words) == 0
    assert (made(tmp_path / "watched")[0] == made(tmp_path / "alone")[0]).all()
    titles = [pane["opts"]["title"] for pane in server.panes("generation")]
    assert titles[-1] == "healthy, level 0, images 1-3 of 3"
    assert "not for diagnosis" in server.panes("generation")[-1]["opts"]["caption"]
    assert "watched" not in server.text()
    assert str(checkpoint.name) not in server.text()


@pytest.mark.slow
def test_the_shipped_model_draws_clean_chests_and_effusions_where_they_are_asked_for(tmp_path: Path) -> None:
    words = ["generate", "phantom64-cfg", tmp_path, "--num-images", 12, "--device", "cpu", "--quiet", "true"]
    assert main([str(word) for word in words]) == 0
    x, labels = made(tmp_path)
    # Noise of 0.4 is what a path without noise leaves of these weights; phantoms themselves have less than 0.05.
    assert max(float((one - median_filter(one, 3)).std()) for one in x[:, 0]) < 0.1
    # How much darker than the belly the lower field of each lung is; an effusion fills at least one of the two.
    belly = np.median(x[:, 0, 50:60, 10:54], axis=(1, 2))
    air = np.minimum(*(belly - x[:, 0, 30:44, left : left + 12].mean(axis=(1, 2)) for left in (12, 40)))
    assert [label for label, depth in zip(labels, air, strict=True) if depth < 0.45] == ["diseased"] * 6
    assert labels.count("healthy") == 6
