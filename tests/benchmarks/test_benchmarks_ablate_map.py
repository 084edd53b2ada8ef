from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from toys import SIDE, TINY, gaussian_denoiser, samples, tiny_config, tiny_method

from benchmarks.ablate_map import compared, halves, main, plain, variants
from medanomaly.checkpoint import save_checkpoint
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import ConfigError, InputError
from medanomaly.evaluation.calibrate import healthy_calibration
from medanomaly.evaluation.measure import MeasureConfig
from medanomaly.evaluation.study import MethodStudy, study
from medanomaly.methods.cfg_diffusion import CfgDiffusion, CfgDiffusionConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import Experiment
from medanomaly.scoring.finish import MapConfig
from medanomaly.training.config import TrainingConfig
from medanomaly.types import AnomalyMethod, AnomalyResult, Sample, WalkObserver

SAMPLER = SamplerConfig(noise_level=400, num_steps=4)
QUICK = MeasureConfig(num_resamples=5, regions=False)


def checkpoint(folder: Path) -> Path:
    method = tiny_method(tiny_config(sampler=replace(SAMPLER, num_steps=2)))
    experiment = Experiment(
        name="tiny", method=method.config, preprocess=PreprocessConfig(image_size=SIDE), training=TrainingConfig(num_steps=1)
    )
    save_checkpoint(folder / "model.safetensors", method.denoiser.state_dict(), {"experiment": experiment.to_dict()})
    return folder


def manifest(root: Path, splits: tuple[str, ...] = ("val", "test")) -> Path:
    """Six healthy and six diseased images a split, the latter with a mask."""
    root.mkdir(exist_ok=True)
    lesion = np.zeros((SIDE, SIDE), np.uint8)
    lesion[4:9, 5:11] = 255
    Image.fromarray(lesion).save(root / "lesion.png")
    lines = ["id,patient_id,image,label,mask,split"]
    for split in splits:
        for index in range(12):
            name = f"{split}{index}"
            pixels = np.random.default_rng(index + 100 * (split == "test")).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{name}.png")
            label, mask = ("diseased", "lesion.png") if index % 2 else ("healthy", "")
            lines.append(f"{name},p-{name},{name}.png,{label},{mask},{split}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root / "manifest.csv"


def ablate(weights: Path, table: Path, out: Path) -> dict[str, object]:
    assert main([str(weights), str(table), str(out), "--num_resamples", "5", "--device", "cpu"]) == 0
    content: dict[str, object] = json.loads((out / "ablation.json").read_text())
    return content


def test_one_command_measures_every_option_against_base(tmp_path: Path) -> None:
    content = ablate(checkpoint(tmp_path / "c"), manifest(tmp_path / "d"), tmp_path / "out")
    rows: list[dict[str, object]] = content["rows"]  # type: ignore[assignment]
    # Two steps: up with the null class, down with both. The round trip goes down once more with the null class; the levels 280, 400
    # and 520 take one, two and three steps. Outside of the interval, at level 400, only the class is asked.
    assert {str(row["name"]): row["evaluations"] for row in rows} == {
        "base": 6,
        "healthy z-map": 6,
        "null round trip subtracted": 8,
        "mean of levels 280, 400, 520": 18,
        "guidance in levels 80 to 320": 5,
        "dynamic thresholding 0.995": 6,
        "5 x 5 median": 6,
    }
    assert rows[0]["dice_p"] is None
    assert all(0 < row["dice_p"] <= row["dice_p_holm"] <= 1 for row in rows[1:])  # type: ignore[operator]
    assert all(0 < row["precision_p"] <= row["precision_p_holm"] <= 1 for row in rows[1:])  # type: ignore[operator]
    lines = [line for line in (tmp_path / "out" / "table.md").read_text().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    cells = [[one.strip() for one in line.split("|")[1:-1]] for line in (lines[0], *lines[2:])]
    assert cells[0][1:4] == ["pixel AP", "pixel AUROC", "Dice @ val-Dice threshold"]
    assert cells[1][4:6] == ["", ""]
    assert all("[" in one for line in cells[1:] for one in line[1:4])
    assert (
        "12 test images of 12 patients; thresholds on 9 val images, calibration on 3 others"
        in (tmp_path / "out" / "table.md").read_text()
    )


def test_every_row_changes_one_thing() -> None:
    base = plain(tiny_method(tiny_config(sampler=SAMPLER)))
    calibration = healthy_calibration(base, samples(4))

    def settings(method: CfgDiffusion) -> dict[str, object]:
        parts = (method.config.sampler, method.config.map)
        return {field.name: getattr(part, field.name) for part in parts for field in fields(part)}

    made = variants(base, calibration)
    changed = [[name for name, value in settings(method).items() if value != settings(base)[name]] for method in made.values()]
    assert changed == [
        [],
        ["healthy_z"],
        ["subtract_round_trip"],
        ["noise_levels"],
        ["guidance_interval"],
        ["dynamic_threshold"],
        ["median_px"],
    ]
    assert made["healthy z-map"].calibration is calibration
    assert all(method.calibration is None for name, method in made.items() if name != "healthy z-map")


def test_base_is_plain_whatever_the_checkpoint_has_switched_on() -> None:
    sampler = replace(SAMPLER, noise_levels=(200, 400), guidance_interval=(50, 300), dynamic_threshold=0.9)
    on = tiny_method(tiny_config(sampler=sampler, map=MapConfig(subtract_round_trip=True, median_px=3)))
    base = plain(on)
    assert base.config.sampler == SAMPLER
    assert base.config.map == MapConfig(median_px=3)
    assert "no median" in variants(base, healthy_calibration(base, samples(4)))


def test_levels_stay_within_the_schedule() -> None:
    config = CfgDiffusionConfig(network=TINY, sampler=SamplerConfig(noise_level=900, num_steps=9))
    denoiser = gaussian_denoiser({"healthy": -0.05, "diseased": 0.25, None: 0.1}, config.classes)
    base = CfgDiffusion(config, denoiser)
    assert "mean of levels 630, 900, 1000" in variants(base, healthy_calibration(base, samples(2)))


class Marking:
    """1 on the lesion's first ``rows`` rows; the lesion is what is white."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        anomaly_map = (x > 0.5).float()
        anomaly_map[:, :, 4 + self.rows :] = 0
        return AnomalyResult(anomaly_map=anomaly_map, score=anomaly_map.amax(dim=(1, 2, 3)))


def squares(name: str) -> list[Sample]:
    """Twelve images; the six diseased ones have a white square of 4 x 4 that is their mask."""
    truth = np.zeros((SIDE, SIDE), np.bool_)
    truth[4:8, 4:8] = True
    white = torch.where(torch.from_numpy(truth), 1.0, -1.0)[None]
    return [
        replace(
            one,
            id=f"{name}{one.id}",
            x=white if one.label == "diseased" else -torch.ones_like(white),
            mask=truth if one.label == "diseased" else None,
        )
        for one in samples(12)
    ]


def studied(name: str, rows: int) -> MethodStudy:
    return study(name, Marking(rows), test=squares("t"), validation=squares("v"), healthy="healthy", config=QUICK)


def test_p_values_are_against_base_and_corrected_over_the_rows() -> None:
    rows = compared([studied("base", 4), studied("half", 2), studied("same", 4)], [1, 2, 3], "healthy")
    assert [row.evaluations for row in rows] == [1, 2, 3]
    assert math.isnan(rows[0].dice_p)
    assert math.isnan(rows[0].dice_p_holm)
    # Six patients, all of them worse: two of the 64 swaps are as extreme.
    assert [row.dice_p for row in rows[1:]] == [2 / 64, 1]
    assert [row.dice_p_holm for row in rows[1:]] == [4 / 64, 1]
    assert [row.precision_p for row in rows[1:]] == [2 / 64, 1]
    assert [row.precision_p_holm for row in rows[1:]] == [4 / 64, 1]


class Raising:
    """2 on the lesion and 0 elsewhere; where the image's darkest pixel is not black, all of it is raised by 10."""

    def localize(self, x: Tensor, observer: WalkObserver | None = None) -> AnomalyResult:
        raised = 10.0 * (x.amin(dim=(1, 2, 3), keepdim=True) > -1)
        anomaly_map = 2.0 * (x > 0.5) + raised
        return AnomalyResult(anomaly_map=anomaly_map, score=anomaly_map.amax(dim=(1, 2, 3)))


def test_dice_and_average_precision_are_tested_each_by_its_own_numbers() -> None:
    brighter = [replace(one, x=one.x.clamp(min=-0.9)) for one in squares("t")]

    def of(name: str, method: AnomalyMethod) -> MethodStudy:
        return study(name, method, test=brighter, validation=squares("v"), healthy="healthy", config=QUICK)

    # The order of pixels within an image is as good as base's; the threshold from val flags everything.
    _, raised = compared([of("base", Marking(4)), of("raised", Raising())], [1, 1], "healthy")
    assert (raised.dice_p, raised.precision_p) == (2 / 64, 1)
    assert (raised.dice_p_holm, raised.precision_p_holm) == (2 / 64, 1)


def test_every_row_counts_as_a_test_evaluation(tmp_path: Path) -> None:
    weights, table = checkpoint(tmp_path / "c"), manifest(tmp_path / "d")
    content = ablate(weights, table, tmp_path / "out")
    rows: list[object] = content["rows"]  # type: ignore[assignment]
    assert len((weights / "test_evaluations.jsonl").read_text().splitlines()) == len(rows) == 7
    assert content["facts"]["test_evaluations"] == {"count": 7, "kept_beside": "weights"}  # type: ignore[index]
    assert "measured 7 times on this test split" in (tmp_path / "out" / "table.md").read_text()


def test_every_second_healthy_image_calibrates_and_no_threshold_sees_it() -> None:
    labels = ("healthy", "diseased", "healthy", "healthy", "healthy")
    records = [Record(id=f"{n}", patient_id=f"{n}", image=Path("x.png"), label=label) for n, label in enumerate(labels)]
    calibrating, rest = halves(records, "healthy")
    assert [record.id for record in calibrating] == ["0", "3"]
    assert [record.id for record in rest] == ["1", "2", "4"]


def test_a_manifest_without_a_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E_SPLIT"):
        ablate(checkpoint(tmp_path / "c"), manifest(tmp_path / "d", ("test",)), tmp_path / "out")


def test_a_method_without_guidance_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.ablate_map.CfgDiffusion", Marking)
    with pytest.raises(ConfigError, match="E_METHOD"):
        ablate(checkpoint(tmp_path / "c"), manifest(tmp_path / "d"), tmp_path / "out")
