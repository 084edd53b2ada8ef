import json
from collections.abc import Callable

import pytest
import torch

from medanomaly.cli.methods import ALL_PRESETS, TRAINABLE_PRESETS
from medanomaly.diffusion.unet import Denoiser
from medanomaly.methods.diffusion_model import DiffusionModelConfig
from medanomaly.methods.experiment import ExperimentOf, ModelExperiment
from medanomaly.presets import MODEL_PRESETS, PRESETS

TABLE = {DiffusionModelConfig.kind: DiffusionModelConfig}


@pytest.mark.parametrize("name", MODEL_PRESETS)
def test_every_models_preset_survives_json_and_carries_its_name(name: str) -> None:
    experiment = MODEL_PRESETS[name]()
    assert experiment.name == name
    assert ExperimentOf.from_dict(json.loads(json.dumps(experiment.to_dict())), TABLE) == experiment
    assert MODEL_PRESETS[name].__doc__


@pytest.mark.parametrize("make", MODEL_PRESETS.values())
def test_a_prior_is_unconditional_and_predicts_noise(make: Callable[[], ModelExperiment]) -> None:
    method = make().method
    assert isinstance(method, DiffusionModelConfig)
    assert method.classes == ()
    assert method.network.prediction == "eps"


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("gray64-prior", "gray64-cfg"),
        ("phantom64-prior", "phantom64-cfg"),
        ("gray128-prior", "gray128-cfg"),
        ("cxr256-prior", "cxr256-cfg"),
    ],
)
def test_a_prior_is_trained_as_the_method_of_its_size(name: str, like: str) -> None:
    made, method = MODEL_PRESETS[name](), PRESETS[like]()
    assert (made.training, made.preprocess) == (method.training, method.preprocess)


@pytest.mark.parametrize(("name", "millions"), [("gray64-prior", 2.3), ("gray128-prior", 29), ("cxr256-prior", 114)])
def test_a_prior_has_the_parameters_of_the_method_of_its_size(name: str, millions: float) -> None:
    config = MODEL_PRESETS[name]().method
    assert isinstance(config, DiffusionModelConfig)
    with torch.device("meta"):
        denoiser = Denoiser(config.network, image_channels=1, classes=())
    assert sum(parameter.numel() for parameter in denoiser.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


def test_the_seeds_prior_has_the_seeds_training() -> None:
    training = MODEL_PRESETS["cxr256-prior"]().training
    assert (training.num_steps, training.batch_size, training.learning_rate, training.decay) == (50_000, 4, 1e-4, "linear")


def test_no_name_is_both_a_method_and_a_model() -> None:
    assert not ALL_PRESETS.keys() & MODEL_PRESETS.keys()
    assert TRAINABLE_PRESETS.keys() == ALL_PRESETS.keys() | MODEL_PRESETS.keys()
