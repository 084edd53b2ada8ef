"""Settings are chosen from the labels of the val split; test images need not even exist."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_builders import write_labelled
from toys import SIDE, images, random_weights, samples, tiny_config, tiny_method

from baselines.autoencoder import AutoencoderConfig
from medanomaly.checkpoint import save_checkpoint
from medanomaly.cli.choose import maker, names_of
from medanomaly.cli.main import main
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.evaluation.calibrate import healthy_calibration
from medanomaly.evaluation.choose import Setting
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import Experiment, MethodConfig
from medanomaly.scoring.finish import MapConfig, calibration_tensors
from medanomaly.training.config import TrainingConfig

ROWS = [(f"v{n}", ("healthy", "diseased")[n % 2], "val") for n in range(6)]
ROWS += [("t1", "healthy", "test"), ("t2", "diseased", "test")]
GRID = ("--noise-levels", "[300, 200]", "--guidance-scales", "[4, 2]")


def choose(checkpoint: Path, manifest: Path, out: Path, *options: object) -> int:
    words = ["choose", checkpoint, manifest, out, "--device", "cpu", "--quiet", "true", "--num-resamples", 5, *options]
    return main([str(word) for word in words])


def choice(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "choice.json").read_text())
    return content


def saved(folder: Path, config: MethodConfig, weights: dict[str, torch.Tensor]) -> Path:
    experiment = Experiment(
        name="tiny", method=config, preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig(num_steps=1)
    )
    save_checkpoint(folder / "model.safetensors", weights, {"experiment": experiment.to_dict()})
    return folder


def test_every_level_is_tried_with_every_scale_and_the_command_with_the_best_works(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_labelled(tmp_path, ROWS)
    assert choose(checkpoint, manifest, tmp_path / "out", *GRID) == 0
    content = choice(tmp_path / "out")
    assert content["num_configurations"] == 4
    assert content["facts"]["num_images"] == 6
    rows = list(csv.DictReader((tmp_path / "out" / "curve.csv").read_text().splitlines()))
    # Steps as wide as the checkpoint's two to level 400.
    tried = [(row["noise_level"], row["num_steps"], float(row["guidance_scale"])) for row in rows]
    assert tried == [("200", "1", 2), ("200", "1", 4), ("300", "2", 2), ("300", "2", 4)]
    assert max(rows, key=lambda row: float(row["gap"]))["noise_level"] == str(content["chosen"]["noise_level"])
    printed = capsys.readouterr().out
    assert "4 settings tried on 6 val images" in printed
    assert "val masks would choose" in printed
    line = next(line.strip() for line in printed.splitlines() if line.strip().startswith("medanomaly evaluate"))
    assert main([*line.split()[1:], "--device", "cpu", "--quiet", "true", "--num-resamples", "5"]) == 0
    evaluated = json.loads((tmp_path / "out" / "evaluation" / "evaluation.json").read_text())
    sampler = evaluated["facts"]["experiment"]["method"]["sampler"]
    assert all(sampler[name] == content["chosen"][name] for name in ("noise_level", "num_steps", "guidance_scale"))


def test_test_images_are_never_opened(checkpoint: Path, tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, ROWS)
    for name in ("6.png", "7.png", "7-mask.png"):
        (tmp_path / name).unlink()
    assert choose(checkpoint, manifest, tmp_path / "out", *GRID) == 0
    assert choice(tmp_path / "out")["facts"]["num_images"] == 6


def test_test_labels_have_no_part_in_the_choice(checkpoint: Path, tmp_path: Path) -> None:
    found = []
    for name, test in (("a", ["healthy", "diseased"]), ("b", ["diseased", "healthy"])):
        rows = [*ROWS[:6], *((f"t{n}", label, "test") for n, label in enumerate(test))]
        assert choose(checkpoint, write_labelled(tmp_path / name, rows), tmp_path / f"out-{name}", *GRID) == 0
        found.append((tmp_path / f"out-{name}" / "curve.csv").read_text())
    assert found[0] == found[1]


def test_masks_are_not_needed_and_can_be_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    without = write_labelled(tmp_path / "a", ROWS, masks=False)
    assert choose(checkpoint, without, tmp_path / "one", *GRID) == 0
    assert choose(checkpoint, write_labelled(tmp_path / "b", ROWS), tmp_path / "two", *GRID, "--masks", "false") == 0
    one, two = choice(tmp_path / "one"), choice(tmp_path / "two")
    assert one["chosen_by_masks"] is None
    assert two["chosen_by_masks"] is None
    assert one["chosen"] == two["chosen"]


def test_checkpoints_compete(tmp_path: Path, checkpoint: Path) -> None:
    config = tiny_config(sampler=SamplerConfig(noise_level=400, num_steps=2))
    other = saved(tmp_path / "other", config, random_weights(config, seed=5))
    out = tmp_path / "out"
    assert choose(checkpoint, write_labelled(tmp_path, ROWS), out, *GRID, "--other-checkpoints", f"['{other}']") == 0
    assert choice(out)["num_configurations"] == 8
    rows = list(csv.DictReader((out / "curve.csv").read_text().splitlines()))
    assert {row["checkpoint"] for row in rows} == {checkpoint.name, "other"}
    digests = choice(out)["facts"]["weights_sha256"]
    assert len(set(digests.values())) == 2
    assert str(tmp_path) not in (out / "choice.json").read_text()


def test_equal_names_are_numbered() -> None:
    assert names_of([Path("runs/a/model.safetensors"), Path("b"), Path("other/a")]) == ["a (1)", "b", "a (2)"]


def test_a_setting_is_what_localize_does_with_it() -> None:
    method = tiny_method(tiny_config(map=MapConfig(median_px=3, subtract_round_trip=True)))
    made = maker(method)(Setting(checkpoint="one", noise_level=200, num_steps=3, guidance_scale=2.0))
    x = images(2)
    sampler = SamplerConfig(noise_level=200, num_steps=3, guidance_scale=2.0)
    expected = method.variant(sampler=sampler).localize(x)
    found = made.from_latent(x, made.encode(x))
    assert torch.equal(found.anomaly_map, expected.anomaly_map)
    assert torch.equal(found.score, expected.score)
    assert torch.equal(made.reconstruct(made.encode(x)), method.variant(sampler=sampler).round_trip(x))


def test_a_calibrated_checkpoint_is_tried_without_its_calibration_and_told_to_make_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tiny_method(tiny_config(sampler=SamplerConfig(noise_level=400, num_steps=2)))
    config = replace(raw.config, map=MapConfig(healthy_z=True))
    tensors = calibration_tensors(healthy_calibration(raw, samples(4, seed=3)))
    plain = saved(tmp_path / "plain", raw.config, raw.denoiser.state_dict())
    calibrated = saved(tmp_path / "calibrated", config, raw.denoiser.state_dict() | tensors)
    manifest = write_labelled(tmp_path, ROWS)
    assert choose(plain, manifest, tmp_path / "a", *GRID) == 0
    capsys.readouterr()
    assert choose(calibrated, manifest, tmp_path / "b", *GRID) == 0
    first, second = (choice(tmp_path / name)["chosen"] for name in ("a", "b"))
    assert first | {"checkpoint": ""} == second | {"checkpoint": ""}
    printed = capsys.readouterr().out
    assert f"--method.sampler.noise-level {second['noise_level']}" in printed
    assert "medanomaly evaluate" not in printed


def test_a_checkpoint_of_several_levels_is_asked_for_one(tmp_path: Path) -> None:
    method = tiny_method(tiny_config(sampler=SamplerConfig(noise_level=400, num_steps=2, noise_levels=(200, 400))))
    several = saved(tmp_path / "several", method.config, method.denoiser.state_dict())
    assert choose(several, write_labelled(tmp_path, ROWS), tmp_path / "out", *GRID) == 0
    content = choice(tmp_path / "out")
    assert content["options"][-2:] == ["--noise-levels", f"[{content['chosen']['noise_level']}]"]


@pytest.mark.parametrize(
    ("rows", "options", "code"),
    [
        (ROWS[6:], (), "E_SPLIT"),
        ([row for row in ROWS if row[1] == "healthy"], (), "E_ONE_CLASS"),
        (ROWS, ("--noise-levels", "[200, 2000]"), "E_CONFIG"),
        (ROWS, ("--noise-levels", "[200, 200]"), "E_CONFIG"),
        (ROWS, ("--guidance-scales", "[99]"), "E_CONFIG"),
        (ROWS, ("--max-images", "-1"), "E_CONFIG"),
        (ROWS, ("--criterion", "dice"), "E_USAGE"),
    ],
)
def test_what_cannot_decide_is_one_line_and_writes_nothing(
    rows: list[tuple[str, str, str]],
    options: tuple[str, ...],
    code: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert choose(checkpoint, write_labelled(tmp_path, rows), tmp_path / "out", *options) in (2, 4)
    err = capsys.readouterr().err
    assert f"[{code}]" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out" / "choice.json").exists()
    # Settings that cannot be show before anything is computed, hence before there is a folder.
    assert (tmp_path / "out").exists() == (code == "E_ONE_CLASS")


def test_a_method_without_guidance_has_nothing_to_choose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = AutoencoderConfig(channels=(8,) * 5, norm_groups=4, noise_side=4)
    other = saved(tmp_path / "dae", config, random_weights(config))
    assert choose(other, write_labelled(tmp_path, ROWS), tmp_path / "out") == 2
    assert "has no guidance scale to choose [E_METHOD]" in capsys.readouterr().err


def test_an_earlier_choice_is_kept(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_labelled(tmp_path, ROWS)
    assert choose(checkpoint, manifest, tmp_path / "out", *GRID) == 0
    assert choose(checkpoint, manifest, tmp_path / "out", *GRID) == 2
    assert "E_EXISTS" in capsys.readouterr().err
    assert choose(checkpoint, manifest, tmp_path / "out", *GRID, "--overwrite", "true") == 0


def test_the_levels_tried_unless_named_fit_the_schedule(checkpoint: Path, tmp_path: Path) -> None:
    assert choose(checkpoint, write_labelled(tmp_path, ROWS), tmp_path / "out", "--criterion", "auroc") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "curve.csv").read_text().splitlines()))
    assert sorted({int(row["noise_level"]) for row in rows}) == [250, 400, 550, 700]
    best = max(float(row["image_auroc"]) for row in rows)
    assert choice(tmp_path / "out")["chosen"]["image_auroc"] == pytest.approx(best)


def test_unlabelled_val_images_are_left_out(checkpoint: Path, tmp_path: Path) -> None:
    manifest = write_labelled(tmp_path, [*ROWS, ("v9", "", "val")])
    assert choose(checkpoint, manifest, tmp_path / "out", *GRID) == 0
    assert choice(tmp_path / "out")["facts"]["num_images"] == 6
