"""The localization benchmark under blur, on phantoms and a localizer of random weights: what is compared with what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toys import TINY

from benchmarks.deblur_localization import blurred_case, conditions, main
from deblur.blur import blur_periodic
from deblur.kernels import linear_motion
from deblur.restore import Restored, Restorer
from medanomaly.checkpoint import save_checkpoint
from medanomaly.datasets.dataset import ManifestDataset
from medanomaly.datasets.manifest import read_manifest
from medanomaly.datasets.phantom import PhantomConfig, phantom_set
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import InputError
from medanomaly.files import sha256_of
from medanomaly.methods.cfg_diffusion import CfgDiffusionConfig
from medanomaly.methods.cfg_sampler import SamplerConfig
from medanomaly.methods.experiment import ExperimentOf
from medanomaly.training.config import TrainingConfig

SIDE = 32
PREPROCESS = PreprocessConfig(image_size=SIDE)


def localizer(folder: Path, seen: Sequence[str] = ()) -> Path:
    method = CfgDiffusionConfig(network=TINY, sampler=SamplerConfig(noise_level=300, num_steps=1))
    training = TrainingConfig(num_steps=1)
    made = method.recipe(image_channels=1, training=training, device=torch.device("cpu"))
    experiment = ExperimentOf(name="tiny", method=method, preprocess=PREPROCESS, training=training)
    header = {"experiment": experiment.to_dict(), "operating_points": [], "provenance": {"seen_images": list(seen)}}
    save_checkpoint(folder / "model.safetensors", made.denoiser.state_dict(), header)
    return folder


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    phantom_set(PhantomConfig(num_patients=12, image_size=SIDE), folder, (0.0, 0.5, 0.5))
    return folder / "manifest.csv"


def run(weights: Path, manifest: Path, out: Path) -> int:
    few = [
        "--length",
        "5",
        "--noise",
        "1",
        "--max_images",
        "4",
        "--max_val_images",
        "4",
        "--num_resamples",
        "10",
        "--device",
        "cpu",
    ]
    return main([str(weights), str(manifest), str(out), *few])


def test_sharp_blurred_and_deblurred_images_are_measured_at_one_threshold(phantoms: Path, tmp_path: Path) -> None:
    weights = localizer(tmp_path / "weights")
    assert run(weights, phantoms, tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["conditions"]
    assert list(found) == ["sharp", "blurred", "TV, kernel known", "TV, kernel estimated"]
    assert (found["blurred"]["changed"], found["TV, kernel known"]["changed"]) == (0, 1)
    assert "Dice - blurred" in found["TV, kernel known"]
    assert "Dice - blurred" not in found["blurred"]
    assert found["TV, kernel known"]["PSNR"]["value"] > found["blurred"]["PSNR"]["value"] + 1
    table = (tmp_path / "out" / "table.md").read_text()
    assert "pixel AP" in table
    assert len((weights / "test_evaluations.jsonl").read_text().splitlines()) == 1


def test_an_image_that_the_localizer_has_seen_is_refused(phantoms: Path, tmp_path: Path) -> None:
    seen = [sha256_of(record.image)[:12] for record in read_manifest(phantoms) if record.split == "test"]
    with pytest.raises(InputError, match="seen in training"):
        run(localizer(tmp_path / "weights", seen), phantoms, tmp_path / "out")


def test_a_case_keeps_the_full_size_and_is_blurred_inside(phantoms: Path) -> None:
    records = [record for record in read_manifest(phantoms) if record.split == "test"]
    sample = ManifestDataset(records[:1], PREPROCESS, ("healthy", "diseased"))[0]
    case = blurred_case(records[0], sample, 7.0, 0.0, 0)
    assert case.y.shape == sample.x.shape
    whole = blur_periodic((sample.x[None] + 1) / 2, linear_motion(7, case.angle))[0]
    inner = (..., slice(4, -4), slice(4, -4))
    assert float((case.y[inner] - whole[inner]).abs().max()) < 0.51 / 255


def test_the_estimated_condition_leaves_alone_what_shows_no_motion(phantoms: Path) -> None:
    records = [record for record in read_manifest(phantoms) if record.split == "test"][:2]
    samples = ManifestDataset(records, PREPROCESS, ("healthy", "diseased"))
    cases = [blurred_case(record, samples[index], 0.0, 1.0, 0) for index, record in enumerate(records)]

    def brighter(y: Tensor, kernels: Sequence[Tensor], noise_sd: float) -> Restored:
        return Restored(image=y + 0.25)

    made = {
        name: (images, changed)
        for name, images, changed in conditions(
            cases, {"test": Restorer(name="t", restore=brighter, identity={})}, 4, torch.device("cpu")
        )
    }
    assert made["test, kernel estimated"][1] == 0
    for case, known, estimated in zip(cases, made["test, kernel known"][0], made["test, kernel estimated"][0], strict=True):
        torch.testing.assert_close(known, case.y + 0.25)
        assert torch.equal(estimated, case.y)
