from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import images, samples, tiny_config, tiny_method

from medanomaly.checkpoint import load_checkpoint, save_checkpoint
from medanomaly.datasets.transforms import PreprocessConfig
from medanomaly.errors import CheckpointError, ConfigError
from medanomaly.evaluation.calibrate import healthy_calibration
from medanomaly.methods import METHODS
from medanomaly.methods.experiment import Experiment, load_trained
from medanomaly.scoring.finish import CALIBRATION, MapConfig
from medanomaly.scoring.operating_point import OperatingPoint
from medanomaly.training.config import TrainingConfig

CPU = torch.device("cpu")
EXPERIMENT = Experiment(
    name="tiny", method=tiny_config(), preprocess=PreprocessConfig(image_size=16), training=TrainingConfig(num_steps=3)
)
POINT = OperatingPoint(
    value=0.5, criterion="image Youden index", chosen_on="val", target=None, num_images=2, image_fingerprint=("0a", "0b")
)


def header(**changes: Any) -> dict[str, Any]:
    known = {"experiment": EXPERIMENT.to_dict(), "operating_points": [POINT.to_dict()], "provenance": {"licence": "CC0"}}
    return known | changes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model.safetensors", tiny_method().denoiser.state_dict(), header())
    return tmp_path


def test_a_checkpoint_needs_nothing_beside_itself(path: Path) -> None:
    found = load_trained(path, METHODS, CPU)
    assert found.experiment == EXPERIMENT
    assert found.operating_points == (POINT,)
    assert found.provenance == {"licence": "CC0"}
    x = images(2)
    assert torch.equal(found.method.localize(x).anomaly_map, tiny_method().localize(x).anomaly_map)


def test_sampler_settings_can_be_replaced_and_the_rest_stays(path: Path) -> None:
    found = load_trained(path, METHODS, CPU, sampler={"noise_level": 300, "num_steps": 2})
    sampler = replace(EXPERIMENT.method.sampler, noise_level=300, num_steps=2)
    assert found.experiment == replace(EXPERIMENT, method=replace(EXPERIMENT.method, sampler=sampler))
    x = images(1)
    assert torch.equal(found.method.localize(x).anomaly_map, tiny_method(tiny_config(sampler=sampler)).localize(x).anomaly_map)


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        ({"guidence_scale": 2.0}, "did you mean guidance_scale"),
        ({"num_steps": "many"}, "num_steps"),
        ({"noise_level": 2000}, "noise_level"),
    ],
)
def test_a_sampler_setting_that_cannot_be_is_the_callers_mistake_not_the_checkpoints(
    path: Path, sampler: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load_trained(path, METHODS, CPU, sampler=sampler)


def calibrated(folder: Path) -> Path:
    """A checkpoint whose maps are in healthy deviations."""
    method = replace(EXPERIMENT.method, map=MapConfig(healthy_z=True))
    found = healthy_calibration(tiny_method(), samples(4), batch_size=4)
    tensors = dict(zip(CALIBRATION, (found.mean, found.std, torch.tensor(found.num_images)), strict=True))
    content = header(experiment=replace(EXPERIMENT, method=method).to_dict())
    save_checkpoint(folder / "model.safetensors", tiny_method().denoiser.state_dict() | tensors, content)
    return folder


@pytest.mark.parametrize(
    "sampler", [{"noise_level": 300}, {"num_steps": 2}, {"guidance_scale": 2.0}, {"noise_levels": (200, 400)}]
)
def test_a_calibration_made_with_one_sampler_is_not_used_with_another(tmp_path: Path, sampler: dict[str, Any]) -> None:
    path = calibrated(tmp_path)
    with pytest.raises(ConfigError, match="E_CALIBRATION") as refused:
        load_trained(path, METHODS, CPU, sampler=sampler)
    assert next(iter(sampler)) in str(refused.value)
    assert "--method.sampler" in str(refused.value)


def test_the_sampler_of_the_calibration_can_be_said_again(tmp_path: Path) -> None:
    path, same = calibrated(tmp_path), EXPERIMENT.method.sampler
    said = {"noise_level": same.noise_level, "num_steps": same.num_steps, "guidance_scale": same.guidance_scale}
    for sampler in (None, {}, said):
        assert load_trained(path, METHODS, CPU, sampler=sampler).experiment.method.sampler == same


def without(key: str, content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != key}


@pytest.mark.parametrize(
    "broken",
    [
        without("experiment", header()),
        header(experiment=without("training", EXPERIMENT.to_dict())),
        header(experiment=EXPERIMENT.to_dict() | {"method": without("kind", EXPERIMENT.to_dict()["method"])}),
        header(experiment=EXPERIMENT.to_dict() | {"method": EXPERIMENT.to_dict()["method"] | {"kind": "other"}}),
        header(experiment=EXPERIMENT.to_dict() | {"method": 3}),
        header(experiment=EXPERIMENT.to_dict() | {"preprocess": {}}),
        header(experiment=[]),
        header(operating_points=[{"value": 1.0}]),
    ],
)
def test_a_header_that_cannot_be_understood_is_refused_with_its_file(tmp_path: Path, broken: dict[str, Any]) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, tiny_method().denoiser.state_dict(), broken)
    with pytest.raises(CheckpointError, match="unusable header") as refused:
        load_trained(path, METHODS, CPU)
    assert refused.value.path == path


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = replace(EXPERIMENT, method=tiny_config(classes=("healthy", "mild", "severe")))
    save_checkpoint(tmp_path / "model.safetensors", tiny_method().denoiser.state_dict(), header(experiment=other.to_dict()))
    with pytest.raises(CheckpointError, match=r"of another shape: net\.class_embedding\.weight"):
        load_trained(tmp_path, METHODS, CPU)


def test_the_class_names_travel_with_the_weights(path: Path) -> None:
    stored = load_checkpoint(path).header["experiment"]["method"]
    assert stored["classes"] == ["healthy", "diseased"]
    assert stored["target"] == "healthy"


def test_an_image_size_the_network_cannot_halve_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 2"):
        replace(EXPERIMENT, preprocess=PreprocessConfig(image_size=17))
