"""The deblurring benchmark on a tiny prior: what it measures, what it refuses, and that it goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from toys import TINY

from benchmarks import deblur as benchmark
from benchmarks.deblur import main
from benchmarks.deblur_cases import case_of
from benchmarks.deblur_tables import estimated_table, paired_table, sharp_table, wrong_table
from deblur.blur import blur_periodic
from deblur.kernels import linear_motion
from medanomaly.checkpoint import save_checkpoint
from medanomaly.datasets.manifest import Record
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import ConfigError, InputError
from medanomaly.files import sha256_of
from medanomaly.methods.diffusion_model import DiffusionModelConfig
from medanomaly.methods.experiment import ExperimentOf
from medanomaly.rng import numpy_generator
from medanomaly.training.config import TrainingConfig

SIDE = 44


def smooth(seed: int) -> np.ndarray:
    field = ndimage.gaussian_filter(numpy_generator(seed, "benchmark-test").normal(size=(SIDE, SIDE)), 3)
    return np.asarray(0.1 + 0.8 * (field - field.min()) / np.ptp(field))


def prior(folder: Path, seen: list[str]) -> Path:
    """An untrained unconditional model of 44 px images that says it has seen files of these hashes."""
    config = DiffusionModelConfig(network=replace(TINY, learn_sigma=False, attention=(False, False)))
    training = TrainingConfig(num_steps=1)
    made = config.recipe(image_channels=1, training=training, device=torch.device("cpu"))
    experiment = ExperimentOf(name="tiny", method=config, preprocess=PreprocessConfig(image_size=SIDE), training=training)
    header = {"experiment": experiment.to_dict(), "provenance": {"seen_images": seen}}
    save_checkpoint(folder / "model.safetensors", made.denoiser.state_dict(), header)
    return folder


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines = ["id,patient_id,image,split"]
    for index in range(3):
        Image.fromarray(np.rint(255 * smooth(index)).astype(np.uint8)).save(tmp_path / f"{index}.png")
        lines.append(f"i{index},p{index},{index}.png,{'test' if index < 2 else 'train'}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "list.csv"


def run(prior_folder: Path, manifest: Path, out: Path, *more: str) -> int:
    few = ["--lengths", "5", "--noises", "2", "--steps", "2", "--num_wrong", "1", "--num_resamples", "20", "--device", "cpu"]
    return main([str(prior_folder), str(manifest), str(out), *few, *more])


def test_every_table_is_made_and_a_second_run_measures_nothing_again(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = prior(tmp_path / "prior", [])
    assert run(weights, manifest, tmp_path / "out") == 0
    text = capsys.readouterr().out
    for title in ("known kernel", "DiffPIR against TV", "estimated kernel", "sharp images", "wrong kernels", "time"):
        assert f"## {title}" in text
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    known = [row for row in rows if row["table"] == "known"]
    assert {row["id"] for row in known} == {"i0", "i1"}
    assert {row["method"] for row in known} == {"blurred", "Wiener", "RL", "TV", "DiffPIR-2"}
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["settings"]["weights_sha256"] == sha256_of(weights / "model.safetensors")
    times = {row["method"]: row for row in rows if row["table"] == "time"}
    assert 0 < times["DiffPIR-2"]["network_seconds"] < times["DiffPIR-2"]["seconds"]
    monkeypatch.setattr(benchmark, "solved", None)
    assert run(weights, manifest, tmp_path / "out") == 0
    with pytest.raises(ConfigError, match="other settings"):
        run(weights, manifest, tmp_path / "out", "--seed", "1")


def test_an_image_that_the_prior_has_seen_is_refused(manifest: Path, tmp_path: Path) -> None:
    weights = prior(tmp_path / "prior", [sha256_of(tmp_path / "1.png")[:12]])
    with pytest.raises(InputError, match="1 of 2 images were seen") as caught:
        run(weights, manifest, tmp_path / "out")
    assert caught.value.code == "E_SEEN"


def test_a_case_is_the_blurred_frame_cropped_to_what_the_blur_saw_whole() -> None:
    frame = smooth(0)
    case = case_of(Record(id="a", patient_id="a", image=Path("a.png")), frame, 7.0, 0.0, seed=0)
    kernel = linear_motion(7, case.angle)
    down, right = kernel.shape[0] // 2, kernel.shape[1] // 2
    inner = (slice(down, SIDE - down), slice(right, SIDE - right))
    whole = blur_periodic(torch.from_numpy(frame)[None, None], kernel)[0, 0][inner]
    assert float((case.y[0] - whole).abs().max()) < 0.5 / 255 + 1e-6
    torch.testing.assert_close(case.truth[0], torch.from_numpy(frame[inner]).float())


def test_the_tables_say_what_the_rows_say() -> None:
    about = {"patient": "p", "length": 10.0, "noise": 0.5}
    rows = []
    for index, (tv, diffpir) in enumerate([(30.0, 32.0), (34.0, 33.0)]):
        for method, value in (("blurred", 24.0), ("TV", tv), ("DiffPIR-20", diffpir)):
            rows.append({"cell": "known", "table": "known", "id": index, "method": method, "psnr": value, "ssim": 0.9, **about})
        rows.append({"cell": "e", "table": "estimate", "id": index, "right": index == 0, "claimed": True, **about})
        estimated = {"id": index, "method": "TV", "psnr": 28.0 - 6 * index, "before": 24.0, "changed": True, **about}
        rows.append({"cell": "e", "table": "estimated", **estimated})
        sharp = {"id": index, "method": "TV", "psnr": 40.0 - index, "before": 40.0, "changed": index == 1, **about}
        rows.append({"cell": "sharp", "table": "sharp, estimated", **sharp})
        wrong = {"id": index, "method": "TV", "psnr": 24.0 - index / 4, "before": 24.0, "ungated_psnr": 20.0, "changed": True}
        rows.append({"cell": "wrong", "table": "2 px longer", **wrong, **about})
    paired = {(row["method"], row["against"]): row["dB"]["value"] for row in paired_table(rows, 10)[1]}
    assert paired == {("DiffPIR-20", "TV"): 0.5, ("DiffPIR-20", "blurred"): 8.5}
    (estimate,) = estimated_table(rows, 10)[1]
    assert (estimate["right"]["value"], estimate["gain dB"], estimate["worst dB"]) == (0.5, 1.0, -2.0)
    assert estimate["share of known"] == pytest.approx(1 / 8)
    (sharp_row,) = sharp_table(rows)[1]
    assert (sharp_row["changed"], sharp_row["worst dB"]) == (1, -1.0)
    (wrong_row,) = wrong_table(rows)[1]
    assert (wrong_row["worst dB"], wrong_row["worst dB ungated"]) == (-0.25, -4.0)
